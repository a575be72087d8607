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
        for name, place in places.items():
            until(f"{name} closed or never opened", lambda place=place: all_closed(bed, place), 120)  # type: ignore[misc]
            assert [i.reason for i in bed.incidents(place) if i.reason != "healed_by_itself"] == [], name
            assert told(bed, place) == [], f"somebody was told about {name}"
            assert [w for w in api_writes(begun) if w.namespace == place] == []


def all_closed(bed: Bed, namespace: str) -> bool:
    return all(incident.state is State.CLOSED for incident in bed.incidents(namespace))


def told(bed: Bed, namespace: str) -> list[str]:
    return [e.kind for i in bed.incidents(namespace) for e in bed.audit(i) if e.kind == "told"]
