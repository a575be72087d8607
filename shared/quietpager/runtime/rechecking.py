"""Rechecks an incident: its detector reads the object again when the clock asks.

    recheck {incident} ─▶ the incident  not open, or another family's ──▶ nothing
                       ─▶ its due item  not said yet ───────────────────▶ nothing
                                        this saying has been answered ──▶ the same finding once more
                                        else ────────────────────────────▶ a look, and its finding

So whoever sends a recheck can at most make a look that is due come a moment earlier. The clock moves the due
item on each time it says it, and a look keeps which saying it answers; no two clocks are compared.

Who calls it: `runtime.detecting`; `govern/decide` makes the message.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from quietpager.incident import records
from quietpager.model.cluster import ClusterUnavailable, Reader, Rejected
from quietpager.model.finding import Diagnosis, Finding, Healthy, Outcome
from quietpager.model.incident import Incident, State
from quietpager.model.message import FINDING, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import Signal
from quietpager.model.store import ABSENT, Conflict, Due, Put
from quietpager.objects.health import Health, health_of, pod_fault
from quietpager.objects.live import Live
from quietpager.objects.once import Once
from quietpager.objects.table import known
from quietpager.objects.types import Pod
from quietpager.rules.judging import Diagnose, judge
from quietpager.runtime.context import Context

Looker = Callable[[Incident, Live, datetime | None, Diagnose], tuple[Outcome, Health, Diagnosis | None]]
"""Judges the owner of an incident; `look` is the usual one."""


def recheck(name: str, ctx: Context, family: str, diagnose: Diagnose, looker: Looker) -> list[Message]:
    """Look at an incident again, if it is this family's and its time has come."""
    record = ctx.store.get(records.incident(name))
    if record is None:
        return []
    incident = Incident.from_json(record.body)
    if not answers(incident, family):
        return []
    due = ctx.store.due_item(records.recheck(incident.id))
    if due is None or not has_been_said(due, incident):
        return []
    key = records.finding(f"{incident.id}.look")
    before = ctx.store.get(key)
    last = None if before is None else Finding.from_json(before.body)
    if last is not None and last.spoken == due.at:
        # Who asked first may have kept the answer to himself; `decide` knows whether it has had it.
        return [finding_message(last)]
    finding = _look_now(incident, ctx, diagnose, looker).but(
        serial=1 if last is None else last.serial + 1, spoken=due.at
    )
    try:
        ctx.store.transact([Put(key, finding.to_json(), ABSENT if before is None else before.version)])
    except Conflict:
        faster = ctx.store.get(key)
        return [] if faster is None else [finding_message(Finding.from_json(faster.body))]
    return [finding_message(finding)]


def answers(incident: Incident, family: str) -> bool:
    """Tell whether a family may say how an incident is: only the one that has found it, while it is open."""
    return incident.state is not State.CLOSED and incident.family == family


def has_been_said(due: Due, incident: Incident) -> bool:
    """Tell whether the clock has said a recheck since the incident came into its state."""
    return due.at > incident.state_since + timedelta(seconds=incident.recheck_every)


def _look_now(incident: Incident, ctx: Context, diagnose: Diagnose, looker: Looker) -> Finding:
    diagnosis: Diagnosis | None = None
    now = ctx.clock()
    try:
        live = Live(Once(ctx.cluster), incident.owner, now=now, cause=incident.cause)
        outcome, health, diagnosis = looker(incident, live, recheck_after(incident), diagnose)
    except (ClusterUnavailable, Rejected) as away:
        outcome, health = "unreadable", Health(healthy=False, why=str(away))
    return Finding(
        id=f"{incident.id}.look",
        cluster=ctx.cluster_name,
        incident=incident.id,
        outcome=outcome,
        at=now,
        family=incident.family,
        target=incident.owner,
        why=health.why,
        diagnosis=diagnosis,
        dwell=incident.dwell,
        available=health.available,
    )


def finding_message(finding: Finding) -> Message:
    """Make the message that tells `govern/decide` of a finding."""
    return Message(
        id=f"{finding.id}.{finding.serial}",
        type=FINDING,
        subject=finding.incident,
        attributes={
            "family": finding.family,
            "failureclass": finding.diagnosis.failure_class if finding.diagnosis else finding.outcome,
        },
        data={"finding": finding.id},
    )


def recheck_after(incident: Incident) -> datetime | None:
    """Tell from when on a crash counts: the change that is verified, or the last failing look."""
    return incident.acted_at if incident.state is State.VERIFYING else incident.failing_at


