"""What `port.Cluster` promises, asked of every cluster that there is.

A cluster is one entry in CLUSTERS: a context manager that gives something to talk to. Each test
gets a namespace of its own and uses nothing but the port. The expected answers were measured on
kube-apiserver 1.35.4.
"""

# ruff: noqa: ARG001 (a fixture is often asked for what it does)

import contextlib
import http.server
import json
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pytest
import yaml

from functions.remediate.raise_memory.plan import plan as raise_memory
from functions.remediate.rollout_undo.plan import plan as rollout_undo
from infra.sandbox.server import running
from infra.testbed import layout
from infra.testbed.addons import kubectl
from quietpager.cluster.client import connect
from quietpager.cluster.port import Cluster, ClusterUnavailable, Kind, Rejected
from quietpager.model.incident import Edit, Intent
from quietpager.model.objects import ObjectRef
from quietpager.model.quantity import quantity
from quietpager.rules.health import health_of
from quietpager.rules.live import Live
from quietpager.rules.revision import revision_facts
from quietpager.safety.effect import MARK, patch_of, reversed_edits
from tests.testbed import ASKED_FOR, up

Json = dict[str, Any]
T = TypeVar("T")


@contextlib.contextmanager
def _sandbox() -> Iterator[Cluster]:
    with running(speed=50) as url:
        client = connect(url, manager="contract")
        yield client
        client.close()


@contextlib.contextmanager
def _real() -> Iterator[Cluster]:
    assert up(), "QUIETPAGER_E2E=1 asks for the test bed, and it is not up: `make cluster`."
    client = connect(kubeconfig=layout.KUBECONFIG, manager="contract")
    yield client
    client.close()


CONTRACT = "cluster"
"""What the summary calls this suite when it counts what ran on both sides."""

CLUSTERS: dict[str, Callable[[], AbstractContextManager[Cluster]]] = {"sandbox": _sandbox, "real": _real}

TESTBED = pytest.mark.testbed if ASKED_FOR else pytest.mark.skip(reason="it asks the test bed's API server")

SIDES = [
    pytest.param("sandbox", id="sandbox"),
    *([pytest.param("real", id="real", marks=TESTBED)] if ASKED_FOR else []),
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
    return until(lambda: at_rest(cluster, namespace), "a controller to take the Deployment")


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


def test_the_events_about_one_object(cluster: Cluster, namespace: str) -> None:
    for number, name in enumerate(("web", "web", "other")):
        about = {"apiVersion": "v1", "kind": "Pod", "name": name, "namespace": namespace, "uid": f"u-{name}"}
        event = {
            "metadata": {"name": f"e{number}", "namespace": namespace}, "involvedObject": about,
            "reason": f"R{number}", "message": "m", "type": "Warning", "source": {"component": "test"},
        }  # fmt: skip
        cluster.create("Event", event)
    found = cluster.events("Pod", namespace, "web")
    assert sorted(one["reason"] for one in found) == ["R0", "R1"]
    assert [*cluster.events("Deployment", namespace, "web")] == []


def test_a_bad_selector_is_refused(cluster: Cluster, namespace: str) -> None:
    with refused(400):
        cluster.list("Pod", namespace, "a=b=c")


def test_a_namespace_says_its_name_and_phase(cluster: Cluster, namespace: str) -> None:
    found = cluster.get("Namespace", None, namespace)
    assert found is not None
    assert found["metadata"]["labels"]["kubernetes.io/metadata.name"] == namespace
    assert found["status"]["phase"] == "Active"


def test_a_node_says_what_it_has_and_how_it_is(cluster: Cluster) -> None:
    [node] = cluster.list("Node")
    assert quantity(node["status"]["allocatable"]["memory"]) > quantity("1Gi")
    assert "unschedulable" not in node["spec"]
    conditions = {one["type"]: one["status"] for one in node["status"]["conditions"]}
    assert conditions == {
        "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False", "Ready": "True",
    }  # fmt: skip


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


def test_a_watch_goes_on_where_the_last_one_ended(cluster: Cluster, namespace: str) -> None:
    start = cluster.listing("ResourceQuota", namespace).resource_version
    cluster.create("ResourceQuota", quota(namespace, "one", pods="1"))
    first = next(iter(cluster.watch("ResourceQuota", namespace, start, 10)))
    cluster.create("ResourceQuota", quota(namespace, "two", pods="1"))
    version = first.object["metadata"]["resourceVersion"]
    heard = cluster.watch("ResourceQuota", namespace, version, 10)
    added = next(event.object for event in heard if event.type == "ADDED")
    assert added["metadata"]["name"] == "two"


def test_a_watch_that_asks_for_it_hears_how_far_it_has_come(cluster: Cluster, namespace: str) -> None:
    """A real server says it about 2 s before a watch's time is over (cacher, bookmarkFrequency)."""
    version = cluster.listing("Pod", namespace).resource_version
    cluster.create("Namespace", {"metadata": {"name": f"{namespace}-more"}})
    seen = [*cluster.watch("Pod", namespace, version, 4, bookmarks=True)]
    cluster.delete("Namespace", None, f"{namespace}-more")
    assert {one.type for one in seen} == {"BOOKMARK"}
    assert int(seen[-1].object["metadata"]["resourceVersion"]) >= int(version)


def test_a_watch_that_does_not_ask_hears_changes_only(cluster: Cluster, namespace: str) -> None:
    version = cluster.listing("Pod", namespace).resource_version
    assert [*cluster.watch("Pod", namespace, version, 3)] == []


def test_a_watch_keeps_to_its_namespace(cluster: Cluster, namespace: str) -> None:
    start = cluster.listing("Event", namespace).resource_version
    about_a_node = event("default", "default") | {"metadata": {"namespace": "default"}}
    about_a_node["metadata"]["generateName"] = "contract-"
    elsewhere = cluster.create("Event", about_a_node)
    cluster.create("Event", event(namespace, namespace))
    first = next(iter(cluster.watch("Event", namespace, start, 10)))
    everywhere = next(iter(cluster.watch("Event", None, start, 10)))
    cluster.delete("Event", "default", elsewhere["metadata"]["name"])
    assert first.object["metadata"]["namespace"] == namespace
    assert int(everywhere.object["metadata"]["resourceVersion"]) <= int(
        first.object["metadata"]["resourceVersion"]
    )


def test_a_deletion_is_a_version_of_its_own(cluster: Cluster, namespace: str) -> None:
    start = cluster.listing("Event", namespace).resource_version
    made = cluster.create("Event", event(namespace, namespace))
    cluster.delete("Event", namespace, "note.1")
    gone = next(e for e in cluster.watch("Event", namespace, start, 10) if e.type == "DELETED")
    assert int(gone.object["metadata"]["resourceVersion"]) > int(made["metadata"]["resourceVersion"])
    assert gone.object["reason"] == "BackOff"


def test_a_watch_from_too_long_ago_is_gone(cluster: Cluster, namespace: str) -> None:
    with refused(410, "Expired") as caught:
        next(cluster.watch("Deployment", namespace, "1", 5))
    assert caught.value.message.startswith("too old resource version: 1 (")


def test_a_watch_from_what_is_no_version_breaks(cluster: Cluster, namespace: str) -> None:
    with pytest.raises(ClusterUnavailable, match=r'500 : resourceVersion: Invalid value: "yesterday"'):
        next(cluster.watch("Deployment", namespace, "yesterday", 5))


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


def test_a_template_is_filled_in_to_the_last_field(cluster: Cluster, namespace: str, web: Json) -> None:
    assert web["spec"] == {
        "replicas": 0,
        "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "web",
                        "image": "localhost/busybox:1",
                        "command": ["sleep", "1000"],
                        "resources": {"requests": {"memory": "16Mi"}, "limits": {"memory": "32Mi"}},
                        "terminationMessagePath": "/dev/termination-log",
                        "terminationMessagePolicy": "File",
                        "imagePullPolicy": "IfNotPresent",
                    }
                ],
                "restartPolicy": "Always",
                "terminationGracePeriodSeconds": 30,
                "dnsPolicy": "ClusterFirst",
                "securityContext": {},
                "schedulerName": "default-scheduler",
            },
        },
        "strategy": {
            "type": "RollingUpdate",
            "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"},
        },
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
    }


