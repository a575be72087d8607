"""Lists in pages: as the API server gives them, and as the client reads them."""

# ruff: noqa: ARG001 (a fixture is often asked for what it does)

import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from quietpager.cluster import pages as paging
from quietpager.cluster.client import ApiServer, connect
from quietpager.model.cluster import Cluster, ClusterUnavailable
from quietpager.sandbox.server import running
from tests.contract.cluster.support import Json, quota, refused

CONTRACT = "cluster"


@pytest.fixture
def seven(cluster: Cluster, namespace: str) -> list[str]:
    names = [f"q{number}" for number in range(7)]
    for name in names:
        cluster.create("ResourceQuota", quota(namespace, name, pods="1"))
    return names


def ask(cluster: Cluster, namespace: str, **query: str) -> tuple[int, Json]:
    """Send one list call as it is written; gives code and body."""
    assert isinstance(cluster, ApiServer)
    answer = cluster._page(f"/api/v1/namespaces/{namespace}/resourcequotas", query, 1 << 20)
    assert answer.body is not None
    body: Json = json.loads(answer.body)
    return answer.status, body


def names_of(page: Json) -> list[str]:
    return [one["metadata"]["name"] for one in page["items"]]


def test_pages_follow_each_other_and_show_the_state_of_the_first(
    cluster: Cluster, namespace: str, seven: list[str]
) -> None:
    _, first = ask(cluster, namespace, limit="3")
    assert names_of(first) == seven[:3]
    assert first["metadata"]["remainingItemCount"] == 4
    cluster.create("ResourceQuota", quota(namespace, "q5a", pods="1"))
    cluster.delete("ResourceQuota", namespace, "q6")
    _, second = ask(cluster, namespace, limit="3", **{"continue": first["metadata"]["continue"]})
    _, third = ask(cluster, namespace, limit="3", **{"continue": second["metadata"]["continue"]})
    assert names_of(second) + names_of(third) == seven[3:]
    assert "continue" not in third["metadata"]
    versions = {page["metadata"]["resourceVersion"] for page in (first, second, third)}
    assert len(versions) == 1


def test_a_page_is_filled_with_what_is_selected(cluster: Cluster, namespace: str, seven: list[str]) -> None:
    _, page = ask(cluster, namespace, limit="1", fieldSelector="metadata.name=q4")
    assert names_of(page) == ["q4"]
    assert "remainingItemCount" not in page["metadata"]


def test_no_limit_is_no_page(cluster: Cluster, namespace: str, seven: list[str]) -> None:
    for limit in ("0", "100"):
        _, page = ask(cluster, namespace, limit=limit)
        assert names_of(page) == seven
        assert "continue" not in page["metadata"]


@pytest.mark.parametrize("query", [{"continue": "nonsense"}, {"limit": "x"}])
def test_what_is_no_page_is_refused(cluster: Cluster, namespace: str, query: dict[str, str]) -> None:
    assert ask(cluster, namespace, **query)[0] == 400


@pytest.mark.parametrize("limit", [1, 2, 3, 6, 7, 8])
def test_the_client_reads_every_page(
    cluster: Cluster, namespace: str, seven: list[str], limit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paging, "FIRST_LIMIT", limit)
    for found in (cluster.list("ResourceQuota", namespace), cluster.each("ResourceQuota", namespace)):
        every = [*found]
        assert [one["metadata"]["name"] for one in every] == seven
        assert {(one["apiVersion"], one["kind"]) for one in every} == {("v1", "ResourceQuota")}


def test_only_what_carries_the_labels_is_read(cluster: Cluster, namespace: str, seven: list[str]) -> None:
    marked = quota(namespace, "marked", pods="1")
    marked["metadata"]["labels"] = {"app": "web", "tier": "a"}
    cluster.create("ResourceQuota", marked)
    found = [*cluster.each("ResourceQuota", namespace, {"app": "web", "tier": "a"})]
    assert [one["metadata"]["name"] for one in found] == ["marked"]
    assert [*cluster.each("ResourceQuota", namespace, {"app": "web", "tier": "b"})] == []


def test_a_list_gives_the_version_that_a_watch_goes_on_from(
    cluster: Cluster, namespace: str, seven: list[str]
) -> None:
    _, whole = ask(cluster, namespace)
    assert int(cluster.listing("ResourceQuota", namespace)) >= int(whole["metadata"]["resourceVersion"])


