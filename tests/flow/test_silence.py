"""Each part of the local host is stopped in turn: exactly that part goes stale, and once back all is well.

Nothing here asserts on how long anything takes: each step waits for the verdicts it expects.
"""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator

import psycopg
import pytest

from quietpager.incident.policy import Policy
from quietpager.runtime.pulse import PARTS
from quietpager.sandbox.server import running
from quietpager.store.embedded import Embedded
from tests.flow.host_bench import Bench

POLICY = Policy(tick=0.3, sweep=0.5, silence=2.5)
WELL = dict.fromkeys(PARTS, "ok")
PATIENCE = 60
END_ALL = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s"

pytestmark = pytest.mark.timeout(150)


async def becomes(bench: Bench, wanted: dict[str, str]) -> dict[str, str]:
    """Wait until the probe says so; gives what each part that is not well has to say."""
    end, seen = time.monotonic() + PATIENCE, set()
    while True:
        await asyncio.to_thread(bench.event)
        status, body = await bench.ask()
        answer = json.loads(body)
        verdicts = {one["part"]: one["verdict"] for one in answer["parts"]}
        seen.add(tuple(verdicts.items()))
        if verdicts == wanted:
            assert status == (200 if wanted == WELL else 503)
            return {one["part"]: one["say"] for one in answer["parts"] if one["say"]}
        assert time.monotonic() < end, f"Within {PATIENCE} s it was {seen}, never {wanted}."
        await asyncio.sleep(0.2)


@pytest.fixture
def bench(new_database: Callable[[], str]) -> Iterator[Bench]:
    with running(speed=1) as api:
        yield Bench(new_database(), api, POLICY)


def play(bench: Bench, case: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        await bench.start()
        try:
            await becomes(bench, WELL)
            await case()
        finally:
            await bench.end()

    asyncio.run(within())


@pytest.mark.parametrize("part", ["clock", "sweep"])
def test_a_job_that_ticks_no_more_is_stale_and_nothing_else_is(bench: Bench, part: str) -> None:
    async def case() -> None:
        bench.ticks[part].cancel()
        said = await becomes(bench, WELL | {part: "stale"})
        assert f"The {part} gave no sign of life for" in said[part]
        bench.tick(part, 0.3)
        await becomes(bench, WELL)

    play(bench, case)


def test_a_source_that_brings_nothing_is_stale_and_nothing_else_is(bench: Bench) -> None:
    async def case() -> None:
        bench.host.source.stop()
        said = await becomes(bench, WELL | {"source": "stale"})
        assert "apiserversource" in said["source"]

    play(bench, case)


def test_a_broker_that_stops_is_stale_and_what_it_carries_is_not_blamed(bench: Bench) -> None:
    async def case() -> None:
        await bench.host.broker.stop(grace=0)
        carried = dict.fromkeys(("clock", "sweep", "source"), "unknown")
        said = await becomes(bench, WELL | {"broker": "stale"} | carried)
        assert "see to that first" in said["clock"]
        await bench.host.broker.start()
        await becomes(bench, WELL)

    play(bench, case)


def test_a_store_that_is_away_is_stale_and_comes_back(bench: Bench, pg_server: Embedded) -> None:
    name = bench.url.rpartition("/")[2].partition("?")[0]

    def allow(yes: bool) -> None:
        with psycopg.connect(pg_server.url, autocommit=True) as at:
            at.execute(
                psycopg.sql.SQL("ALTER DATABASE {} WITH ALLOW_CONNECTIONS {}").format(
                    psycopg.sql.Identifier(name), psycopg.sql.SQL("true" if yes else "false")
                )
            )
            if not yes:
                at.execute(END_ALL, [name])

    async def case() -> None:
        await asyncio.to_thread(allow, False)
        said = await becomes(bench, dict.fromkeys(PARTS, "unknown") | {"store": "stale"})
        assert "The store does not answer: PostgreSQL" in said["store"]
        await asyncio.to_thread(allow, True)
        await becomes(bench, WELL)

    play(bench, case)
