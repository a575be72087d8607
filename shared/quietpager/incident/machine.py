"""The incident's state machine: pure, total, and the same code in production, replay and tests.

`step(incident, news, policy, now)` looks up (state, kind of news) in `TABLE` and gives the next
incident with what must happen. Every pair is in the table; where it says `keep`, the news changes
nothing and is kept as evidence. `docs/state-machine.md` is generated from it.

Who calls it: `govern/decide` (which turns effects into one transaction), replay, the property tests.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from quietpager.incident.attempts import (
    HELPED,
    NOT_HELPED,
    NOT_UNDONE,
    UNDO_LOST,
    UNDONE,
    figures,
    not_proven,
    note_result,
    story,
)
from quietpager.incident.news import (
    AskPerson,
    Commit,
    Effect,
    Input,
    MarkActed,
    News,
    OpenBreaker,
    Rehearse,
    Step,
    Tell,
    Undo,
)
from quietpager.incident.policy import Policy
from quietpager.model.data import digest
from quietpager.model.finding import Finding, Remedy
from quietpager.model.incident import (
    OPEN,
    WITH_PERSON,
    Autonomy,
    ClosedReason,
    Incident,
    Rehearsal,
    State,
    Tried,
)

MOST_SYMPTOMS = 50
"""Targets an incident names one by one; beyond that it only counts them."""

MOST_OWNERS = 500
"""Workloads that a shared cause's incident looks at; so many keep its record below 400 KB, the most that
DynamoDB takes (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html)."""

MOST_PLACES_TOLD = 10
"""Namespaces of one incident whose people are told each that they have it, too; a registry may serve all."""

Handler = Callable[[Incident, Input, Policy, datetime], Step]


def step(incident: Incident | None, news: Input, policy: Policy, now: datetime) -> Step:
    """Take one step. Never raises for any pair of state and news."""
    if incident is None:
        return _open(news, policy, now) if news.kind is News.SYMPTOM else Step(None)
    if news.finding is not None and news.finding.incident is not None:
        if news.finding.serial <= incident.serial:
            return Step(incident)
        incident = incident.but(serial=news.finding.serial)
    if news.rehearsal is not None and news.rehearsal.id != incident.rehearsal:
        return Step(incident)
    if news.intent is not None and news.intent.id not in (incident.intent, incident.undo):
        return Step(incident)
    return TABLE[incident.state, news.kind](incident, news, policy, now)


# --- small parts -------------------------------------------------------------------------------


def _seconds(value: float) -> timedelta:
    return timedelta(seconds=value)


def _enter(
    incident: Incident,
    state: State,
    policy: Policy,
    now: datetime,
    deadline: float,
    **changes: object,
) -> Incident:
    """Move to a state, with both of its due items: a recheck and a deadline."""
    recheck = policy.recheck
    if state is State.VERIFYING:
        recheck = min(recheck, incident.window / policy.healthy_rechecks)
    return incident.but(
        **{
            "state": state,
            "state_since": now,
            "deadline_at": now + _seconds(deadline),
            "recheck_every": recheck,
            "healthy_streak": 0,
            "healthy_since": None,
            "nudges": 0,
            **changes,
        }
    )


def _hand_over(
    incident: Incident,
    policy: Policy,
    now: datetime,
    why: str,
    state: State = State.HANDOVER,
    effects: tuple[Effect, ...] = (),
) -> Step:
    after = _enter(incident, state, policy, now, policy.reminder, announced=True)
    return Step(after, (*effects, Tell("needsperson", why)), why)


def _close(incident: Incident, reason: ClosedReason, policy: Policy, now: datetime, why: str) -> Step:
    after = _enter(incident, State.CLOSED, policy, now, 0.0, reason=reason)
    tell: tuple[Effect, ...] = (Tell("closed", why),) if incident.announced else ()
    return Step(after, tell, why)


def _rehearse(incident: Incident, policy: Policy, now: datetime, *, before: tuple[Effect, ...] = ()) -> Step:
    """Ask for a plan of the current candidate; with none left a person is told everything refused.

    `before` holds only where there is a plan to wait for: what goes to a person at once is one message.
    """
    remedy = incident.remedy
    if remedy is None:
        if incident.refusals:
            return _hand_over(incident, policy, now, " ".join(incident.refusals), State.BLOCKED)
        why = f"No rule proposes an action for {incident.failure_class}."
        if incident.page is not None:
            likely = "".join(f" Look first at: {one.what}." for one in incident.page.causes[:1])
            why = f"No rule knows this. {incident.page.summary}{likely}"
        return _hand_over(incident, policy, now, why)
    number = incident.rehearsals + 1
    rehearsal = Rehearsal(
        id=f"{incident.id}-r{number}",
        incident=incident.id,
        remedy=remedy,
        owner=incident.owner,
        asked_at=now,
    )
    after = _enter(
        incident, State.PLANNING, policy, now, policy.planning,
        rehearsal=rehearsal.id, rehearsals=number, nudges=incident.nudges,
    )  # fmt: skip
    return Step(after, (*before, Rehearse(rehearsal)), f"rehearse {remedy.action}")


def dwell_met(finding: Finding, policy: Policy, now: datetime) -> bool:
    """Tell whether a symptom has lasted longer than a transient. Also asked by replay."""
    diagnosis = finding.diagnosis
    if diagnosis is None:
        return False
    return policy.lasted(finding.dwell, (now - diagnosis.since).total_seconds(), diagnosis.restarts)


def _refresh(incident: Incident, finding: Finding, now: datetime) -> Incident:
    """Take over what a newer look knows better."""
    seen = incident.but(failing_at=now, healthy_streak=0, healthy_since=None)
    diagnosis = finding.diagnosis
    if diagnosis is None:
        return seen
    since = diagnosis.since
    return seen.but(
        # What was healthy in between begins anew; else the earliest that any look has told counts.
        since=since if incident.healthy_since is not None else min(incident.since, since),
        restarts=max(incident.restarts, diagnosis.restarts),
        time_to_failure=max(incident.time_to_failure, diagnosis.time_to_failure),
        evidence=diagnosis.evidence,
        page=diagnosis.page or incident.page,
    )


# --- opening -----------------------------------------------------------------------------------


def incident_id(cause: str, episode: int) -> str:
    """Make the identity of an incident: its cause key and episode."""
    return f"inc-{digest(cause, episode, length=12)}"


def _open(news: Input, policy: Policy, now: datetime) -> Step:
    """Open an incident; it is announced only if it outlives the dwell."""
    finding = news.finding
    if finding is None or finding.diagnosis is None:
        return Step(None)
    diagnosis = finding.diagnosis
    fresh = Incident(
        id=incident_id(diagnosis.cause, 1),
        cause=diagnosis.cause,
        episode=1,
        cluster=finding.cluster,
        family=finding.family,
        failure_class=diagnosis.failure_class,
        owner=diagnosis.owner,
        state=State.WAITING,
        opened_at=now,
        state_since=now,
        autonomy=policy.dial(Autonomy(finding.autonomy), diagnosis.owner.namespace, diagnosis.failure_class),
        dwell=finding.dwell,
        evidence=diagnosis.evidence,
        page=diagnosis.page,
        symptoms=(finding.target,),
        symptom_count=1,
        owners=(diagnosis.owner,),
        restarts=diagnosis.restarts,
        since=diagnosis.since,
        time_to_failure=diagnosis.time_to_failure,
        remedies=finding.remedies,
        window=policy.verification(diagnosis.time_to_failure),
        deadline_at=now + _seconds(policy.waiting_limit),
        recheck_every=policy.recheck,
        failing_at=now,
    )
    opened = Step(fresh, (), f"{diagnosis.failure_class} on {diagnosis.owner}")
    if dwell_met(finding, policy, now):
        planned = start_planning(fresh, policy, now)
        return Step(planned.incident, planned.effects, opened.note)
    return opened


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
    renamed = fresh.incident.but(id=incident_id(fresh.incident.cause, episode), episode=episode)
    if fresh.effects:
        again = start_planning(renamed.but(rehearsals=0), policy, now)
        return Step(again.incident, again.effects, fresh.note)
    return Step(renamed, fresh.effects, fresh.note)


# --- handlers; the first line of each docstring is the row of the generated table ------------------


def keep(incident: Incident, _news: Input, _policy: Policy, _now: datetime) -> Step:
    """Nothing changes; kept as evidence."""
    return Step(incident)


def add_symptom(incident: Incident, news: Input, _policy: Policy, _now: datetime) -> Step:
    """Same state: the symptom is added; people are told only of the first one in another namespace."""
    finding = news.finding
    if finding is None or finding.target in incident.symptoms:
        return Step(incident)
    before, incident = incident, _with_owner(incident, finding)
    kept = incident.symptoms
    if len(kept) < MOST_SYMPTOMS:
        kept = (*kept, finding.target)
    after = incident.but(symptoms=kept, symptom_count=incident.symptom_count + 1)
    if incident.page is not None and finding.diagnosis is not None:
        # The analyst has looked once more: what it knows now contains what it knew.
        after = after.but(page=finding.diagnosis.page or incident.page)
    return Step(after, _also_in(before, incident), f"also {finding.target}")


def _also_in(before: Incident, after: Incident) -> tuple[Effect, ...]:
    """Tell of a namespace that has an announced incident as well: nobody's failure is hidden in another's."""
    known = {one.namespace for one in before.owners or (before.owner,)}
    new = [one for one in after.owners if one.namespace not in known]
    if not new or not before.announced or len(known) >= MOST_PLACES_TOLD:
        return ()
    return (Tell("updated", f"Also in namespace {new[0].namespace}: {new[0]}."),)


def _with_owner(incident: Incident, finding: Finding) -> Incident:
    owner = None if finding.diagnosis is None else finding.diagnosis.owner
    known = incident.owners or (incident.owner,)
    if owner is None or owner in known or len(known) >= MOST_OWNERS:
        return incident
    return incident.but(owners=(*known, owner))


def wait_symptom(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """Same state: the symptom is added; a known class replaces `unknown`; dwell met: PLANNING."""
    after = add_symptom(incident, news, policy, now).incident or incident
    finding = news.finding
    if finding is None or finding.diagnosis is None:
        return Step(after)
    if after.failure_class == "unknown":
        after = after.but(
            failure_class=finding.diagnosis.failure_class,
            family=finding.family,
            remedies=finding.remedies,
            dwell=finding.dwell,
        )
    after = _refresh(after, finding, now)
    # Another class's symptom is judged by the dwell of the class that would be acted on, as guard 12 does.
    if dwell_met(finding.but(dwell=after.dwell), policy, now):
        return start_planning(after, policy, now)
    return Step(after, (), "seen again")


def start_planning(incident: Incident, policy: Policy, now: datetime) -> Step:
    """Announce the incident and ask for the plan of its first candidate, whether or not the dwell is met.

    Who else calls it: the pipeline, to say what would follow once the dwell is met.
    """
    window = policy.verification(incident.time_to_failure)
    restarts = f", {incident.restarts} restarts" if incident.restarts or not incident.shared else ""
    text = f"{incident.failure_class} on {incident.about}{restarts}"
    return _rehearse(incident.but(announced=True, window=window), policy, now, before=(Tell("opened", text),))


def wait_failing(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WAITING, or PLANNING once the dwell is met; without a candidate WITH_PERSON(handover)."""
    finding = news.finding
    if finding is None:
        return Step(incident)
    after = _refresh(incident, finding, now)
    if dwell_met(finding, policy, now):
        return start_planning(after, policy, now)
    return Step(after)


