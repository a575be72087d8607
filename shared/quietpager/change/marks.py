"""What a write leaves on the object it changes: whose it is, and what it changed.

Who uses it: `change.send` writes the marks, `change.promise` and the API server's rules
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

NAME: Final = "[A-Za-z0-9._-]{1,200}"
"""What a mark may look like, as a regular expression (RE2 and Python): an id, and no text for a person, nor
a load that fills the room which Kubernetes gives all annotations of an object together."""

ROLLED: Final = "quietpager.dev/rolled-back"
"""Annotation with the shape that the object had after a rollback. As long as it has that shape, there is no
second rollback. Each of our writes that finds it true makes it true again, so no other action's write makes
room for one; nor does what changes another field only, such as an autoscaler."""

BOUNDED: Final = ("limits", "requests")
SHAPED: Final = ("cpu", "ephemeral-storage", "memory")
"""The amounts that are part of a shape."""


def escaped(name: str) -> str:
    """Write a name as one part of a JSON pointer (RFC 6901, section 3)."""
    return name.replace("~", "~0").replace("/", "~1")


def pointer(name: str) -> str:
    """Give the JSON pointer of an annotation."""
    return f"/metadata/annotations/{escaped(name)}"


def annotations_of(obj: Json) -> dict[str, Any]:
    """Read an object's annotations; empty where there are none."""
    return (obj.get("metadata") or {}).get("annotations") or {}


def annotation(obj: Json, name: str) -> str:
    """Read an annotation; empty where there is none."""
    return str(annotations_of(obj).get(name) or "")


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


def shape_of(obj: Json) -> str:
    """Write each container's image and amounts, all that any action changes of them but for probes.

    Such as `app=web:2 limits.memory=256Mi requests.cpu=250m; side=side:1`.
    """
    return "; ".join(f"{one['name']}={one.get('image') or ''}{_amounts_of(one)}" for one in containers(obj))


def _amounts_of(container: Json) -> str:
    resources = container.get("resources") or {}
    found = ((kind, name, (resources.get(kind) or {}).get(name)) for kind in BOUNDED for name in SHAPED)
    return "".join(f" {kind}.{name}={value}" for kind, name, value in found if value is not None)


def is_rolled_back(obj: Json) -> bool:
    """Tell whether a rollback of ours is the latest change of images and amounts by anybody but us."""
    return annotation(obj, ROLLED) != "" and annotation(obj, ROLLED) == shape_of(obj)


def record_of(action: str, uid: str, generation: int, old: Json, new: Json) -> str:
    """Write the record of a change from `old` to `new`; `generation` is the one that the write makes."""
    return f"{action}/{uid}/{generation}:{' '.join(changed(old, new))}"
