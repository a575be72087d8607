"""One trace id from an Event to what a person is told, through edges, local broker and due items."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from cloudevents.core.v1.event import CloudEvent

from quietpager.cluster.client import connect
from quietpager.incident.policy import Policy
from quietpager.local.broker import Answer, Broker
from quietpager.local.host import subscriber
from quietpager.local.trigger import Trigger
from quietpager.model.cluster import Cluster
from quietpager.model.incident import Autonomy
from quietpager.model.message import EVENT_ADD, INCIDENT, PING, Message
from quietpager.model.store import Due
from quietpager.model.time import system_clock
from quietpager.render import function_folders, triggers
from quietpager.runtime import loading
from quietpager.runtime.context import Context, Lazy, functions_folder, handled, make_context
from quietpager.runtime.edge import Function
from quietpager.runtime.trace import TRACE, TracedStore, new_trace, next_hop, trace_id, traced
from quietpager.runtime.wire import event_from_message
from quietpager.sandbox.load import load_case
from quietpager.sandbox.server import running
from quietpager.store.memory import MemoryMailbox, MemoryStore
from tests.flow.harness import QUICK

TAG = functions_folder() / "detect/image/cases/32-bad-tag-new-revision"


class Traffic:
    """Every function behind its edge and the local broker; remembers what was delivered to whom."""

    def __init__(self, cluster: Cluster, policy: Policy, *, drop: str = "") -> None:
        self.store, self.policy, self.cluster, self.drop = MemoryStore(), policy, cluster, drop
        self.got: list[tuple[str, CloudEvent]] = []
        folders = tuple(f for f in function_folders(functions_folder()) if not f.web)
        self.broker = Broker(
            [Trigger.from_manifest(one) for one in triggers(folders)],
            {f.name: self.listening(f.name, f.place) for f in folders},
            MemoryMailbox(),
        )

    def listening(self, name: str, place: str) -> Callable[[CloudEvent], Awaitable[Answer]]:
        handler = loading.handler(place)
        lazy = Lazy(lambda: self.store, lambda: self.cluster)
        loop = asyncio.get_running_loop()

        def post(message: Message) -> None:
            asyncio.run_coroutine_threadsafe(self.post(message), loop).result(10)

        function = Function(handler, lambda: make_context(name, lazy, policy=self.policy), post)
        deliver = subscriber(function)

        async def receive(event: CloudEvent) -> Answer:
            self.got.append((name, event))
            answer = await deliver(event)
            # The reply gets lost; what the function wrote speaks again as a due item.
            return Answer(204) if name == self.drop else answer

        return receive

    async def post(self, message: Message) -> None:
        await self.broker.post(event_from_message(message, source="/test", now=system_clock()))

    async def until_told(self, event: Message) -> None:
        await self.broker.start()
        await self.post(event)
        for tick in range(400):
            await self.post(Message(id=f"t{tick}", type=PING, attributes={"job": "clock"}))
            await asyncio.sleep(0.05)
            if any(who == "people-notify" for who, _ in self.got):
                break
        await self.broker.stop()


@pytest.fixture
def sandbox() -> Iterator[str]:
    with running(speed=25) as url:
        yield url


@pytest.mark.parametrize(
    ("given", "drop"), [("", "detect-image"), (f"00-{'7' * 32}-{'1' * 16}-01", ""), ("no trace", "")]
)
def test_one_trace_from_event_to_notification(sandbox: str, given: str, drop: str) -> None:
    cluster = connect(sandbox, manager="product")
    loaded = load_case(sandbox, Path(TAG), system_clock())
    raw = next(e for e in loaded.events() if e["reason"] == "Failed" and "pull image" in e["message"])
    attributes = {"kind": "Event"} | ({TRACE: given} if given else {})

    async def play() -> Traffic:
        traffic = Traffic(cluster, QUICK.but(autonomy=Autonomy.ANALYZE), drop=drop)
        await traffic.until_told(Message(id="e", type=EVENT_ADD, attributes=attributes, data=raw))
        return traffic

    traffic = asyncio.run(play())
    cluster.close()
    said = [(who, one.get_attributes()) for who, one in traffic.got if one.get_type() != PING]
    told = [at for who, at in said if who == "people-notify"]
    assert told
    assert told[0]["type"].startswith(INCIDENT)
    traces = {trace_id(at[TRACE]) for who, at in said if who != "ingest-intake"}
    assert len(traces) == 1
    assert None not in traces
    if trace_id(given):
        assert traces == {trace_id(given)}
    spans = {at[TRACE] for at in told} | {at[TRACE] for who, at in said if who.startswith("detect")}
    assert len(spans) > 1


def test_a_due_item_of_another_trace_keeps_it() -> None:
    store, mine, other = MemoryStore(), new_trace(), new_trace()
    now, every = system_clock(), timedelta(seconds=1)
    kept = Message(id="a", type="t", attributes={TRACE: other})
    fresh = Message(id="b", type="t")
    TracedStore(store, mine).transact(
        [Due("a", now, every, kept.to_json()), Due("b", now, every, fresh.to_json())]
    )
    found = {d.id: Message.from_json(d.message).attributes[TRACE] for d in store.due_items()}
    assert found == {"a": other, "b": mine}


def test_hops_share_the_id_and_nothing_else() -> None:
    first = new_trace()
    second = next_hop(first)
    assert trace_id(first) == trace_id(second)
    assert first != second
    for wrong in ("", "x", f"00-{'0' * 32}-{'1' * 16}-01", f"00-{'a' * 32}-{'0' * 16}-01", first + "-more"):
        assert trace_id(wrong) is None
        assert trace_id(next_hop(wrong)) is not None


def test_what_one_sweep_finds_is_not_one_trace() -> None:
    def sweep(_message: Message, _ctx: Context) -> list[Message]:
        return [Message(id=str(n), type="t") for n in range(3)]

    ctx = make_context("ingest-sweep", Lazy(MemoryStore, lambda: pytest.fail("no cluster")))
    ping = traced(Message(id="p", type=PING), new_trace())
    found = {one.attributes[TRACE] for one in handled(sweep, ping, ctx)}
    assert len(found) == 3
