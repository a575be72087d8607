"""Attack: few messages that cost much. A megabyte as an id was masked and logged three times, for five
seconds of a thread each; forged ticks ran sixteen sweeps at once, each with its own pages of pods in memory.
"""

import asyncio
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from structlog.testing import capture_logs

from quietpager.functions.govern.decide.handler import handle as decide
from quietpager.functions.ingest.dead_letter.handler import handle as dead_letter
from quietpager.functions.ingest.sweep.handler import handle as sweep
from quietpager.model.message import FINDING, PING, Message
from quietpager.runtime import context, wire
from quietpager.runtime.context import Handler, Lazy, make_context
from quietpager.runtime.edge import Function
from quietpager.store.memory import MemoryStore
from tests.contract.test_edge import Answer, ask

HUGE = "--db-pass " * 20_000


def sends(handler: Handler, **attributes: str) -> tuple[Answer, str]:
    """Send one event with such attributes; gives the answer, and all that was logged."""
    store = MemoryStore()
    ctx = make_context("ingest-dead-letter", Lazy(lambda: store, lambda: pytest.fail("no cluster")))
    function = Function(handler, lambda: ctx)
    event = {"specversion": "1.0", "id": "x", "source": "/m", "type": FINDING, "data": {}} | attributes
    with capture_logs() as logs:
        head = {"content-type": "application/cloudevents+json"}
        answer = asyncio.run(ask(function, head, json.dumps(event).encode()))
    function.stop()
    kept = [entry.body for chain in store.audit_chains() for entry in store.audit(chain)]
    return answer, json.dumps([logs, kept], default=str)


@pytest.mark.parametrize("name", ["id", "type", "subject", "traceparent", "own"])
@pytest.mark.parametrize("handler", [decide, dead_letter])
def test_a_megabyte_as_an_attribute_is_refused_and_logged_nowhere(handler: Handler, name: str) -> None:
    answer, words = sends(handler, **{name: HUGE})
    assert answer.status == 400
    assert len(words) < 5_000


def test_without_the_bound_it_is_logged_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "LONGEST_ATTRIBUTE", 1 << 20)
    answer, words = sends(dead_letter, id=HUGE)
    assert answer.status == 204
    assert len(words) > len(HUGE)


class Slow:
    """A cluster whose list of pods does not end before the test says so; counts who reads at once."""

    def __init__(self) -> None:
        self.reading, self.most, self.lock, self.go = 0, 0, threading.Lock(), threading.Event()
        self.many = threading.Semaphore(0)

    def each(self, *_: Any, **_more: Any) -> Iterator[Any]:
        with self.lock:
            self.reading += 1
            self.most = max(self.most, self.reading)
        self.many.release()
        self.go.wait(30)
        with self.lock:
            self.reading -= 1
        return iter(())


def at_once(expected: int) -> int:
    """Send sixteen ticks; gives how many sweeps were reading at the same time."""
    slow, store = Slow(), MemoryStore()
    ctx = make_context("ingest-sweep", Lazy(lambda: store, lambda: slow))  # type: ignore[arg-type, return-value]
    with ThreadPoolExecutor(16) as threads:
        ticks = [threads.submit(sweep, Message(id=str(n), type=PING), ctx) for n in range(16)]
        for _ in range(expected):
            assert slow.many.acquire(timeout=30)
        if expected == 1:
            _all_but_one(ticks)
        slow.go.set()
        for one in ticks:
            one.result(30)
    return slow.most


def _all_but_one(ticks: list[Any]) -> None:
    """Wait until all are over but the one that still reads."""
    done = threading.Semaphore(0)
    for one in ticks:
        one.add_done_callback(lambda _: done.release())
    for _ in ticks[1:]:
        assert done.acquire(timeout=30)


def test_sixteen_ticks_are_one_sweep_at_a_time() -> None:
    assert at_once(1) == 1


def test_without_the_turn_sixteen_ticks_are_sixteen_sweeps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(context, "Lock", lambda: threading.Semaphore(16))
    assert at_once(16) == 16