def test_a_new_deployment_has_no_annotations_and_no_status(cluster: Cluster, namespace: str) -> None:
    made = cluster.create("Deployment", deployment(namespace))
    assert "annotations" not in made["metadata"]
    assert made["status"] == {}


def test_fields_that_no_kind_has_are_forgotten(cluster: Cluster, namespace: str) -> None:
    body = deployment(namespace)
    body["spec"]["nonsense"] = 1
    body["spec"]["template"]["spec"]["containers"][0]["resources"]["limit"] = {"memory": "1Gi"}
    made = cluster.create("Deployment", body, dry_run=True)
    assert "nonsense" not in made["spec"]
    assert made["spec"]["template"]["spec"]["containers"][0]["resources"].keys() == {"limits", "requests"}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"replicas": -3}, "spec.replicas: Invalid value: -3: must be greater than or equal to 0"),
        (
            {"selector": None},
            (
                "[spec.selector: Required value, spec.template.metadata.labels: Invalid value: "
                '{"app":"web"}: `selector` does not match template `labels`]'
            ),
        ),
        (
            {"selector": {"matchLabels": {"app": "other"}}},
            (
                'spec.template.metadata.labels: Invalid value: {"app":"web"}: '
                "`selector` does not match template `labels`"
            ),
        ),
    ],
)
def test_a_create_that_is_refused_says_why(
    cluster: Cluster, namespace: str, changes: Json, sentence: str
) -> None:
    body = deployment(namespace)
    body["spec"] |= changes
    with refused(422, "Invalid") as caught:
        cluster.create("Deployment", body)
    assert caught.value.message == f'Deployment.apps "web" is invalid: {sentence}'


def test_another_kind_is_a_bad_request(cluster: Cluster, namespace: str) -> None:
    with refused(400, "BadRequest") as caught:
        cluster.create("Deployment", {"kind": "Pod", "apiVersion": "v1"} | deployment(namespace))
    assert caught.value.message == (
        'Pod in version "v1" cannot be handled as a Deployment: '
        "converting (v1.Pod) to (apps.Deployment): unknown conversion"
    )


def test_a_create_that_cannot_be_read_is_a_bad_request(cluster: Cluster, namespace: str) -> None:
    body = deployment(namespace)
    body["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"] = "much"
    with refused(400, "BadRequest") as caught:
        cluster.create("Deployment", body)
    assert "quantities must match the regular expression" in caught.value.message


# Events


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


def test_an_event_about_a_node_stands_in_default(cluster: Cluster, namespace: str) -> None:
    about = {"involvedObject": {"kind": "Node", "name": "n"}}
    with refused(422, "Invalid"):
        cluster.create("Event", event(namespace, namespace) | about)
    body = event("default", "default") | about
    body["metadata"] = {"generateName": "contract-", "namespace": "default"}
    cluster.create("Event", body, dry_run=True)


