"""What a pod refers to and is not there, in the kubelet's words. Pure; `kubelet` calls it.

Wording of the recorded cases 01, 02 and 21, and of k8s.io/kubernetes pkg/kubelet/kubelet_pods.go and
pkg/volume/{configmap,secret} 1.35.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final

Json = dict[str, Any]
Find = Callable[[str, str], Json | None]
"""Looks up kind and name in the pod's namespace."""

_KINDS: Final = {"configMap": "ConfigMap", "secret": "Secret"}


def missing_for(container: Json, namespace: str, find: Find) -> str | None:
    """Say what a container's environment lacks; None where all is there."""
    for source in container.get("envFrom") or ():
        for field, kind in _KINDS.items():
            if said := _lacks(kind, source.get(f"{field}Ref"), namespace, find):
                return said
    for variable in container.get("env") or ():
        for field, kind in _KINDS.items():
            if said := _lacks(kind, (variable.get("valueFrom") or {}).get(f"{field}KeyRef"), namespace, find):
                return said
    return None


def _lacks(kind: str, reference: Json | None, namespace: str, find: Find) -> str | None:
    if not reference or reference.get("optional"):
        return None
    name, key = reference.get("name", ""), reference.get("key")
    found = find(kind, name)
    if found is None:
        return f'{kind.lower()} "{name}" not found'
    if key is not None and key not in _keys(found):
        return f"couldn't find key {key} in {kind} {namespace}/{name}"
    return None


def unmountable(pod: Json, find: Find) -> str | None:
    """Say which volume cannot be set up, as FailedMount does; None where all can."""
    for volume in pod["spec"].get("volumes") or ():
        for kind, name, source in _sources(volume):
            if source.get("optional") or name == "kube-root-ca.crt":
                continue
            found = find(kind, name)
            head = f'MountVolume.SetUp failed for volume "{volume["name"]}" : '
            if found is None:
                return f'{head}{kind.lower()} "{name}" not found'
            wanted = [item["key"] for item in source.get("items") or ()]
            if absent := next((key for key in wanted if key not in _keys(found)), None):
                word = "config" if kind == "ConfigMap" else "secret"
                return f"{head}references non-existent {word} key: {absent}"
    return None


def _sources(volume: Json) -> Iterator[tuple[str, str, Json]]:
    for one in (volume, *((volume.get("projected") or {}).get("sources") or ())):
        for field, kind in _KINDS.items():
            source = one.get(field)
            if source:
                yield kind, source.get("secretName") or source.get("name", ""), source


def _keys(found: Json) -> set[str]:
    return {key for field in ("data", "binaryData", "stringData") for key in found.get(field) or ()}
