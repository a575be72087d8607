"""The local host: what is too large, a Trigger that is not ready, a broker that is away for a moment."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cloudevents.core.v1.event import CloudEvent

from quietpager.incident.policy import Policy
from quietpager.local.host import Host
from quietpager.local.source import EventSource
from quietpager.model.cluster import WatchEvent
from quietpager.render import triggers
from quietpager.runtime.wire import LARGEST_BODY
from quietpager.sandbox.server import running
from tests.flow.host_bench import Bench

HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}


@pytest.fixture
def api() -> Iterator[str]:
    with running(speed=1) as url:
        yield url


async def post(host: Host, *chunks: bytes) -> tuple[int, bytes]:
    parts, sent = list(chunks), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": parts.pop(0), "more_body": bool(parts)}

    async def send(part: dict[str, Any]) -> None:
        sent.append(part)

    pairs = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
    await host({"type": "http", "method": "POST", "path": "/", "headers": pairs}, receive, send)
    return sent[0]["status"], sent[1]["body"]


def test_a_message_over_the_limit_is_refused_before_it_is_read_to_its_end(
    api: str, new_database: Callable[[], str]
) -> None:
    async def case() -> None:
        bench = Bench(new_database(), api, Policy())
        await bench.start()
        try:
            unread = b"x" * LARGEST_BODY
            status, said = await post(bench.host, unread, b"x", unread)
            assert (status, said) == (413, f"The body is larger than {LARGEST_BODY} bytes.".encode())
            assert (await post(bench.host, unread[:1000]))[0] == 202
        finally:
            await bench.end()

    asyncio.run(case())


def test_a_trigger_that_is_not_ready_is_told_and_the_rest_runs(
    api: str, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def with_a_bad_one(*given: Any) -> list[dict[str, Any]]:
        good = triggers(*given)
        wrong = good[0]["spec"] | {"filters": [{"cesql": "a ="}]}
        return [*good, good[0] | {"metadata": {"name": "mine"}, "spec": wrong}]

    monkeypatch.setattr("quietpager.local.host.triggers", with_a_bad_one)

    async def case() -> None:
        bench = Bench(new_database(), api, Policy())
        status, said = await bench.ask("/health/readiness")
        assert status == 503
        assert said.startswith(b"Trigger mine: filters[0].cesql cannot be read: 'a =' is no CESQL expression")
        assert (await bench.ask("/health/liveness"))[0] == 200
        bench.host.mailbox.close()
        bench.host.store.close()

    asyncio.run(case())


class OneEvent:
    """A cluster in which one thing happened; a watch from before it tells, one from after it waits."""

    def listing(self, _kind: str) -> str:
        return "1"

    def watch(
        self, _kind: str, _namespace: str | None, version: str, *_: Any, **__: Any
    ) -> Iterator[WatchEvent]:
        if version == "1":
            yield WatchEvent(
                "ADDED", {"metadata": {"name": "e", "namespace": "shop", "resourceVersion": "2"}}
            )
        time.sleep(0.01)


def test_the_source_outlives_a_broker_that_is_away_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quietpager.local.source.FIRST_PAUSE", 0.001)
    answers, through = [OSError("503")] * 8, threading.Event()
    taken: list[str] = []

    def take(event: CloudEvent) -> None:
        if answers:
            raise answers.pop()
        taken.append(event.get_id())
        through.set()

    source = EventSource(OneEvent(), "test", take)  # type: ignore[arg-type]
    source.start()
    assert through.wait(20)
    source.stop()
    assert len(taken) == 1


def test_a_broker_with_much_to_do_lets_the_source_wait_and_nobody_else(
    api: str, new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a flood of Events would be held in memory, one task each, before what was decided."""
    monkeypatch.setattr("quietpager.local.host.MOST_UNDER_WAY", 3)
    monkeypatch.setattr("quietpager.local.source.LONGEST_PAUSE", 0.2)
    held, most = asyncio.Event(), 0

    async def case() -> None:
        nonlocal most
        bench = Bench(new_database(), api, Policy())
        intake = bench.host.broker._subscribers["ingest-intake"]
        taken: list[str] = []

        async def slow(event: CloudEvent) -> Any:
            await held.wait()
            taken.append(event.get_type())
            return await intake(event)

        known = {"ingest-intake": slow}
        bench.host.broker._subscribers = dict(bench.host.broker._subscribers) | known
        await bench.start()
        for task in bench.ticks.values():
            task.cancel()
        try:
            for _ in range(12):
                await asyncio.to_thread(bench.event)
            while bench.host.source._failures < 2:
                most = max(most, bench.host.broker.under_way)
                await asyncio.sleep(0.01)
            assert (await post(bench.host, b"{}"))[0] == 202
            held.set()
            while len([one for one in taken if one.startswith("dev.knative.apiserver")]) < 12:  # noqa: ASYNC110 (it only looks)
                await asyncio.sleep(0.01)
        finally:
            held.set()
            await bench.end()

    asyncio.run(case())
    assert most <= 3 + 4, "the source did not wait"  # ticks and canaries are let through