def test_an_events_times_are_null_where_nobody_gave_them(cluster: Cluster, namespace: str) -> None:
    made = cluster.create("Event", event(namespace, namespace))
    assert (made["eventTime"], made["firstTimestamp"], made["lastTimestamp"]) == (None, None, None)
    assert (made["source"], made["reportingComponent"], made["reportingInstance"]) == ({}, "", "")
    assert "count" not in made
    assert [one | {"metadata": {}} for one in cluster.list("Event", namespace)] == [made | {"metadata": {}}]


def test_a_repeat_raises_the_count_and_is_a_change(cluster: Cluster, namespace: str) -> None:
    first = event(namespace, namespace) | {"count": 1, "firstTimestamp": "2026-01-01T00:00:00Z"}
    version = cluster.create("Event", first)["metadata"]["resourceVersion"]
    again = {"count": 2, "lastTimestamp": "2026-01-01T00:00:07Z"}
    cluster.merge_patch("Event", namespace, "note.1", again)
    heard = next(iter(cluster.watch("Event", namespace, version, 10)))
    assert (heard.type, heard.object["count"]) == ("MODIFIED", 2)
    assert heard.object["firstTimestamp"] == "2026-01-01T00:00:00Z"
    assert heard.object["lastTimestamp"] == "2026-01-01T00:00:07Z"
    assert "generation" not in heard.object["metadata"]


def test_an_event_of_the_newer_kind_says_who_did_what(cluster: Cluster, namespace: str) -> None:
    newer = event(namespace, namespace) | {"eventTime": "2026-01-01T00:00:00.000000Z"}
    with refused(422, "Invalid") as caught:
        cluster.create("Event", newer)
    assert "reportingComponent: Required value" in caught.value.message
    who = {"reportingComponent": "example.com/c", "reportingInstance": "c-1", "action": "Binding"}
    made = cluster.create("Event", newer | who)
    assert (made["eventTime"], made["firstTimestamp"]) == ("2026-01-01T00:00:00.000000Z", None)


def test_a_time_that_is_none_is_a_bad_request(cluster: Cluster, namespace: str) -> None:
    with refused(400, "BadRequest"):
        cluster.create("Event", event(namespace, namespace) | {"eventTime": "yesterday"})


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


@pytest.mark.parametrize(
    "test",
    [
        {"path": "/spec/replicas", "value": 0.0},  # compared as text, against RFC 6902
        {"path": "/spec/replicas", "value": "0"},
        {"path": "/metadata/labels/none", "value": "x"},
        {"path": "/spec/nothing/here", "value": None},
    ],
)
def test_what_is_not_the_same_text_is_not_the_same(
    cluster: Cluster, namespace: str, web: Json, test: Json
) -> None:
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "test", **test}, dry_run=True)


def test_what_is_not_there_is_null(cluster: Cluster, namespace: str, web: Json) -> None:
    patch(cluster, namespace, {"op": "test", "path": "/metadata/labels/none", "value": None})


def test_a_default_can_be_tested_for(cluster: Cluster, namespace: str, web: Json) -> None:
    patch(cluster, namespace, {"op": "test", "path": "/spec/strategy/type", "value": "RollingUpdate"})


def test_replace_adds_a_key_that_is_not_there(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(cluster, namespace, {"op": "replace", "path": "/metadata/labels/none", "value": "1"})
    assert answer["metadata"]["labels"]["none"] == "1"


def test_replace_finds_no_item_that_is_not_there(cluster: Cluster, namespace: str, web: Json) -> None:
    path = "/spec/template/spec/containers/7"
    with refused(422, "Invalid"):
        patch(cluster, namespace, {"op": "replace", "path": path, "value": {}})


def test_a_mark_needs_annotations_to_stand_among(cluster: Cluster, namespace: str) -> None:
    cluster.create("ResourceQuota", quota(namespace, "web", pods="1"))
    path, mark = "/metadata/annotations", {"quietpager.dev/intent": "i-1"}
    deep = {"op": "add", "path": f"{path}/quietpager.dev~1intent", "value": "i-1"}
    with refused(422, "Invalid"):
        cluster.json_patch("ResourceQuota", namespace, "web", [deep])
    answer = cluster.json_patch(
        "ResourceQuota", namespace, "web", [{"op": "add", "path": path, "value": mark}]
    )
    assert answer["metadata"]["annotations"] == mark
    last = {"op": "remove", "path": f"{path}/quietpager.dev~1intent"}
    answer = cluster.json_patch("ResourceQuota", namespace, "web", [last])
    assert "annotations" not in answer["metadata"]


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/spec/nonsense", "value": 1},
        {"op": "add", "path": "/spec/template/spec/containers/0/resources/limit", "value": {"memory": "1Gi"}},
        {"op": "add", "path": "spec/replicas", "value": 5},  # without its first slash: /replicas
    ],
)
def test_a_misspelt_path_is_taken_and_changes_nothing(
    cluster: Cluster, namespace: str, web: Json, operation: Json
) -> None:
    answer = patch(cluster, namespace, operation)
    assert answer["spec"] == web["spec"]
    assert answer["metadata"]["generation"] == web["metadata"]["generation"]
    assert answer["metadata"]["resourceVersion"] == web["metadata"]["resourceVersion"]


