"""What all detectors share: read the live object, let the rule judge, write the finding, say so.

Who calls it: the `handler.py` of every `functions/detect/*`, with its own `diagnose`.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from quietpager.cluster.port import ClusterUnavailable, Reader, Rejected
from quietpager.errors import Retry
from quietpager.model.data import digest
from quietpager.model.finding import (
    Diagnosis,
    Finding,
    Healthy,
    NotMine,
    NotYet,
    Outcome,
    Verdict,
)
from quietpager.model.incident import Incident, State
from quietpager.model.kubernetes import Pod
from quietpager.model.message import FINDING, Message
from quietpager.model.objects import ObjectRef
from quietpager.model.signal import MOST_HOPS, UNKNOWN_FAMILY, Signal
from quietpager.rules.health import Health, health_of, pod_fault
from quietpager.rules.live import READABLE, Live, Once
from quietpager.rules.routing import RouteTable
from quietpager.rules.schema import Rule
from quietpager.runtime.context import Context
from quietpager.safety import records
from quietpager.store.port import ABSENT, Conflict, Due, DueDone, Put, Write

Diagnose = Callable[[Signal, Live], Verdict]
Looker = Callable[
    [Incident, Live, datetime | None, Diagnose, Signal], tuple[Outcome, Health, Diagnosis | None]
]
"""Judges the owner of an incident; `look` is the usual one."""

MOST_LOOKS = 3
"""An Event arrives before the status does (recorded); so a detector looks again this often."""


def detect(
    message: Message, ctx: Context, family: str, diagnose: Diagnose, looker: Looker | None = None
) -> list[Message]:
    """Handle one signal. `looker` takes the place of `look` where a family judges more kinds of owners.

    Raises:
        Retry: the cluster cannot be read just now.
    """
    signal = Signal.from_json(message.data)
    if signal.origin == "recheck":
        return _recheck(signal, ctx, family, diagnose, looker or look)
    again = f"again/{signal.id}"
    seen = DueDone(again)
    name = digest(signal.id, family)
    if ctx.store.get(records.finding(name)) is not None:
        return []
    try:
        live = Live(ctx.cluster, signal.target)
        verdict = judge(signal, live, diagnose)
        health = health_of(live, None) if isinstance(verdict, Diagnosis) else None
    except (ClusterUnavailable, Rejected) as away:
        raise Retry(f"{signal.target} cannot be read: {away}") from away
    if isinstance(verdict, NotYet) and signal.looks < MOST_LOOKS:
        later = signal.but(looks=signal.looks + 1).to_message()
        every = timedelta(seconds=ctx.policy.tick)
        wait = every if verdict.again_in is None else timedelta(seconds=verdict.again_in)
        ctx.store.transact([Due(again, ctx.clock() + wait, every, later.to_json())])
        return []
    if isinstance(verdict, Diagnosis):
        finding = finding_of(signal, verdict, ctx.rule(family), name, ctx.clock(), health)
        return _write(finding, ABSENT, ctx, extra=[seen] if signal.looks else [])
    if signal.looks:
        ctx.store.transact([seen])
    if isinstance(verdict, NotMine):
        return [forwarded(signal, verdict, ctx.routes).to_message()]
    return []


def judge(signal: Signal, live: Live, diagnose: Diagnose) -> Verdict:
    """Let the rule judge, unless the target is gone. Pure but for the reader; replay calls it too."""
    if signal.target.kind in READABLE and live.raw_target is None:
        return Healthy(why=f"{signal.target} is gone, or has another uid by now")
    return diagnose(signal, live)


def forwarded(signal: Signal, verdict: NotMine, routes: RouteTable) -> Signal:
    """Send a signal on to another family, at most two hops, at last to `unknown`."""
    hops = signal.hops + 1
    known = verdict.family in routes.families and hops <= MOST_HOPS
    return signal.but(family=verdict.family if known else UNKNOWN_FAMILY, hops=hops)


def finding_of(
    signal: Signal, verdict: Diagnosis, rule: Rule, name: str, now: datetime, health: Health | None
) -> Finding:
    """Make the finding of a diagnosis, with the remedies that the rule has for it."""
    known = rule.classes[verdict.failure_class]
    return Finding(
        id=name,
        outcome="failing",
        at=now,
        family=rule.family,
        target=signal.target,
        why=verdict.evidence[0].text if verdict.evidence else "",
        diagnosis=verdict,
        remedies=rule.candidates(verdict.failure_class, verdict.facts),
        autonomy=known.autonomy.value,
        dwell=known.dwell,
        available=0 if health is None else health.available,
        signal=signal,
    )


def _write(finding: Finding, expect: int, ctx: Context, extra: list[Write]) -> list[Message]:
    message = Message(
        id=f"{finding.id}.{finding.serial}",
        type=FINDING,
        subject=finding.incident,
        attributes={
            "family": finding.family,
            "failureclass": finding.diagnosis.failure_class if finding.diagnosis else finding.outcome,
        },
        data={"finding": finding.id},
    )
    writes: list[Write] = [Put(records.finding(finding.id), finding.to_json(), expect), *extra]
    if finding.incident is None:
        tick = timedelta(seconds=ctx.policy.tick)
        writes.append(Due(records.talk(finding.id), finding.at + tick, tick, message.to_json()))
    try:
        ctx.store.transact(writes)
    except Conflict:
        return []
    return [message]


def recheck_after(incident: Incident) -> datetime | None:
    """Tell from when on a crash counts: the change that is verified, or the last failing look."""
    return incident.acted_at if incident.state is State.VERIFYING else incident.failing_at


def look(
    incident: Incident, live: Live, after: datetime | None, diagnose: Diagnose, signal: Signal
) -> tuple[Outcome, Health, Diagnosis | None]:
    """Judge an incident's owner with its pods found anew; for a shared cause, the owners of all symptoms."""
    if incident.shared:
        return _look_at_all(incident, live.reader, after, diagnose, signal)
    if incident.owner.kind in READABLE:
        if live.deployment is None and (incident.owner.kind == "Deployment" or live.raw_target is None):
            return "gone", Health(healthy=False, why=f"{incident.owner} is gone"), None
        health, pods = health_of(live, after), live.pods
    else:
        pods = _symptom_pods(incident, live)
        if not pods:
            return "unreadable", Health(healthy=False, why=f"no pod of {incident.owner} is known"), None
        faults = [fault for pod in pods if (fault := pod_fault(pod, after)) is not None]
        health = Health(healthy=not faults, why=faults[0] if faults else "its pods are well")
    if health.healthy:
        return "healthy", health, None
    for pod in pods:
        if pod_fault(pod, None) is None:
            continue
        target = pod.ref.but(kind="Pod", api_version="v1")
        verdict = judge(signal.but(target=target), Live(live.reader, target), diagnose)
        if isinstance(verdict, Diagnosis):
            return "failing", health, verdict
    return "failing", health, None


