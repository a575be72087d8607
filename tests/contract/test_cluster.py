"""What `port.Cluster` promises, asked of every cluster that there is.

A cluster is one entry in CLUSTERS: a context manager that gives something to talk to. Each test
gets a namespace of its own and uses nothing but the port. The expected answers were measured on
kube-apiserver 1.35.4.
"""

# ruff: noqa: ARG001 (a fixture is often asked for what it does)

import contextlib
import http.server
import json
import os
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from infra.sandbox.server import running
from infra.testbed import layout
from quietpager.cluster.client import connect
from quietpager.cluster.port import Cluster, ClusterUnavailable, Kind, Rejected

Json = dict[str, Any]

E2E = os.environ.get("QUIETPAGER_E2E") == "1"
"""Asked for the real API server too: from here on a test bed that is not up is a failure."""


@contextlib.contextmanager
def _sandbox() -> Iterator[Cluster]:
    with running(speed=50) as url:
        client = connect(url, manager="contract")
        yield client
        client.close()


@contextlib.contextmanager
def _real() -> Iterator[Cluster]:
    client = connect(kubeconfig=layout.KUBECONFIG, manager="contract")
    assert client.list("Node"), "the test bed has no node yet"
    yield client
    client.close()


CONTRACT = "cluster"
"""What the summary calls this suite when it counts what ran on both sides."""

CLUSTERS: dict[str, Callable[[], AbstractContextManager[Cluster]]] = {"sandbox": _sandbox, "real": _real}

SIDES = [
    pytest.param("sandbox", id="sandbox"),
    *([pytest.param("real", id="real", marks=pytest.mark.testbed)] if E2E else []),
]


@pytest.fixture(scope="module", params=SIDES)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with CLUSTERS[request.param]() as found:
        yield found


@pytest.fixture
def namespace(cluster: Cluster) -> Iterator[str]:
    name = f"contract-{uuid.uuid4().hex[:8]}"
    cluster.create("Namespace", {"metadata": {"name": name}})
    yield name
    cluster.delete("Namespace", None, name)


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


@pytest.fixture
def web(cluster: Cluster, namespace: str) -> Json:
    """Give a Deployment that its controller has seen, so that generations stand still."""
    cluster.create("Deployment", deployment(namespace))
    for _ in range(400):
        found = read(cluster, "Deployment", namespace)
        if "deployment.kubernetes.io/revision" in found["metadata"].get("annotations", {}):
            return found
        threading.Event().wait(0.02)
    pytest.fail("no controller took the Deployment")


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


# Reading


def test_what_is_not_there_is_none(cluster: Cluster, namespace: str) -> None:
    assert cluster.get("Pod", namespace, "nobody") is None


def test_an_object_says_its_kind(cluster: Cluster, namespace: str, web: Json) -> None:
    assert (web["apiVersion"], web["kind"]) == ("apps/v1", "Deployment")


def test_listed_objects_say_their_kind_too(cluster: Cluster, namespace: str, web: Json) -> None:
    listed = cluster.list("Deployment", namespace)
    assert [(one["apiVersion"], one["kind"]) for one in listed] == [("apps/v1", "Deployment")]


def test_a_list_over_all_namespaces(cluster: Cluster, namespace: str, web: Json) -> None:
    assert web["metadata"]["uid"] in {o["metadata"]["uid"] for o in cluster.list("Deployment")}


def test_cluster_wide_kinds(cluster: Cluster, namespace: str) -> None:
    assert namespace in {one["metadata"]["name"] for one in cluster.list("Namespace")}
    assert cluster.list("Node")


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("app=a", ["a"]),
        ("app==a", ["a"]),
        ("app!=a", ["b", "c"]),
        ("app in (a, b)", ["a", "b"]),
        ("app notin (a,b)", ["c"]),
        ("app", ["a", "b"]),
        ("!app", ["c"]),
        ("app in (a,b),app!=b", ["a"]),
    ],
)
def test_label_selectors(cluster: Cluster, namespace: str, selector: str, expected: list[str]) -> None:
    for name, labels in {"a": {"app": "a"}, "b": {"app": "b"}, "c": {"other": "x"}}.items():
        metadata = {"name": name, "namespace": namespace, "labels": labels}
        cluster.create("ResourceQuota", {"metadata": metadata, "spec": {"hard": {"pods": "1"}}})
    found = cluster.list("ResourceQuota", namespace, selector)
    assert sorted(one["metadata"]["name"] for one in found) == expected


def test_a_bad_selector_is_refused(cluster: Cluster, namespace: str) -> None:
    with refused(400):
        cluster.list("Pod", namespace, "a=b=c")


# Watching


