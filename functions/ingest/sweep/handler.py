"""ingest/sweep: lists what is, and finds what never had an Event (an OOM kill, a lost message).

A signal's id says which failure it means (pod, container, restart count, reason), so a failure that
has been found is not found again; every ten minutes it may be, for the case that it was closed.
"""

from collections.abc import Iterator
from datetime import datetime

from pydantic import ValidationError

from quietpager.cluster.port import ClusterUnavailable, Reader, Rejected
from quietpager.errors import Retry
from quietpager.model.kubernetes import ContainerStatus, Pod
from quietpager.model.message import Message
from quietpager.model.signal import Signal
from quietpager.rules.health import STARTING, crash_of
from quietpager.rules.routing import RouteTable
from quietpager.runtime.beat import beat, canary, compare_source
from quietpager.runtime.context import Context

BUCKET = 600
"""Seconds after which a failure that still stands is reported once more."""


PATIENCE = 30
"""Seconds that a running pod may be unready before it is worth a look; a start takes its time."""


def handle(_message: Message, ctx: Context) -> list[Message]:
    """Sweep once; the signals found are the answers, and a heartbeat that shows that the broker lives.

    Raises:
        Retry: the cluster cannot be read just now.
    """
    try:
        found = [one.to_message() for one in find(ctx.cluster, ctx.routes, ctx.clock(), ctx.cluster_name)]
    except (ClusterUnavailable, Rejected) as away:
        raise Retry(f"the pods cannot be listed: {away}") from away
    compare_source(ctx)
    beat(ctx, "sweep")
    return [*found, canary(ctx)]


def find(reader: Reader, routes: RouteTable, now: datetime, cluster: str) -> Iterator[Signal]:
    """Look at everything once, and give a signal with its family for each thing that is wrong.

    Who else calls it: `quietpager scan`. Raises whatever the reader raises.
    """
    for raw in reader.list("Pod"):
        try:
            pod = Pod.read(raw | {"kind": "Pod", "apiVersion": "v1"})
        except ValidationError:
            continue
        if waits_for_a_node(pod):
            yield from _routed(_of_condition(pod, "PodScheduled", "Unschedulable", now, cluster), routes)
        failing = [(one, why) for one in pod.containers if (why := reason_of(pod, one)) is not None]
        for container, reason in failing:
            yield from _routed(signal_of(pod, container, reason, now, cluster), routes)
        if not failing and runs_unready(pod, now):
            yield from _routed(_of_condition(pod, "Ready", "NotReady", now, cluster), routes)


def _routed(signal: Signal, routes: RouteTable) -> Iterator[Signal]:
    family = routes.family_of(signal)
    if family is not None:
        yield signal.but(family=family)


def waits_for_a_node(pod: Pod) -> bool:
    """Tell whether the scheduler has found no node for a pod; such a pod has no container status at all."""
    scheduled = pod.condition("PodScheduled")
    return scheduled is not None and scheduled.reason == "Unschedulable" and not pod.leaving


def runs_unready(pod: Pod, now: datetime) -> bool:
    """Tell whether a pod runs and has not been ready for a while: its only Event may have been lost."""
    ready = pod.condition("Ready")
    if ready is None or ready.status == "True" or pod.leaving or pod.status.phase != "Running":
        return False
    since = ready.last_transition_time or pod.metadata.creation_timestamp
    return since is not None and (now - since).total_seconds() >= PATIENCE


def _of_condition(pod: Pod, kind: str, reason: str, now: datetime, cluster: str) -> Signal:
    """Make the signal of a pod about which only a condition says something."""
    condition = pod.condition(kind)
    return Signal(
        id=f"sweep.{pod.metadata.uid}.{reason}.{int(now.timestamp()) // BUCKET}",
        cluster=cluster,
        target=pod.ref,
        reason=reason,
        component="sweep",
        message=condition.message if condition else "",
        first_seen=pod.metadata.creation_timestamp or now,
        last_seen=now,
        origin="sweep",
    )


def reason_of(pod: Pod, container: ContainerStatus) -> str | None:
    """Name what is wrong with a container, or None. An end that was no clean exit comes first."""
    if pod.leaving or pod.status.phase == "Failed":
        return None
    waiting = container.state.waiting
    ended = container.ended
    if ended is not None and crash_of(container, None) is not None:
        return ended.reason if ended.reason == "OOMKilled" else "ContainerExited"
    if waiting is not None and waiting.reason not in STARTING:
        return waiting.reason
    return None


def signal_of(pod: Pod, container: ContainerStatus, reason: str, now: datetime, cluster: str) -> Signal:
    """Make the signal of one failing container."""
    bucket = int(now.timestamp()) // BUCKET
    waiting, ended = container.state.waiting, container.ended
    seen = (ended.finished_at if ended else None) or pod.metadata.creation_timestamp or now
    return Signal(
        id=f"sweep.{pod.metadata.uid}.{container.name}.{container.restart_count}.{reason}.{bucket}",
        cluster=cluster,
        target=pod.ref,
        container=container.name,
        reason=reason,
        component="sweep",
        message=waiting.message if waiting else "",
        count=max(container.restart_count, 1),
        first_seen=seen,
        last_seen=now,
        origin="sweep",
    )