def _look_at_all(
    incident: Incident, reader: Reader, after: datetime | None, diagnose: Diagnose, signal: Signal
) -> tuple[Outcome, Health, Diagnosis | None]:
    """Judge a cause that is no workload: it fails while any pod of any owner still fails for it.

    What else is wrong with those owners has causes, and incidents, of its own.
    """
    lives = [Live(reader, owner) for owner in incident.owners or (incident.owner,)]
    readable = [live for live in lives if live.target.kind in READABLE]
    found = [pod for live in readable for pod in live.pods]
    found += _symptom_pods(incident, Live(reader, incident.owner))
    pods = {pod.metadata.uid: pod for pod in found}
    if not pods and not any(live.deployment or live.raw_target for live in readable):
        outcome: Outcome = "gone" if len(readable) == len(lives) else "unreadable"
        return outcome, Health(healthy=False, why=f"nothing that {incident.cause} broke is there"), None
    unclear: str | None = None
    for pod in pods.values():
        fault = pod_fault(pod, after)
        if fault is None:
            continue
        target = pod.ref.but(kind="Pod", api_version="v1")
        verdict = judge(signal.but(target=target), Live(reader, target), diagnose)
        why = f"{pod.metadata.name}: {fault}"
        if isinstance(verdict, Diagnosis) and verdict.cause == incident.cause:
            return "failing", Health(healthy=False, why=why), verdict
        if isinstance(verdict, NotYet):
            unclear = why
    if unclear is not None:
        return "unreadable", Health(healthy=False, why=unclear), None
    why = f"none of {len(pods)} pods of {len(lives)} workloads fails for {incident.cause}"
    return "healthy", Health(healthy=True, why=why), None


def _symptom_pods(incident: Incident, live: Live) -> tuple[Pod, ...]:
    """Find the pods of an owner that cannot be read itself: those that failed, by name.

    A StatefulSet's pod comes back under its name with another uid, so the uid does not count.
    """
    found = (
        Live(live.reader, target.but(uid=None)).pod for target in incident.symptoms if target.kind == "Pod"
    )
    return tuple(pod for pod in found if pod is not None)


def _recheck(signal: Signal, ctx: Context, family: str, diagnose: Diagnose, looker: Looker) -> list[Message]:
    record = ctx.store.get(records.incident(signal.incident or ""))
    if record is None:
        return []
    incident = Incident.from_json(record.body)
    if incident.state is State.CLOSED:
        return []
    name = f"{incident.id}.look"
    before = ctx.store.get(records.finding(name))
    diagnosis: Diagnosis | None = None
    try:
        live = Live(Once(ctx.cluster), incident.owner)
        after = recheck_after(incident)
        outcome, health, diagnosis = looker(incident, live, after, diagnose, signal)
    except (ClusterUnavailable, Rejected) as away:
        outcome, health = "unreadable", Health(healthy=False, why=str(away))
    finding = Finding(
        id=name,
        incident=incident.id,
        serial=1 if before is None else int(before.body["serial"]) + 1,
        outcome=outcome,
        at=ctx.clock(),
        family=family,
        target=incident.owner,
        why=health.why,
        diagnosis=diagnosis,
        dwell=incident.dwell,
        available=health.available,
    )
    return _write(finding, ABSENT if before is None else before.version, ctx, extra=[])


def recheck_message(incident: Incident) -> Message:
    """Make the recheck signal that the clock posts for an open incident."""
    owner: ObjectRef = incident.owner
    signal = Signal(
        id=f"{incident.id}.recheck", cluster=incident.cluster, target=owner, reason="Recheck",
        first_seen=incident.since, last_seen=incident.state_since, family=incident.family,
        origin="recheck", incident=incident.id, cause=incident.cause,
    )  # fmt: skip
    return signal.to_message()