CONTAINER = "spec.template.spec.containers[0]"


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        (
            {"path": "/spec/replicas", "value": -1},
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            {"path": LIMIT, "value": "8Mi"},
            (
                f'{CONTAINER}.resources.requests: Invalid value: "16Mi": '
                "must be less than or equal to memory limit of 8Mi"
            ),
        ),
        (
            {"path": LIMIT, "value": "-1Mi"},
            (
                f'[{CONTAINER}.resources.limits[memory]: Invalid value: "-1Mi": must be greater than or '
                f'equal to 0, {CONTAINER}.resources.requests: Invalid value: "16Mi": '
                "must be less than or equal to memory limit of -1Mi]"
            ),
        ),
        (
            {"path": "/spec/template/spec/containers/0/image", "value": ""},
            f"{CONTAINER}.image: Required value",
        ),
        (
            {"path": "/spec/template/spec/containers", "value": []},
            "spec.template.spec.containers: Required value",
        ),
        (
            {"path": "/spec/template/spec/restartPolicy", "value": "Never"},
            'spec.template.spec.restartPolicy: Unsupported value: "Never": supported values: "Always"',
        ),
        (
            {"path": "/spec/template/spec/containers/0/imagePullPolicy", "value": "Sometimes"},
            (
                f'{CONTAINER}.imagePullPolicy: Unsupported value: "Sometimes": '
                'supported values: "Always", "IfNotPresent", "Never"'
            ),
        ),
        (
            {"path": "/spec/template/metadata/labels", "value": {"app": "other"}},
            (
                'spec.template.metadata.labels: Invalid value: {"app":"other"}: '
                "`selector` does not match template `labels`"
            ),
        ),
        (
            {
                "op": "add",
                "path": "/spec/template/spec/containers/-",
                "value": {"name": "web", "image": "x:1"},
            },
            'spec.template.spec.containers[1].name: Duplicate value: "web"',
        ),
        (
            {"op": "add", "path": "/metadata/labels/x y", "value": "1"},
            (
                'metadata.labels: Invalid value: "x y": name part must consist of alphanumeric characters, '
                "'-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or "
                "'my.name',  or '123-abc', regex used for validation is "
                "'([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
            ),
        ),
        (
            {"op": "add", "path": "/metadata/labels/x", "value": "a b"},
            (
                'metadata.labels: Invalid value: "a b": a valid label must be an empty string or consist of '
                "alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric "
                "character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is "
                "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ),
        ),
    ],
)
def test_a_change_that_is_refused_says_why(
    cluster: Cluster, namespace: str, web: Json, operation: Json, sentence: str
) -> None:
    with refused(422, "Invalid") as caught:
        patch(cluster, namespace, {"op": "replace"} | operation)
    assert caught.value.message == f'Deployment.apps "web" is invalid: {sentence}'


@pytest.mark.parametrize(
    ("operation", "sentence"),
    [
        (
            {"path": "/spec/replicas", "value": "two"},
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"path": "/spec/replicas", "value": 1.5},
            (
                "json: cannot unmarshal number 1.5 into Go struct field "
                "DeploymentSpec.spec.replicas of type int32"
            ),
        ),
        ({"path": LIMIT, "value": "much"}, "quantities must match the regular expression"),
        ({"path": "/metadata/annotations/a", "value": 1}, "cannot unmarshal"),
        ({"path": "/metadata/labels/a", "value": 1}, "cannot unmarshal"),
        ({"path": "/kind", "value": "Pod"}, ""),
    ],
)
def test_a_change_that_cannot_be_read_names_no_object(
    cluster: Cluster, namespace: str, web: Json, operation: Json, sentence: str
) -> None:
    with refused(422, "Invalid") as caught:
        patch(cluster, namespace, {"op": "add"} | operation)
    assert caught.value.message.startswith(' "" is invalid: patch: Invalid value: "{')
    assert sentence in caught.value.message


@pytest.mark.parametrize("path", ["/metadata/name", "/metadata/namespace"])
def test_nothing_is_renamed(cluster: Cluster, namespace: str, web: Json, path: str) -> None:
    with refused(400, "BadRequest"):
        patch(cluster, namespace, {"op": "replace", "path": path, "value": "other"})


def test_the_servers_own_fields_cannot_be_set(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(
        cluster,
        namespace,
        {"op": "replace", "path": "/metadata/generation", "value": 77},
        {"op": "replace", "path": "/metadata/creationTimestamp", "value": "2020-01-01T00:00:00Z"},
    )
    for key in ("generation", "creationTimestamp", "resourceVersion"):
        assert answer["metadata"][key] == web["metadata"][key]


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


def test_a_conflict_says_what_to_do(cluster: Cluster, namespace: str, web: Json) -> None:
    with refused(409, "Conflict") as caught:
        merge(cluster, namespace, {"metadata": {"resourceVersion": "1", "labels": {"a": "b"}}})
    assert caught.value.message == (
        'Operation cannot be fulfilled on deployments.apps "web": the object has been modified; '
        "please apply your changes to the latest version and try again"
    )


def test_the_selectors_refusal_shows_the_new_one(cluster: Cluster, namespace: str, web: Json) -> None:
    labels = {"app": "web", "more": "x"}
    change = {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}}}
    with refused(422, "Invalid") as caught:
        merge(cluster, namespace, {"spec": change})
    assert caught.value.message == (
        'Deployment.apps "web" is invalid: spec.selector: Invalid value: '
        '{"matchLabels":{"app":"web","more":"x"}}: field is immutable'
    )


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


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("65536Ki", "64Mi"),
        ("0.5Gi", "512Mi"),
        ("1024Mi", "1Gi"),
        (5000000000, "5G"),
        ("100000.5k", "100000500"),
        ("1536Mi", "1536Mi"),
        ("100M", "100M"),
        ("64Mi", "64Mi"),
    ],
)
def test_a_quantity_is_stored_in_its_shortest_form(
    cluster: Cluster, namespace: str, web: Json, written: str | int, stored: str
) -> None:
    operation = {"op": "replace", "path": LIMIT, "value": written}
    container = patch(cluster, namespace, operation)["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["limits"]["memory"] == stored
    # So an undo has to test for this text, not for what was written.
    patch(cluster, namespace, {"op": "test", "path": LIMIT, "value": stored}, dry_run=True)


# Quotas


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


def condition(obj: Json, kind: str) -> Json | None:
    found = obj.get("status", {}).get("conditions") or ()
    return next((one for one in found if one["type"] == kind), None)


def test_a_quota_allows_nothing_below_zero(cluster: Cluster, namespace: str) -> None:
    with refused(422, "Invalid") as caught:
        cluster.create("ResourceQuota", quota(namespace, "q", pods="-1"))
    assert caught.value.message == (
        'ResourceQuota "q" is invalid: spec.hard[pods]: Invalid value: "-1": '
        "must be greater than or equal to 0"
    )


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


def test_a_change_of_the_template_counts(cluster: Cluster, namespace: str, web: Json) -> None:
    change = {"spec": {"template": {"metadata": {"annotations": {"a": "b"}}}}}
    assert merge(cluster, namespace, change)["metadata"]["generation"] == web["metadata"]["generation"] + 1


def test_a_dry_patch_tells_the_generation_that_would_be(cluster: Cluster, namespace: str, web: Json) -> None:
    answer = patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "64Mi"}, dry_run=True)
    assert answer["metadata"]["generation"] == web["metadata"]["generation"] + 1
    assert answer["metadata"]["resourceVersion"] == web["metadata"]["resourceVersion"]


