"""The incident's state machine: pure, total, and the same code in production, replay and tests.

`step(incident, news, policy, now)` looks up (state, kind of news) in `TABLE` and gives the next
incident with what must happen. Every pair is in the table; where it says `keep`, the news changes
nothing and is kept as evidence. `docs/state-machine.md` is generated from it.

    findings    what detectors say          planning    what a plan comes to
    acting      what an intent comes to     answering   what a person answers

Who calls it: `govern/decide` (which turns effects into one transaction), replay, the property tests.
"""

from collections.abc import Callable, Mapping
from datetime import datetime

from quietpager.incident.acting import (
    acting_deadline,
    applied,
    healed,
    not_done,
    undo_deadline,
    undone,
    verify_deadline,
    verify_failing,
)
from quietpager.incident.answering import approval_deadline, approve, modify, reject, remind
from quietpager.incident.findings import (
    add_symptom,
    close_gone,
    close_merged,
    did_not_hold,
    failing,
    hand_over_gone,
    healthy,
    wait_failing,
    wait_symptom,
    waiting_deadline,
)
from quietpager.incident.moves import start_planning
from quietpager.incident.news import Input, News, Step
from quietpager.incident.opening import incident_id, opening_of
from quietpager.incident.planning import (
    ask,
    commit,
    next_candidate,
    planning_deadline,
    propose_beyond,
    proposed,
    show,
)
from quietpager.incident.policy import Policy
from quietpager.model.incident import OPEN, WITH_PERSON, Incident, State

Handler = Callable[[Incident, Input, Policy, datetime], Step]


def step(incident: Incident | None, news: Input, policy: Policy, now: datetime) -> Step:
    """Take one step. Never raises for any pair of state and news."""
    if incident is None:
        return opening_of(news, policy, now) if news.kind is News.SYMPTOM else Step(None)
    if news.finding is not None and news.finding.incident is not None:
        if news.finding.serial <= incident.serial:
            return Step(incident)
        incident = incident.but(serial=news.finding.serial)
    if news.rehearsal is not None and news.rehearsal.id != incident.rehearsal:
        return Step(incident)
    if news.intent is not None and news.intent.id not in (incident.intent, incident.undo):
        return Step(incident)
    return TABLE[incident.state, news.kind](incident, news, policy, now)


def reopened(old: Incident, news: Input, policy: Policy, now: datetime, *, inside_cool_down: bool) -> Step:
    """Open the next episode of a cause, or, inside the cool-down, the same incident once more."""
    if not inside_cool_down:
        return opened(news, policy, now, after=old.episode)
    return TABLE[State.CLOSED, News.SYMPTOM](old, news, policy, now)


def opened(news: Input, policy: Policy, now: datetime, *, after: int) -> Step:
    """Open the episode that comes after the ones there were; 0 where there were none."""
    fresh = step(None, news, policy, now)
    if fresh.incident is None or after == 0:
        return fresh
    episode = after + 1
    name = incident_id(fresh.incident.cause, episode, fresh.incident.cluster)
    renamed = fresh.incident.but(id=name, episode=episode)
    if fresh.effects:
        again = start_planning(renamed.but(rehearsals=0), policy, now)
        return Step(again.incident, again.effects, fresh.note)
    return Step(renamed, fresh.effects, fresh.note)


def keep(incident: Incident, _news: Input, _policy: Policy, _now: datetime) -> Step:
    """Nothing changes; kept as evidence."""
    return Step(incident)


def _table() -> dict[tuple[State, News], Handler]:
    table: dict[tuple[State, News], Handler] = {(state, news): keep for state in State for news in News}
    for state in OPEN:
        table[state, News.SYMPTOM] = add_symptom
        table[state, News.HEALTHY] = healthy
        table[state, News.FAILING] = failing
    for state in (State.ACTING, State.UNDOING):
        table[state, News.HEALTHY] = keep
        table[state, News.FAILING] = keep
    for state in (State.WAITING, State.PLANNING, *WITH_PERSON):
        table[state, News.GONE] = close_gone
        table[state, News.SUPERSEDED] = close_merged
    for state in WITH_PERSON:
        table[state, News.DEADLINE] = remind
        table[state, News.REJECT] = reject
    for state in (State.APPROVAL, State.PROPOSED, State.BLOCKED):
        table[state, News.MODIFY] = modify
    return table | {
        (State.WAITING, News.SYMPTOM): wait_symptom,
        (State.WAITING, News.FAILING): wait_failing,
        (State.WAITING, News.DEADLINE): waiting_deadline,
        (State.PLANNING, News.ALLOWED): commit,
        (State.PLANNING, News.ASK): ask,
        (State.PLANNING, News.SHOW): show,
        (State.PLANNING, News.PROPOSED): proposed,
        (State.PLANNING, News.REFUSED): next_candidate,
        (State.PLANNING, News.BEYOND): propose_beyond,
        (State.PLANNING, News.DEADLINE): planning_deadline,
        (State.APPROVAL, News.APPROVE): approve,
        (State.APPROVAL, News.DEADLINE): approval_deadline,
        (State.ACTING, News.APPLIED): applied,
        (State.ACTING, News.UNKNOWN): applied,
        (State.ACTING, News.NOT_DONE): not_done,
        (State.ACTING, News.HEALED): healed,
        (State.ACTING, News.DEADLINE): acting_deadline,
        (State.VERIFYING, News.FAILING): verify_failing,
        (State.VERIFYING, News.GONE): hand_over_gone,
        (State.VERIFYING, News.DEADLINE): verify_deadline,
        (State.UNDOING, News.APPLIED): undone,
        (State.UNDOING, News.UNKNOWN): undone,
        (State.UNDOING, News.NOT_DONE): undone,
        (State.UNDOING, News.DEADLINE): undo_deadline,
        (State.CLOSED, News.SYMPTOM): did_not_hold,
    }


TABLE: Mapping[tuple[State, News], Handler] = _table()