def look(
    incident: Incident, live: Live, after: datetime | None, diagnose: Diagnose
) -> tuple[Outcome, Health, Diagnosis | None]:
    """Judge an incident's owner with its pods found anew; for a shared cause, the owners of all symptoms."""
    if incident.shared:
        return _look_at_all(incident, live, after, diagnose)
    if known(incident.owner) is not None:
        if live.raw_target is None:
            return "gone", Health(healthy=False, why=f"{incident.owner} is gone"), None
        health, pods = health_of(live, after), live.pods
        if health.healthy and (killed := _missed_goal(incident, live)):
            return "failing", health.but(healthy=False, why=killed), None
    else:
        found = (*live.pods, *_symptom_pods(incident, live.reader))
        pods = tuple({pod.metadata.uid: pod for pod in found}.values())
        if not pods:
            return "unreadable", Health(healthy=False, why=f"no pod of {incident.owner} is known"), None
        faults = [fault for pod in pods if (fault := pod_fault(pod, after)) is not None]
        health = Health(healthy=not faults, why=faults[0] if faults else "its pods are well")
    if health.healthy:
        return "healthy", health, None
    for pod in pods:
        if pod_fault(pod, None) is None:
            continue
        verdict = judge(*_again(incident, pod, live.reader, live.now), diagnose)
        if isinstance(verdict, Diagnosis):
            return "failing", health, verdict
    return "failing", health, None


def _missed_goal(incident: Incident, live: Live) -> str | None:
    """Say what the goal of the act that is verified misses, beyond the owner's health; None where nothing.

    A pod that is on its way out counts as well: what was killed for memory since the act, it did not help.
    """
    since = incident.acted_at
    if (
        incident.state is not State.VERIFYING
        or incident.goal != "owner_healthy_and_no_new_oom"
        or since is None
    ):
        return None
    for pod in live.newest_pods:
        for one in pod.containers:
            ended = one.ended
            if ended is None or ended.reason != "OOMKilled" or ended.finished_at is None:
                continue
            if ended.finished_at >= since.replace(microsecond=0):
                return f"{pod.metadata.name}: {one.name} was killed for memory again"
    return None


def _again(incident: Incident, pod: Pod, reader: Reader, now: datetime) -> tuple[Signal, Live]:
    target = pod.ref.but(kind="Pod", api_version="v1")
    signal = Signal(target=target, family=incident.family, origin="recheck")
    return signal, Live(reader, target, now=now, cause=incident.cause)


def _look_at_all(
    incident: Incident, asked: Live, after: datetime | None, diagnose: Diagnose
) -> tuple[Outcome, Health, Diagnosis | None]:
    """Judge a cause that is no workload: it fails while any pod of any owner still fails for it.

    What else is wrong with those owners has causes, and incidents, of its own.
    """
    reader = asked.reader
    lives = [Live(reader, owner) for owner in incident.owners or (incident.owner,)]
    readable = [live for live in lives if known(live.target) is not None]
    found = [pod for live in lives for pod in live.pods]
    found += _symptom_pods(incident, reader)
    pods = {pod.metadata.uid: pod for pod in found}
    if not pods and not any(live.raw_target for live in readable):
        outcome: Outcome = "gone" if len(readable) == len(lives) else "unreadable"
        return outcome, Health(healthy=False, why=f"nothing that {incident.cause} broke is there"), None
    unclear: str | None = None
    for pod in pods.values():
        fault = pod_fault(pod, after)
        if fault is None:
            continue
        verdict = judge(*_again(incident, pod, reader, asked.now), diagnose)
        why = f"{pod.metadata.name}: {fault}"
        if isinstance(verdict, Diagnosis) and verdict.cause == incident.cause:
            return "failing", Health(healthy=False, why=why), verdict
        if not isinstance(verdict, Diagnosis | Healthy):
            # "Not yet" and "not mine" are no answer: who cannot know does not call it healthy.
            unclear = why
    if unclear is not None:
        return "unreadable", Health(healthy=False, why=unclear), None
    why = f"none of {len(pods)} pods of {len(lives)} workloads fails for {incident.cause}"
    return "healthy", Health(healthy=True, why=why), None


def _symptom_pods(incident: Incident, reader: Reader) -> tuple[Pod, ...]:
    """Find the pods of an owner that cannot be read itself: those that failed, by name.

    A StatefulSet's pod comes back under its name with another uid, so the uid does not count.
    """
    found: list[Pod | None] = [
        Live(reader, _named(target)).pod for target in incident.symptoms if target.kind == "Pod"
    ]
    return tuple(pod for pod in found if pod is not None)


def _named(target: ObjectRef) -> ObjectRef:
    return target.but(uid=None)
