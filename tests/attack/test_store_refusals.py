"""Attack: messages that are refused fill the store; 57 permanent audit entries a second, one for each."""

import asyncio
import json
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from quietpager.errors import BadMessage, GiveUp, Retry
from quietpager.functions.ingest.dead_letter.handler import CHAIN
from quietpager.functions.ingest.dead_letter.handler import handle as dead_letter
from quietpager.incident import retention
from quietpager.incident.policy import Policy
from quietpager.incident.refusals import COUNTED, HOUR, Refusal, Refusals
from quietpager.model.message import Message
from quietpager.model.store import Store, StoreUnavailable, Write
from quietpager.rules.routing import render_routes
from quietpager.runtime.context import UNDELIVERABLE, Context, Lazy
from quietpager.runtime.edge import REFUSALS, Function
from quietpager.runtime.metrics import Exposition
from quietpager.store.audit import verify_all
from quietpager.store.delegate import Wrapped
from quietpager.store.memory import MemoryStore
from quietpager.store.postgres import PostgresStore
from tests.roles import functions_url

NOW = datetime(2026, 1, 1, 10, 30, tzinfo=UTC)
MANY = 10_000


class Edge:
    """One function's process: its edge, a clock, and a handler that refuses whatever comes."""

    def __init__(self, store: Store, counts_from: int = 1) -> None:
        self.now, self.shown = NOW, Exposition()
        lazy = Lazy(lambda: store, self.nowhere)
        lazy.refusals = Refusals(counts_from)
        self.ctx = Context("ingest-intake", lazy, Policy(), (), render_routes(()), {}, clock=lambda: self.now,
                           metrics=self.shown.metrics)  # fmt: skip
        self.function = Function(self.refusing, lambda: self.ctx)

    @staticmethod
    def nowhere() -> Any:
        raise AssertionError("nobody here may ask the cluster")

    @staticmethod
    def refusing(message: Message, _ctx: Context) -> list[Message]:
        if message.type == "give-up":
            raise GiveUp(f"{message.id} can never be handled")
        raise BadMessage(f"{message.id} is not what its type says")

    def send(self, numbers: Iterable[int]) -> set[int]:
        """Send messages of which none is like another; gives the status codes."""
        return asyncio.run(self._send(numbers))

    async def _send(self, numbers: Iterable[int]) -> set[int]:
        codes: set[int] = set()

        async def note(part: dict[str, Any]) -> None:
            if "status" in part:
                codes.add(part["status"])

        for n in numbers:
            kind = "give-up" if n % 2 else f"type-{n}"
            event = {
                "specversion": "1.0",
                "id": f"m{n}",
                "type": kind,
                "source": f"/pod-{n}",
                "data": {"n": n},
            }
            body = json.dumps(event if n % 3 else [event]).encode()

            async def receive(body: bytes = body) -> dict[str, Any]:
                return {"type": "http.request", "body": body, "more_body": False}

            headers = [(b"content-type", b"application/cloudevents+json")]
            await self.function.handle(
                {"type": "http", "method": "POST", "path": "/", "headers": headers}, receive, note
            )
        return codes


def test_ten_thousand_refused_messages_are_a_handful_of_records_and_entries() -> None:
    store = MemoryStore()
    edge = Edge(store)
    assert edge.send(range(MANY)) == {400, 422}
    entries, counts = store.audit(REFUSALS), store.scan("REFUSED")
    assert len(entries) == len(counts) == 2, "of each kind the first one, with its sentence"
    assert {entry.body["kind"] for entry in entries} == {"BadMessage", "GiveUp"}
    assert all(entry.body["sentence"] for entry in entries)
    assert MANY / 2 <= sum(record.body["count"] for record in counts) <= MANY
    refused = [line for line in edge.shown.text().decode().splitlines() if "messages_refused_total{" in line]
    assert sum(float(line.rpartition(" ")[2]) for line in refused) == MANY, "the metric counts each"
    edge.now += HOUR
    edge.send(range(4))
    totals = [entry.body for entry in store.audit(REFUSALS) if entry.kind == COUNTED]
    assert sorted(body["kind"] for body in totals) == ["BadMessage", "GiveUp"]
    assert sum(body["count"] for body in totals) == sum(record.body["count"] for record in counts)
    assert len(store.audit(REFUSALS)) == 6
    assert len(store.scan("REFUSED")) == 2
    assert verify_all(store) == []


