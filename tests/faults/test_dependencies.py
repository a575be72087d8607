"""The store or the API server fails in every way a network knows, in the middle of an incident.

Whatever fails: nothing is written to the cluster without its committed intent, nothing new to the store
while it is away; the heartbeat says which part it is; and once it is back, the work is finished. Each case
waits for what it expects; none asserts on how long anything takes.
"""

import asyncio
import json
import threading
import time
import urllib.request
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from quietpager.change.marks import MARK, pointer
from quietpager.cluster.client import ApiServer
from quietpager.incident import records
from quietpager.model.incident import WITH_PERSON, Incident, Intent, IntentState, State
from quietpager.model.store import Put, Store, StoreUnavailable
from quietpager.model.time import system_clock
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.load import load_case
from quietpager.sandbox.server import running as sandbox
from quietpager.store.audit import verify_all
from quietpager.store.opening import open_store
from tests.faults.proxy import WELL, Fault, Kind, Proxy, running, to_socket, to_tcp
from tests.flow.harness import QUICK
from tests.flow.host_bench import Bench

POLICY = QUICK.but(silence=1.5, planning=2.0, claim=20.0)
CASE = functions_folder() / "detect/crash/cases/30-oom-bounded"
PATIENCE = 90
pytestmark = pytest.mark.timeout(300)


@dataclass
class Worlds:
    """A bench whose ways to store and cluster lead through proxies, and both seen directly."""

    bench: Bench
    api: str
    store: Store
    ways: dict[str, Proxy]

    def incidents(self) -> list[Incident]:
        return [Incident.from_json(record.body) for record in self.store.scan("INCIDENT")]

    def intents(self) -> dict[str, Intent]:
        found = (Intent.from_json(record.body) for record in self.store.scan("INTENT"))
        return {intent.id: intent for intent in found}

    def writes(self) -> list[tuple[str, datetime]]:
        """What the product changed in the cluster, by the cluster's own log: intent and time."""
        with urllib.request.urlopen(f"{self.api}/sandbox/audit", timeout=10) as answer:
            log = json.load(answer)
        return [
            (mark_in(line["body"]), datetime.fromisoformat(line["time"])) for line in log
            if line["verb"] == "patch" and line["code"] == 200 and not line["dryRun"]
            and line["kind"] == "Deployment" and line["user_agent"] == "test"
        ]  # fmt: skip

    def kept(self) -> tuple[int, dict[str, int]]:
        """Count what is in the store: audit entries, and the version of every record."""
        kinds = ("INCIDENT", "INTENT", "REHEARSAL", "FINDING", "CAUSE", "SLOT", "HEARTBEAT", "TELL")
        states = {record.key: record.version for kind in kinds for record in self.store.scan(kind)}
        return sum(len(self.store.audit(chain)) for chain in self.store.audit_chains()), states

    def check_writes(self) -> None:
        """One write for one intent, each after its intent was committed."""
        intents, writes = self.intents(), self.writes()
        assert len({mark for mark, _ in writes}) == len(writes), f"an intent was written twice: {writes}"
        for mark, at in writes:
            assert mark in intents, f"a write without a committed intent: {mark}"
            assert intents[mark].created_at <= at


def mark_in(patch: list[Any]) -> str:
    for one in patch:
        if one["op"] != "test" and one["path"].endswith(pointer(MARK)):
            return str(one["value"])
        if one["op"] != "test" and one["path"] == "/metadata/annotations":
            return str(one["value"][MARK])
    return "none"


@pytest.fixture
def worlds(new_database: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Worlds]:
    """The limits that a person waits for are shortened; that they are there is what is tested."""
    monkeypatch.setattr("quietpager.store.postgres.WAIT", 2)
    monkeypatch.setattr("quietpager.store.postgres.ANSWER", 1)
    monkeypatch.setattr("quietpager.cluster.client.CONNECT_SECONDS", 0.5)
    monkeypatch.setattr("quietpager.cluster.client.READ_SECONDS", 1.0)
    monkeypatch.setitem(ApiServer._send.__kwdefaults__, "read_seconds", 1.0)  # type: ignore[arg-type]
    monkeypatch.setattr("quietpager.local.source.WATCH_SECONDS", 1)
    monkeypatch.setattr("quietpager.local.source.LONGEST_PAUSE", 1.0)
    url = new_database()
    parts = urlsplit(url)
    socket = f"{parse_qs(parts.query)['host'][0]}/.s.PGSQL.5432"
    with (
        sandbox(speed=25) as api,
        running(to_socket(socket)) as to_store,
        running(to_tcp("127.0.0.1", int(api.rpartition(":")[2]))) as to_api,
    ):
        through = f"postgresql://postgres@127.0.0.1:{to_store.port}{parts.path}?sslmode=disable"
        store = open_store(url)
        store.transact([Put(records.SWITCH, {"stopped": False, "by": "test"}, 0)])
        bench = Bench(through, f"http://127.0.0.1:{to_api.port}", POLICY)
        yield Worlds(bench, api, store, {"store": to_store, "cluster": to_api})
        store.close()


