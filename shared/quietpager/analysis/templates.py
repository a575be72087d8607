"""What pod templates say: how two differ, and which ConfigMaps they refer to. Pure.

Values are shown only where they cannot be a setting of the application: of an environment variable,
an annotation or an HTTP header nothing is kept but its name.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from quietpager.masking.mask import mask
from quietpager.model.data import Data
from quietpager.model.text import clean

Json = dict[str, Any]

SHOWN: Final = frozenset(
    [
        "image",
        "imagePullPolicy",
        "resources",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
        "ports",
        "command",
        "args",
        "workingDir",
        "terminationGracePeriodSeconds",
        "serviceAccountName",
        "nodeSelector",
    ]
)
"""Fields of a container or a pod's spec whose values are shown (masked)."""
HIDDEN: Final = frozenset({"httpHeaders", "env", "annotations"})
"""Below these, names only, even inside a field that is shown."""
EVERYWHERE: Final = frozenset({"kube-root-ca.crt"})
"""ConfigMaps that the control plane puts into every namespace."""
MOST: Final = 12
"""Differences that are told one by one."""


class ConfigRef(Data):
    """A ConfigMap that a template refers to. `optional`: a pod starts without it."""

    name: str
    where: str
    optional: bool = False


def differences(old: Json, new: Json) -> tuple[str, ...]:
    """Say how a newer template differs from an older one, a phrase for each field."""
    before, after = dict(_leaves(old)), dict(_leaves(new))
    told = [_phrase(path, before, after) for path in sorted({*before, *after})]
    found = [one for one in told if one is not None]
    if len(found) > MOST:
        return (*found[:MOST], f"and {len(found) - MOST} more")
    return tuple(found)


def _phrase(path: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> str | None:
    old, new = before.get(path), after.get(path)
    if old == new:
        return None
    if path not in before or path not in after:
        word = "added" if path not in before else "removed"
        value = after.get(path, old)
        return f"{path} {word}" + (f": {_shown(value)}" if _may_show(path) else "")
    return f"{path}: {_shown(old)} -> {_shown(new)}" if _may_show(path) else f"{path} changed"


def _may_show(path: str) -> bool:
    words = {word.partition("[")[0] for word in path.replace(".", " ").split()}
    return bool(words & SHOWN) and not words & HIDDEN


def _shown(value: Any) -> str:
    return clean(mask(str(value)), 120)


def _leaves(template: Json) -> Iterator[tuple[str, Any]]:
    meta, spec = template.get("metadata") or {}, template.get("spec") or {}
    for key in ("labels", "annotations"):
        for name, value in (meta.get(key) or {}).items():
            if name != "pod-template-hash":
                yield f"{key}[{name}]", value
    for key, value in spec.items():
        yield from _below(key, value)


def _below(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Walk down; items of a list are told apart by their names, a list of plain values is one value."""
    if isinstance(value, dict) and value:
        for key, inside in value.items():
            yield from _below(f"{path}.{key}", inside)
    elif isinstance(value, list) and value and all(isinstance(one, dict) for one in value):
        for number, one in enumerate(value):
            name = one.get("name", number)
            rest = {key: inside for key, inside in one.items() if key != "name"}
            yield f"{path}[{name}]", ""
            yield from _below(f"{path}[{name}]", rest)
    elif value != {}:
        yield path, value


def config_refs(spec: Json) -> tuple[ConfigRef, ...]:
    """List the ConfigMaps that a pod's spec refers to, each once."""
    found: dict[str, ConfigRef] = {}
    for ref in _refs(spec):
        known = found.get(ref.name)
        if ref.name not in EVERYWHERE and (known is None or known.optional):
            found[ref.name] = ref
    return tuple(found.values())


def _refs(spec: Json) -> Iterator[ConfigRef]:
    for volume in spec.get("volumes") or ():
        where = f"volume {volume.get('name')}"
        sources = [volume, *((volume.get("projected") or {}).get("sources") or ())]
        for one in sources:
            yield from _ref(one.get("configMap"), where)
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        where = f"container {container.get('name')}"
        for one in container.get("envFrom") or ():
            yield from _ref(one.get("configMapRef"), f"{where}, envFrom")
        for one in container.get("env") or ():
            source = (one.get("valueFrom") or {}).get("configMapKeyRef")
            yield from _ref(source, f"{where}, env {one.get('name')}")


def _ref(source: Any, where: str) -> Iterator[ConfigRef]:
    if isinstance(source, dict) and isinstance(source.get("name"), str):
        yield ConfigRef(name=source["name"], where=where, optional=source.get("optional") is True)
