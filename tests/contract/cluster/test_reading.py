"""What is read, listed and selected."""

# ruff: noqa: ARG001 (a fixture is often asked for what it does)

import pytest

from quietpager.model.cluster import Cluster
from quietpager.model.quantity import quantity
from tests.contract.cluster.support import Json, refused

CONTRACT = "cluster"


def test_what_is_not_there_is_none(cluster: Cluster, namespace: str) -> None:
    assert cluster.get("Pod", namespace, "nobody") is None


def test_an_object_says_its_kind(cluster: Cluster, namespace: str, web: Json) -> None:
    assert (web["apiVersion"], web["kind"]) == ("apps/v1", "Deployment")


def test_listed_objects_say_their_kind_too(cluster: Cluster, namespace: str, web: Json) -> None:
    listed = cluster.list("Deployment", namespace)
    assert [(one["apiVersion"], one["kind"]) for one in listed] == [("apps/v1", "Deployment")]


def test_of_a_config_map_the_metadata_can_be_read_alone(cluster: Cluster, namespace: str) -> None:
    about = {"name": "settings", "namespace": namespace}
    cluster.create("ConfigMap", {"metadata": about, "data": {"key": "value"}})
    found = cluster.metadata("ConfigMap", namespace, "settings")
    assert found is not None
    assert found.keys() == {"kind", "metadata"}
    assert found["metadata"]["name"] == "settings"
    assert cluster.metadata("ConfigMap", namespace, "nobody") is None


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
