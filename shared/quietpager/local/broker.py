"""The local broker: Knative's delivery rules in one asyncio process, durable through a `Mailbox`.

Who calls it: the local host (`make demo`, `quietpager run`) and the tests. In production Knative
does this; so that what works here works there, the rules are Knative's:

    post ─ Mailbox.accept ─▶ 202 ─ deliver ─┬ 2xx, empty ────────────▶ complete
                                            ├ 2xx, one CloudEvent ─┬─▶ complete + re-enter
                                            │     not valid, too old └─▶ dead letter
                                            ├ 2xx, anything else ────▶ counts as 502
                                            ├ ≥500, 404, 408, 409, 429, no answer ─▶ retry
                                            └ retries over, other codes ─▶ dead letter

Where the rules come from (knative/eventing v0.49.2), each also asked of a real Broker by
tests/contract/test_broker.py:
- which answers are retried: `SelectiveRetry`; waiting: `RetryConfigFromDeliverySpec`
  (pkg/kncloudevents/retries.go);
- dead letter attributes: `dispatchExecutionInfoTransformers` (pkg/kncloudevents/event_dispatcher.go):
  none where Knative's filter had no answer to tell of, a time-out or its own 502;
- the 502 rule: `writeResponse` (pkg/broker/filter/filter_handler.go); the loop guard: `TTLDefaulter`
  (pkg/broker/ttl.go) and `receive` (pkg/broker/ingress/ingress_handler.go).
What a Trigger says is read in `trigger.py` and `filters.py`; how an event is stored, in `envelope.py`.

Differences, all on purpose: attempts are counted in memory, so a restart begins them anew; a ping
is not stored (a lost one is only a late one), and is skipped while the one before it is still at
work; a dead letter that cannot be delivered either is logged and dropped; `knativeerrordata` of more
than 768 bytes is cut, where v0.49.2's in-memory dispatcher panics; specversion 0.3 is refused and an
event without a time gets one, both by the CloudEvents SDK; a redirect is not followed; a body of more
than 1 MiB, which no function would take, is refused with 413.
"""

import asyncio
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Final
from uuid import uuid4

import structlog
from cloudevents.core.v1.event import CloudEvent

from quietpager.errors import BadMessage
from quietpager.local.envelope import (
    ARRIVAL,
    TTL,
    VERSIONS,
    event_of,
    is_readable,
    read,
    ttl_of,
    type_untyped,
    wire_of,
)
from quietpager.local.trigger import InvalidTrigger, Trigger
from quietpager.model.message import PING
from quietpager.model.store import StoreUnavailable
from quietpager.model.time import system_clock, to_text
from quietpager.runtime.wire import LARGEST_BODY
from quietpager.store.mailbox import Delivery, Mailbox

log = structlog.get_logger()

FIRST_TTL: Final = 255
"""What an event without the extension starts with; one that comes with it has one less."""

ERROR_DATA_LIMIT: Final = 1024
"""Longest `knativeerrordata`, in base64 characters (KnativeErrorDataExtensionMaxLength)."""

DEAD: Final = "#dead-letter"
"""Marks a stored delivery that goes to its Trigger's dead letter subscriber."""

