"""What looks like trouble and heals by itself: nobody is told, nothing is written."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest

from infra.testbed.addons import kubectl
from quietpager.model.incident import State
from tests.e2e.bed import MANIFESTS, Bed, api_writes, now, until

pytestmark = pytest.mark.timeout(300)
BENIGN = ("pull-second-try", "slow-rollout", "job-one-retry")
"""Manifests that `make record` made cases of, and replay answers: the same here, for real."""


def let_it_be(namespace: str, manifest: str) -> None:
    kubectl("-n", namespace, "apply", "-f", str(MANIFESTS / f"{manifest}.yaml"))
    until(f"{manifest} to come right", lambda: settled(namespace), 150, every=1)


def settled(namespace: str) -> bool:
    deployments = kubectl("-n", namespace, "rollout", "status", "deployments", "--timeout=100s", check=False)
    jobs = kubectl(
        "-n", namespace, "wait", "--for=condition=Complete", "jobs", "--all", "--timeout=1s", check=False
    )
    return deployments.returncode == 0 and (jobs.returncode == 0 or "no matching resources" in jobs.stderr)


def test_benign_things_are_silent(bed: Bed) -> None:
    begun = now()
    with ExitStack() as stack:
        places = {name: stack.enter_context(bed.team(name)) for name in BENIGN}
        with ThreadPoolExecutor(len(BENIGN)) as pool:
            list(pool.map(let_it_be, places.values(), places))
        # They did look like trouble: else silence would prove nothing.
        assert "Failed" in reasons(bed, places["pull-second-try"])
        assert "Unhealthy" in reasons(bed, places["slow-rollout"])
        assert restarts(bed, places["job-one-retry"]) == 1
        for name, place in places.items():
            until(f"{name} closed or never opened", lambda place=place: all_closed(bed, place), 120)  # type: ignore[misc]
            assert [i.reason for i in bed.incidents(place) if i.reason != "healed_by_itself"] == [], name
            assert told(bed, place) == [], f"somebody was told about {name}"
            assert [w for w in api_writes(begun) if w.namespace == place] == []


def reasons(bed: Bed, namespace: str) -> set[str]:
    """Give the reasons of the namespace's warnings."""
    return {event["reason"] for event in bed.cluster.list("Event", namespace) if event["type"] == "Warning"}


def restarts(bed: Bed, namespace: str) -> int:
    containers = [
        one for pod in bed.cluster.list("Pod", namespace) for one in pod["status"]["containerStatuses"]
    ]
    return sum(one["restartCount"] for one in containers)


def all_closed(bed: Bed, namespace: str) -> bool:
    return all(incident.state is State.CLOSED for incident in bed.incidents(namespace))


def told(bed: Bed, namespace: str) -> list[str]:
    return [e.kind for i in bed.incidents(namespace) for e in bed.audit(i) if e.kind == "told"]