def test_an_annotation_on_a_replica_set_does_not_count(cluster: Cluster, namespace: str, web: Json) -> None:
    [one] = cluster.list("ReplicaSet", namespace)
    change = {"metadata": {"annotations": {"a": "b"}}}
    answer = cluster.merge_patch("ReplicaSet", namespace, one["metadata"]["name"], change)
    assert answer["metadata"]["generation"] == one["metadata"]["generation"] == 1


def test_its_controller_says_which_generation_it_has_seen(
    cluster: Cluster, namespace: str, web: Json
) -> None:
    merge(cluster, namespace, {"metadata": {"annotations": {"a": "b"}}})
    again = until(lambda: at_rest(cluster, namespace), "the controller to see the new generation")
    assert again["status"]["observedGeneration"] == again["metadata"]["generation"] == 2
    [one] = cluster.list("ReplicaSet", namespace)
    assert "a" in until(
        lambda: (m := cluster.list("ReplicaSet", namespace)[0]["metadata"]["annotations"]).get("a") and m,
        "the controller to copy the annotation",
    )
    assert one["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"


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


def test_a_running_pod_gets_its_time_to_end(cluster: Cluster, namespace: str) -> None:
    body = pod(namespace, "one")
    body["spec"]["terminationGracePeriodSeconds"] = 3
    cluster.create("Pod", body)
    until(lambda: state_of(read(cluster, "Pod", namespace, "one")).get("running"), "the pod to run")
    before = read(cluster, "Pod", namespace, "one")["metadata"]
    start = cluster.listing("Pod", namespace).resource_version
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


# Pods and what becomes of them


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


OOM_ENDS = {(137, "OOMKilled"), (137, "Error")}
"""containerd 1.6 hears of the kill beside the exit: now and then the exit is told first, as an Error
(measured under load); the next kill then mostly says what it was."""


def test_a_pods_spec_stays_as_it_is_but_for_its_images(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", pod(namespace, "one"))
    path = "/spec/containers/0"
    more = {"op": "add", "path": f"{path}/resources", "value": {"limits": {"memory": "1Gi"}}}
    with refused(422, "Invalid") as caught:
        cluster.json_patch("Pod", namespace, "one", [more])
    assert caught.value.message.startswith(
        'Pod "one" is invalid: spec: Forbidden: pod updates may not change fields other than '
        "`spec.containers[*].image`,`spec.initContainers[*].image`"
    )
    image = {"op": "replace", "path": f"{path}/image", "value": "localhost/busybox:2"}
    changed = cluster.json_patch("Pod", namespace, "one", [image], dry_run=True)
    assert changed["spec"]["containers"][0]["image"] == "localhost/busybox:2"
    assert changed["metadata"]["generation"] == 2


def test_an_annotation_on_a_pod_does_not_count(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", pod(namespace, "one"))
    change = {"metadata": {"annotations": {"a": "b"}}}
    assert cluster.merge_patch("Pod", namespace, "one", change)["metadata"]["generation"] == 1


def test_a_pod_has_its_requests_from_its_limits(cluster: Cluster, namespace: str) -> None:
    made = cluster.create("Pod", pod(namespace, "one", limit="32Mi"), dry_run=True)
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"memory": "32Mi"}
    assert made["status"] == {"phase": "Pending", "qosClass": "Burstable"}


def test_a_healthy_pod_reads_so(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", pod(namespace, "one"))

    def ready() -> Json | None:
        found = read(cluster, "Pod", namespace, "one")
        return found if (condition(found, "Ready") or {}).get("status") == "True" else None

    found = until(ready, "the pod to be ready")
    assert found["status"]["phase"] == "Running"
    [status] = containers_of(found)
    assert (status["name"], status["image"]) == ("a", "localhost/busybox:1")
    assert (status["ready"], status["started"], status["restartCount"]) == (True, True, 0)
    assert (status["state"].keys(), status["lastState"]) == ({"running"}, {})
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )


@pytest.mark.timeout(150)
def test_what_takes_too_much_memory_is_killed_and_backs_off(cluster: Cluster, namespace: str) -> None:
    cluster.create("Deployment", running_deployment(namespace, command=["tail", "/dev/zero"]))

    def backs_off() -> Json | None:
        for one in cluster.list("Pod", namespace):
            for status in containers_of(one):
                waits = status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
                ended = status["lastState"].get("terminated") or {}
                if ended:
                    assert (ended["exitCode"], ended["reason"]) in OOM_ENDS
                if waits and ended.get("reason") == "OOMKilled":
                    return one
        return None

    found = until(backs_off, "an OOM kill with its back-off", 120)
    name, uid = found["metadata"]["name"], found["metadata"]["uid"]
    [status] = containers_of(found)
    last = status["lastState"]["terminated"]
    assert status["lastState"].keys() == {"terminated"}
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")
    assert last["startedAt"] <= last["finishedAt"]
    assert last.keys() == {"exitCode", "reason", "startedAt", "finishedAt", "containerID"}
    assert status["restartCount"] >= 1
    assert (status["ready"], status["started"]) == (False, False)
    assert status["state"]["waiting"]["message"] in {
        f"back-off {seconds}s restarting failed container=web pod={name}_{namespace}({uid})"
        for seconds in ("10", "20", "40", "1m20")
    }
    assert found["status"]["phase"] == "Running"
    unready = condition(found, "Ready") or {}
    assert (unready["status"], unready["reason"]) == ("False", "ContainersNotReady")
    assert unready["message"] == "containers with unready status: [web]"
    told = [e for e in cluster.list("Event", namespace) if e["reason"] == "BackOff"]
    assert {(e["type"], e["message"]) for e in told} == {
        ("Warning", f"Back-off restarting failed container web in pod {name}_{namespace}({uid})")
    }
    about = told[0]["involvedObject"]
    assert (about["kind"], about["name"], about["uid"]) == ("Pod", name, uid)
    assert about["fieldPath"] == "spec.containers{web}"
    assert told[0]["source"]["component"] == told[0]["reportingComponent"] == "kubelet"
    assert not [e for e in cluster.list("Event", namespace) if "OOM" in e["reason"] + e["message"]]


def test_an_image_that_is_nowhere_is_waited_for(cluster: Cluster, namespace: str) -> None:
    image = "registry.example.com/missing/app:1.2.3"
    cluster.create("Deployment", running_deployment(namespace, image=image))
    why = (
        f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
        f"{image}: not found"
    )
    why = f"rpc error: code = NotFound desc = {why}"
    first = waiting_for(cluster, namespace, "ErrImagePull")
    [status] = containers_of(first)
    assert status["state"] == {"waiting": {"reason": "ErrImagePull", "message": why}}
    assert (status["lastState"], status["restartCount"], status["image"]) == ({}, 0, image)
    assert first["status"]["phase"] == "Pending"
    later = waiting_for(cluster, namespace, "ImagePullBackOff")
    assert state_of(later)["waiting"]["message"] == f'Back-off pulling image "{image}": ErrImagePull: {why}'
    told = {(e["type"], e["reason"], e["message"]) for e in cluster.list("Event", namespace)}
    assert told >= {
        ("Normal", "Pulling", f'Pulling image "{image}"'),
        ("Warning", "Failed", f'Failed to pull image "{image}": {why}'),
        ("Warning", "Failed", "Error: ErrImagePull"),
        ("Normal", "BackOff", f'Back-off pulling image "{image}"'),
        ("Warning", "Failed", "Error: ImagePullBackOff"),
    }


def test_a_rollout_without_progress_says_so_in_time(cluster: Cluster, namespace: str) -> None:
    body = running_deployment(namespace, image="registry.example.com/missing/app:1.2.3")
    body["spec"]["progressDeadlineSeconds"] = 3
    cluster.create("Deployment", body)

    def late() -> Json | None:
        found = condition(read(cluster, "Deployment", namespace), "Progressing")
        return found if found and found["status"] == "False" else None

    found = until(late, "the deadline to pass")
    [one] = cluster.list("ReplicaSet", namespace)
    assert found["reason"] == "ProgressDeadlineExceeded"
    assert found["message"] == f'ReplicaSet "{one["metadata"]["name"]}" has timed out progressing.'
    deployment_ = read(cluster, "Deployment", namespace)
    available = condition(deployment_, "Available") or {}
    assert (available["status"], available["reason"]) == ("False", "MinimumReplicasUnavailable")
    assert deployment_["status"]["unavailableReplicas"] == 1
    assert "availableReplicas" not in deployment_["status"]


def test_a_rollout_and_its_way_back(cluster: Cluster, namespace: str) -> None:
    cluster.create("Deployment", running_deployment(namespace))
    first = until(lambda: done(cluster, namespace), "the first rollout")
    assert first["metadata"]["annotations"] == {REVISION: "1"}
    [old] = cluster.list("ReplicaSet", namespace)
    hash_ = old["metadata"]["labels"]["pod-template-hash"]
    assert old["metadata"]["name"] == f"web-{hash_}"
    assert old["metadata"]["annotations"] == {
        REVISION: "1",
        "deployment.kubernetes.io/desired-replicas": "1",
        "deployment.kubernetes.io/max-replicas": "2",
    }
    assert owners(old) == [("apps/v1", "Deployment", "web", first["metadata"]["uid"], True)]
    assert old["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": hash_}
    assert old["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": hash_}
    [pod_] = cluster.list("Pod", namespace)
    assert pod_["metadata"]["name"].startswith(f"web-{hash_}-")
    assert owners(pod_) == [("apps/v1", "ReplicaSet", old["metadata"]["name"], old["metadata"]["uid"], True)]
    assert first["status"] == {
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
        "availableReplicas": 1, "conditions": first["status"]["conditions"], "terminatingReplicas": 0,
    }  # fmt: skip

    patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "48Mi"})
    second = until(lambda: done(cluster, namespace), "the second rollout")
    assert second["metadata"]["annotations"] == {REVISION: "2"}
    assert sizes(cluster, namespace) == {"1": 0, "2": 1}

    patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "32Mi"})
    third = until(lambda: done(cluster, namespace), "the way back")
    assert third["metadata"]["annotations"] == {REVISION: "3"}
    assert (third["metadata"]["generation"], sizes(cluster, namespace)) == (3, {"2": 0, "3": 1})
    again = read(cluster, "ReplicaSet", namespace, old["metadata"]["name"])
    assert again["metadata"]["uid"] == old["metadata"]["uid"]
    assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
    scaled = [e["message"] for e in cluster.list("Event", namespace) if e["reason"] == "ScalingReplicaSet"]
    assert f"Scaled up replica set web-{hash_} from 0 to 1" in scaled
    assert f"Scaled down replica set web-{hash_} from 1 to 0" in scaled

    cluster.delete("Deployment", namespace, "web")
    until(lambda: not cluster.list("ReplicaSet", namespace), "the ReplicaSets to go with their owner")
    until(lambda: not cluster.list("Pod", namespace), "the pods to go with theirs")


