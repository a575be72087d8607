"""The table of kinds: every file of `kinds/` is a row. Nothing has to be entered anywhere by hand.

Who calls it: `Live`, `health`, the cluster's client and snapshot, the rendering of rights and cages, scan.
"""

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Final

from quietpager.model.reference import ObjectRef
from quietpager.objects import kinds
from quietpager.objects.kind import ObjectKind, Resource


def discovered(package: ModuleType) -> dict[str, ObjectKind]:
    """Read the kinds of a package, by name: each of its modules says `KIND`."""
    names = sorted(one.name for one in pkgutil.iter_modules(package.__path__, f"{package.__name__}."))
    found: list[ObjectKind] = [pkgutil.resolve_name(f"{name}:KIND") for name in names]
    return {one.name: one for one in found}


KINDS: Final[dict[str, ObjectKind]] = discovered(kinds)
"""Every kind that the product knows, by its name."""


def known(ref: ObjectRef) -> ObjectKind | None:
    """Find the kind of an object that can be read and judged; None: only Events tell of it, or its pods."""
    kind = KINDS.get(ref.kind)
    return kind if kind is not None and kind.target and kind.is_kind_of(ref) else None


def resource(kind: str) -> Resource:
    """Tell where a kind lives in the API.

    Raises:
        LookupError: no file of `kinds/` describes it. That is a mistake of ours: other kinds are never read.
    """
    if kind not in KINDS:
        raise LookupError(f"Nothing describes the kind {kind}. A file in objects/kinds/ would.")
    return KINDS[kind].resource


def namespaced(kind: str) -> bool:
    """Tell whether objects of a kind are in a namespace."""
    return resource(kind).namespaced


def owner_kinds() -> Iterator[ObjectKind]:
    """Give the kinds that make pods, the pod itself among them."""
    return (kind for kind in KINDS.values() if kind.owns_pods)


def changeable(name: str) -> ObjectKind:
    """Give a kind whose pod template an action may change: what may stand in `applies_to`.

    Raises:
        ValueError: no file describes the kind, or it has no template that can be changed.
    """
    kind = KINDS.get(name)
    if kind is None or not kind.has_template:
        known_ = ", ".join(sorted(one.name for one in KINDS.values() if one.has_template))
        raise ValueError(f"No action can change a {name}: only {known_} have a template that can be changed.")
    return kind


def reading(kinds_: Iterable[ObjectKind]) -> Iterator[tuple[Resource, str]]:
    """Give what reading objects of these kinds takes, as resource and verb.

    Each object by its name, and lists of what it is read with.
    """
    asked = dict.fromkeys((kind.name, "get") for kind in kinds_)
    asked |= dict.fromkeys((name, "list") for kind, _ in [*asked] for name in KINDS[kind].read_with)
    for name, verb in asked:
        yield resource(name), verb


def first_listed() -> tuple[str, ...]:
    """Name the kinds that a scan lists all of, the pods first."""
    return tuple(sorted((kind.name for kind in KINDS.values() if kind.first), key=lambda name: name != "Pod"))


def needed_to_watch() -> tuple[str, ...]:
    """Name the kinds that must be listed to see what is wrong, and to plan what may be done."""
    return ("Event", *first_listed(), "Node", "ResourceQuota")


def read_of(owner: ObjectRef) -> tuple[str, ...]:
    """Name the kinds, besides pods, without which an owner cannot be judged."""
    kind = known(owner)
    names = () if kind is None else (kind.name, *kind.read_with)
    return tuple(name for name in names if name != "Pod")


def targets() -> Iterator[ObjectKind]:
    """Give the kinds that are read where an Event is about one."""
    return (kind for kind in KINDS.values() if kind.target)


SETS: Final[Mapping[str, Callable[[], Iterator[ObjectKind]]]] = {"owners": owner_kinds, "targets": targets}
"""Words that stand for several kinds where a function says what it reads: whatever owns pods, with what it
takes to judge it, and whatever an Event may be about."""
