"""What an action may do to a Deployment, said once in Python; the API server's rules say it in CEL.

    the object before, the object after ──▶ breaches: each rule that does not hold, with the fields

Who calls it: `rehearse` (so that nobody is promised what the server denies), and the sandbox's API server for
writes of an action's account. The rules for the real server are rendered by `render/cage.py`; both have
the same names, and `tests/cage` holds them against each other. Pure.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from quietpager.change.cage import Cage
from quietpager.change.marks import (
    BOUNDED,
    MARK,
    NAME,
    ROLLED,
    UNDO_OF,
    WROTE,
    Json,
    annotation,
    changed,
    containers,
    is_rolled_back,
    record_of,
    shape_of,
)
from quietpager.model.incident import Edit
from quietpager.model.quantity import quantity

POD: Final = "spec.template.spec"
CONTAINER: Final = f"{POD}.containers[*]."
SERVERS_OWN: Final = frozenset({"generation", "managedFields", "resourceVersion"})
"""What the API server itself changes in the metadata with each update, before it asks a policy."""

REPOSITORY: Final = r"^(?:[^/@]+/)*[^/:@]+"
"""The repository of an image, as a regular expression (RE2 and Python): all parts before the last, each of
which may hold the colon of a registry's port, and the last one up to its tag or digest."""

PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")
HARMLESS: Final[Mapping[str, frozenset[str]]] = {
    "Probe": frozenset({
        "failureThreshold", "grpc", "httpGet", "initialDelaySeconds", "periodSeconds", "successThreshold",
        "tcpSocket", "terminationGracePeriodSeconds", "timeoutSeconds",
    }),
    "HTTPGetAction": frozenset({"path", "port", "scheme"}),
    "TCPSocketAction": frozenset({"port"}),
    "GRPCAction": frozenset({"port", "service"}),
}  # fmt: skip
"""What a rollback may change of a probe. The rest (exec, another host, headers, whatever Kubernetes adds) may
only stay or go."""
HANDLERS: Final = {"httpGet": "HTTPGetAction", "tcpSocket": "TCPSocketAction", "grpc": "GRPCAction"}


@dataclass(frozen=True, slots=True)
class Breach:
    """One rule that does not hold: its name, what it says, and the fields in question."""

    rule: str
    says: str
    where: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Say it as the API server does."""
        return f"rule {self.rule}: {self.says}{': ' if self.where else ''}{', '.join(self.where)}"


def applied(live: Json, edits: Sequence[Edit]) -> Json:
    """Give the object as it is once the edits were made; a path that leads nowhere is left out."""
    after: Json = {**live, "spec": deepcopy(live.get("spec") or {})}
    for edit in edits:
        *way, last = [one.replace("~1", "/").replace("~0", "~") for one in edit.path.split("/")[1:]]
        at: Any = after
        for step in way:
            at = at[int(step)] if isinstance(at, list) else at.setdefault(step, {})
        if isinstance(at, list):
            at[int(last)] = edit.gets
        elif edit.gets is None:
            at.pop(last, None)
        else:
            at[last] = edit.gets
    return after


def breaches(cage: Cage, old: Json, new: Json) -> tuple[Breach, ...]:
    """Name every rule that a whole write of an action's account breaks, marks included, in their order."""
    undo = _is_undo(cage, old, new)
    return (
        *_intent(old, new, undo=undo),
        *_held(cage, old, new),
        *_own(cage, old, new, undo, marked=True),
    )


def beyond(cage: Cage, old: Json, new: Json) -> tuple[Breach, ...]:
    """Name every rule that a planned change breaks; the marks are not on it yet."""
    return (*_held(cage, old, new), *_own(cage, old, new, undo=False, marked=False))


# Marks


def _is_undo(cage: Cage, old: Json, new: Json) -> bool:
    before = annotation(old, MARK)
    latest = before != "" and not before.endswith(UNDO_OF)
    return cage.restores and latest and annotation(new, MARK) == before + UNDO_OF


def _intent(old: Json, new: Json, *, undo: bool) -> Iterator[Breach]:
    mark = annotation(new, MARK)
    known = re.fullmatch(NAME, mark) is not None
    if not known or mark == annotation(old, MARK) or (mark.endswith(UNDO_OF) and not undo):
        yield Breach("intent", f"the annotation {MARK} must name a new intent, and an undo's its own")


# Everything else is equal


