"""The local Event source: where it goes on from, and what it does when something is away."""

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from quietpager.cluster.client import ApiServer, connect
from quietpager.local import source as module
from quietpager.local.source import EventSource
from quietpager.model.cluster import ClusterUnavailable, Kind, Rejected, WatchEvent
from quietpager.sandbox.server import running

Json = dict[str, Any]


class Followed:
    """The sandbox's Events, with short watches; `spoil` may change the version a watch begins from."""

    def __init__(self, cluster: ApiServer, spoil: Callable[[int, str], str]) -> None:
        self.cluster, self.spoil = cluster, spoil
        self.listings, self.watches = 0, list[str]()

    def listing(self, kind: Kind, namespace: str | None = None) -> str:
        self.listings += 1
        return self.cluster.listing(kind, namespace)

    def watch(
        self, kind: Kind, namespace: str | None, version: str, _seconds: int, *, bookmarks: bool = False
    ) -> Iterator[WatchEvent]:
        self.watches.append(version)
        begun = self.spoil(len(self.watches), version)
        return self.cluster.watch(kind, namespace, begun, 1, bookmarks=bookmarks)


@pytest.fixture
def cluster() -> Iterator[ApiServer]:
    with running(speed=50) as url:
        client = connect(url, manager="source")
        yield client
        client.close()


def event(cluster: ApiServer, name: str) -> None:
    cluster.create(
        "Event",
        {
            "metadata": {"name": name, "namespace": "default"}, "reason": "Test", "type": "Normal",
            "involvedObject": {"kind": "Pod", "namespace": "default", "name": "p"},
        },
    )  # fmt: skip


def until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not done():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.02)


def as_given(_number: int, version: str) -> str:
    return version


class Posted:
    """What the broker got; it refuses as often as told."""

    def __init__(self, refusals: int = 0) -> None:
        self.names, self.refusals = list[str](), refusals
        self.lock = threading.Lock()

    def __call__(self, posted: CloudEvent) -> None:
        with self.lock:
            if self.refusals:
                self.refusals -= 1
                raise OSError("the broker answered 503")
            self.names.append(str(posted.get_extension("name")))


def follow(watched: Followed, posted: Posted, said: list[str]) -> EventSource:
    followed = EventSource(watched, "here", posted, said.append)  # type: ignore[arg-type]
    followed.start()
    assert followed.started.wait(10)
    return followed


def test_after_410_it_lists_again_and_goes_on(cluster: ApiServer) -> None:
    watched = Followed(cluster, lambda number, version: "1" if number == 2 else version)
    posted, said = Posted(), list[str]()
    followed = follow(watched, posted, said)
    event(cluster, "before")
    until(lambda: posted.names == ["before"])
    until(lambda: watched.listings == 2 and len(watched.watches) >= 3)
    event(cluster, "after")
    until(lambda: "after" in posted.names)
    followed.stop()
    assert posted.names == ["before", "after"]
    assert watched.listings == 2
    assert said == [], "one 410 is nothing to talk about"


def test_a_watch_goes_on_where_the_last_bookmark_was(cluster: ApiServer) -> None:
    watched = Followed(cluster, as_given)
    followed = follow(watched, Posted(), [])
    cluster.create("Namespace", {"metadata": {"name": "moves-the-version"}})
    until(lambda: len(watched.watches) >= 2)
    followed.stop()
    assert int(watched.watches[1]) > int(watched.watches[0])
    assert watched.listings == 1


def test_what_the_broker_did_not_take_is_posted_again(
    cluster: ApiServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_PAUSE", 0.01)
    posted, said = Posted(refusals=3), list[str]()
    followed = follow(Followed(cluster, as_given), posted, said)
    event(cluster, "one")
    event(cluster, "two")
    until(lambda: posted.names == ["one", "two"])
    followed.stop()
    until(lambda: len(said) == 2)
    assert "503" in said[0]
    assert said[1] == "Events are seen again."


@pytest.mark.parametrize(
    "error", [ClusterUnavailable("away"), Rejected(403, "Forbidden", "events may not be listed")]
)
def test_it_waits_longer_each_time_and_says_so_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Away:
        def listing(self, kind: Kind, namespace: str | None = None) -> str:
            del kind, namespace
            raise error

    said, pauses = list[str](), list[float]()
    followed = EventSource(Away(), "here", Posted(), said.append)  # type: ignore[arg-type]

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) == 12:
            followed.stop()
        return False

    monkeypatch.setattr(followed._ended, "wait", wait)
    followed.start()
    followed._thread.join(10)
    assert len(pauses) == 12
    assert 0.4 <= pauses[0] <= 0.6
    assert pauses[4] > 4 * pauses[0]
    assert max(pauses) <= 1.2 * module.LONGEST_PAUSE
    assert len(said) == 1
    assert str(error) in said[0]