def test_a_watch_goes_on_from_a_list(cluster: Cluster, namespace: str, web: Json) -> None:
    start = cluster.listing("Deployment", namespace).resource_version
    patch(cluster, namespace, {"op": "add", "path": "/metadata/labels/x", "value": "1"})
    cluster.create("Deployment", deployment(namespace, "other"))
    cluster.delete("Deployment", namespace, "other")
    seen = []
    for event in cluster.watch("Deployment", namespace, start, 10):
        seen.append((event.type, event.object["metadata"]["name"]))
        if event.type == "DELETED":
            break
    assert seen[:2] == [("MODIFIED", "web"), ("ADDED", "other")]
    assert seen[-1] == ("DELETED", "other")


def test_a_watch_hears_what_happens_later(cluster: Cluster, namespace: str) -> None:
    start = cluster.listing("Deployment", namespace).resource_version
    later = threading.Timer(0.2, cluster.create, ("Deployment", deployment(namespace)))
    later.start()
    event = next(iter(cluster.watch("Deployment", namespace, start, 10)))
    later.join()
    assert (event.type, event.object["metadata"]["name"]) == ("ADDED", "web")


def test_a_watch_ends_after_its_time(cluster: Cluster, namespace: str) -> None:
    start = cluster.listing("Pod", namespace).resource_version
    assert list(cluster.watch("Pod", namespace, start, 1)) == []


# Creating


def test_the_server_names_and_numbers_what_is_created(cluster: Cluster, namespace: str, web: Json) -> None:
    metadata = web["metadata"]
    assert metadata["uid"]
    assert metadata["creationTimestamp"]
    assert metadata["generation"] == 1
    assert int(metadata["resourceVersion"]) > 0


def test_a_name_can_be_generated(cluster: Cluster, namespace: str) -> None:
    body = deployment(namespace)
    body["metadata"] = {"generateName": "web-", "namespace": namespace}
    names = {cluster.create("Deployment", body)["metadata"]["name"] for _ in range(2)}
    assert len(names) == 2
    assert all(name.startswith("web-") and len(name) == 9 for name in names)


def test_a_name_is_given_once(cluster: Cluster, namespace: str, web: Json) -> None:
    with refused(409, "AlreadyExists"):
        cluster.create("Deployment", deployment(namespace))


def test_a_bad_name_is_invalid(cluster: Cluster, namespace: str) -> None:
    body = deployment(namespace)
    body["metadata"]["name"] = "Not_A_Name"
    with refused(422, "Invalid"):
        cluster.create("Deployment", body)


def test_a_namespace_must_exist(cluster: Cluster) -> None:
    with refused(404, "NotFound"):
        cluster.create("Deployment", deployment("nowhere-at-all"))


def test_a_dry_create_answers_and_stores_nothing(cluster: Cluster, namespace: str) -> None:
    answer = cluster.create("Deployment", deployment(namespace), dry_run=True)
    assert answer["metadata"]["uid"]
    assert cluster.get("Deployment", namespace, "web") is None


def test_defaults_are_filled_in(cluster: Cluster, namespace: str, web: Json) -> None:
    assert web["spec"]["strategy"]["rollingUpdate"] == {"maxSurge": "25%", "maxUnavailable": "25%"}
    assert web["spec"]["revisionHistoryLimit"] == 10


def event(namespace: str, about: str) -> Json:
    return {
        "metadata": {"name": "note.1", "namespace": namespace},
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": about},
        "reason": "BackOff",
        "message": "m",
        "type": "Warning",
    }


def test_an_event_can_be_posted_by_anybody(cluster: Cluster, namespace: str) -> None:
    assert cluster.create("Event", event(namespace, namespace))["reason"] == "BackOff"


def test_an_event_about_another_namespace_is_invalid(cluster: Cluster, namespace: str) -> None:
    with refused(422, "Invalid"):
        cluster.create("Event", event(namespace, "default"))


# JSON Patch


def test_a_patch_whose_tests_hold_is_applied(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(
        cluster,
        namespace,
        {"op": "test", "path": "/metadata/uid", "value": web["metadata"]["uid"]},
        {"op": "test", "path": "/metadata/generation", "value": web["metadata"]["generation"]},
        {"op": "test", "path": LIMIT, "value": "32Mi"},
        {"op": "replace", "path": LIMIT, "value": "64Mi"},
    )
    assert answer["metadata"]["generation"] == web["metadata"]["generation"] + 1
    limits = answer["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]
    assert limits == {"memory": "64Mi"}


@pytest.mark.parametrize(
    "test",
    [
        {"path": "/metadata/uid", "value": "another"},
        {"path": "/metadata/generation", "value": 1000},
        {"path": LIMIT, "value": "31Mi"},
        {"path": "/spec/replicas", "value": False},  # which Python calls equal to 0
        {"path": "/spec/nothing/here", "value": 1},
    ],
)
def test_a_test_that_fails_is_422_and_changes_nothing(
    cluster: Cluster, namespace: str, web: Json, test: Json
) -> None:
    with refused(422, "Invalid") as caught:
        patch(
            cluster,
            namespace,
            {"op": "replace", "path": LIMIT, "value": "64Mi"},
            {"op": "test", **test},
        )
    text = "the server rejected our request due to an error in our request"
    assert caught.value.message == text
    assert read(cluster, "Deployment", namespace)["spec"] == web["spec"]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "replace", "path": "/spec/nothing/here", "value": 1},
        {"op": "remove", "path": "/metadata/labels/none"},
        {"op": "add", "path": "/spec/template/spec/containers/7", "value": {}},
    ],
)
def test_a_path_that_leads_nowhere_is_422(
    cluster: Cluster, namespace: str, web: Json, operation: Json
) -> None:
    with refused(422, "Invalid"):
        patch(cluster, namespace, operation)