def _held(cage: Cage, old: Json, new: Json) -> Iterator[Breach]:
    levels = {
        "metadata": _metadata(old, new),
        "annotations": _differing(
            _below(old, "metadata.annotations"), _below(new, "metadata.annotations"),
            {MARK, WROTE, ROLLED}, "",
        ),
        "spec": _level(old, new, "spec", "template"),
        "template": _level(old, new, "spec.template", "spec"),
        "pod": _level(old, new, POD, "containers"),
    }  # fmt: skip
    for rule, found in levels.items():
        if where := tuple(found):
            yield Breach(rule, "it may not change", where)
    if [one["name"] for one in containers(old)] != [one["name"] for one in containers(new)]:
        said = "it may not add, remove, rename or reorder containers"
        yield Breach("containers", said, (f"{POD}.containers",))
        return
    allowed = {path.removeprefix(CONTAINER) for path in cage.may_change}
    where = tuple(
        f"{before['name']}.{path}"
        for before, after in zip(containers(old), containers(new), strict=True)
        for path in _of_container(before, after, allowed)
    )
    if where:
        yield Breach("container", "it may not change", where)


def _metadata(old: Json, new: Json) -> Iterator[str]:
    yield from _differing(old, new, {"metadata", "spec"}, "")
    own = SERVERS_OWN | {"annotations"}
    yield from _differing(old["metadata"], new["metadata"], own, "metadata.")


def _of_container(before: Json, after: Json, allowed: set[str]) -> Iterator[str]:
    free = {path for path in allowed if "." not in path}
    yield from _differing(before, after, free | {"resources"}, "")
    was, now = before.get("resources") or {}, after.get("resources") or {}
    yield from _differing(was, now, set(BOUNDED), "resources.")
    for kind in BOUNDED:
        names = {path.rpartition(".")[2] for path in allowed if path.startswith(f"resources.{kind}.")}
        yield from _differing(was.get(kind) or {}, now.get(kind) or {}, names, f"resources.{kind}.")


def _level(old: Json, new: Json, path: str, without: str) -> Iterator[str]:
    return _differing(_below(old, path), _below(new, path), {without}, f"{path}.")


def _below(obj: Json, path: str) -> Json:
    for step in path.split("."):
        obj = obj.get(step) or {}
    return obj


def _differing(old: Json, new: Json, free: set[str] | frozenset[str], prefix: str) -> Iterator[str]:
    for name in dict.fromkeys((*old, *new)):
        if name not in free and old.get(name) != new.get(name):
            yield prefix + name


# What each action promises beyond that


def _own(cage: Cage, old: Json, new: Json, undo: bool, *, marked: bool) -> Iterator[Breach]:
    if cage.action not in _PROMISES:
        yield Breach("known", f"no promise is known for {cage.action}")
        return
    pairs = list(_amounts(old, new, cage))
    missing = tuple(path for path, was, now in pairs if (was is None) is not (now is None))
    if missing:
        yield Breach("present", "it may neither set nor unset a limit or a request", missing)
    both = [
        (path, quantity(was), quantity(now))
        for path, was, now in pairs
        if was is not None and now is not None
    ]
    moved = any(was != now for _, was, now in both)
    if not undo and not (moved if cage.restores else old.get("spec") != new.get("spec")):
        yield Breach("changes", "it must change something")
    if marked:
        yield from _records(cage, old, new, undo=undo)
    yield from _PROMISES[cage.action](cage, old, new, both, undo)


Pairs = Sequence[tuple[str, Decimal, Decimal]]


def _amounts(old: Json, new: Json, cage: Cage) -> Iterator[tuple[str, str | None, str | None]]:
    """Give each amount that may change, by its path, as it was and is."""
    paths = [path.removeprefix(CONTAINER).split(".") for path in cage.may_change]
    after = {str(one["name"]): one for one in containers(new)}
    for before in containers(old):
        for _, kind, name in (path for path in paths if len(path) == 3):
            was, now = (
                (((one.get("resources") or {}).get(kind)) or {}).get(name)
                for one in (before, after.get(str(before["name"]), {}))
            )
            yield f"{before['name']}.resources.{kind}.{name}", was, now


def _broken(
    rule: str, says: str, pairs: Pairs, holds: Callable[[str, Decimal, Decimal], bool]
) -> Iterator[Breach]:
    """Hold each amount that changed; `holds` gets the resource's name, and the amount before and after."""
    changes = ((path, was, now) for path, was, now in pairs if was != now)
    where = tuple(path for path, was, now in changes if not holds(path.rpartition(".")[2], was, now))
    if where:
        yield Breach(rule, says, where)