STORE_PAUSE: Final = 5.0
"""Longest pause, in seconds, between tries to note a finished delivery."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a subscriber answered: status, headers (names in any case), body."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


Subscriber = Callable[[CloudEvent], Awaitable[Answer]]
"""Delivers one event to one function; raises anything for "no answer"."""


@dataclass(slots=True)
class Counters:
    """What the broker did since it was made."""

    accepted: int = 0  # deliveries: events times matching Triggers, pings and replies included
    delivered: int = 0
    retries: int = 0
    replies: int = 0
    dead_letters: int = 0  # handed to a dead letter subscriber
    dropped: int = 0  # lost for good: no dead letter subscriber, it failed too, or the loop guard
    pings_skipped: int = 0


@dataclass(frozen=True, slots=True)
class _Failure:
    """Why an attempt failed. `code`: None where the dead letter does not say; `to`: whom, if another."""

    retry: bool
    code: int | None
    body: bytes
    why: str
    to: str | None = None


class Broker:
    """Accepts events and delivers each to every matching Trigger's subscriber, at least once."""

    def __init__(
        self,
        triggers: Iterable[Trigger],
        subscribers: Mapping[str, Subscriber],
        mailbox: Mailbox,
        *,
        concurrency: int = 16,
        address: Callable[[str], str] = "http://{}.local/".format,
        ingress: str = "http://broker.local/",
        clock: Callable[[], datetime] = system_clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Take the wiring; nothing runs before `start`.

        `concurrency`: deliveries under way at a time. `address`: the URL that `knativeerrordest`
        gives for a subscriber; `ingress`: the one for the broker itself. `sleep`: waits between
        retries (tests give another). The mailbox stays the caller's.
        Raises `InvalidTrigger` when a Trigger names a subscriber that is not there.
        """
        self._triggers = {trigger.name: trigger for trigger in triggers}
        for trigger in self._triggers.values():
            for who in (trigger.subscriber, trigger.dead_letter):
                if who is not None and who not in subscribers:
                    raise InvalidTrigger(f"Trigger {trigger.name} names {who}, which does not run here.")
        self._subscribers, self._mailbox = subscribers, mailbox
        self._address, self._ingress, self._clock, self._sleep = address, ingress, clock, sleep
        self._slots = asyncio.Semaphore(concurrency)
        self._threads: ThreadPoolExecutor | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._pinging: set[str] = set()
        self._waiting: list[tuple[Sequence[Delivery], asyncio.Future[None]]] = []
        self._writer: asyncio.Task[None] | None = None
        self._posting = 0
        self.counters = Counters()

    async def start(self) -> None:
        """Begin, with what an earlier process accepted and did not finish.

        Raises `StoreUnavailable`; then nothing was begun, and it may be called again.
        """
        threads = ThreadPoolExecutor(4, thread_name_prefix="mailbox")
        try:
            left = await asyncio.get_running_loop().run_in_executor(threads, self._mailbox.pending)
        except BaseException:
            threads.shutdown()
            raise
        self._threads = threads
        for delivery in left:
            self._begin(delivery)

    async def stop(self, grace: float = 3.0) -> None:
        """Accept nothing more, give what is under way `grace` seconds, then cut it off.

        What was cut off stays in the mailbox for the next start.
        """
        threads, self._threads = self._threads, None
        if threads is None:
            return
        if self._tasks and grace > 0:
            await asyncio.wait(self._tasks, timeout=grace)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._writer is not None:
            await self._writer
        await asyncio.get_running_loop().run_in_executor(None, threads.shutdown)

    @property
    def under_way(self) -> int:
        """Tell how many deliveries were accepted and are not done yet; each is held in memory, too."""
        return len(self._tasks)

    async def idle(self) -> None:
        """Wait until nothing is under way, retries and replies included."""
        while self._tasks or self._posting:
            if self._tasks:
                await asyncio.wait(self._tasks)
            else:
                await asyncio.sleep(0.001)

    async def post(self, event: object) -> int:
        """Accept one CloudEvent; gives the HTTP status.

        202: kept for every Trigger that wants it (or none does) · 400: not one valid event, or it
        went round too often · 503: the mailbox is away, or the broker is not running; send it
        again.
        """
        wire = wire_of(event)
        if wire is None:
            return 400
        if not self._enter(wire):
            self.counters.dropped += 1
            log.warning("An event went round too often and is dropped.", id=wire["id"], type=wire["type"])
            return 400
        if self._threads is None:
            return 503
        deliveries = self._deliveries(wire)
        if wire["type"] == PING:
            self._ping(deliveries)
        elif deliveries:
            self._posting += 1
            try:
                await self._keep(deliveries)
            except StoreUnavailable as away:
                log.error("An event was not accepted.", id=wire["id"], why=str(away))  # noqa: TRY400
                return 503
            finally:
                self._posting -= 1
        self.counters.accepted += len(deliveries)
        return 202

    async def post_http(self, headers: Mapping[str, str], body: bytes) -> int:
        """Accept one CloudEvent as it came over HTTP, binary or structured; else 400, or 413 if too large."""
        if len(body) > LARGEST_BODY:
            log.warning("An event was refused.", why=f"Its body is larger than {LARGEST_BODY} bytes.")
            return 413
        try:
            event = read({name.lower(): value for name, value in headers.items()}, body)
        except BadMessage as wrong:
            log.warning("An event was refused.", why=str(wrong))
            return 400
        return await self.post(event)

    # -- keeping
    # ------------------------------------------------------------------------------------

    async def _keep(self, deliveries: Sequence[Delivery]) -> None:
        """Store and begin them; what is posted during a write goes together into the next."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()
        self._waiting.append((deliveries, done))
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write())
        # Shielded: if this post is cancelled (its caller hung up), the write and the delivery go
        # on.
        await asyncio.shield(done)

    async def _write(self) -> None:
        loop = asyncio.get_running_loop()
        while self._waiting:
            group, self._waiting = self._waiting, []
            every = [delivery for deliveries, _ in group for delivery in deliveries]
            try:
                await self._in_thread(self._mailbox.accept, every)
            except Exception as wrong:  # noqa: BLE001 (each sender gets it; the writer must go on)
                for _, done in group:
                    if not done.done():
                        done.set_exception(wrong)
                        loop.call_soon(done.exception)  # a sender that went away does not read it
            else:
                for delivery in every:
                    self._begin(delivery)
                for _, done in group:
                    if not done.done():
                        done.set_result(None)

    async def _finish(self, delivery: Delivery, follow_ups: Sequence[Delivery], *, stored: bool) -> None:
        """Note a delivery as done, with what became of it; tries on while the mailbox is away."""
        pause = 0.05
        while stored or follow_ups:
            try:
                if stored:
                    await self._in_thread(self._mailbox.complete, delivery.id, follow_ups)
                else:
                    await self._in_thread(self._mailbox.accept, follow_ups)
                break
            except StoreUnavailable as away:
                log.error(  # noqa: TRY400 (the sentence is what matters)
                    "A finished delivery cannot be noted; trying again.",
                    trigger=delivery.trigger,
                    why=str(away),
                )
            await asyncio.sleep(pause)
            pause = min(pause * 2, STORE_PAUSE)
        self.counters.accepted += len(follow_ups)
        for follow_up in follow_ups:
            self._begin(follow_up)

    async def _in_thread(self, call: Callable[..., None], *arguments: object) -> None:
        # After `stop` began there is no pool any more; what is under way may still note its end.
        await asyncio.get_running_loop().run_in_executor(self._threads, call, *arguments)

    def _enter(self, wire: dict[str, Any]) -> bool:
        """Do to an event what the ingress does; tells whether it may still go round."""
        stated = ttl_of(wire)
        ttl = FIRST_TTL if stated is None else stated - 1
        wire[TTL] = str(ttl)
        wire[ARRIVAL] = to_text(self._clock())
        return ttl > 0

    def _deliveries(self, wire: dict[str, Any]) -> list[Delivery]:
        return [
            Delivery(uuid4().hex, trigger.name, wire)
            for trigger in self._triggers.values()
            if trigger.matches(wire)
        ]

    # -- delivering
    # ---------------------------------------------------------------------------------

    def _ping(self, deliveries: Sequence[Delivery]) -> None:
        for delivery in deliveries:
            if delivery.trigger in self._pinging:
                self.counters.pings_skipped += 1
                continue
            self._pinging.add(delivery.trigger)
            task = self._begin(delivery, stored=False)
            task.add_done_callback(partial(self._pinged, delivery.trigger))

    def _pinged(self, trigger: str, _: asyncio.Task[None]) -> None:
        self._pinging.discard(trigger)

    def _begin(self, delivery: Delivery, *, stored: bool = True) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(self._deliver(delivery, stored=stored))
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (wrong := task.exception()) is not None:
            log.error("A fault of the broker; the delivery comes again after a restart.",
                      exc_info=wrong)  # fmt: skip

    async def _deliver(self, delivery: Delivery, *, stored: bool) -> None:
        name = delivery.trigger.removesuffix(DEAD)
        dead = name != delivery.trigger
        trigger = self._triggers.get(name)
        who = None if trigger is None else trigger.dead_letter if dead else trigger.subscriber
        if trigger is None or who is None:
            self._drop(delivery, "its Trigger, or its dead letter subscriber, is no longer there")
            await self._finish(delivery, (), stored=stored)
            return
        attempt = 0
        while True:
            async with self._slots:
                outcome = await self._attempt(trigger, who, delivery.event, dead=dead)
            if not isinstance(outcome, _Failure):
                break
            if not outcome.retry or attempt >= trigger.retry:
                await self._give_up(trigger, delivery, outcome, dead=dead, stored=stored)
                return
            self.counters.retries += 1
            await self._sleep(trigger.pause(attempt))
            attempt += 1
        self.counters.delivered += 1
        self.counters.replies += outcome is not None
        await self._finish(delivery, [] if outcome is None else self._deliveries(outcome), stored=stored)

    async def _attempt(
        self, trigger: Trigger, who: str, wire: dict[str, Any], *, dead: bool
    ) -> dict[str, Any] | _Failure | None:
        """Deliver once; gives the reply, ready to enter, or why there is none."""
        # A timer of the subscriber's own may run out, too; that is no answer, and told as such.
        timer = asyncio.timeout(trigger.timeout)
        try:
            async with timer:
                answer = await self._subscribers[who](event_of(wire, dead=dead))
        except Exception as wrong:  # noqa: BLE001 (whatever it is, there was no answer)
            if timer.expired():
                return _Failure(retry=True, code=None, body=b"", why=f"no answer within {trigger.timeout} s")
            return _no_answer(f"{type(wrong).__name__}: {wrong}")
        status = answer.status
        if not 200 <= status < 300:
            retry = status >= 500 or status in (404, 408, 409, 429)
            return _Failure(retry, status, answer.body, f"status {status}")
        if dead:
            return None  # Knative does not read what a dead letter sink answers
        headers = {name.lower(): value for name, value in answer.headers.items()}
        if not answer.body and headers.get("ce-specversion") not in VERSIONS:
            return None
        try:
            reply = wire_of(read(headers, answer.body))
        except BadMessage as wrong:
            if is_readable(headers, answer.body):
                return self._refused_reply(f"a reply that is no valid CloudEvent: {wrong}")
            reply = None
        if reply is None:
            return _Failure(retry=True, code=None, body=b"", why="a reply that is no CloudEvent")
        type_untyped(reply)
        reply[TTL] = wire[TTL]
        if not self._enter(reply):
            return self._refused_reply("a reply that went round too often")
        return reply

    def _refused_reply(self, why: str) -> _Failure:
        # The subscriber did its part; it is the ingress that says no, and a 400 is not tried again.
        return _Failure(retry=False, code=400, body=b"", why=why, to=self._ingress)

    async def _give_up(
        self, trigger: Trigger, delivery: Delivery, failure: _Failure, *, dead: bool, stored: bool
    ) -> None:
        if dead or trigger.dead_letter is None:
            self._drop(delivery, failure.why)
            await self._finish(delivery, (), stored=stored)
            return
        log.warning("A delivery failed for good; it goes to the dead letter.", trigger=trigger.name,
                    id=delivery.event["id"], why=failure.why)  # fmt: skip
        self.counters.dead_letters += 1
        wire = dict(delivery.event)
        if failure.code is not None:
            wire["knativeerrordest"] = failure.to or self._address(trigger.subscriber)
            wire["knativeerrorcode"] = str(failure.code)
            wire["knativeerrordata"] = b64encode(failure.body).decode()[:ERROR_DATA_LIMIT]
        letter = Delivery(uuid4().hex, trigger.name + DEAD, wire)
        await self._finish(delivery, [letter], stored=stored)

    def _drop(self, delivery: Delivery, why: str) -> None:
        self.counters.dropped += 1
        log.error("An event is lost: it could not be delivered, nor could its dead letter.",
                  trigger=delivery.trigger, cloudevent=delivery.event, why=why)  # fmt: skip


def _no_answer(why: str) -> _Failure:
    # Knative reports "dispatch error: ..." with code 500 when there was no response
    # (executeRequest).
    return _Failure(retry=True, code=500, body=f"dispatch error: {why}".encode(), why=why)
