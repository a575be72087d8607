"""What a rehearsed plan comes to: an intent, a question, a proposal, or the next candidate.

The first line of a handler's docstring is its row of the generated table. Who calls it: `incident.machine`.
"""

from dataclasses import replace
from datetime import datetime

from quietpager.incident.moves import enter, hand_over, rehearse
from quietpager.incident.news import AskPerson, Commit, Input, Step, Tell
from quietpager.incident.policy import Policy
from quietpager.model.finding import Remedy
from quietpager.model.incident import Incident, Rehearsal, State, Tried


def planning_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING: rehearse again, twice; then WITH_PERSON(blocked)."""
    if incident.nudges >= 2 or incident.remedy is None:
        why = "The plan did not come back; is the remediator running?"
        return hand_over(incident, policy, now, why, State.BLOCKED)
    return rehearse(incident.but(nudges=incident.nudges + 1), policy, now)


def commit(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """ACTING: the intent is written ahead."""
    rehearsal = news.rehearsal
    if rehearsal is None or incident.verified:
        return Step(incident)
    if incident.approved is not None and incident.approved_diff != rehearsal.diff_key:
        return ask(incident.but(approved=None), news, policy, now)
    remedy = rehearsal.remedy
    after = enter(
        incident, State.ACTING, policy, now, policy.claim,
        tried=(*incident.tried, Tried(action=remedy.action, params=remedy.params)),
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
    after = enter(
        incident, State.APPROVAL, policy, now, policy.approval / 2,
        approval=approval, approved_diff=rehearsal.diff_key, announced=True,
    )  # fmt: skip
    return Step(
        after, (AskPerson(rehearsal), Tell("needsperson", f"Approval needed: {rehearsal.summary}")), "ask"
    )


def show(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover), the plan shown."""
    plan = news.rehearsal.summary if news.rehearsal else ""
    why = f"Autonomy is {incident.autonomy}, so nothing is changed. The plan is: {plan} {news.sentence}"
    return hand_over(incident, policy, now, why.strip())


def proposed(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(proposed): the pull request or patch."""
    plan = news.rehearsal.summary if news.rehearsal else ""
    return hand_over(incident, policy, now, f"Proposed: {plan}", State.PROPOSED)


def next_candidate(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING with the next candidate (guard 5: the proposal); none left, approved: WITH_PERSON(blocked)."""
    after = incident.but(refusals=(*incident.refusals, news.sentence))
    if news.propose and news.rehearsal is not None and news.rehearsal.remedy.action != PROPOSE:
        following = (*after.remedies[: after.candidate + 1], proposal_of(news.rehearsal.id))
        after = after.but(remedies=(*following, *after.remedies[after.candidate + 1 :]), approved=None)
    elif incident.approved is not None or incident.by_person:
        return hand_over(after, policy, now, news.sentence, State.BLOCKED)
    return rehearse(after.but(candidate=incident.candidate + 1, attempt=1, nudges=0), policy, now)


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


def propose_written(incident: Incident, policy: Policy, now: datetime) -> Step:
    """PLANNING of the proposal: it helped, and its owner would put it back sooner or later."""
    after = incident.but(
        remedies=(proposal_of(incident.to_propose or ""),), candidate=0, attempt=1, refusals=(),
        verified=True, to_propose=None, approved=None,
    )  # fmt: skip
    return rehearse(after, policy, now)