def _raise_memory(cage: Cage, _old: Json, _new: Json, pairs: Pairs, undo: bool) -> Iterator[Breach]:
    factor, ceiling = (Decimal(str(cage.bounds[one].max)) for one in ("factor", "ceiling"))
    if undo:
        said = f"an undo may lower memory by a factor of {factor} at most"
        yield from _broken("back", said, pairs, lambda _, was, now: now <= was <= now * factor)
        return
    yield from _broken("up", "it may lower memory only to undo", pairs, lambda _, was, now: now >= was)
    said = f"it may raise memory by a factor of {factor} at most"
    yield from _broken("factor", said, pairs, lambda _, was, now: now <= was * factor)
    said = f"it may raise memory to {ceiling} bytes at most"
    yield from _broken("ceiling", said, pairs, lambda _, _was, now: now <= ceiling)


def _set_requests(cage: Cage, _old: Json, _new: Json, pairs: Pairs, undo: bool) -> Iterator[Breach]:
    least, most = (
        {name: Decimal(str(getattr(cage.bounds[name], end))) for name in ("memory", "cpu")}
        for end in ("min", "max")
    )
    if undo:
        said = "an undo may only raise a request, to the most of action.yaml"
        yield from _broken("back", said, pairs, lambda name, was, now: was <= now <= most[name])
        return
    yield from _broken("down", "it may raise a request only to undo", pairs, lambda _, was, now: now <= was)
    said = "a request must stay at the least of action.yaml"
    yield from _broken("least", said, pairs, lambda name, _was, now: now >= least[name])


def _rollout_undo(cage: Cage, old: Json, new: Json, pairs: Pairs, _undo: bool) -> Iterator[Breach]:
    times = Decimal(str(cage.times))
    said = f"an amount may be 1/{times} of what it was at least, and {times} times that at most"
    yield from _broken("near", said, pairs, lambda _, was, now: now <= was * times and was <= now * times)
    moved: list[str] = []
    gained: list[str] = []
    after = {str(one["name"]): one for one in containers(new)}
    for before in containers(old):
        name = str(before["name"])
        now = after.get(name, before)
        if _repository(before.get("image")) != _repository(now.get("image")):
            moved.append(f"{name}.image")
        gained += [f"{name}.{path}" for path in _gains(before, now)]
    if moved:
        said = "an image may change its tag or digest, not its repository"
        yield Breach("image", said, tuple(moved))
    if gained:
        yield Breach("probe", "a probe may not gain this", tuple(gained))
    if is_rolled_back(old):
        said = "it rolled this back already, and images and amounts are as our own writes left them"
        yield Breach("once", said)


def _repository(image: object) -> str:
    found = re.match(REPOSITORY, str(image or ""))
    return "" if found is None else found[0]


def _gains(before: Json, after: Json) -> Iterator[str]:
    for probe in PROBES:
        was, now = before.get(probe) or {}, after.get(probe) or {}
        yield from _gained(was, now, "Probe", probe)
        for handler, kind in HANDLERS.items():
            yield from _gained(was.get(handler) or {}, now.get(handler) or {}, kind, f"{probe}.{handler}")


def _gained(was: Json, now: Json, kind: str, label: str) -> Iterator[str]:
    for name in now:
        if name not in HARMLESS[kind] and now[name] != was.get(name):
            yield f"{label}.{name}"


_PROMISES: Final[Mapping[str, Callable[[Cage, Json, Json, Pairs, bool], Iterator[Breach]]]] = {
    "raise-memory": _raise_memory,
    "rollout-undo": _rollout_undo,
    "set-requests": _set_requests,
}
"""An action that is not among these promises nothing, and may write nothing."""


def _prefix(cage: Cage, obj: Json) -> str:
    meta = obj["metadata"]
    return f"{cage.action}/{meta.get('uid')}/{meta.get('generation')}:"


def _records(cage: Cage, old: Json, new: Json, *, undo: bool) -> Iterator[Breach]:
    """Hold a write to its record: a forward one writes it, an undo finds it true and removes it."""
    rolls = cage.action == "rollout-undo" or is_rolled_back(old)
    if annotation(new, ROLLED) != (shape_of(new) if rolls else annotation(old, ROLLED)):
        yield Breach("rolled", f"the annotation {ROLLED} must say how a rollback left it, and go along")
    if not undo:
        meta = new["metadata"]
        wanted = record_of(cage.action, str(meta.get("uid")), int(meta.get("generation") or 0), old, new)
        if annotation(new, WROTE) != wanted:
            yield Breach("record", f"the annotation {WROTE} must hold exactly what it changes")
        return
    restored = _prefix(cage, old) + " ".join(changed(new, old))
    if annotation(old, WROTE) != restored or WROTE in (new["metadata"].get("annotations") or {}):
        yield Breach("undo", f"an undo must restore exactly what {WROTE} says, and remove it")
