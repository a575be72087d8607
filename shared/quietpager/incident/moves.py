"""How an incident moves: into a state with both of its due items, to a person, to its end, to the next plan.

Who calls it: the handlers of the state machine, in `findings`, `planning`, `acting` and `answering`.
"""

from datetime import datetime, timedelta

from quietpager.incident.news import Effect, Rehearse, Step, Tell
from quietpager.incident.policy import Policy
from quietpager.model.finding import Finding
from quietpager.model.incident import ClosedReason, Incident, Rehearsal, State

MOST_OWNERS = 500
"""Workloads that a shared cause's incident looks at; so many keep its record below 400 KB, the most that
DynamoDB takes (https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/Constraints.html)."""


def seconds(value: float) -> timedelta:
    """Give so many seconds."""
    return timedelta(seconds=value)


def enter(
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
            "deadline_at": now + seconds(deadline),
            "recheck_every": recheck,
            "healthy_streak": 0,
            "healthy_since": None,
            "nudges": 0,
            **changes,
        }
    )


def hand_over(
    incident: Incident,
    policy: Policy,
    now: datetime,
    why: str,
    state: State = State.HANDOVER,
    effects: tuple[Effect, ...] = (),
) -> Step:
    """Give it to a person, with the reason; a reminder comes where nobody answers."""
    after = enter(incident, state, policy, now, policy.reminder, announced=True)
    return Step(after, (*effects, Tell("needsperson", why)), why)


def close(incident: Incident, reason: ClosedReason, policy: Policy, now: datetime, why: str) -> Step:
    """End it; people are told only if they were told of it before."""
    after = enter(incident, State.CLOSED, policy, now, 0.0, reason=reason)
    tell: tuple[Effect, ...] = (Tell("closed", why),) if incident.announced else ()
    return Step(after, tell, why)


def rehearse(incident: Incident, policy: Policy, now: datetime, *, before: tuple[Effect, ...] = ()) -> Step:
    """Ask for a plan of the current candidate; with none left a person is told everything refused.

    `before` holds only where there is a plan to wait for: what goes to a person at once is one message.
    """
    remedy = incident.remedy
    if remedy is None:
        if incident.refusals:
            return hand_over(incident, policy, now, " ".join(incident.refusals), State.BLOCKED)
        why = f"No rule proposes an action for {incident.failure_class}."
        if incident.page is not None:
            likely = "".join(f" Look first at: {one.what}." for one in incident.page.causes[:1])
            why = f"No rule knows this. {incident.page.summary}{likely}"
        return hand_over(incident, policy, now, why)
    number = incident.rehearsals + 1
    rehearsal = Rehearsal(
        id=f"{incident.id}-r{number}",
        incident=incident.id,
        remedy=remedy,
        owner=incident.owner,
        asked_at=now,
    )
    after = enter(
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


def refresh(incident: Incident, finding: Finding, now: datetime) -> Incident:
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


def with_owner(incident: Incident, finding: Finding) -> Incident:
    """Add the workload of a finding to those that the cause breaks, up to a limit."""
    owner = None if finding.diagnosis is None else finding.diagnosis.owner
    known = incident.owners or (incident.owner,)
    if owner is None or owner in known or len(known) >= MOST_OWNERS:
        return incident
    return incident.but(owners=(*known, owner))


def start_planning(incident: Incident, policy: Policy, now: datetime) -> Step:
    """Announce the incident and ask for the plan of its first candidate, whether or not the dwell is met.

    Who else calls it: the pipeline, to say what would follow once the dwell is met.
    """
    window = policy.verification(incident.time_to_failure)
    restarts = f", {incident.restarts} restarts" if incident.restarts or not incident.shared else ""
    text = f"{incident.failure_class} on {incident.about}{restarts}"
    return rehearse(incident.but(announced=True, window=window), policy, now, before=(Tell("opened", text),))
