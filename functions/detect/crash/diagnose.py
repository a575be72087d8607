"""Why does a container end again and again? Out of memory, an error of its own, or it cannot start.

An OOM kill has no Event of its own: it stands in the container's status only (recorded, Kubernetes
1.35). Exit code 137 alone is any SIGKILL, a liveness kill among them.
"""

from datetime import datetime, timedelta

from quietpager.model.finding import Diagnosis, Evidence, Healthy, NotMine, NotYet, Verdict
from quietpager.model.signal import Signal
from quietpager.model.text import clean
from quietpager.objects.health import crash_of
from quietpager.objects.live import Live
from quietpager.objects.revision import revision_facts
from quietpager.objects.types import ContainerStatus, Pod, Terminated

QUIET = timedelta(minutes=10)
"""A pod that is ready and last crashed longer ago than this has come to rest."""

SIGKILL = 137
SURE_RESTARTS = 3
"""From then on a container that ends by SIGKILL was not killed for memory. Earlier nobody can tell: the
runtime hears of the exit and of the OOM kill separately, and now and then the status is written in
between: `Error`, 137 (seen on Kubernetes 1.35 with containerd 1.6)."""
_START_REASONS = frozenset({"StartError", "ContainerCannotRun"})
_START_WAITS = frozenset({"RunContainerError", "CreateContainerError"})
_HOOK = frozenset({"PostStartHookError", "PreStopHookError"})


def diagnose(_signal: Signal, live: Live) -> Verdict:
    """Judge the pod's containers; the worst one counts."""
    pod = live.pod
    if pod is None or live.owner is None:
        return NotMine(family="unknown", why="only pods crash")
    if pod.leaving:
        return Healthy(why="the pod is on its way out")
    verdicts = [_container(live, pod, one) for one in pod.containers]
    for kinds in (Diagnosis | NotMine, NotYet):
        for verdict in verdicts:
            if isinstance(verdict, kinds):
                return verdict
    if pod.ready:
        return Healthy(why="all containers run and the pod is ready")
    return NotYet(why="no container has ended yet")


def _container(live: Live, pod: Pod, one: ContainerStatus) -> Verdict:
    waiting, ended = one.state.waiting, one.ended
    if waiting is not None and waiting.reason in _HOOK:
        return _found(live, pod, one, "lifecycle_hook_failed", clean(waiting.message, 300))
    if waiting is not None and waiting.reason in _START_WAITS:
        return _found(live, pod, one, "container_start_error", clean(waiting.message, 300))
    if ended is None or crash_of(one, None) is None:
        return Healthy(why=f"{one.name} has not failed")
    if pod.ready and ended.finished_at is not None and live.now - ended.finished_at > QUIET:
        return Healthy(why=f"{one.name} last failed at {ended.finished_at}, and has run since")
    limit = next((c.resources.limits.get("memory") for c in pod.spec.containers if c.name == one.name), None)
    if ended.reason == "OOMKilled":
        return _found(live, pod, one, "oom_killed", f"killed for memory under a limit of {limit or 'none'}")
    if ended.reason in _START_REASONS or ended.exit_code == 128:
        return _found(live, pod, one, "container_start_error", clean(ended.message, 300))
    if ended.exit_code == SIGKILL:
        return _killed(live, pod, one, limit)
    return _found(live, pod, one, "crashloop_app_error", f"exit code {ended.exit_code}")


def _killed(live: Live, pod: Pod, one: ContainerStatus, limit: str | float | None) -> Verdict:
    """Judge an end by SIGKILL of which the status does not say that it was for memory."""
    if _has_liveness_probe(pod, one):
        return NotMine(family="probe", why="killed by SIGKILL, not for memory, and it has a liveness probe")
    sibling = None if limit is None else _killed_for_memory(live, one.name)
    if sibling is not None:
        why = f"killed, as {sibling} was for memory, under a limit of {limit}"
        return _found(live, pod, one, "oom_killed", why)
    if limit is not None and one.restart_count < SURE_RESTARTS:
        return NotYet(why=f"{one.name} was killed, and nobody says yet whether for memory")
    return _found(live, pod, one, "crashloop_app_error", f"exit code {SIGKILL}")


def _killed_for_memory(live: Live, container: str) -> str | None:
    """Name a pod of the same owner whose container of that name was killed for memory."""
    for pod in live.pods:
        for one in pod.containers:
            if one.name == container and one.ended is not None and one.ended.reason == "OOMKilled":
                return pod.metadata.name
    return None


def _has_liveness_probe(pod: Pod, one: ContainerStatus) -> bool:
    return any(c.name == one.name and c.liveness_probe is not None for c in pod.spec.containers)


def _found(live: Live, pod: Pod, one: ContainerStatus, failure_class: str, what: str) -> Diagnosis:
    owner = live.owner
    assert owner is not None  # noqa: S101 (diagnose has looked)
    ended = one.ended
    text = f"{one.name} in {pod.metadata.name}: {what}; {one.restart_count} restarts"
    facts, more = revision_facts(live, one.name)
    return Diagnosis(
        failure_class=failure_class,
        cause=f"workload:{owner.identity}",
        owner=owner,
        evidence=(
            Evidence(
                text=text,
                source=f"Pod {pod.metadata.namespace}/{pod.metadata.name} status.containerStatuses",
            ),
            *more,
        ),
        facts=facts,
        restarts=one.restart_count,
        since=_since(pod, ended),
        last_failure=ended.finished_at if ended else None,
        time_to_failure=_ran_for(ended),
    )


def _since(pod: Pod, ended: Terminated | None) -> datetime:
    created = pod.metadata.creation_timestamp
    if created is not None:
        return created
    when = ended.finished_at if ended else None
    return when or datetime.fromisoformat("1970-01-01T00:00:00+00:00")


def _ran_for(ended: Terminated | None) -> float:
    if ended is None or ended.started_at is None or ended.finished_at is None:
        return 0.0
    return max((ended.finished_at - ended.started_at).total_seconds(), 0.0)
