"""Is anything wrong with the target of a signal that no family knows?

For replay, until `analyze/unknown` judges it. It errs towards "something is wrong".
"""

import re
from datetime import datetime, timedelta

from pydantic import ValidationError

from quietpager.cluster.port import Json, Reader
from quietpager.model.kubernetes import ContainerStatus, Pod
from quietpager.model.signal import Signal
from quietpager.rules.health import health_of, pod_fault
from quietpager.rules.live import READABLE, Live

PROBED_EARLY = re.compile(r"Readiness probe (failed|errored)")
"""What a kubelet says of a pod that is not ready yet; no other complaint is excused by slowness."""
OVERDUE = "ProgressDeadlineExceeded"
NOT_READY = "not ready"
"""What `pod_fault` says of a pod that runs, has not crashed, and is not ready."""


def unwell(signal: Signal, reader: Reader) -> str | None:
    """Say what is wrong with the target or its owner; None where it is well, or gone."""
    kind = signal.target.kind
    if kind not in READABLE:
        return f"{signal.reason or 'an Event'} about {signal.target}, which nothing here can judge"
    live = Live(reader, signal.target)
    try:
        return _judged(signal, live, kind)
    except ValidationError:
        return f"{signal.target} cannot be read"


def _judged(signal: Signal, live: Live, kind: str) -> str | None:
    if live.raw_target is None:
        return None
    if kind == "Node":
        return None if live.node is not None and live.node.ready else "the node is not ready"
    if kind == "Namespace":
        return "a namespace cannot be judged here"
    health = health_of(live, None)
    early = PROBED_EARLY.match(signal.message) and _only_slow(live, signal.last_seen)
    return None if health.healthy or early else health.why


def _only_slow(live: Live, now: datetime) -> bool:
    """Say whether a rollout is merely slow: what is not ready yet still has its own time to become so."""
    deployment = live.deployment
    if deployment is None or any(c.reason == OVERDUE for c in deployment.status.conditions):
        return False
    unready = [pod for pod in live.pods if pod_fault(pod, None) is not None]
    return bool(unready) and all(_may_still_start(live, pod, now) for pod in unready)


def _may_still_start(live: Live, pod: Pod, now: datetime) -> bool:
    """Say whether each container that is not ready runs, and its readiness probe may fail until now.

    How long it may comes from its author: the initial delay, and as many periods as are a failure
    (https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/).
    """
    if pod_fault(pod, None) != NOT_READY:
        return False
    raw = live.reader.get("Pod", pod.metadata.namespace, pod.metadata.name) or {}
    specs = {one["name"]: one for one in (raw.get("spec") or {}).get("containers") or ()}
    waited = [one for one in pod.status.container_statuses if not one.ready]
    return bool(waited) and all(_in_time(specs.get(one.name) or {}, one, now) for one in waited)


def _in_time(container: Json, status: ContainerStatus, now: datetime) -> bool:
    running, probe = status.state.running, container.get("readinessProbe")
    if running is None or running.started_at is None or not isinstance(probe, dict):
        return False
    # The defaults are the API's own; a recorded object carries them filled in.
    delay, period = probe.get("initialDelaySeconds", 0), probe.get("periodSeconds", 10)
    allowed = timedelta(seconds=delay + period * probe.get("failureThreshold", 3))
    return now - running.started_at < allowed