REVISION = "deployment.kubernetes.io/revision"


def owners(obj: Json) -> list[tuple[str, str, str, str, bool]]:
    references = obj["metadata"]["ownerReferences"]
    return [(o["apiVersion"], o["kind"], o["name"], o["uid"], o["controller"]) for o in references]


def sizes(cluster: Cluster, namespace: str) -> dict[str, int]:
    """Tell how many pods each revision is to have."""
    found = cluster.list("ReplicaSet", namespace)
    return {one["metadata"]["annotations"][REVISION]: one["spec"]["replicas"] for one in found}


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


# Who may not (the sandbox knows nobody, so the real API server is asked alone)


@TESTBED
def test_who_may_not_is_rejected(tmp_path: Path) -> None:
    with _real() as admin:
        name = f"contract-{uuid.uuid4().hex[:8]}"
        admin.create("Namespace", {"metadata": {"name": name}})
        try:
            kubectl("-n", name, "create", "serviceaccount", "nobody")
            token = kubectl("-n", name, "create", "token", "nobody").stdout
            client = connect(kubeconfig=_kubeconfig_of(token, tmp_path), manager="contract")
            who = f'User "system:serviceaccount:{name}:nobody" cannot'
            with refused(403, "Forbidden") as caught:
                client.list("Pod")
            assert who in caught.value.message
            with refused(403, "Forbidden"):
                client.get("Pod", name, "p")
            with refused(403, "Forbidden"):
                client.json_patch("Deployment", name, "web", [], dry_run=True)
            with refused(403, "Forbidden"):
                next(client.watch("Event", name, "1", 1))
            client.close()
        finally:
            admin.delete("Namespace", None, name)
    stranger = connect(kubeconfig=_kubeconfig_of("not-a-token", tmp_path), manager="contract")
    with refused(401, "Unauthorized"):
        stranger.list("Pod")
    stranger.close()


