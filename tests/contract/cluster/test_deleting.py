"""What is deleted, and what goes with it."""

# ruff: noqa: ARG001 (a fixture is often asked for what it does)

import uuid

import pytest

from quietpager.model.cluster import Cluster
from tests.contract.cluster.support import Json, deployment, pod, read, refused, state_of, until

CONTRACT = "cluster"


def test_what_is_deleted_is_gone(cluster: Cluster, namespace: str, web: Json) -> None:
    cluster.delete("Deployment", namespace, "web")
    assert cluster.get("Deployment", namespace, "web") is None


def test_what_is_gone_cannot_be_deleted(cluster: Cluster, namespace: str) -> None:
    with refused(404, "NotFound"):
        cluster.delete("Deployment", namespace, "web")


def test_a_running_pod_gets_its_time_to_end(cluster: Cluster, namespace: str) -> None:
    body = pod(namespace, "one")
    body["spec"]["terminationGracePeriodSeconds"] = 3
    cluster.create("Pod", body)
    until(lambda: state_of(read(cluster, "Pod", namespace, "one")).get("running"), "the pod to run")
    before = read(cluster, "Pod", namespace, "one")["metadata"]
    start = cluster.listing("Pod", namespace)
    cluster.delete("Pod", namespace, "one")
    told = (e.object["metadata"] for e in cluster.watch("Pod", namespace, start, 10))
    going = next(metadata for metadata in told if "deletionTimestamp" in metadata)
    assert going["deletionGracePeriodSeconds"] == 3
    assert going["deletionTimestamp"]
    assert (before["generation"], going["generation"]) == (1, 2)
    until(lambda: cluster.get("Pod", namespace, "one") is None, "the pod to be gone")


@pytest.mark.timeout(150)
def test_a_namespace_takes_all_with_it(cluster: Cluster) -> None:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    cluster.create("Namespace", {"metadata": {"name": name}})
    cluster.create("Deployment", deployment(name))
    cluster.delete("Namespace", None, name)
    until(lambda: cluster.get("Namespace", None, name) is None, "the namespace to be gone", 120)
    assert cluster.list("ReplicaSet", name) == []
    assert cluster.get("Deployment", name, "web") is None
