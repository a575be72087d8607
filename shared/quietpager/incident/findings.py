"""What detectors say of an incident: more symptoms, failing, healthy, gone; and what comes of waiting.

The first line of a handler's docstring is its row of the generated table. Who calls it: `incident.machine`.
"""

from collections.abc import Callable
from datetime import datetime

from quietpager.incident.attempts import not_proven, note_result
from quietpager.incident.moves import close, dwell_met, enter, hand_over, refresh, start_planning, with_owner
from quietpager.incident.news import Effect, Input, Step, Tell
from quietpager.incident.planning import propose_written
from quietpager.incident.policy import Policy
from quietpager.model.incident import WITH_PERSON, ClosedReason, How, Incident, State

MOST_SYMPTOMS = 50
"""Targets an incident names one by one; beyond that it only counts them."""


MOST_PLACES_TOLD = 10
"""Namespaces of one incident whose people are told each that they have it, too; a registry may serve all."""

Handler = Callable[[Incident, Input, Policy, datetime], Step]


def add_symptom(incident: Incident, news: Input, _policy: Policy, _now: datetime) -> Step:
    """Same state: the symptom is added; people are told only of the first one in another namespace."""
    finding = news.finding
    if finding is None or finding.target in incident.symptoms:
        return Step(incident)
    before, incident = incident, with_owner(incident, finding)
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
    after = refresh(after, finding, now)
    # Another class's symptom is judged by the dwell of the class that would be acted on, as guard 12 does.
    if dwell_met(finding.but(dwell=after.dwell), policy, now):
        return start_planning(after, policy, now)
    return Step(after, (), "seen again")


def wait_failing(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WAITING, or PLANNING once the dwell is met; without a candidate WITH_PERSON(handover)."""
    finding = news.finding
    if finding is None:
        return Step(incident)
    after = refresh(incident, finding, now)
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
        tried = (
            note_result(after, How.NOT_PROVEN, not_proven(news.untouched))
            if news.untouched
            else note_result(after, How.HELPED)
        )
        if incident.to_propose is not None:
            return propose_written(tried, policy, now)
        lasted = f"{incident.owner} has been healthy for {incident.window:.0f} s since the change"
        why = f"{lasted}; {tried.tried[-1].result}." if news.untouched else f"Fixed: {lasted}."
        return close(tried, "fixed", policy, now, why)
    reason: ClosedReason = "fixed_by_person" if incident.state in WITH_PERSON else "healed_by_itself"
    if incident.verified:
        reason = "fixed"
    return close(after, reason, policy, now, f"{incident.about} is healthy again.")


def failing(incident: Incident, news: Input, _policy: Policy, now: datetime) -> Step:
    """Same state: the healthy streak starts again."""
    if news.finding is None:
        return Step(incident)
    return Step(refresh(incident, news.finding, now))


def close_gone(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """CLOSED(gone): the object itself is not there any more."""
    return close(incident, "gone", policy, now, f"{incident.owner} is gone.")


def close_merged(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """CLOSED(merged): another incident explains it."""
    return close(incident, "merged", policy, now, "Another incident explains this one.")


def hand_over_gone(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover): what was changed has gone."""
    return hand_over(incident, policy, now, f"{incident.owner} went away while it was being healed.")


def waiting_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover): it neither healed nor could be judged."""
    why = f"{incident.owner} could not be judged for {policy.waiting_limit:.0f} s."
    return hand_over(incident, policy, now, why)


def did_not_hold(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """Fixed before: WITH_PERSON(handover), same incident; healed by itself before: WAITING again."""
    finding = news.finding
    if finding is None or finding.diagnosis is None:
        return Step(incident)
    last = finding.diagnosis.last_failure or finding.at
    if min(last, finding.at) <= incident.state_since:
        return Step(incident)
    fresh = incident.but(reason=None, symptoms=(finding.target,), symptom_count=1, verified=False)
    again = with_owner(fresh, finding)
    if incident.reason == "fixed" or incident.acted:
        return hand_over(again, policy, now, "The fix did not hold.")
    if incident.taken_over:
        return hand_over(again, policy, now, f"It fails again; {incident.decided_by} has taken it over.")
    waiting = enter(
        again, State.WAITING, policy, now, policy.waiting_limit,
        announced=False, failing_at=now, since=finding.diagnosis.since,
        decided_by="", approved=None, approval=None, candidate=0, attempt=1, refusals=(),
    )  # fmt: skip
    return Step(waiting, (), "failing again")
