"""What a person answers, or does not answer in time.

The first line of a handler's docstring is its row of the generated table. Who calls it: `incident.machine`.
"""

from datetime import datetime

from quietpager.incident.attempts import story
from quietpager.incident.moves import hand_over, rehearse, seconds
from quietpager.incident.news import Input, Step, Tell
from quietpager.incident.policy import Policy
from quietpager.model.incident import Autonomy, Incident


def approve(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """PLANNING(approved): a silent re-rehearsal; the same diff is then carried out."""
    if news.approval != incident.approval:
        return Step(incident)
    return rehearse(incident.but(approved=news.approval, approval=None, decided_by=news.by), policy, now)


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
    return rehearse(after, policy, now)


def reject(incident: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    """WITH_PERSON(handover): no more automation in this episode."""
    return hand_over(
        incident.but(approval=None, approved=None, decided_by=news.by, taken_over=True),
        policy,
        now,
        f"{news.sentence or 'Taken over'} by {news.by}.",
    )


def approval_deadline(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """A reminder at half time; then WITH_PERSON(handover): expired."""
    if incident.nudges == 0:
        after = incident.but(nudges=1, deadline_at=now + seconds(policy.approval / 2))
        return Step(after, (Tell("needsperson", "Still waiting for an answer."),), "reminder")
    after = incident.but(approval=None)
    return hand_over(after, policy, now, "Nobody answered in time; nothing was done.")


def remind(incident: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    """Same state: a reminder, each later than the last."""
    nudges = incident.nudges + 1
    after = incident.but(nudges=nudges, deadline_at=now + seconds(policy.reminder * 2 ** min(nudges, 5)))
    return Step(after, (Tell("needsperson", f"Still open: {story(incident)}"),), "reminder")