def test_keys_with_slashes_are_escaped(cluster: Cluster, namespace: str, web: Json) -> None:
    path = "/metadata/annotations/quietpager.dev~1intent"
    answer = patch(cluster, namespace, {"op": "add", "path": path, "value": "i-1"})
    assert answer["metadata"]["annotations"]["quietpager.dev/intent"] == "i-1"


def test_a_patch_of_what_is_gone_is_404(cluster: Cluster, namespace: str) -> None:
    with refused(404, "NotFound"):
        patch(cluster, namespace, {"op": "remove", "path": "/spec"})


# Merge patch


def test_null_removes(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = merge(cluster, namespace, {"metadata": {"labels": {"app": None, "new": "1"}}})
    assert answer["metadata"]["labels"] == {"new": "1"}


def test_a_stale_version_is_a_conflict(cluster: Cluster, namespace: str, web: Json) -> None:
    merge(cluster, namespace, {"metadata": {"labels": {"new": "1"}}})
    stale = {"metadata": {"resourceVersion": web["metadata"]["resourceVersion"], "labels": {}}}
    with refused(409, "Conflict"):
        merge(cluster, namespace, stale)


def test_a_current_version_is_none(cluster: Cluster, namespace: str, web: Json) -> None:
    version = read(cluster, "Deployment", namespace)["metadata"]["resourceVersion"]
    change = {"metadata": {"resourceVersion": version, "labels": {"new": "1"}}}
    assert merge(cluster, namespace, change)["metadata"]["labels"]["new"] == "1"


def test_another_uid_is_invalid(cluster: Cluster, namespace: str, web: Json) -> None:
    with refused(422, "Invalid"):
        merge(cluster, namespace, {"metadata": {"uid": str(uuid.uuid4())}})


def test_the_selector_is_immutable(cluster: Cluster, namespace: str, web: Json) -> None:
    labels = {"app": "web", "more": "x"}
    change = {
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}},
        }
    }
    with refused(422, "Invalid"):
        merge(cluster, namespace, change)


# Quantities


@pytest.mark.parametrize("limit", ["8Mi", "-1Mi"])
def test_a_limit_below_the_request_is_invalid(
    cluster: Cluster, namespace: str, web: Json, limit: str
) -> None:
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": limit})


def test_what_is_no_quantity_is_refused(cluster: Cluster, namespace: str, web: Json) -> None:
    with pytest.raises(Rejected) as caught:
        patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "much"})
    assert caught.value.code in {400, 422}


# Generations and versions


def test_a_label_does_not_count(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(cluster, namespace, {"op": "add", "path": "/metadata/labels/x", "value": "1"})
    assert answer["metadata"]["generation"] == web["metadata"]["generation"]
    assert answer["metadata"]["resourceVersion"] != web["metadata"]["resourceVersion"]


def test_an_annotation_on_a_deployment_counts(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = merge(cluster, namespace, {"metadata": {"annotations": {"a": "b"}}})
    assert answer["metadata"]["generation"] == web["metadata"]["generation"] + 1


def test_status_churn_does_not_count(cluster: Cluster, namespace: str, web: Json) -> None:
    change = {"status": {"observedGeneration": 1, "replicas": 0, "terminatingReplicas": 3}}
    answer = merge(cluster, namespace, change, subresource="status")
    assert answer["metadata"]["generation"] == web["metadata"]["generation"]


def test_nothing_changed_is_no_version(cluster: Cluster, namespace: str, web: Json) -> None:
    before = read(cluster, "Deployment", namespace)["metadata"]["resourceVersion"]
    answer = patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "32Mi"})
    assert answer["metadata"]["resourceVersion"] == before


# Status