def _kubeconfig_of(token: str, folder: Path) -> Path:
    config = yaml.safe_load(layout.KUBECONFIG.read_text(encoding="utf-8"))
    config["users"] = [{"name": one["name"], "user": {"token": token}} for one in config["users"]]
    path = folder / "config"
    path.write_text(json.dumps(config), encoding="utf-8")
    return path


# The product's own changes


def ref(obj: Json) -> ObjectRef:
    metadata = obj["metadata"]
    return ObjectRef(
        api_version=obj["apiVersion"], kind=obj["kind"], namespace=metadata["namespace"],
        name=metadata["name"], uid=metadata["uid"],
    )  # fmt: skip


def intent(id_: str, obj: Json, edits: tuple[Edit, ...], undoes: str | None = None) -> Intent:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    return Intent(
        id=id_, incident="c", rehearsal="r", action="a", target=ref(obj), edits=edits, undoes=undoes,
        generation=obj["metadata"]["generation"], created_at=long_ago, expires_at=long_ago,
    )  # fmt: skip


def send(cluster: Cluster, what: Intent, seen: Json, *, dry_run: bool = False) -> Json:
    """Send an intent's patch exactly as the effect does; `seen` is the object as it was looked at."""
    operations = patch_of(what, seen["metadata"].get("annotations"))
    return cluster.json_patch("Deployment", what.target.namespace, "web", operations, dry_run=dry_run)


@pytest.mark.timeout(150)
def test_more_memory_is_given_once_and_taken_back_once(cluster: Cluster, namespace: str) -> None:
    body = running_deployment(namespace, command=["tail", "/dev/zero"])
    cluster.create("Deployment", body)

    def killed() -> Json | None:
        statuses = [one for p in cluster.list("Pod", namespace) for one in containers_of(p)]
        ends = [(one["state"].get("terminated") or one["lastState"].get("terminated")) for one in statuses]
        known = any(end and end["reason"] == "OOMKilled" for end in ends)
        return read(cluster, "Deployment", namespace) if known else None

    seen = until(killed, "a container to be killed", 120)
    change = raise_memory(Live(cluster, ref(seen)), {"factor": 2, "ceiling": "4Gi"})
    assert {edit.path.partition("resources/")[2]: (edit.had, edit.gets) for edit in change.edits} == {
        "limits/memory": ("32Mi", "64Mi"),
        "requests/memory": ("16Mi", "32Mi"),
    }
    forward = intent("i-1", seen, change.edits)
    dry = send(cluster, forward, seen, dry_run=True)
    after = send(cluster, forward, seen)
    assert dry["spec"] == after["spec"]
    assert after["metadata"]["generation"] == seen["metadata"]["generation"] + 1
    assert after["metadata"]["annotations"][MARK] == "i-1"
    with refused(422, "Invalid"):
        send(cluster, forward, seen)  # a worker that stalled sends once more

    back = intent("i-2", after, reversed_edits(change.edits), undoes="i-1")
    restored = send(cluster, back, after)
    assert restored["spec"] == seen["spec"]
    assert restored["metadata"]["annotations"][MARK] == "i-2"
    with refused(422, "Invalid"):
        send(cluster, back.but(generation=restored["metadata"]["generation"]), restored)


