"""Is a workload healthy? One answer for rechecks, for the look before a write, and for replay."""

from datetime import datetime

from quietpager.masking.told import Told
from quietpager.model.data import Data
from quietpager.objects.live import Live
from quietpager.objects.types import ContainerStatus, Pod

STARTING = frozenset({"", "ContainerCreating", "PodInitializing"})
"""Waiting reasons that are no fault (kubelet, Kubernetes 1.35)."""


class Health(Data):
    """`healthy` with a reason in words; `available` is what the Deployment counts, for "worse"."""

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
    for container in pod.containers:
        waiting = container.state.waiting
        if waiting is not None and waiting.reason not in STARTING:
            return f"{container.name} waits: {waiting.reason}"
        crash = crash_of(container, after)
        if crash is not None:
            return crash
    return None if pod.ready else "not ready"


def health_of(live: Live, after: datetime | None) -> Health:
    """Judge the target's owner. `after`: crashes that ended before it are history.

    Raises whatever the reader raises; a caller that cannot read must not conclude anything.
    """
    deployment = live.deployment
    if deployment is None:
        fault = "it is not there" if live.pod is None else pod_fault(live.pod, after)
        return Health(healthy=fault is None, why=fault or "the pod is ready")
    status, wanted = deployment.status, deployment.spec.replicas
    available = status.available_replicas
    for pod in live.pods:
        fault = pod_fault(pod, after)
        if fault is not None:
            return Health(healthy=False, why=f"{pod.metadata.name}: {fault}", available=available)
    if status.observed_generation < deployment.metadata.generation:
        why = "its controller has not seen the newest generation yet"
    elif status.updated_replicas < wanted or status.replicas > wanted:
        why = f"{status.updated_replicas} of {wanted} replicas are of the newest revision"
    elif available < wanted:
        why = f"{available} of {wanted} replicas are available"
    else:
        return Health(healthy=True, why=f"{available} of {wanted} replicas available", available=available)
    return Health(healthy=False, why=why, available=available)
