"""What is kept for how long, and the purge of what nothing needs any more. The audit is never purged.

    tick ─▶ one page of records ─▶ needed? its incident is on record, its time is not over ─▶ kept
                                   else ─▶ deleted, if it and its incident are as they were seen

Who calls it: `govern/clock`, with each tick one page; a walk over all kinds is followed by a pause. Each
deletion is a transaction of its own, on the versions that were judged: what is needed again meanwhile stays.
There is no index by time: a page is read by the key, and `PAGE` records a tick are 1.7 million a day.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from quietpager.incident import records, refusals
from quietpager.incident.policy import Policy
from quietpager.model.incident import State
from quietpager.model.store import (
    ABSENT,
    Check,
    Conflict,
    Delete,
    DueDone,
    Put,
    Record,
    Store,
    Write,
)
from quietpager.model.time import to_text

PAGE: Final = 100
"""Records that one tick looks at, and may delete at most."""

PASSED: Final = datetime(1970, 1, 1, tzinfo=UTC)
"""When the time of a record begins that is needed for its incident only."""


@dataclass(frozen=True, slots=True)
class Rule:
    """How long the records of one kind are kept.

    `incident` names the incident that a record belongs to, None where it belongs to none. Where `on_record`,
    it is needed as long as that incident is on record at all, else as long as it is open. `ended` is when the
    record's own time was over, None where that cannot be read: then it stays. `kept` seconds later it may go.
    """

    kind: str
    needed: str
    kept: Callable[[Policy], float]
    ended: Callable[[Record], datetime | None]
    incident: Callable[[Record], str | None]
    on_record: bool = True
    says: str = ""


def _latest(*names: str) -> Callable[[Record], datetime | None]:
    """Make what gives the latest of several times of a record."""

    def read(record: Record) -> datetime | None:
        given = [record.body[name] for name in names if record.body.get(name)]
        try:
            last = max((datetime.fromisoformat(str(one)) for one in given), default=None)
        except (ValueError, TypeError):
            return None
        return None if last is None or last.tzinfo is None else last

    return read


def _field(name: str) -> Callable[[Record], str | None]:
    return lambda record: None if record.body.get(name) is None else str(record.body[name])


def _nobody(_record: Record) -> str | None:
    return None


def _closed_since(record: Record) -> datetime | None:
    return _latest("state_since")(record) if record.body.get("state") == State.CLOSED else None


def _counted_until(record: Record) -> datetime | None:
    begun = _latest("hour")(record)
    return None if begun is None else begun + refusals.HOUR


def _name(record: Record) -> str:
    return record.key.partition("#")[2]


def longest_window(policy: Policy) -> float:
    """Seconds for which an act may count in some budget or cool-down."""
    budget = policy.budget
    windows = [budget.window, budget.nodes.window, *(limit.window for limit in budget.actions.values())]
    return max(*windows, policy.cool_down) + policy.act + 2 * policy.skew


def _limits(policy: Policy) -> float:
    return max(policy.retention.limits, longest_window(policy))


RULES: Final = (
    Rule(
        "FINDING", "its incident is on record", lambda p: p.retention.findings,
        _latest("at", "last_seen"), _field("incident"), says="`retention.findings` after it was last seen",
    ),
    Rule(
        "INCIDENT", "it is open", lambda p: max(p.retention.incidents, p.cool_down),
        _closed_since, _nobody, says="`retention.incidents` after it was closed; its lock on the cause, too",
    ),
    Rule(
        "REHEARSAL", "its incident is on record", lambda _: 3600.0, _latest("asked_at"), _field("incident"),
        says="an hour",
    ),
    Rule(
        "INTENT", "its incident is on record", lambda _: 86400.0,
        _latest("created_at", "expires_at", "act_by", "applied_at"), _field("incident"),
        says="a day after anybody may carry it out",
    ),
    Rule(
        "APPROVAL", "its incident is on record", lambda _: 86400.0, _latest("expires", "at"),
        _field("incident"), says="a day after it expired",
    ),
    Rule(
        "TELL", "its incident is on record", lambda _: 0.0, lambda _: PASSED,
        lambda record: records.told_of(_name(record)), says="not at all; told, it is taken away at once",
    ),
    Rule(
        "PAST", "its incident is on record", lambda p: p.retention.past, _latest("closed_at"), _name,
        says="`retention.past` after the incident was closed",
    ),
    Rule(
        "SLOT", "the incident that holds it is open, and while it counts", _limits, _latest("at"),
        _field("holder"), on_record=False, says="`retention.limits`, at least the longest budget window",
    ),
    Rule(
        "BREAKER", "it is open", lambda p: p.retention.limits, _latest("until"), _nobody,
        says="`retention.limits` after it has closed",
    ),
    Rule(
        "TARGET", "the cool-down lasts", _limits, _latest("at"), _nobody,
        says="`retention.limits`, at least the cool-down",
    ),
    Rule(
        "AGAIN", "the target is to be looked at again", lambda _: 3600.0, _latest("at"), _nobody,
        says="an hour; its due item with it",
    ),
    Rule(
        "REFUSED", "its hour lasts", lambda _: 3600.0, _counted_until, _nobody,
        says="an hour after it; then the total is audited",
    ),
    Rule(
        "SESSION", "it has not expired", lambda _: 3600.0, _latest("expires"), _nobody,
        says="an hour after it expired",
    ),
)  # fmt: skip
"""Every kind that grows. In this order: an incident goes before what belongs to it."""

KEPT: Final[Mapping[str, str]] = {
    "CHAIN": "the head of an audit chain; the audit is never purged by a function",
    "CAUSE": "the lock on a cause; goes with its incident",
    "EPISODES": "one record: the highest episode that was purged",
    "PURGE": "one record: where the walk stands",
    "SWITCH": "one record: the kill switch",
    "STORM": "when people were last told of a storm: one for the cluster, two for each namespace",
    "OPENING": "one for each incident that makes a storm, in each namespace and in the cluster",
    "HEARTBEAT": "one for each part",
    "LEDGER": "one for each failure class and action",
    "TRIES": "a fixed number of buckets that count attempts to sign in",
}
"""The kinds that no rule takes away, and why they do not grow without bound."""


def needed(rule: Rule, record: Record, incident: Record | None, policy: Policy, now: datetime) -> bool:
    """Tell whether a record must stay. `incident`: the record of the one it belongs to, if there is one."""
    if incident is not None and (rule.on_record or incident.body.get("state") != State.CLOSED):
        return True
    ended = rule.ended(record)
    return ended is None or now <= ended + timedelta(seconds=rule.kept(policy))


def purge(store: Store, policy: Policy, now: datetime, most: int = PAGE) -> Counter[str]:
    """Look at the next page of records and take away what nothing needs; gives how many, by kind.

    Raises:
        StoreUnavailable: what was not taken away the next walk finds.
    """
    walk = store.get(records.PURGE)
    place = _place(walk, policy, now)
    if place is None:
        return Counter()
    found, body = _read(store, *place, most)
    try:
        version = ABSENT if walk is None else walk.version
        store.transact([Put(records.PURGE, body | {"at": to_text(now)}, version)])
    except Conflict:
        return Counter()  # another clock is at this page
    names = {key for rule, record in found if (key := _incident_key(rule, record)) is not None}
    incidents = store.get_many(sorted(names))
    gone = Counter[str]()
    for rule, record in found:
        key = _incident_key(rule, record)
        incident = None if key is None else incidents.get(key)
        if needed(rule, record, incident, policy, now):
            continue
        on = [] if key is None else [Check(key, ABSENT if incident is None else incident.version)]
        try:
            store.transact([*on, *_taken_away(rule, record, store, now)])
        except Conflict:
            continue  # it was written meanwhile; the next walk looks again
        gone[rule.kind] += 1
    return gone


def _place(walk: Record | None, policy: Policy, now: datetime) -> tuple[int, str] | None:
    """Give the rule and the key to go on after; None while it rests between two walks."""
    kinds = [rule.kind for rule in RULES]
    if walk is None:
        return 0, ""
    if walk.body["kind"] in kinds:
        return kinds.index(walk.body["kind"]), str(walk.body["after"])
    ended = datetime.fromisoformat(str(walk.body["at"]))
    return (0, "") if now >= ended + timedelta(seconds=policy.retention.pause) else None


def _read(
    store: Store, place: int, after: str, most: int
) -> tuple[list[tuple[Rule, Record]], dict[str, str]]:
    """Read a page, of as many kinds as it takes; gives it, and where the next one begins."""
    found: list[tuple[Rule, Record]] = []
    while place < len(RULES) and (left := most - len(found)) > 0:
        rule = RULES[place]
        some = store.page(rule.kind, after, left)
        found += [(rule, record) for record in some]
        place, after = (place, some[-1].key) if len(some) == left else (place + 1, "")
    return found, {"kind": RULES[place].kind if place < len(RULES) else "", "after": after}


def _incident_key(rule: Rule, record: Record) -> str | None:
    name = rule.incident(record)
    return None if name is None else records.incident(name)


def _taken_away(rule: Rule, record: Record, store: Store, now: datetime) -> list[Write]:
    """Give the writes that take a record away, with what would be left over without it."""
    if rule.kind == "REFUSED":
        return refusals.closed(record, now)
    gone = Delete(record.key, record.version)
    match rule.kind:
        case "INCIDENT":
            return [gone, *_unlocked(record, store)]
        case "AGAIN":
            return [gone, DueDone(records.look_again(record.key))]
        case "FINDING" | "REHEARSAL" | "INTENT" | "APPROVAL" | "TELL":
            return [gone, DueDone(records.talk(_name(record)))]
        case _:
            return [gone]


def _unlocked(record: Record, store: Store) -> list[Write]:
    """Give up the lock of a purged incident on its cause, and remember that its episode was used."""
    name, cause = _name(record), records.cause(str(record.body["cause"]))
    seen = store.get_many([cause, records.EPISODES])
    lock, before = seen.get(cause), seen.get(records.EPISODES)
    done: list[Write] = [DueDone(records.recheck(name)), DueDone(records.deadline(name))]
    if lock is None or lock.body["incident"] != name:
        return done
    highest = max(int(lock.body["episode"]), 0 if before is None else int(before.body["episode"]))
    version = ABSENT if before is None else before.version
    return [*done, Delete(cause, lock.version), Put(records.EPISODES, {"episode": highest}, version)]
