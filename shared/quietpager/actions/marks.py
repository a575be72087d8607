"""What a write leaves on the object it changes: whose it is, and what it changed.

Who uses it: `safety.effect` writes the marks, `actions.promise` and the API server's rules
(`shared/quietpager/render/cage.py`) hold every write to them.
"""

from collections.abc import Iterator
from typing import Any, Final

Json = dict[str, Any]

MARK: Final = "quietpager.dev/intent"
"""Annotation that names the intent whose change is the latest."""

UNDO_OF: Final = "-undo"
"""What the id of an undo's intent ends with, after the id of what it undoes. The cage reads it."""

WROTE: Final = "quietpager.dev/wrote"
"""Annotation with the record of the latest write: action, uid and generation, and each amount before and
after. An undo must find it true, restore what it says, and remove it. Every other write moves the generation
(Kubernetes 1.35: any change of spec or annotations), so a record is true only directly after its write."""

BOUNDED: Final = ("limits", "requests")


def annotation(obj: Json, name: str) -> str:
    """Read an annotation; empty where there is none."""
    return str(((obj.get("metadata") or {}).get("annotations") or {}).get(name) or "")


def containers(obj: Json) -> list[Json]:
    """Give a Deployment's containers."""
    template = (obj.get("spec") or {}).get("template") or {}
    return list((template.get("spec") or {}).get("containers") or [])


def amounts(obj: Json) -> dict[tuple[str, str, str], str]:
    """Give every amount of the containers' resources, by container, `limits` or `requests`, and name."""
    return {
        (str(one["name"]), kind, name): str(value)
        for one in containers(obj)
        for kind in BOUNDED
        for name, value in sorted(((one.get("resources") or {}).get(kind) or {}).items())
    }


def changed(old: Json, new: Json) -> Iterator[str]:
    """Write each amount that differs, in order: `app.limits.memory=256Mi/512Mi`."""
    before = amounts(old)
    for key, value in amounts(new).items():
        if before.get(key, value) != value:
            yield f"{'.'.join(key)}={before[key]}/{value}"


def record_of(action: str, uid: str, generation: int, old: Json, new: Json) -> str:
    """Write the record of a change from `old` to `new`; `generation` is the one that the write makes."""
    return f"{action}/{uid}/{generation}:{' '.join(changed(old, new))}"
