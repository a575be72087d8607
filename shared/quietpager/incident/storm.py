"""Counting new incidents for the storm brake, cheaply, so that a namespace can stop itself and nobody else.

There are two brakes. A namespace's own: more than `storm.namespace` new incidents in it within the window
stop what is done there. The cluster's: more than `storm.incidents` stop everything, and of these one
namespace counts for `storm.each` at most. So one namespace alone, whatever it does, changes nothing for
another one as long as the others leave that much room below the limit; more than a few namespaces at once
are rather the observer's fault. A namespace that the policy does not name, or that is the platform's, is
never written to, so it does not count towards the brake on acting.

    cluster, limit 4, each 2, window 300 s, at 10:07       namespace shop, limit 3
    [10:06 shop] [10:03 shop] [10:05 bank] [09:12 bank]    10:06 10:04 10:03    3 of its own: no storm
    shop has its 2, so its next opening renews one of them  the next opening is the fourth: a storm in shop

The records are few, whatever the number of incidents: `incidents + 1` for the namespaces that are named, as
many for the others, and one list for each namespace. Opening an incident writes into them in the
transaction that opens it. Nothing is ever scanned, and any key-value table can do it. A namespace's list is
a condition of each of its writes, so that its incidents, however many open at once, never take more than
`each` of the cluster's records.

A count is exact up to its limit plus one. While a storm lasts, an opening renews an old record, unless the
oldest is younger than a quarter of the window: so the brake holds until the storm is over, and yet hundreds
of openings at once do not all race for one record.

While a storm lasts, people are told of the storm, once, and not of each incident: fifty pages at a time hide
the one that matters. But nobody is silenced by somebody else's noise: in a storm of the cluster
each namespace still speaks, once in a window. The incidents are all there, in the console and at the
terminal; whatever is still with a person when the storm is over speaks with its next reminder.

A verdict does not make these records conditions of the intent's transaction, as it does with the slots: an
incident that opens in the same instant is one more, and the next verdict sees it.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.data import Json, digest
from quietpager.model.reference import ObjectRef
from quietpager.model.store import ABSENT, Put, Record
from quietpager.model.time import to_text
from quietpager.objects.kinds.node import KIND as NODE

Ring = Literal["named", "other"]
RINGS: Final[tuple[Ring, ...]] = ("named", "other")
"""Which of the cluster's records: of namespaces that the policy lets us write to, or of the others."""


@dataclass(frozen=True, slots=True)
class Openings:
    """How many incidents opened in the window that ends now, as one namespace is concerned.

    `own`: in the namespace itself. `acting`: in all namespaces that may be written to, `namespaces` of them,
    each with its share at most. `telling`: in all namespaces, with the same share. From its limit on each of
    the counts only says "more".
    """

    own: int
    acting: int
    namespaces: int
    telling: int


CALM: Final = Openings(own=0, acting=0, namespaces=0, telling=0)
"""Nothing has opened."""


def keys(owner: ObjectRef, policy: Policy) -> list[str]:
    """Name the records that say whether there is a storm for the owner of an incident."""
    return [records.opened_in(_place(owner)), *(key for ring in RINGS for key in _ring(ring, policy))]


def openings(found: Mapping[str, Record], owner: ObjectRef, policy: Policy, now: datetime) -> Openings:
    """Count what opened in the window that ends now."""
    named, other = (_shares(found, ring, policy, now) for ring in RINGS)
    return Openings(
        own=len(_fresh(found.get(records.opened_in(_place(owner))), policy, now)),
        acting=sum(named.values()),
        namespaces=len(named),
        telling=sum(named.values()) + sum(other.values()),
    )


def incidents(found: Mapping[str, Record]) -> frozenset[str]:
    """Name the incidents that opened last, as far as `found` knows them."""
    bodies = [record.body for record in found.values()]
    lists = [one for body in bodies for one in body.get("opened", ())]
    return frozenset(str(one["incident"]) for one in (*bodies, *lists) if "incident" in one)


def marks(
    found: Mapping[str, Record], owner: ObjectRef, incident: str, policy: Policy, now: datetime
) -> list[Put]:
    """Give the writes that count an incident just opened; none where the namespace's count is full and fresh.

    Every write into the cluster's records comes with one into the namespace's own, which all of its openings
    compare and set: so no two of them can think that the last share of the namespace is free.
    """
    place, limits = _place(owner), policy.storm
    mine = found.get(records.opened_in(place))
    fresh = _fresh(mine, policy, now)
    full = len(fresh) > limits.namespace
    if full and _age(fresh[0], now) < timedelta(seconds=limits.window) / 4:
        return []
    kept = [*(fresh[1:] if full else fresh), {"at": to_text(now), "incident": incident}]
    own = Put(records.opened_in(place), {"opened": kept}, ABSENT if mine is None else mine.version)
    shared = _take(found, place, incident, policy, now)
    return [own] if shared is None else [own, shared]