async def until(what: str, ask: Callable[[], Awaitable[bool]], seen: Callable[[], object] = str) -> None:
    end = time.monotonic() + PATIENCE
    while not await ask():
        assert time.monotonic() < end, f"{what}: not within {PATIENCE} s {seen()}"
        await asyncio.sleep(0.02)


def play(worlds: Worlds, case: Callable[[], Awaitable[None]]) -> None:
    async def within() -> None:
        await worlds.bench.start()
        try:
            await case()
        finally:
            for way in worlds.ways.values():
                await asyncio.to_thread(way.become, WELL)
            await worlds.bench.end()

    asyncio.run(within())


FAULTS = {
    Kind.LATENCY: Fault(Kind.LATENCY, seconds=0.03),
    Kind.RESET: Fault(Kind.RESET),
    Kind.HALF_OPEN: Fault(Kind.HALF_OPEN),
    Kind.BLACK_HOLE: Fault(Kind.BLACK_HOLE, after=3000),
    Kind.REFUSED: Fault(Kind.REFUSED),
}
SAYS = {
    "store": ("store", "The store does not answer: PostgreSQL"),
    "cluster": ("sweep", "The sweep gave no sign of life"),
}


@pytest.mark.parametrize(
    ("kind", "moment"),
    [
        (Kind.LATENCY, "INCIDENT"), (Kind.REFUSED, "INCIDENT"), (Kind.RESET, "INTENT"),
        pytest.param(Kind.HALF_OPEN, "INTENT", marks=pytest.mark.slow),
        pytest.param(Kind.BLACK_HOLE, "INTENT", marks=pytest.mark.slow),
    ],
)  # fmt: skip
@pytest.mark.parametrize("side", SAYS)
def test_it_fails_closed_says_so_and_finishes(worlds: Worlds, side: str, kind: Kind, moment: str) -> None:
    part, sentence = SAYS[side]
    answers: deque[object] = deque(maxlen=1)

    async def reached() -> bool:
        return bool(await asyncio.to_thread(worlds.store.scan, moment))

    async def said() -> bool:
        _, body = await worlds.bench.ask()
        answers.append(body)
        one = next(one for one in json.loads(body)["parts"] if one["part"] == part)
        return bool(one["verdict"] == "stale" and one["say"].startswith(sentence))

    async def ended() -> bool:
        found = await asyncio.to_thread(worlds.incidents)
        return bool(found) and all(one.state is State.CLOSED or one.state in WITH_PERSON for one in found)

    async def case() -> None:
        await asyncio.to_thread(load_case, worlds.api, CASE, system_clock())
        await until(f"no {moment}", reached)
        await asyncio.to_thread(worlds.ways[side].become, FAULTS[kind])
        if kind is not Kind.LATENCY:
            await until(f"nobody says that the {part} is away", said, answers.copy)
            if side == "store":
                before = await asyncio.to_thread(worlds.kept)
                await until("the store is well", said)
                await asyncio.sleep(2 * POLICY.tick)
                assert await asyncio.to_thread(worlds.kept) == before
            worlds.check_writes()
            await asyncio.to_thread(worlds.ways[side].become, WELL)
        await until("an incident is neither closed nor with a person", ended)
        worlds.check_writes()

    play(worlds, case)
    [incident] = worlds.incidents()
    written = {mark for mark, _ in worlds.writes()}
    for name, intent in worlds.intents().items():
        assert intent.state not in (IntentState.INTENT, IntentState.CLAIMED)
        if intent.state in (IntentState.APPLIED, IntentState.UNDONE):
            assert name in written
        if intent.state in (IntentState.REFUSED, IntentState.EXPIRED):
            assert name not in written
    assert incident.state is State.CLOSED or incident.state in WITH_PERSON
    assert verify_all(worlds.store) == []


@pytest.mark.parametrize("kind", [Kind.HALF_OPEN, Kind.BLACK_HOLE])
def test_a_call_on_a_connection_that_fell_silent_ends_and_is_no_success(worlds: Worlds, kind: Kind) -> None:
    """Without a limit of our own it would wait for the kernel's, two hours."""
    store, way, ended = open_store(worlds.bench.url), worlds.ways["store"], threading.Event()
    outcomes: list[object] = []
    calls: list[Callable[[], object]] = [lambda: store.get("x"), lambda: store.transact([Put("x", {}, 0)])]

    def call() -> None:
        for work in calls:
            try:
                outcomes.append(work())
            except StoreUnavailable as away:
                outcomes.append(away)
        ended.set()

    assert store.get("x") is None
    way.become(Fault(kind))
    threading.Thread(target=call, daemon=True).start()
    assert ended.wait(PATIENCE), "the call hangs"
    assert [type(one) for one in outcomes] == [StoreUnavailable, StoreUnavailable]
    assert worlds.store.get("x") is None
    way.become(WELL)
    answers_again(store)
    assert store.get("x") is None
    store.transact([Put("x", {}, 0)])
    assert worlds.store.get("x") is not None
    store.close()


def answers_again(store: Store) -> None:
    """Wait out the pause that the connection pool makes between two tries to connect."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            store.get("x")
        except StoreUnavailable:
            assert time.monotonic() < end, "the store answers, and is not asked"
            time.sleep(0.1)
        else:
            return
