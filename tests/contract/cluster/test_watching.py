"""What a watch hears, and where it goes on."""

# ruff: noqa: ARG001 (a fixture is often asked for what it does)

import threading

import pytest

from quietpager.model.cluster import Cluster, ClusterUnavailable
from tests.contract.cluster.support import Json, deployment, event, patch, quota, refused

CONTRACT = "cluster"


def test_a_watch_goes_on_from_a_list(cluster: Cluster, namespace: str, web: Json) -> None:
    start = cluster.listing("Deployment", namespace)
    patch(cluster, namespace, {"op": "add", "path": "/metadata/labels/x", "value": "1"})
    cluster.create("Deployment", deployment(namespace, "other"))
    cluster.delete("Deployment", namespace, "other")
    seen = []
    for heard in cluster.watch("Deployment", namespace, start, 10):
        seen.append((heard.type, heard.object["metadata"]["name"]))
        if heard.type == "DELETED":
            break
    assert seen[:2] == [("MODIFIED", "web"), ("ADDED", "other")]
    assert seen[-1] == ("DELETED", "other")


def test_a_watch_hears_what_happens_later(cluster: Cluster, namespace: str) -> None:
    start = cluster.listing("Deployment", namespace)
    later = threading.Timer(0.2, cluster.create, ("Deployment", deployment(namespace)))
    later.start()
    event = next(iter(cluster.watch("Deployment", namespace, start, 10)))
    later.join()
    assert (event.type, event.object["metadata"]["name"]) == ("ADDED", "web")


def test_a_watch_ends_after_its_time(cluster: Cluster, namespace: str) -> None:
    start = cluster.listing("Pod", namespace)
    assert list(cluster.watch("Pod", namespace, start, 1)) == []


def test_a_watch_goes_on_where_the_last_one_ended(cluster: Cluster, namespace: str) -> None:
    start = cluster.listing("ResourceQuota", namespace)
    cluster.create("ResourceQuota", quota(namespace, "one", pods="1"))
    first = next(iter(cluster.watch("ResourceQuota", namespace, start, 10)))
    cluster.create("ResourceQuota", quota(namespace, "two", pods="1"))
    version = first.object["metadata"]["resourceVersion"]
    heard = cluster.watch("ResourceQuota", namespace, version, 10)
    added = next(event.object for event in heard if event.type == "ADDED")
    assert added["metadata"]["name"] == "two"


def test_a_watch_that_asks_for_it_hears_how_far_it_has_come(cluster: Cluster, namespace: str) -> None:
    """A real server says it about 2 s before a watch's time is over (cacher, bookmarkFrequency)."""
    version = cluster.listing("Pod", namespace)
    cluster.create("Namespace", {"metadata": {"name": f"{namespace}-more"}})
    seen = [*cluster.watch("Pod", namespace, version, 4, bookmarks=True)]
    cluster.delete("Namespace", None, f"{namespace}-more")
    assert {one.type for one in seen} == {"BOOKMARK"}
    assert int(seen[-1].object["metadata"]["resourceVersion"]) >= int(version)


def test_a_watch_that_does_not_ask_hears_changes_only(cluster: Cluster, namespace: str) -> None:
    version = cluster.listing("Pod", namespace)
    assert [*cluster.watch("Pod", namespace, version, 3)] == []


def test_a_watch_keeps_to_its_namespace(cluster: Cluster, namespace: str) -> None:
    start = cluster.listing("Event", namespace)
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
    start = cluster.listing("Event", namespace)
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
