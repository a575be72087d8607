"""Is it healthy? One answer for all who ask, and for every kind of object.

Who calls it: detectors, rechecks, the verification of a change, the analyst, replay and scan.
"""

from datetime import datetime

from quietpager.masking.told import Told
from quietpager.model.data import Data
from quietpager.objects.live import Live
from quietpager.objects.types import ContainerStatus, Pod

STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Waiting reasons that are no fault (kubelet, Kubernetes 1.35)."""


class Health(Data):
    """`healthy` with a reason in words; `available` is what the owner counts, for "worse"."""

    healthy: bool
    why: Told
    available: int = 0


def crash_of(container: ContainerStatus, after: datetime | None) -> str | None:
    """Say how a container failed since `after`, or None. A clean exit is no failure."""
    ended = container.ended
    if ended is None or (ended.exit_code == 0 and ended.reason in ("", "Completed")):
        return None
    finished = ended.finished_at
    # The kubelet writes whole seconds; a crash in the same second as `after` counts.
    if after is not None and finished is not None and finished < after.replace(microsecond=0):
        return None
    return f"{container.name} ended with {ended.reason or 'exit'} {ended.exit_code}"


def waits_to_start(pod: Pod) -> bool:
    """Tell whether a pod has its node and still waits for its first container: volumes come before that."""
    waits = [one.state.waiting for one in pod.containers]
    return bool(pod.spec.node_name) and bool(waits) and all(w and w.reason in STARTING for w in waits)


def pod_fault(pod: Pod, after: datetime | None) -> str | None:
    """Say what is wrong with a pod, or None where it is fine or on its way out."""
    if pod.leaving:
        return None
    faults = (container_fault(one, after) for one in pod.containers)
    fault = next((one for one in faults if one is not None), None)
    return fault or (None if pod.ready else "not ready")


def container_fault(container: ContainerStatus, after: datetime | None) -> str | None:
    """Say what is wrong with one container, or None where it starts, runs, or has ended well."""
    waiting = container.state.waiting
    if waiting is not None and waiting.reason not in STARTING:
        return f"{container.name} waits: {waiting.reason}"
    return crash_of(container, after)


def culprits(pod: Pod) -> frozenset[str]:
    """Name the containers for which a pod is not well: those with a fault, else those that are not ready."""
    if pod_fault(pod, None) is None:
        return frozenset()
    faulty = frozenset(one.name for one in pod.containers if container_fault(one, None) is not None)
    return faulty or frozenset(one.name for one in pod.status.container_statuses if not one.ready)


def health_of(live: Live, after: datetime | None) -> Health:
    """Judge the target's owner. `after`: crashes that ended before it are history.

    Its pods come first, for a status may lag behind them; then what its kind says by its own status. A pod
    that has failed for good is replaced by who owns it, and is counted there.

    Raises whatever the reader raises; a caller that cannot read must not conclude anything.
    """
    kind, one, pods = live.kind, live.object, live.pods
    if one is None and not pods:
        return Health(healthy=False, why="it is not there")
    judged = pods if one is None or not kind.owns_pods else [pod for pod in pods if not replaced(live, pod)]
    for pod in judged if kind.owns_pods else ():
        fault = pod_fault(pod, after)
        if fault is not None:
            alone = pod is live.pod and len(pods) == 1 and live.counts is None
            why = fault if alone else f"{pod.metadata.name}: {fault}"
            return Health(healthy=False, why=why, available=live.available)
    if one is None:
        why = "the pod is ready" if len(pods) == 1 else f"its {len(pods)} pods are ready"
        return Health(healthy=True, why=why)
    unsettled = kind.unsettled(one, live.reader)
    why = kind.well(one) if unsettled is None else unsettled
    return Health(healthy=unsettled is None, why=why, available=live.available)


def replaced(live: Live, pod: Pod) -> bool:
    """Tell whether a pod has ended for good, and its owner makes up for it: an eviction, an attempt of a Job.

    A pod that nobody owns stays as it is.
    """
    ended = pod.status.phase == "Failed" or (live.kind.ends and pod.status.phase == "Succeeded")
    return ended and live.owner is not None and live.owner.kind != "Pod"