def test_the_main_path_ignores_the_status(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = merge(cluster, namespace, {"status": {"replicas": 77}})
    assert answer["status"].get("replicas") != 77


def test_the_status_path_ignores_the_spec(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = merge(cluster, namespace, {"spec": {"replicas": 7}}, subresource="status")
    assert answer["spec"]["replicas"] == 0


# Dry run


def test_a_dry_patch_answers_in_full_and_stores_nothing(cluster: Cluster, namespace: str, web: Json) -> None:
    start = cluster.listing("Deployment", namespace).resource_version
    answer = patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "64Mi"}, dry_run=True)
    container = answer["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"] == {"memory": "64Mi"}
    now = read(cluster, "Deployment", namespace)
    assert now["spec"] == web["spec"]
    assert now["metadata"]["generation"] == web["metadata"]["generation"]
    assert list(cluster.watch("Deployment", namespace, start, 1)) == []


def test_a_dry_patch_is_checked(cluster: Cluster, namespace: str, web: Json) -> None:
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "test", "path": LIMIT, "value": "1Mi"}, dry_run=True)
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "1Mi"}, dry_run=True)


# Deleting


def test_what_is_deleted_is_gone(cluster: Cluster, namespace: str, web: Json) -> None:
    cluster.delete("Deployment", namespace, "web")
    assert cluster.get("Deployment", namespace, "web") is None


def test_what_is_gone_cannot_be_deleted(cluster: Cluster, namespace: str) -> None:
    with refused(404, "NotFound"):
        cluster.delete("Deployment", namespace, "web")


# At the same time


def test_of_many_writers_with_one_precondition_one_wins(cluster: Cluster, namespace: str, web: Json) -> None:
    won: list[str] = []
    lost: list[int] = []

    def write(size: str) -> None:
        pin = {"op": "test", "path": "/metadata/generation", "value": web["metadata"]["generation"]}
        try:
            patch(cluster, namespace, pin, {"op": "replace", "path": LIMIT, "value": size})
            won.append(size)
        except Rejected as no:
            lost.append(no.code)

    writers = [threading.Thread(target=write, args=(f"{64 + n}Mi",)) for n in range(12)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(won) == 1
    assert lost == [422] * 11


# The client, where no API server answers as it should


def test_no_answer_is_unavailable() -> None:
    client = connect("http://127.0.0.1:9", manager="contract")
    with pytest.raises(ClusterUnavailable):
        client.get("Pod", "default", "p")
    with pytest.raises(ClusterUnavailable):
        client.json_patch("Deployment", "default", "d", [])
    with pytest.raises(ClusterUnavailable):
        next(client.watch("Pod", None, "1", 1))


def test_a_name_is_never_a_path() -> None:
    client = connect("http://127.0.0.1:9", manager="contract")
    with pytest.raises(ValueError, match="namespace"):
        client.get("Pod", None, "p")


@pytest.mark.parametrize("code", [429, 500, 503, 504])
def test_an_overloaded_server_is_unavailable_and_asked_once(code: int) -> None:
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_PATCH(self) -> None:
            asked.append(self.path)
            self.send_response(code)
            self.send_header("Retry-After", "0")
            self.send_header("Content-Length", "4")
            self.end_headers()
            self.wfile.write(b"busy")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = connect(f"http://127.0.0.1:{server.server_port}", manager="me")
        with pytest.raises(ClusterUnavailable, match=str(code)):
            client.json_patch("Deployment", "a/b", "d", [], dry_run=True)
        client.close()
        server.shutdown()
        thread.join()
    assert asked == ["/apis/apps/v1/namespaces/a%2Fb/deployments/d?fieldManager=me&dryRun=All"]


def test_a_kubeconfig_is_read(tmp_path: Path) -> None:
    with running() as url:
        cluster = {"name": "c", "cluster": {"server": url}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        user = {"name": "u", "user": {"token": "t"}}
        kubeconfig: Json = {"clusters": [cluster], "contexts": [context], "users": [user]}
        path = tmp_path / "config"
        path.write_text(json.dumps(kubeconfig | {"current-context": "x"}))
        client = connect(kubeconfig=path, manager="contract")
        assert client.get("Namespace", None, "default")
        client.close()


def test_without_any_address_there_is_no_cluster(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("QUIETPAGER_API_SERVER", raising=False)
    monkeypatch.delenv("KUBERNETES_SERVICE_HOST", raising=False)
    with pytest.raises(ClusterUnavailable):
        connect(manager="contract")
    with pytest.raises(ClusterUnavailable):
        connect(kubeconfig=tmp_path / "none", manager="contract")


def test_the_official_clients_models_are_not_loaded() -> None:
    code = (
        "import sys; from quietpager.cluster.client import connect; "
        "connect('http://127.0.0.1:9', manager='m'); "
        "assert not any(m.startswith('kubernetes.client.models') for m in sys.modules); "
        "from kubernetes.client import V1Pod; from kubernetes import config, watch"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)