def test_what_may_not_be_listed_is_refused_while_iterating(cluster: Cluster, namespace: str) -> None:
    with refused(400):
        [*cluster.each("Pod", namespace, {"a b": "c"})]


# --- the client alone, against pages that no server here would send -----------------------------------------


def test_where_the_state_is_gone_it_goes_on_in_the_state_of_now() -> None:
    """The sandbox keeps ten changes; a real API server compacts after five minutes."""
    with running(speed=50, history=10) as url:
        client = connect(url, manager="paging")
        client.create("Namespace", {"metadata": {"name": "many"}})
        for number in range(8):
            client.create("ResourceQuota", quota("many", f"q{number}", pods="1"))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(paging, "FIRST_LIMIT", 2)
            found = client.each("ResourceQuota", "many")
            names = [next(found)["metadata"]["name"], next(found)["metadata"]["name"]]
            for number in range(20):
                client.merge_patch(
                    "ResourceQuota", "many", "q7", {"metadata": {"labels": {"n": str(number)}}}
                )
            client.delete("ResourceQuota", "many", "q0")
            client.delete("ResourceQuota", "many", "q5")
            names += [one["metadata"]["name"] for one in found]
        client.close()
    assert names == ["q0", "q1", "q2", "q3", "q4", "q6", "q7"]


class Many:
    """A list of objects of some size, and what was asked of it."""

    def __init__(self, count: int, size: int) -> None:
        self.count, self.size = count, size
        self.read: list[int] = []

    def __call__(self, query: Mapping[str, str], most: int) -> paging.Answer:
        start = int(query.get("continue") or 0)
        end = min(start + int(query["limit"]), self.count)
        page: Json = {"items": [{"n": n, "x": "x" * self.size} for n in range(start, end)]}
        page["metadata"] = {"continue": str(end)} if end < self.count else {}
        body = json.dumps(page).encode()
        self.read.append(min(len(body), most))
        return paging.Answer(200, body if len(body) <= most else None)


def numbers(found: Iterator[Json]) -> list[Any]:
    return [one["n"] for page in found for one in paging.items(page, "Pod", "v1")]


@pytest.mark.parametrize(
    ("count", "size"), [(0, 0), (60, 1 << 20), (300, 100_000), (2000, 500), (9, 3 << 20)]
)
def test_no_page_is_larger_than_it_may_be(count: int, size: int) -> None:
    many = Many(count, size)
    assert numbers(paging.pages(many, {}, AssertionError)) == [*range(count)]
    assert max(many.read) <= paging.MOST_PAGE
    # What was dropped for its size, and small pages, cost no more than the list itself, twice.
    assert sum(many.read) <= 2 * count * (size + 40) + 2 * paging.MOST_PAGE


def test_one_object_larger_than_any_is_no_list() -> None:
    many = Many(1, paging.MOST_OBJECT)
    with pytest.raises(ClusterUnavailable, match="one object"):
        numbers(paging.pages(many, {}, AssertionError))


def test_of_a_pod_only_what_is_judged_is_kept() -> None:
    raw = {
        "metadata": {"name": "p", "annotations": {"a": "b"}, "managedFields": [{}], "labels": {"app": "x"}},
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "c", "env": [{"name": "A", "value": "B"}], "args": ["x"], "image": "i",
                            "resources": {"limits": {"memory": "1Mi"}}}],
            "volumes": [{"name": "v", "configMap": {"name": "m", "items": []}, "emptyDir": {}}],
        },
        "status": {"phase": "Running", "podIP": "1.2.3.4",
                   "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "X"}}, "imageID": 1}]},
    }  # fmt: skip
    assert paging.judged("Pod", raw) == {
        "metadata": {"name": "p", "labels": {"app": "x"}},
        "spec": {
            "nodeName": "n",
            "containers": [{"name": "c", "image": "i", "resources": {"limits": {"memory": "1Mi"}}}],
            "volumes": [{"name": "v", "configMap": {"name": "m"}}],
        },
        "status": {
            "phase": "Running", "containerStatuses": [{"name": "c", "state": {"waiting": {"reason": "X"}}}],
        },
    }  # fmt: skip
    assert paging.judged("Deployment", raw) is raw