def healthy(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """Same state; after N healthy rechecks over a whole window CLOSED, or the proposal's PLANNING."""
    since = incident.healthy_since or now
    after = incident.but(healthy_since=since, healthy_streak=incident.healthy_streak + 1, worse_streak=0)
    long_enough = (now - since).total_seconds() >= incident.window
    if after.healthy_streak < policy.healthy_rechecks or not long_enough:
        return Step(after)
    if incident.state is State.VERIFYING:
        tried = note_result(after, HELPED if not news.untouched else not_proven(news.untouched))
        if incident.to_propose is not None:
            return _propose_written(tried, policy, now)
        lasted = f"{incident.owner} has been healthy for {incident.window:.0f} s since the change"
        why = f"{lasted}; {not_proven(news.untouched)}." if news.untouched else f"Fixed: {lasted}."
        return _close(tried, "fixed", policy, now, why)
    reason: ClosedReason = "fixed_by_person" if incident.state in WITH_PERSON else "healed_by_itself"
    if incident.verified:
        reason = "fixed"
    return _close(after, reason, policy, now, f"{incident.about} is healthy again.")


def failing(incident: Incident, news: Input, _policy: Policy, now: datetime) -> Step:
    """Same state: the healthy streak starts again."""
    if news.finding is None:
        return Step(incident)
    return Step(_refresh(incident, news.finding, now))


def close_gone(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """CLOSED(gone): the object itself is not there any more."""
    return _close(incident, "gone", policy, now, f"{incident.owner} is gone.")


def close_merged(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """CLOSED(merged): another incident explains it."""
    return _close(incident, "merged", policy, now, "Another incident explains this one.")


def hand_over_gone(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover): what was changed has gone."""
    return _hand_over(incident, policy, now, f"{incident.owner} went away while it was being healed.")


def waiting_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover): it neither healed nor could be judged."""
    why = f"{incident.owner} could not be judged for {policy.waiting_limit:.0f} s."
    return _hand_over(incident, policy, now, why)


def planning_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING: rehearse again, twice; then WITH_PERSON(blocked)."""
    if incident.nudges >= 2 or incident.remedy is None:
        why = "The plan did not come back; is the remediator running?"
        return _hand_over(incident, policy, now, why, State.BLOCKED)
    return _rehearse(incident.but(nudges=incident.nudges + 1), policy, now)


def commit(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """ACTING: the intent is written ahead."""
    rehearsal = news.rehearsal
    if rehearsal is None or incident.verified:
        return Step(incident)
    if incident.approved is not None and incident.approved_diff != rehearsal.diff_key:
        return ask(incident.but(approved=None), news, policy, now)
    remedy = rehearsal.remedy
    after = _enter(
        incident, State.ACTING, policy, now, policy.claim,
        tried=(*incident.tried, Tried(action=remedy.action, params=remedy.params, result="sent")),
        available_before=rehearsal.available, restarts_before=incident.restarts,
        available_after=None, restarts_after=None,
        undo_when=rehearsal.undo_when,
        **_verified_by(incident, rehearsal),
        to_propose=rehearsal.id if _also_proposed(rehearsal) else None,
        decided_by=incident.decided_by or f"rule {incident.family}/{incident.failure_class}",
    )  # fmt: skip
    return Step(after, (Commit(rehearsal),), rehearsal.summary)


def _verified_by(incident: Incident, rehearsal: Rehearsal) -> dict[str, object]:
    """Give what the action asks of its verification; a rehearsal of before it could say so asks nothing."""
    verify = rehearsal.verify
    if verify is None:
        return {}
    return {"window": verify.seconds(incident.window, incident.time_to_failure), "goal": verify.goal}


def ask(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(approval): an approval bound to exactly this diff, with reminder and expiry."""
    rehearsal = news.rehearsal
    if rehearsal is None:
        return Step(incident)
    approval = f"{rehearsal.id}-a"
    after = _enter(
        incident, State.APPROVAL, policy, now, policy.approval / 2,
        approval=approval, approved_diff=rehearsal.diff_key, announced=True,
    )  # fmt: skip
    return Step(after, (AskPerson(rehearsal), Tell("needsperson", f"May I? {rehearsal.summary}")), "ask")


def show(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover), the plan shown."""
    plan = news.rehearsal.summary if news.rehearsal else ""
    why = f"At autonomy {incident.autonomy} nothing is written. I would: {plan} {news.sentence}"
    return _hand_over(incident, policy, now, why.strip())


def proposed(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(proposed): the pull request or patch."""
    plan = news.rehearsal.summary if news.rehearsal else ""
    return _hand_over(incident, policy, now, f"Proposed: {plan}", State.PROPOSED)


def next_candidate(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING with the next candidate (guard 5: the proposal); none left, approved: WITH_PERSON(blocked)."""
    after = incident.but(refusals=(*incident.refusals, news.sentence))
    if news.propose and news.rehearsal is not None and news.rehearsal.remedy.action != PROPOSE:
        following = (*after.remedies[: after.candidate + 1], proposal_of(news.rehearsal.id))
        after = after.but(remedies=(*following, *after.remedies[after.candidate + 1 :]), approved=None)
    elif incident.approved is not None or incident.by_person:
        return _hand_over(after, policy, now, news.sentence, State.BLOCKED)
    return _rehearse(after.but(candidate=incident.candidate + 1, attempt=1, nudges=0), policy, now)


def propose_beyond(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING of the proposal: no action may write this plan, a person reads it; then the next candidate."""
    return next_candidate(incident, replace(news, propose=True), policy, now)


PROPOSE = "propose-change"
"""The action that writes nothing to the cluster."""


def proposal_of(rehearsal: str) -> Remedy:
    """Make the remedy that hands a plan to whoever owns the object."""
    return Remedy(action=PROPOSE, params={"of": rehearsal})


def _also_proposed(rehearsal: Rehearsal) -> bool:
    facts = rehearsal.facts
    return facts is not None and facts.owned_by is not None and facts.owner_mode == "patch+propose"


def _propose_written(incident: Incident, policy: Policy, now: datetime) -> Step:
    """PLANNING of the proposal: it helped, and its owner would put it back sooner or later."""
    after = incident.but(
        remedies=(proposal_of(incident.to_propose or ""),), candidate=0, attempt=1, refusals=(),
        verified=True, to_propose=None, approved=None,
    )  # fmt: skip
    return _rehearse(after, policy, now)


def applied(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """VERIFYING: the cool-down of the target begins."""
    if news.intent is None or news.intent.id != incident.intent:
        return Step(incident)
    word = "applied" if news.kind is News.APPLIED else "outcome unknown"
    after = _enter(
        note_result(incident, word), State.VERIFYING, policy, now,
        policy.rollout + incident.window,
        acted=True, acted_at=news.intent.applied_at or now, extended=False,
        failing_at=None, worse_streak=0,
        undo_when=incident.undo_when if news.kind is News.APPLIED else "never",
    )  # fmt: skip
    return Step(after, (MarkActed(), Tell("updated", f"{news.intent.action} {word}.")), word)


def not_done(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING with the same remedy, attempt + 1, at most 2; then the next candidate."""
    why = news.intent.result if news.intent else news.sentence
    after = note_result(incident, why)
    if incident.attempt >= policy.attempts:
        return next_candidate(after.but(approved=None), Input(News.REFUSED, sentence=why), policy, now)
    return _rehearse(after.but(attempt=incident.attempt + 1), policy, now)


def healed(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """WAITING: healthy just before the write, so nothing was written; no attempt is spent, an approval is."""
    # What was approved was this act. Whether to act should it fail again later, a person is asked again.
    after = note_result(incident.but(approved=None), "not needed: healed before the write")
    return Step(_enter(after, State.WAITING, policy, now, policy.waiting_limit), (), "healed")


def acting_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """Same state: decide looks at the intent; one never claimed is EXPIRED by that look."""
    return Step(_enter(incident, State.ACTING, policy, now, policy.act * 2, nudges=incident.nudges))


def verify_failing(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """Same state; worse than before the act, twice running: as when the window ends."""
    finding = news.finding
    if finding is None:
        return Step(incident)
    worse = finding.available < incident.available_before
    after = _refresh(incident, finding, now).but(
        worse_streak=incident.worse_streak + 1 if worse else 0,
        available_after=finding.available,
        restarts_after=incident.restarts_after if finding.diagnosis is None else finding.diagnosis.restarts,
    )
    past_rollout = (now - incident.state_since).total_seconds() >= policy.rollout
    if after.worse_streak >= 2 and past_rollout:
        return _not_helped(after, policy, now, "worse")
    return Step(after)


def verify_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """Undo, or a person, when it is unchanged; once more where the answers could not be read."""
    if incident.healthy_since is not None:
        rest = incident.window - (now - incident.healthy_since).total_seconds()
        return Step(incident.but(deadline_at=now + _seconds(max(rest, 0.0) + 2 * incident.recheck_every)))
    if incident.failing_at is None:
        if not incident.extended:
            again = now + _seconds(policy.rollout + incident.window)
            return Step(incident.but(extended=True, deadline_at=again))
        after = note_result(incident, "could not be verified")
        why = "The change was made, but its effect could not be read; nothing was undone."
        return _hand_over(after, policy, now, why, effects=(OpenBreaker(),))
    return _not_helped(incident, policy, now, "unchanged")


def _not_helped(incident: Incident, policy: Policy, now: datetime, how: str) -> Step:
    seen = figures(incident, how)
    after = note_result(incident, f"{NOT_HELPED} ({how})", seen)
    if how in UNDO_WHEN[incident.undo_when]:
        state = _enter(after, State.UNDOING, policy, now, policy.claim)
        return Step(state, (OpenBreaker(), Undo()), f"{how}: undo")
    why = f"{incident.tried[-1].action if incident.tried else 'The act'} did not help. {seen}"
    return _hand_over(after, policy, now, why, effects=(OpenBreaker(),))


UNDO_WHEN: Mapping[str, frozenset[str]] = {
    "worse": frozenset({"worse"}),
    "unchanged": frozenset({"worse", "unchanged"}),
    "never": frozenset(),
}
"""What an action's `undo_when` covers. A fix that made nothing better is not left lying about."""


def undone(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover), told what was undone, or why not."""
    if news.intent is None or news.intent.id != incident.undo:
        return Step(incident)
    what = UNDONE if news.kind is News.APPLIED else f"{NOT_UNDONE} {news.intent.result}"
    after = note_result(incident, what)
    return _hand_over(after, policy, now, story(after))


def undo_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover): the undo was never carried out."""
    after = note_result(incident, UNDO_LOST)
    return _hand_over(after, policy, now, story(after))


def approve(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING(approved): a silent re-rehearsal; the same diff is then carried out."""
    if news.approval != incident.approval:
        return Step(incident)
    return _rehearse(incident.but(approved=news.approval, approval=None, decided_by=news.by), policy, now)


def modify(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING with the person's remedy, at autonomy `approve`, or lower where the policy is."""
    if news.remedy is None or news.approval != incident.approval:
        return Step(incident)
    # A person may go beyond a rule's autonomy, never beyond what the installation allows in this place.
    dial = policy.dial(Autonomy.APPROVE, incident.owner.namespace, incident.failure_class)
    after = incident.but(
        remedies=(news.remedy,), candidate=0, attempt=1, by_person=True, approval=None, verified=False,
        approved=None, autonomy=dial, decided_by=news.by, proposed_by=news.by,
    )  # fmt: skip
    return _rehearse(after, policy, now)


def reject(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover): no more automation in this episode."""
    return _hand_over(
        incident.but(approval=None, approved=None, decided_by=news.by, taken_over=True),
        policy,
        now,
        f"{news.sentence or 'Taken over'} by {news.by}.",
    )


def approval_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """A reminder at half time; then WITH_PERSON(handover): expired."""
    if incident.nudges == 0:
        after = incident.but(nudges=1, deadline_at=now + _seconds(policy.approval / 2))
        return Step(after, (Tell("needsperson", "Still waiting for an answer."),), "reminder")
    after = incident.but(approval=None)
    return _hand_over(after, policy, now, "Nobody answered in time; nothing was done.")


def remind(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """Same state: a reminder, each later than the last."""
    nudges = incident.nudges + 1
    after = incident.but(nudges=nudges, deadline_at=now + _seconds(policy.reminder * 2 ** min(nudges, 5)))
    return Step(after, (Tell("needsperson", f"Still open: {story(incident)}"),), "reminder")


def did_not_hold(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """Fixed before: WITH_PERSON(handover), same incident; healed by itself before: WAITING again."""
    finding = news.finding
    if finding is None or finding.diagnosis is None:
        return Step(incident)
    last = finding.diagnosis.last_failure or finding.at
    if min(last, finding.at) <= incident.state_since:
        return Step(incident)
    fresh = incident.but(reason=None, symptoms=(finding.target,), symptom_count=1, verified=False)
    again = _with_owner(fresh, finding)
    if incident.reason == "fixed" or incident.acted:
        return _hand_over(again, policy, now, "The fix did not hold.")
    if incident.taken_over:
        return _hand_over(again, policy, now, f"It fails again; {incident.decided_by} has taken it over.")
    waiting = _enter(
        again, State.WAITING, policy, now, policy.waiting_limit,
        announced=False, failing_at=now, since=finding.diagnosis.since,
        decided_by="", approved=None, approval=None, candidate=0, attempt=1, refusals=(),
    )  # fmt: skip
    return Step(waiting, (), "failing again")


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
