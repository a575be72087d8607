"""What the guards look at in the store, read in one round trip; each record becomes a condition.

Who calls it: `govern/decide` before an intent and before an undo, `quietpager policy explain --now`.

The budget: for each scope B slot records. A slot may be taken if its last use is older than the window
plus the act's deadline plus twice the clock skew, so in any window at most B acts can happen.

    namespace/shop, B = 3      SLOT#namespace/shop#0 [10:02 inc-a]  #1 [09:10 inc-b]  #2 [absent]
    at 10:20, window 1 h       taken                                taken             free: for the intent

An undo is the second half of the act it takes back: it uses the slot that its own incident holds, and stamps
it anew, so that the window counts from the undo on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from quietpager.incident import records, storm
from quietpager.incident.policy import Limit, Policy
from quietpager.incident.slots import moment, stamp
from quietpager.incident.storm import Openings
from quietpager.model.data import digest
from quietpager.model.incident import Autonomy, Incident, Rehearsal
from quietpager.model.store import ABSENT, Check, Put, Record, Write
from quietpager.model.time import to_text
from quietpager.objects.kinds.node import KIND as NODE


class Reads(Protocol):
    """The part of a store that is read here."""

    def get_many(self, keys: Sequence[str]) -> Mapping[str, Record]:
        """Read several records at once; those that are not there are missing."""


@dataclass(frozen=True, slots=True)
class Level:
    """How far one scope's budget is used: `taken` of its slots cannot be had now."""

    scope: str
    limit: Limit
    taken: int

    @property
    def spent(self) -> bool:
        """No slot is left."""
        return self.taken >= self.limit.acts

    def __str__(self) -> str:
        """Write it with its figures."""
        return f"{self.scope} ({self.taken} of {self.limit.acts} in {self.limit.window:.0f} s)"


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything the guards look at; nothing has a default, so that nothing is permitted by silence.

    `openings` counts new incidents in the storm brake's window; `levels` are the budgets; `at_most` is the
    action's own `autonomy_at_most`.
    """

    incident: Incident
    rehearsal: Rehearsal
    policy: Policy
    now: datetime
    stopped: bool
    breaker_until: datetime | None
    last_act: datetime | None
    levels: tuple[Level, ...]
    openings: Openings
    at_most: Autonomy


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the guards looked at, as conditions of the transaction that acts on their word.

    `slots` names the budget's records that it takes.
    """

    writes: tuple[Write, ...]
    slots: tuple[str, ...] = ()


def scopes(incident: Incident, rehearsal: Rehearsal, policy: Policy) -> dict[str, Limit]:
    """Name every scope that an act counts in, with its limit."""
    budget, owner = policy.budget, incident.owner
    in_window = {f"target/{owner.identity}": budget.target, "cluster": budget.cluster}
    if owner.namespace:
        in_window[f"namespace/{owner.namespace}"] = budget.namespace
    facts = rehearsal.facts
    in_window |= {f"domain/{name}": budget.domain for name in (facts.domains if facts else ())}
    touched = (owner, *(facts.targets if facts else ()))
    nodes = sorted({f"node/{one.uid}" for one in touched if one.kind == NODE.name})
    found = {name: Limit(acts=acts, window=budget.window) for name, acts in in_window.items()}
    found |= {name: Limit(acts=budget.node, window=budget.window) for name in nodes}
    if nodes:
        found["nodes"] = budget.nodes
    action = rehearsal.remedy.action
    if action in budget.actions:
        found[f"action/{action}"] = budget.actions[action]
    return found


def slot_is_free(last_used: datetime, window: float, policy: Policy, now: datetime) -> bool:
    """Tell whether a budget slot may be taken again: window + act deadline + twice the clock skew.

    The padding is what keeps any window at B acts: the act of a slot may come as late as its deadline,
    and of two clocks one may be fast by the skew and the other slow by it.
    """
    padding = window + policy.act + 2 * policy.skew
    return now - last_used > timedelta(seconds=padding)


def ground_of(
    rehearsal: Rehearsal,
    incident: Incident,
    store: Reads,
    policy: Policy,
    now: datetime,
    *,
    at_most: Autonomy,
    undo: bool = False,
) -> tuple[Ground, Conditions]:
    """Read what the guards need, and turn what the intent depends on into conditions.

    `at_most` is the action's own `autonomy_at_most`. For an undo neither breaker nor cool-down are
    conditions: its own step writes the breaker.
    """
    limits = scopes(incident, rehearsal, policy)
    slots = {scope: [records.slot(scope, n) for n in range(limit.acts)] for scope, limit in limits.items()}
    breaker, target = records.breaker(incident), records.target(incident)
    every = [key for some in slots.values() for key in some]
    found = store.get_many([records.SWITCH, breaker, target, *every, *storm.keys(incident.owner, policy)])

    def version(key: str) -> int:
        return found[key].version if key in found else ABSENT

    seen = (records.SWITCH,) if undo else (records.SWITCH, breaker, target)
    conditions: list[Write] = [Check(key, version(key)) for key in seen]
    levels: list[Level] = []
    taken: list[str] = []
    for scope, some in slots.items():
        window = limits[scope].window
        # Each incident begins its search elsewhere, so that many at once do not race for one slot.
        first = int(digest(incident.id, scope, length=8), 16) % max(len(some), 1)
        around = some[first:] + some[:first]
        free = [key for key in around if _may_take(found.get(key), incident, window, policy, now, undo=undo)]
        levels.append(Level(scope, limits[scope], len(some) - len(free)))
        if free:
            # Its own slot first: a second attempt, or an undo, is not a second act.
            mine = next((key for key in free if _holder(found.get(key)) == incident.id), free[0])
            body = {"at": to_text(stamp(found.get(mine), now)), "holder": incident.id}
            conditions.append(Put(mine, body, version(mine)))
            taken.append(mine)
    switch = found.get(records.SWITCH)
    ground = Ground(
        incident=incident,
        rehearsal=rehearsal,
        policy=policy,
        now=now,
        stopped=switch is None or bool(switch.body.get("stopped", True)),
        breaker_until=moment(found.get(breaker), "until"),
        last_act=moment(found.get(target), "at"),
        levels=tuple(levels),
        openings=storm.openings(found, incident.owner, policy, now),
        at_most=at_most,
    )
    return ground, Conditions(tuple(conditions), tuple(taken))


def _may_take(
    record: Record | None, incident: Incident, window: float, policy: Policy, now: datetime, *, undo: bool
) -> bool:
    """Free, or this incident's own: of its act, for the undo; of an earlier attempt without a write.

    An attempt that was refused or expired can never write later, so its slot may serve the next one;
    otherwise a budget of one act an hour would forbid the second attempt that the table promises.
    """
    at = moment(record, "at")
    if at is None or (_holder(record) == incident.id and (undo or not incident.acted)):
        return True
    return slot_is_free(at, window, policy, now)


def _holder(record: Record | None) -> str | None:
    return None if record is None else str(record.body.get("holder"))