def test_a_rollout_is_undone_to_the_revision_that_is_well(cluster: Cluster, namespace: str) -> None:
    cluster.create("Deployment", running_deployment(namespace))
    first = until(lambda: done(cluster, namespace), "the first rollout")
    image = "/spec/template/spec/containers/0/image"
    missing = "registry.example.com/missing/app:1.2.3"
    patch(cluster, namespace, {"op": "replace", "path": image, "value": missing})
    waiting_for(cluster, namespace, "ErrImagePull")
    seen = read(cluster, "Deployment", namespace)
    facts, _ = revision_facts(Live(cluster, ref(seen)))
    assert facts == {"started_with_new_revision", "previous_revision_healthy"}
    change = rollout_undo(Live(cluster, ref(seen)), {})
    assert [(edit.path, edit.had, edit.gets) for edit in change.edits] == [
        (image, missing, "localhost/busybox:1")
    ]
    after = send(cluster, intent("i-1", seen, change.edits), seen)
    assert after["spec"] == first["spec"]
    healed = until(lambda: done(cluster, namespace), "the way back")
    assert health_of(Live(cluster, ref(healed)), None).healthy
    assert healed["metadata"]["annotations"] == {REVISION: "3", MARK: "i-1"}
    assert sizes(cluster, namespace) == {"2": 0, "3": 1}
    versions = {one["metadata"]["annotations"].get(MARK) for one in cluster.list("ReplicaSet", namespace)}
    assert versions == {"i-1", None}  # its controller has copied the mark to the newest


# What containers have said


def talking(namespace: str, name: str, script: str) -> Json:
    body = pod(namespace, name)
    body["spec"]["containers"][0]["command"] = ["sh", "-c", script]
    return body


def test_a_containers_last_lines_are_read(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", talking(namespace, "one", 'echo "first line"; echo second; echo third; sleep 1000'))
    until(lambda: "running" in state_of(read(cluster, "Pod", namespace, "one")), "the pod to run")
    whole = b"first line\nsecond\nthird\n"
    until(lambda: cluster.logs(namespace, "one", "a") == whole, "the log")
    assert cluster.logs(namespace, "one", "a", tail=2) == b"second\nthird\n"
    assert cluster.logs(namespace, "one", "a", tail=2, most=4) == b"seco"


def test_what_has_no_log_says_why(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", talking(namespace, "one", "echo hello; sleep 1000"))
    until(lambda: "running" in state_of(read(cluster, "Pod", namespace, "one")), "the pod to run")
    with refused(404, "NotFound"):
        cluster.logs(namespace, "nobody", "a")
    with refused(400, "BadRequest") as caught:
        cluster.logs(namespace, "one", "b")
    assert caught.value.message == "container b is not valid for pod one"
    with refused(400, "BadRequest") as caught:
        cluster.logs(namespace, "one", "a", previous=True)
    assert caught.value.message == 'previous terminated container "a" in pod "one" not found'


def test_a_container_that_waits_has_no_log_yet(cluster: Cluster, namespace: str) -> None:
    body = pod(namespace, "one")
    body["spec"]["containers"][0]["image"] = "registry.example.com/missing/app:1"
    cluster.create("Pod", body)
    waiting_for(cluster, namespace, "ErrImagePull")
    with refused(400, "BadRequest") as caught:
        cluster.logs(namespace, "one", "a")
    assert 'container "a" in pod "one" is waiting to start: ' in caught.value.message


def test_a_config_map_can_be_read(cluster: Cluster, namespace: str) -> None:
    metadata = {"name": "settings", "namespace": namespace}
    cluster.create("ConfigMap", {"metadata": metadata, "data": {"a": "b"}})
    assert read(cluster, "ConfigMap", namespace, "settings")["data"] == {"a": "b"}
    assert cluster.get("ConfigMap", namespace, "other") is None


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


def test_an_endless_log_is_read_no_further_than_asked() -> None:
    sent: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(100 << 20))
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b"\xff\x00" * (1 << 19))
                    sent.append(1)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = connect(f"http://127.0.0.1:{server.server_port}", manager="me")
        got = client.logs("a", "p", "c", most=5000)
        client.close()
        server.shutdown()
        thread.join()
    assert got == b"\xff\x00" * 2500
    assert len(sent) < 50  # megabytes of a hundred: we hung up


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


def test_whom_a_call_is_made_as_is_said_with_every_call() -> None:
    asked: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Impersonate-User"))
            self.send_response(200)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        do_PATCH = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        client = connect(f"http://127.0.0.1:{server.server_port}", manager="me", impersonate="somebody")
        client.get("Pod", "a", "b")
        client.json_patch("Deployment", "a", "b", [])
        client.acting_as("me", "else").list("Pod")
        client.acting_as("me").list("Pod")
        client.close()
        server.shutdown()
        thread.join()
    assert asked == ["somebody", "somebody", "else", None]