def _take(
    found: Mapping[str, Record], place: str, incident: str, policy: Policy, now: datetime
) -> Put | None:
    """Take one of the cluster's records: a free one, or where the share is used up one of the place's own."""
    window = timedelta(seconds=policy.storm.window)
    ring = _ring("named" if place != NODES and policy.may_write(place) else "other", policy)
    ages = {key: _age(found[key].body, now) if key in found else timedelta.max for key in ring}
    held = [key for key in ring if ages[key] < window and found[key].body.get("namespace") == place]
    free = [key for key in ring if ages[key] >= window]
    if len(held) >= _share(policy):
        among = [max(held, key=ages.__getitem__)]
    else:
        among = free or sorted(ring, key=ages.__getitem__, reverse=True)[: max(1, len(ring) // 4)]
    # Each incident picks by its own name, so that many at once pick differently.
    key = among[int(digest(incident, length=8), 16) % len(among)]
    if ages[key] < window / 4:
        return None
    body = {"at": to_text(now), "incident": incident, "namespace": place}
    return Put(key, body, found[key].version if key in found else ABSENT)


NODES: Final = "/nodes"
"""Where nodes count."""

HELD_BACK: Final = frozenset({"opened", "needsperson"})
"""What is not told of a single incident while a storm lasts."""
UNTOLD: Final = "Not told by itself: the message about the storm stands for it."


@dataclass(frozen=True, slots=True)
class Speaks:
    """That an incident speaks while a storm lasts: what it says of the storm, and the writes that note it."""

    sentence: str
    writes: tuple[Put, ...]


def told_keys(owner: ObjectRef) -> list[str]:
    """Name the records that say what people have been told of storms already."""
    place = _place(owner)
    return [records.STORM, records.storm_in(place), records.spoke(place)]


def speaks(
    found: Mapping[str, Record], owner: ObjectRef, incident: str, policy: Policy, now: datetime
) -> Speaks | None:
    """Say how an incident may speak while a storm lasts; None: another one has spoken for it.

    `found` has `keys` and `told_keys`, as far as they exist. A storm is told again after each `reminder`, as
    long as it lasts.

    Raises:
        ValueError: there is no storm.
    """
    count, place = openings(found, owner, policy, now), _place(owner)
    own, cluster = count.own > policy.storm.namespace, count.telling > policy.storm.incidents
    if not own and not cluster:
        raise ValueError("there is no storm, so everybody speaks")

    def note(*names: str) -> tuple[Put, ...]:
        body = {"at": to_text(now), "incident": incident}
        return tuple(Put(key, body, found[key].version if key in found else ABSENT) for key in names)

    def due(key: str, seconds: float) -> bool:
        return key not in found or _age(found[key].body, now) >= timedelta(seconds=seconds)

    storm, here, spoke = records.STORM, records.storm_in(place), records.spoke(place)
    if cluster and due(storm, policy.reminder):
        return Speaks(_of_cluster(count, policy), note(storm, spoke, *([here] if own else [])))
    if own:
        return Speaks(_of_namespace(place, policy), note(here)) if due(here, policy.reminder) else None
    if due(spoke, policy.storm.window):
        first = f"A storm lasts in the cluster; this is what namespace {place or '(none)'} says in it."
        return Speaks(first, note(spoke))
    return None


def lasts(found: Mapping[str, Record], owner: ObjectRef, policy: Policy, now: datetime) -> bool:
    """Tell whether more incidents opened than are everyday life, in the owner's namespace or everywhere."""
    count = openings(found, owner, policy, now)
    return count.own > policy.storm.namespace or count.telling > policy.storm.incidents


def _of_cluster(count: Openings, policy: Policy) -> str:
    limits = policy.storm
    stopped = "All acting has stopped. " if count.acting > limits.incidents else ""
    return (
        f"A storm: more than {limits.incidents} incidents opened in {limits.window:.0f} s, in several "
        f"namespaces. Suspect the observer first: API server, clock, a rule that just changed. {stopped}"
        f"While it lasts each namespace speaks once in {limits.window:.0f} s; the rest is in the queue."
    )


def _of_namespace(place: str, policy: Policy) -> str:
    limits = policy.storm
    where = "namespace (none)" if not place else "the nodes" if place == NODES else f"namespace {place}"
    return (
        f"A storm in {where}: more than {limits.namespace} incidents opened there in "
        f"{limits.window:.0f} s. Nothing is done there until it is over; no other namespace is affected. "
        "Its other incidents are in the queue and are not told one by one."
    )


def _place(owner: ObjectRef) -> str:
    """Name where an owner counts; what lives in no namespace counts together, as one.

    But nodes count by themselves: of them only what is there opens an incident, while of a volume, say, an
    Event in `default` is all that there is, and whoever may write there could make a storm that silences the
    nodes. No namespace begins with a slash.
    """
    return owner.namespace or (NODES if owner.kind == NODE.name else "")


def _ring(ring: Ring, policy: Policy) -> list[str]:
    return [records.opening(ring, number) for number in range(policy.storm.incidents + 1)]


def _share(policy: Policy) -> int:
    """How many of the cluster's records one namespace may hold: never so many that it passes the limit."""
    return min(policy.storm.each, policy.storm.incidents)


def _shares(found: Mapping[str, Record], ring: Ring, policy: Policy, now: datetime) -> dict[str, int]:
    window = timedelta(seconds=policy.storm.window)
    bodies = [found[key].body for key in _ring(ring, policy) if key in found]
    count = Counter(str(body.get("namespace")) for body in bodies if _age(body, now) < window)
    return {place: min(number, _share(policy)) for place, number in count.items()}


def _fresh(record: Record | None, policy: Policy, now: datetime) -> list[Json]:
    """Give what a namespace's list holds of the window, oldest first."""
    window = timedelta(seconds=policy.storm.window)
    return [one for one in _listed(record) if _age(one, now) < window]


def _listed(record: Record | None) -> Iterator[Json]:
    yield from () if record is None else record.body.get("opened", ())


def _age(body: Mapping[str, object], now: datetime) -> timedelta:
    return now - datetime.fromisoformat(str(body["at"]))
