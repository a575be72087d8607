"""Each part of the local host is stopped in turn: exactly that part goes stale, and once back all is well.

Nothing here asserts on how long anything takes: each step waits for the verdicts it expects.
"""

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import psycopg
import pytest

from infra.local.host import Host
from infra.sandbox.server import running
from quietpager.cluster.client import connect
from quietpager.runtime.pulse import PARTS, PATH
from quietpager.safety.policy import Policy
from quietpager.store.embedded import Embedded

POLICY = Policy(tick=0.3, sweep=0.5, silence=2.5)
WELL = dict.fromkeys(PARTS, "ok")
PATIENCE = 60
END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"

pytestmark = pytest.mark.timeout(150)


class Bench:
    """The host in this process, with each part to be stopped by itself, and a cluster where things happen."""

    def __init__(self, url: str, api: str, admin: str) -> None:
        self.url, self.admin = url, admin
        self.host = Host(url, api, POLICY)
        self.cluster = connect(api, manager="test")
        self.numbers = itertools.count()
        self.ticks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        self.host.loop = asyncio.get_running_loop()
        for function in self.host.functions.values():
            function.start({})
        await self.host.broker.start()
        self.host.source.start()
        await asyncio.to_thread(self.host.source.started.wait, 10)
        self.tick("clock", POLICY.tick)
        self.tick("sweep", POLICY.sweep)

    def tick(self, job: str, every: float) -> None:
        self.ticks[job] = asyncio.create_task(self.host.tick(job, every))

    async def end(self) -> None:
        self.host.source.stop()
        for task in self.ticks.values():
            task.cancel()
        await self.host.broker.stop(grace=0)
        for function in self.host.functions.values():
            function.stop()
        self.host.mailbox.close()
        self.host.store.close()

    def event(self) -> None:
        meta = {"name": f"e.{next(self.numbers)}", "namespace": "default"}
        involved = {"kind": "Pod", "apiVersion": "v1", "name": "web", "namespace": "default"}
        event = {"metadata": meta, "involvedObject": involved, "reason": "Pulled", "type": "Normal"}
        self.cluster.create("Event", {"apiVersion": "v1", "kind": "Event", **event})

    async def ask(self) -> tuple[int, dict[str, Any]]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(part: dict[str, Any]) -> None:
            sent.append(part)

        scope = {"type": "http", "method": "GET", "path": PATH, "headers": []}
        await self.host(scope, receive, send)
        return sent[0]["status"], json.loads(sent[1]["body"])

    async def becomes(self, wanted: dict[str, str]) -> dict[str, str]:
        """Wait until the probe says so; gives what each part that is not well has to say."""
        end, seen = time.monotonic() + PATIENCE, set()
        while True:
            await asyncio.to_thread(self.event)
            status, answer = await self.ask()
            verdicts = {one["part"]: one["verdict"] for one in answer["parts"]}
            seen.add(tuple(verdicts.items()))
            if verdicts == wanted:
                assert status == (200 if wanted == WELL else 503)
                return {one["part"]: one["say"] for one in answer["parts"] if one["say"]}
            assert time.monotonic() < end, f"Within {PATIENCE} s it was {seen}, never {wanted}."
            await asyncio.sleep(0.2)


@pytest.fixture
def bench(new_database: Callable[[], str], pg_server: Embedded) -> Iterator[Bench]:
    with running(speed=1) as api:
        yield Bench(new_database(), api, pg_server.url)


def play(bench: Bench, case: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        await bench.start()
        try:
            await bench.becomes(WELL)
            await case()
        finally:
            await bench.end()

    asyncio.run(within())


@pytest.mark.parametrize("part", ["clock", "sweep"])
def test_a_job_that_ticks_no_more_is_stale_and_nothing_else_is(bench: Bench, part: str) -> None:
    async def case() -> None:
        bench.ticks[part].cancel()
        said = await bench.becomes(WELL | {part: "stale"})
        assert f"The {part} gave no sign of life for" in said[part]
        bench.tick(part, 0.3)
        await bench.becomes(WELL)

    play(bench, case)


def test_a_source_that_brings_nothing_is_stale_and_nothing_else_is(bench: Bench) -> None:
    async def case() -> None:
        bench.host.source.stop()
        said = await bench.becomes(WELL | {"source": "stale"})
        assert "apiserversource" in said["source"]

    play(bench, case)


def test_a_broker_that_stops_is_stale_and_what_it_carries_is_not_blamed(bench: Bench) -> None:
    async def case() -> None:
        await bench.host.broker.stop(grace=0)
        carried = dict.fromkeys(("clock", "sweep", "source"), "unknown")
        said = await bench.becomes(WELL | {"broker": "stale"} | carried)
        assert "see to that first" in said["clock"]
        await bench.host.broker.start()
        await bench.becomes(WELL)

    play(bench, case)


def test_a_store_that_is_away_is_stale_and_comes_back(bench: Bench) -> None:
    name = bench.url.rpartition("/")[2].partition("?")[0]

    def allow(yes: bool) -> None:
        with psycopg.connect(bench.admin, autocommit=True) as at:
            at.execute(
                psycopg.sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(
                    psycopg.sql.Identifier(name), psycopg.sql.SQL("true" if yes else "false")
                )
            )
            if not yes:
                at.execute(END_ALL, [name])

    async def case() -> None:
        await asyncio.to_thread(allow, False)
        said = await bench.becomes(dict.fromkeys(PARTS, "unknown") | {"store": "stale"})
        assert "The store does not answer: PostgreSQL" in said["store"]
        await asyncio.to_thread(allow, True)
        await bench.becomes(WELL)

    play(bench, case)
