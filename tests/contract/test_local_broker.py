"""What only the local broker promises: its mailbox, its concurrency, pings, counters, and what it refuses.

What it shares with Knative is in test_broker.py.
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self

import pytest
from cloudevents.core.v1.event import CloudEvent

from quietpager.local.broker import Answer, Broker
from quietpager.local.filters import EVERYTHING, Every, Exact
from quietpager.local.trigger import InvalidTrigger, Trigger, read_triggers
from quietpager.model.store import StoreUnavailable
from quietpager.store.mailbox import Delivery, Mailbox
from quietpager.store.memory import MemoryMailbox

Say = Callable[[CloudEvent, int], Awaitable[Answer]]


@dataclass
class Bench:
    """A broker with subscribers that answer as told and remember what they got."""

    triggers: list[Trigger]
    says: Mapping[str, Say] = field(default_factory=dict)
    mailbox: Mailbox = field(default_factory=MemoryMailbox)
    got: dict[str, list[CloudEvent]] = field(default_factory=lambda: defaultdict(list))
    waited: list[float] = field(default_factory=list)
    concurrency: int = 16

    async def __aenter__(self) -> Self:
        async def sleep(seconds: float) -> None:
            self.waited.append(seconds)
            await asyncio.sleep(0)

        def subscriber(name: str) -> Callable[[CloudEvent], Awaitable[Answer]]:
            async def receive(event: CloudEvent) -> Answer:
                self.got[name].append(event)
                say = self.says.get(name)
                return Answer(204) if say is None else await say(event, len(self.got[name]))

            return receive

        names = {name for t in self.triggers for name in (t.subscriber, t.dead_letter) if name}
        self.broker = Broker(
            self.triggers,
            {name: subscriber(name) for name in names},
            self.mailbox,
            clock=lambda: datetime(2026, 11, 25, 10, tzinfo=UTC),
            sleep=sleep,
            concurrency=self.concurrency,
        )
        await self.broker.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.broker.stop()

    async def send(self, *events: CloudEvent) -> list[int]:
        statuses = [await self.broker.post(one) for one in events]
        await self.broker.idle()
        return statuses

    def ids(self, name: str) -> list[str]:
        return [one.get_id() for one in self.got[name]]


def event(name: str = "1", **attributes: str) -> CloudEvent:
    core = {"id": name, "source": "/test", "type": "t", "datacontenttype": "application/json"}
    return CloudEvent({**core, **attributes}, {"n": name})


def always(*answers: Answer | Exception) -> Say:
    """Answer in turn, the last one for ever."""

    async def say(_: CloudEvent, turn: int) -> Answer:
        answer = answers[min(turn, len(answers)) - 1]
        if isinstance(answer, Exception):
            raise answer
        return answer

    return say


def run(case: Awaitable[None]) -> None:
    async def within() -> None:
        await case

    asyncio.run(within())


def test_an_event_arrives_as_it_was_sent() -> None:
    async def case() -> None:
        async with Bench([Trigger("t", "s")]) as bench:
            sent = [
                CloudEvent({"id": "1", "source": "/s", "type": "t", "subject": "ä"}, b"\x00\xff"),
                CloudEvent(
                    {"id": "2", "source": "/s", "type": "t", "datacontenttype": "text/plain"},
                    "täxt",
                ),
                CloudEvent({"id": "3", "source": "/s", "type": "t", "n": 5}, {"deep": [1, {"x": "\x00"}]}),
                CloudEvent({"id": "4", "source": "/s", "type": "t"}, None),
            ]
            await bench.send(*sent)
            for was, got in zip(sent, bench.got["s"], strict=True):
                assert got.get_data() == was.get_data()
                assert got.get_attributes() == {
                    name: str(value) if isinstance(value, int) else value
                    for name, value in (
                        was.get_attributes() | {"knativearrivaltime": "2026-11-25T10:00:00Z"}
                    ).items()
                }

    run(case())


@pytest.mark.parametrize(
    ("policy", "waited"), [("exponential", [0.5, 1.0, 2.0, 4.0]), ("linear", [0.0, 0.5, 1.0, 1.5])]
)
def test_retries_are_counted_and_back_off(policy: str, waited: list[float]) -> None:
    async def case() -> None:
        trigger = Trigger("t", "s", retry=4, policy=policy, delay=0.5, dead_letter="d")
        async with Bench([trigger], {"s": always(Answer(503, {}, b"x" * 5000))}) as bench:
            await bench.send(event())
            assert len(bench.got["s"]) == 5
            assert bench.waited == waited
            assert bench.got["d"][0].get_extension("knativeerrorcode") == "503"
            assert len(bench.got["d"][0].get_extension("knativeerrordata")) == 1024

    run(case())


def test_a_slow_answer_is_a_failure() -> None:
    async def case() -> None:
        async def slow(_: CloudEvent, turn: int) -> Answer:
            if turn < 3:
                await asyncio.sleep(60)
            return Answer(204)

        async with Bench([Trigger("t", "s", retry=5, timeout=0.01)], {"s": slow}) as bench:
            await bench.send(event())
            assert len(bench.got["s"]) == 3

    run(case())


def test_what_is_no_event_is_400() -> None:
    async def case() -> None:
        async with Bench([Trigger("t", "s")]) as bench:
            assert await bench.broker.post([event()]) == 400
            broken = event()
            broken.get_attributes()["source"] = ""
            assert await bench.broker.post(broken) == 400
            assert bench.ids("s") == []

    run(case())


def test_a_timer_of_the_subscriber_itself_is_no_answer() -> None:
    async def case() -> None:
        says = {"s": always(TimeoutError("the store took too long"))}
        async with Bench([Trigger("t", "s", retry=1, timeout=30, dead_letter="d")], says) as bench:
            await bench.send(event())
            assert len(bench.got["s"]) == 2
            assert bench.got["d"][0].get_extension("knativeerrorcode") == "500"

    run(case())


def test_a_dead_letter_that_fails_is_dropped() -> None:
    async def case() -> None:
        says = {"s": always(Answer(400)), "d": always(Answer(503))}
        async with Bench([Trigger("t", "s", retry=2, dead_letter="d")], says) as bench:
            await bench.send(event())
            assert (len(bench.got["s"]), len(bench.got["d"])) == (1, 3)
            assert bench.broker.counters.dropped == 1
            assert bench.mailbox.pending() == []

    run(case())


def test_no_dead_letter_means_lost() -> None:
    async def case() -> None:
        async with Bench([Trigger("t", "s", retry=1)], {"s": always(Answer(500))}) as bench:
            assert await bench.send(event()) == [202]
            assert bench.broker.counters.dropped == 1

    run(case())


def test_the_loop_guard_ends_a_circle() -> None:
    async def case() -> None:
        async def echo(got: CloudEvent, turn: int) -> Answer:
            assert got.get_extension("knativebrokerttl") is None
            again = {"specversion": "1.0", "id": str(turn), "source": "/r", "type": "t"}
            return Answer(200, {"content-type": "application/cloudevents+json"}, json.dumps(again).encode())

        async with Bench([Trigger("t", "s", Exact({"type": "t"}))], {"s": echo}) as bench:
            await bench.send(event())
            assert len(bench.got["s"]) == 255
            assert bench.broker.counters.dropped == 1

    run(case())


def test_a_slow_trigger_does_not_hold_up_the_others() -> None:
    async def case() -> None:
        go = asyncio.Event()

        async def slow(_: CloudEvent, turn: int) -> Answer:  # noqa: ARG001 (as every subscriber)
            await go.wait()
            return Answer(204)

        async with Bench([Trigger("a", "slow"), Trigger("b", "quick")], {"slow": slow}) as bench:
            for n in range(3):
                assert await bench.broker.post(event(str(n))) == 202
            while len(bench.got["quick"]) < 3:  # noqa: ASYNC110 (subscribers have no event for it)
                await asyncio.sleep(0)
            assert len(bench.mailbox.pending()) >= 3
            go.set()
            await bench.broker.idle()
            assert bench.mailbox.pending() == []

    run(case())


def test_no_more_than_so_many_deliveries_at_a_time() -> None:
    async def case() -> None:
        now, most = 0, 0

        async def count(_: CloudEvent, turn: int) -> Answer:  # noqa: ARG001 (as every subscriber)
            nonlocal now, most
            now += 1
            most = max(most, now)
            await asyncio.sleep(0)
            now -= 1
            return Answer(204)

        async with Bench([Trigger("t", "s")], {"s": count}, concurrency=3) as bench:
            await asyncio.gather(*(bench.broker.post(event(str(n))) for n in range(50)))
            await bench.broker.idle()
            assert len(set(bench.ids("s"))) == 50
            assert most == 3

    run(case())


def test_pings_are_not_stored_and_do_not_pile_up() -> None:
    async def case() -> None:
        go = asyncio.Event()

        async def slow(_: CloudEvent, turn: int) -> Answer:  # noqa: ARG001 (as every subscriber)
            await go.wait()
            return Answer(204)

        ping = "dev.knative.sources.ping"
        triggers = [
            Trigger("sweep", "sweep", Exact({"job": "sweep"})),
            Trigger("clock", "clock", Exact({"job": "clock"})),
        ]
        async with Bench(triggers, {"sweep": slow}) as bench:
            for n in range(4):
                assert await bench.broker.post(event(f"s{n}", type=ping, job="sweep")) == 202
                assert await bench.broker.post(event(f"c{n}", type=ping, job="clock")) == 202
                await asyncio.sleep(0.01)
            assert bench.mailbox.pending() == []
            assert bench.ids("clock") == ["c0", "c1", "c2", "c3"]
            go.set()
            await bench.broker.idle()
            assert bench.ids("sweep") == ["s0"]
            assert bench.broker.counters.pings_skipped == 3
            await bench.send(event("s9", type=ping, job="sweep"))
            assert bench.ids("sweep") == ["s0", "s9"]

    run(case())


class Fragile(MemoryMailbox):
    """A mailbox that can be away."""

    away = 0

    def _ask(self) -> None:
        if self.away:
            self.away -= 1
            raise StoreUnavailable("away")

    def accept(self, deliveries: Iterable[Delivery]) -> None:
        self._ask()
        super().accept(list(deliveries))

    def complete(self, delivery_id: str, follow_ups: Iterable[Delivery]) -> None:
        self._ask()
        super().complete(delivery_id, list(follow_ups))


def test_a_mailbox_that_is_away_is_503() -> None:
    async def case() -> None:
        mailbox = Fragile()
        async with Bench([Trigger("t", "s")], mailbox=mailbox) as bench:
            mailbox.away = 1
            assert await bench.send(event("1"), event("2")) == [503, 202]
            assert bench.ids("s") == ["2"]
            assert await bench.broker.post(event("3", type="nobody")) == 202
        assert await bench.broker.post(event("4")) == 503

    run(case())


def test_a_completion_waits_for_the_mailbox() -> None:
    async def case() -> None:
        mailbox = Fragile()

        async def then_away(_: CloudEvent, turn: int) -> Answer:  # noqa: ARG001 (as every subscriber)
            mailbox.away = 2
            return Answer(204)

        async with Bench([Trigger("t", "s")], {"s": then_away}, mailbox=mailbox) as bench:
            await bench.send(event("1"))
            assert bench.ids("s") == ["1"]
            assert mailbox.pending() == []

    run(case())


def test_what_was_left_is_delivered_at_the_next_start() -> None:
    async def case() -> None:
        mailbox = MemoryMailbox()

        async def never(_: CloudEvent, turn: int) -> Answer:  # noqa: ARG001 (as every subscriber)
            await asyncio.Event().wait()
            return Answer(204)

        triggers = [Trigger("t", "s", dead_letter="d")]
        bench = Bench(triggers, {"s": never}, mailbox)
        async with bench:
            await bench.broker.post(event("1"))
            await bench.broker.post(event("2"))
            await bench.broker.stop(grace=0)
        dead = {"id": "3", "source": "/s", "type": "t", "specversion": "1.0"}
        mailbox.accept([Delivery("x", "t#dead-letter", dead), Delivery("y", "gone", dead)])
        async with Bench(triggers, mailbox=mailbox) as again:
            await again.broker.idle()
            assert sorted(again.ids("s")) == ["1", "2"]
            assert again.ids("d") == ["3"]
            assert again.broker.counters.dropped == 1
            assert mailbox.pending() == []

    run(case())


def test_a_caller_that_hangs_up_does_not_lose_what_was_kept() -> None:
    async def case() -> None:
        async with Bench([Trigger("t", "s")]) as bench:
            post = asyncio.create_task(bench.broker.post(event("1")))
            await asyncio.sleep(0)
            post.cancel()
            await asyncio.gather(post, return_exceptions=True)
            await bench.send(event("2"))
            assert sorted(bench.ids("s")) == ["1", "2"]

    run(case())


MANIFEST: dict[str, Any] = {
    "apiVersion": "eventing.knative.dev/v1",
    "kind": "Trigger",
    "metadata": {"name": "detect-crash"},
    "spec": {
        "broker": "default",
        "filters": [{"exact": {"type": "dev.quietpager.signal"}}, {"exact": {"family": "crash"}}],
        "subscriber": {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "crash"}},
        "delivery": {
            "retry": 4,
            "backoffPolicy": "exponential",
            "backoffDelay": "PT0.5S",
            "timeout": "PT1M30S",
            "deadLetterSink": {"ref": {"name": "dead-letter"}},
        },
    },
}


def manifest(**spec: Any) -> dict[str, Any]:
    return MANIFEST | {"spec": MANIFEST["spec"] | spec}


def test_a_manifest_is_read() -> None:
    assert Trigger.from_manifest(MANIFEST) == Trigger(
        "detect-crash",
        "crash",
        Every((Exact({"type": "dev.quietpager.signal"}), Exact({"family": "crash"}))),
        retry=4,
        policy="exponential",
        delay=0.5,
        timeout=90.0,
        dead_letter="dead-letter",
    )
    legacy = Trigger.from_manifest(manifest(filters=[], filter={"attributes": {"type": "t", "kind": ""}}))
    assert legacy.filter == Exact({"type": "t", "kind": ""})
    bare = Trigger.from_manifest(manifest(filters=None, delivery=None, subscriber={"uri": "http://x"}))
    assert bare == Trigger("detect-crash", "http://x", EVERYTHING, retry=10, policy="exponential", delay=0.2)
    inherited = {"retry": 3, "deadLetterSink": {"uri": "http://d"}}
    heir = Trigger.from_manifest(manifest(delivery=None), inherited=inherited)
    assert (heir.retry, heir.delay, heir.dead_letter) == (3, 0, "http://d")
    only_retry = Trigger.from_manifest(manifest(delivery={"retry": 2}))
    assert (only_retry.retry, only_retry.pause(0), only_retry.pause(5)) == (2, 0, 0)


def nested(levels: int) -> dict[str, Any]:
    inner: dict[str, Any] = {"exact": {"type": "t"}}
    for _ in range(levels):
        inner = {"not": inner}
    return inner


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        (manifest(filters=[{"regex": {"type": "dev."}}]), "regex"),
        (manifest(filters=[{"prefix": {"type": ""}}]), "empty"),
        (manifest(filters=[{"suffix": {"No-Name": "x"}}]), "No-Name"),
        (manifest(filters=[{"all": []}]), "at least one"),
        (manifest(filters=[{"any": {"exact": {"type": "t"}}}]), "list"),
        (manifest(filters=[{"not": [{"exact": {"type": "t"}}]}]), "one dialect"),
        (manifest(filters=[{"cesql": "type = "}]), "column"),
        (manifest(filters=[{"cesql": "FOO(type) = 'x'"}]), "FOO"),
        (manifest(filters=[nested(40)]), "nested deeper"),
        (manifest(filters=[{"exact": {"type": "t"}, "suffix": {"type": "t"}}]), "suffix"),
        (manifest(filters=[{"exact": {"type": "t"}}, {"exact": {"type": "u"}}]), "type"),
        (manifest(filters=[{"exact": {"type": ""}}]), "type"),
        (manifest(filters=[{}]), "nothing"),
        (manifest(subscriber={}), "subscriber"),
        (manifest(delivery={"retry": -1}), "retry"),
        (manifest(delivery={"backoffPolicy": "random"}), "random"),
        (manifest(delivery={"timeout": "5s"}), "5s"),
        (manifest(delivery={"timeout": "PT"}), "PT"),
        (manifest(delivery={"retryAfterMax": "PT1S"}), "retryAfterMax"),
        (MANIFEST | {"kind": "Broker"}, "no Trigger"),
        (MANIFEST | {"metadata": {}}, "no name"),
    ],
)
def test_a_manifest_that_cannot_be_followed_is_refused(wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidTrigger, match=says):
        Trigger.from_manifest(wrong)


def test_a_subscriber_that_is_not_there_is_found_at_once() -> None:
    with pytest.raises(InvalidTrigger, match="nowhere"):
        Broker([Trigger("t", "nowhere")], {}, MemoryMailbox())


def test_a_trigger_that_is_not_ready_says_why_and_leaves_the_others_alone() -> None:
    bad = manifest(filters=[{"cesql": "type LIKE"}]) | {"metadata": {"name": "bad"}}
    ready, not_ready = read_triggers([bad, MANIFEST, {"kind": "Trigger"}])
    assert [one.name for one in ready] == ["detect-crash"]
    assert set(not_ready) == {"bad", "number 3"}
    assert (
        "Trigger bad: filters[0].cesql cannot be read: 'type LIKE' is no CESQL expression" in not_ready["bad"]
    )


def test_a_body_that_no_function_would_take_is_refused_at_the_door() -> None:
    async def case() -> None:
        headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
        async with Bench([Trigger("t", "s")]) as bench:
            assert await bench.broker.post_http(headers, b"x" * ((1 << 20) + 1)) == 413
            assert await bench.broker.post_http(headers, b"x" * (1 << 20)) == 202
            await bench.broker.idle()
            assert bench.ids("s") == ["1"]

    run(case())