def test_without_counting_each_refused_message_is_an_entry_for_ever() -> None:
    store = MemoryStore()
    Edge(store, counts_from=10**9).send(range(500))
    assert len(store.audit(REFUSALS)) == 500


def test_where_no_further_one_comes_the_purge_audits_the_total() -> None:
    store = MemoryStore()
    Edge(store).send([1, 1, 1, 1])
    assert [record.body["count"] for record in store.scan("REFUSED")] == [4]
    retention.purge(store, Policy(), NOW + timedelta(minutes=20))
    assert len(store.scan("REFUSED")) == 1, "its hour is not over"
    later = NOW + timedelta(hours=4)
    assert retention.purge(store, Policy(), later) == {"REFUSED": 1}
    assert store.scan("REFUSED") == []
    assert [entry.body["count"] for entry in store.audit(REFUSALS) if entry.kind == COUNTED] == [4]


def test_ten_thousand_undeliverable_messages_are_bounded_too() -> None:
    store = MemoryStore()
    ctx = Edge(store).ctx
    types = ("dev.quietpager.signal", "dev.quietpager.finding", *(f"invented-{n}" for n in range(98)))
    for n in range(MANY):
        dead_letter(Message(id=f"m{n}", type=types[n % 100], data={"n": n}), ctx)
    entries = store.audit(CHAIN)
    assert len(entries) == 3 * UNDELIVERABLE, "each known type by itself, all that are invented together"
    assert len(store.scan("REFUSED")) == 3
    assert sum(record.body["count"] for record in store.scan("REFUSED")) >= MANY / 2


def test_many_processes_count_one_hour_and_the_database_is_never_too_busy(
    new_database: Callable[[], str],
) -> None:
    store = PostgresStore(functions_url(new_database()), connections=4)
    edges = [Edge(store) for _ in range(4)]
    with ThreadPoolExecutor(4) as threads:
        codes = [one.result() for one in [threads.submit(edge.send, range(300)) for edge in edges]]
    counts = store.scan("REFUSED")
    # One that lost every race for the record is told to come again: nothing is claimed that is not so.
    assert all(some <= {400, 422, 503} for some in codes)
    assert len(counts) == 2
    assert len(store.audit(REFUSALS)) == 2
    assert sum(record.body["count"] for record in counts) <= 1200
    assert verify_all(store) == []
    store.close()


class Shaky(Wrapped):
    """A store that is away, before or after the deed, as it is told."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.how = ""

    def transact(self, writes: Iterable[Write]) -> None:
        if self.how == "before":
            raise StoreUnavailable("away")
        self._store.transact(writes)
        if self.how == "after":
            raise StoreUnavailable("the answer was lost")


moves = st.lists(
    st.tuples(
        st.integers(0, 2), st.sampled_from(["", "", "", "before", "after", "kill"]),
        st.sampled_from([0, 0, 0, 1, 90, 3700]),
    ), max_size=40,
)  # fmt: skip


@settings(deadline=None)
@given(moves)
def test_the_count_is_never_more_than_what_was_refused_and_half_of_it_at_least(
    story: list[tuple[int, str, int]],
) -> None:
    store, now = MemoryStore(), NOW
    shaky = Shaky(store)
    processes = [Refusals() for _ in range(3)]
    tried = told = 0
    whole = True
    for number, how, wait in story:
        now += timedelta(seconds=wait)
        if how == "kill":
            processes[number] = Refusals()
            whole = False
            continue
        shaky.how = how
        whole &= not how
        tried += 1
        with suppress(StoreUnavailable, Retry):
            processes[number].note(lambda: shaky, Refusal("c", "refused", "f", "k", {"n": tried}), now)
            told += 1
    audited = store.audit("c")
    totals = [int(entry.body["count"]) for entry in audited if entry.kind == COUNTED]
    hours = sum(entry.kind == "refused" for entry in audited)
    here = sum(int(record.body["count"]) for record in store.scan("REFUSED"))
    # An hour with one refusal has no total of its own: its one entry says it.
    recorded = here + sum(totals) + max(hours - len(totals) - 1, 0)
    assert recorded <= tried
    assert hours >= min(told, 1), "nobody is told that his message is refused before one was audited"
    if whole:
        assert 2 * recorded >= tried
