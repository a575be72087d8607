"""What the tests of `port.Cluster` share: the two sides, a Deployment to ask about, and how to wait."""

import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

import pytest

from infra.testbed import layout
from quietpager.cluster.client import connect
from quietpager.model.cluster import Cluster, Kind, Rejected
from quietpager.sandbox.server import running
from tests.testbed import ASKED_FOR, up

Json = dict[str, Any]
T = TypeVar("T")


@contextlib.contextmanager
def on_sandbox() -> Iterator[Cluster]:
    with running(speed=50) as url:
        client = connect(url, manager="contract")
        yield client
        client.close()


@contextlib.contextmanager
def on_real() -> Iterator[Cluster]:
    assert up(), "QUIETPAGER_E2E=1 asks for the test bed, and it is not up: `make cluster`."
    client = connect(kubeconfig=layout.KUBECONFIG, manager="contract")
    yield client
    client.close()


CLUSTERS: dict[str, Callable[[], AbstractContextManager[Cluster]]] = {"sandbox": on_sandbox, "real": on_real}

TESTBED = pytest.mark.testbed if ASKED_FOR else pytest.mark.skip(reason="it asks the test bed's API server")

SIDES = [
    pytest.param("sandbox", id="sandbox"),
    *([pytest.param("real", id="real", marks=TESTBED)] if ASKED_FOR else []),
]


def deployment(namespace: str, name: str = "web", **changes: Any) -> Json:
    """Make a Deployment without pods, so that nothing but the test moves it."""
    container: Json = {"name": "web", "image": "localhost/busybox:1", "command": ["sleep", "1000"]}
    container["resources"] = {"requests": {"memory": "16Mi"}, "limits": {"memory": "32Mi"}}
    return {
        "metadata": {"name": name, "namespace": namespace, "labels": {"app": name}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container]},
            },
        },
    } | changes


def at_rest(cluster: Cluster, namespace: str) -> Json | None:
    """Give the Deployment without pods once its controller has written all that it will."""
    found = read(cluster, "Deployment", namespace)
    status = found.get("status", {})
    settled = {one["type"]: one["reason"] for one in status.get("conditions", ())}
    seen = status.get("observedGeneration") == found["metadata"]["generation"]
    return found if seen and settled.get("Progressing") == "NewReplicaSetAvailable" else None


def until(ask: Callable[[], T | None], what: str, seconds: float = 40) -> T:
    """Ask until there is an answer that counts: controllers and kubelets take their time."""
    end = time.monotonic() + seconds
    while not (answer := ask()):
        assert time.monotonic() < end, f"{what}: not within {seconds:.0f} s"
        time.sleep(0.05)
    return answer


def read(cluster: Cluster, kind: Kind, namespace: str, name: str = "web") -> Json:
    found = cluster.get(kind, namespace, name)
    assert found is not None
    return found


def refused(code: int, reason: str = "") -> "pytest.RaisesExc[Rejected]":
    def fits(no: Rejected) -> bool:
        return no.code == code and reason in {"", no.reason}

    return pytest.raises(Rejected, check=fits)


def patch(cluster: Cluster, namespace: str, *operations: Json, **options: Any) -> Json:
    return cluster.json_patch("Deployment", namespace, "web", operations, **options)


def merge(cluster: Cluster, namespace: str, change: Json, **options: Any) -> Json:
    return cluster.merge_patch("Deployment", namespace, "web", change, **options)


LIMIT = "/spec/template/spec/containers/0/resources/limits/memory"


def event(namespace: str, about: str) -> Json:
    return {
        "metadata": {"name": "note.1", "namespace": namespace},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": about},
        "reason": "BackOff",
        "message": "m",
        "type": "Warning",
    }


def quota(namespace: str, name: str, **hard: str) -> Json:
    named = {key.replace("_", "."): amount for key, amount in hard.items()}
    return {"metadata": {"name": name, "namespace": namespace}, "spec": {"hard": named}}


def pod(namespace: str, name: str, limit: str = "", request: str = "") -> Json:
    asked = {"limits": {"memory": limit}, "requests": {"memory": request}}
    container = {"name": "a", "image": "localhost/busybox:1", "command": ["sleep", "1000"]}
    resources = {key: amounts for key, amounts in asked.items() if amounts["memory"]}
    return {
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{**container, "resources": resources}]},
    }


def condition(obj: Json, kind: str) -> Json | None:
    found = obj.get("status", {}).get("conditions") or ()
    return next((one for one in found if one["type"] == kind), None)


def containers_of(pod_: Json) -> list[Json]:
    return list(pod_.get("status", {}).get("containerStatuses") or ())


def state_of(pod_: Json) -> Json:
    """Give the state of a pod's first container: one key of waiting, running and terminated."""
    statuses = containers_of(pod_)
    return dict(statuses[0]["state"]) if statuses else {}


def waiting_for(cluster: Cluster, namespace: str, reason: str) -> Json:
    def found() -> Json | None:
        pods = cluster.list("Pod", namespace)
        return next((p for p in pods if state_of(p).get("waiting", {}).get("reason") == reason), None)

    return until(found, f"a pod that waits: {reason}")


def running_deployment(namespace: str, **container: Any) -> Json:
    """Make a Deployment with one pod, which ends at once when it is told to."""
    body = deployment(namespace)
    spec = body["spec"]["template"]["spec"]
    spec["terminationGracePeriodSeconds"] = 1
    spec["containers"][0] |= container
    body["spec"]["replicas"] = 1
    return body


def done(cluster: Cluster, namespace: str) -> Json | None:
    """Give the Deployment once its rollout is over."""
    found = read(cluster, "Deployment", namespace)
    status, progress = found.get("status", {}), condition(found, "Progressing") or {}
    seen = status.get("observedGeneration") == found["metadata"]["generation"]
    counts = {status.get(f) for f in ("replicas", "updatedReplicas", "availableReplicas")}
    over = progress.get("reason") == "NewReplicaSetAvailable" and counts == {found["spec"]["replicas"]}
    return found if seen and over else None


def sizes(cluster: Cluster, namespace: str) -> dict[str, int]:
    """Tell how many pods each revision is to have."""
    found = cluster.list("ReplicaSet", namespace)
    return {one["metadata"]["annotations"][REVISION]: one["spec"]["replicas"] for one in found}


REVISION = "deployment.kubernetes.io/revision"
