"""What a ResourceQuota allows, counts and refuses."""

# ruff: noqa: ARG001 (a fixture is often asked for what it does)

import pytest

from quietpager.model.cluster import Cluster
from tests.contract.cluster.support import LIMIT, Json, condition, patch, pod, quota, read, refused, until

CONTRACT = "cluster"


@pytest.fixture
def limited(cluster: Cluster, namespace: str) -> Json:
    """Give a quota that its controller has counted."""
    hard = {"pods": "2", "limits_memory": "64Mi", "requests_memory": "64Mi"}
    cluster.create("ResourceQuota", quota(namespace, "q", **hard))

    def counted() -> Json | None:
        found = read(cluster, "ResourceQuota", namespace, "q")
        return found if found["status"].get("used") else None

    return until(counted, "the quota to be counted")


def test_a_quota_says_what_is_allowed_and_what_is_used(
    cluster: Cluster, namespace: str, limited: Json
) -> None:
    assert limited["status"] == {
        "hard": {"pods": "2", "limits.memory": "64Mi", "requests.memory": "64Mi"},
        "used": {"pods": "0", "limits.memory": "0", "requests.memory": "0"},
    }
    cluster.create("Pod", pod(namespace, "one", "48Mi", "16Mi"))

    def used() -> bool:
        status = read(cluster, "ResourceQuota", namespace, "q")["status"]
        wanted = {"pods": "1", "limits.memory": "48Mi", "requests.memory": "16Mi"}
        return bool(status["used"] == wanted)

    until(used, "the pod to be counted")


@pytest.mark.parametrize(
    ("limit", "request_", "sentence"),
    [
        ("", "", "failed quota: q: must specify limits.memory for: a; requests.memory for: a"),
        (
            "128Mi",
            "16Mi",
            (
                "exceeded quota: q, requested: limits.memory=128Mi, "
                "used: limits.memory=0, limited: limits.memory=64Mi"
            ),
        ),
        (
            "128Mi",
            "",
            (
                "exceeded quota: q, requested: limits.memory=128Mi,requests.memory=128Mi, "
                "used: limits.memory=0,requests.memory=0, limited: limits.memory=64Mi,requests.memory=64Mi"
            ),
        ),
    ],
)
def test_a_quota_refuses_a_pod(
    cluster: Cluster, namespace: str, limited: Json, limit: str, request_: str, sentence: str
) -> None:
    for dry_run in (True, False):
        with refused(403, "Forbidden") as caught:
            cluster.create("Pod", pod(namespace, "one", limit, request_), dry_run=dry_run)
        assert caught.value.message == f'pods "one" is forbidden: {sentence}'


def test_a_dry_run_counts_for_no_quota(cluster: Cluster, namespace: str, limited: Json) -> None:
    for name in ("one", "two", "three"):
        cluster.create("Pod", pod(namespace, name, "48Mi"), dry_run=True)


def test_a_quota_is_used_up(cluster: Cluster, namespace: str, limited: Json) -> None:
    cluster.create("Pod", pod(namespace, "one", "48Mi", "16Mi"))
    with refused(403, "Forbidden") as caught:
        cluster.create("Pod", pod(namespace, "two", "32Mi", "16Mi"))
    assert caught.value.message == (
        'pods "two" is forbidden: exceeded quota: q, requested: limits.memory=32Mi, '
        "used: limits.memory=48Mi, limited: limits.memory=64Mi"
    )


def test_a_quota_does_not_stop_a_deployment_but_its_pods(
    cluster: Cluster, namespace: str, web: Json, limited: Json
) -> None:
    patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "128Mi"}, dry_run=True)
    patch(
        cluster,
        namespace,
        {"op": "replace", "path": LIMIT, "value": "128Mi"},
        {"op": "replace", "path": "/spec/replicas", "value": 1},
    )
    why = until(lambda: failure_of(cluster, namespace), "the Deployment to say that it gets no pods")
    assert (why["status"], why["reason"]) == ("True", "FailedCreate")
    assert "is forbidden: exceeded quota: q, requested: limits.memory=128Mi" in why["message"]
    told = until(
        lambda: [e for e in cluster.list("Event", namespace) if e["reason"] == "FailedCreate"],
        "an Event about it",
    )
    assert {(e["involvedObject"]["kind"], e["type"]) for e in told} == {("ReplicaSet", "Warning")}
    assert told[0]["message"].startswith('Error creating: pods "web-')


def failure_of(cluster: Cluster, namespace: str) -> Json | None:
    return condition(read(cluster, "Deployment", namespace), "ReplicaFailure")


def test_a_quota_allows_nothing_below_zero(cluster: Cluster, namespace: str) -> None:
    with refused(422, "Invalid") as caught:
        cluster.create("ResourceQuota", quota(namespace, "q", pods="-1"))
    assert caught.value.message == (
        'ResourceQuota "q" is invalid: spec.hard[pods]: Invalid value: "-1": '
        "must be greater than or equal to 0"
    )
