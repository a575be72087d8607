"""A new incident: its identity, and where it begins.

Who calls it: `incident.machine`, for a finding whose cause has no incident.
"""

from datetime import datetime

from quietpager.incident.moves import dwell_met, seconds, start_planning
from quietpager.incident.news import Input, Step
from quietpager.incident.policy import Policy
from quietpager.model.data import digest
from quietpager.model.incident import Autonomy, Incident, State


def incident_id(cause: str, episode: int, cluster: str = "") -> str:
    """Make the identity of an incident, one in the whole store: cluster, cause key and episode.

    The default cluster's name is no part of it, so that the incidents of most installations keep their ids.
    """
    place = () if cluster in ("", "default") else (cluster,)
    return f"inc-{digest(*place, cause, episode, length=12)}"


def opening_of(news: Input, policy: Policy, now: datetime) -> Step:
    """Open an incident; it is announced only if it outlives the dwell."""
    finding = news.finding
    if finding is None or finding.diagnosis is None:
        return Step(None)
    diagnosis = finding.diagnosis
    fresh = Incident(
        id=incident_id(diagnosis.cause, 1, finding.cluster),
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
        deadline_at=now + seconds(policy.waiting_limit),
        recheck_every=policy.recheck,
        failing_at=now,
    )
    opened = Step(fresh, (), f"{diagnosis.failure_class} on {diagnosis.owner}")
    if dwell_met(finding, policy, now):
        planned = start_planning(fresh, policy, now)
        return Step(planned.incident, planned.effects, opened.note)
    return opened
