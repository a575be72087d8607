"""Slow bodies: many senders each send most of a request's body, and then nothing, to hold memory for ever.

Denial of service, from any pod that can reach the port: 250 of them held 335 MB of the console, until they
chose to go away. Real sockets against func-python's own host; what is measured is bytes and answers.
"""

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quietpager.functions.people.console.app import LARGEST_FORM, make_app
from quietpager.functions.people.console.web import Console
from quietpager.incident.policy import Policy
from quietpager.model.message import Message
from quietpager.rules.routing import render_routes
from quietpager.runtime.body import Bodies, Unread
from quietpager.runtime.context import Context, Lazy
from quietpager.runtime.edge import Function
from quietpager.runtime.wire import LARGEST_BODY
from quietpager.store.memory import MemoryStore
from tests.asked import Asked
from tests.attack.hosting import answer, hosted, post
from tests.console_site import quick_users

MANY = 250
FOR_EVER = 3600.0


def quiet(_message: Message, _ctx: Context) -> list[Message]:
    return []


def nowhere() -> Any:
    raise AssertionError("nobody here may ask the cluster")


@pytest.fixture
def function() -> Iterator[Function]:
    store = MemoryStore()
    ctx = Context("edge", Lazy(lambda: store, nowhere), Policy(), (), render_routes(()), {})
    made = Function(quiet, lambda: ctx)
    yield made
    made.stop()


class Served(Console):
    """The console over a store of the test's."""

    def __init__(self, app: Any) -> None:
        super().__init__()
        self.serve(app)

    def start(self, env: Any) -> None:
        del env


@pytest.fixture
def console(tmp_path: Any) -> Iterator[Served]:
    made = Served(make_app(Asked(MemoryStore()).ctx, quick_users(tmp_path), secure=False))
    yield made
    made.stop()


def flood(port: int, path: str, size: int) -> list[int]:
    """Send most of `MANY` bodies; gives the answers, which all come because the server gives up."""
    wires = [post(port, path, size, b"x" * (size - 1)) for _ in range(MANY)]
    return [answer(wire) for wire in wires]


def test_slow_bodies_to_a_function_are_given_up_and_hold_no_more_than_the_budget(function: Function) -> None:
    function.bodies = Bodies(LARGEST_BODY, seconds=1.0, all_bytes=4 << 20)
    with hosted(function) as port:
        answers = flood(port, "/", 1 << 17)
        assert set(answers) <= {408, 503}
        assert function.bodies.most_bytes <= 4 << 20
        assert (function.bodies.count, function.bodies.bytes) == (0, 0)
        assert answer_to_a_quick_one(port) == 204


def answer_to_a_quick_one(port: int) -> int:
    wire = post(port, "/", 2, b"{}")
    got = wire.recv(100)
    wire.close()
    return int(got.split(b" ", 2)[1])


def test_a_quick_message_gets_through_while_the_budget_is_full_of_slow_bodies(function: Function) -> None:
    """Nothing here waits for a limit in seconds: the slowest body makes room."""
    function.bodies = Bodies(LARGEST_BODY, seconds=FOR_EVER, at_once=20)
    with hosted(function) as port:
        wires = [post(port, "/", 1000, b"x" * 999) for _ in range(40)]
        given_up = [answer(wire) for wire in wires[:20]]
        assert given_up == [503] * 20
        assert answer_to_a_quick_one(port) == 204
        for wire in wires:
            wire.close()


def test_slow_bodies_to_the_console_hold_no_more_than_its_forms_may(console: Served) -> None:
    console.bodies.seconds = 1.0
    with hosted(console) as port:
        assert set(flood(port, "/sign-in", LARGEST_FORM)) <= {408, 503}
        assert console.bodies.most_bytes <= console.bodies.all_bytes == 1 << 20
        assert console.bodies.count == 0


def test_a_form_that_is_too_large_is_refused_before_it_is_all_here(console: Served) -> None:
    with hosted(console) as port:
        assert answer(post(port, "/sign-in", 100 << 20, b"x" * (LARGEST_FORM + 1))) == 413


def test_what_is_being_worked_on_counts_until_it_is_answered() -> None:
    """Whole bodies are never given up; who comes while they fill the budget is told to come again."""

    async def run() -> None:
        bodies = Bodies(100, at_once=2)
        async with bodies.read(once(b"x" * 100)), bodies.read(once(b"y")):
            with pytest.raises(Unread) as no:
                async with bodies.read(once(b"z")):
                    pass
            assert no.value.status == 503
            assert (bodies.count, bodies.bytes) == (2, 101)
        assert (bodies.count, bodies.bytes) == (0, 0)
        async with bodies.read(once(b"z")) as body:
            assert body == b"z"

    asyncio.run(run())


def test_a_sender_that_goes_away_leaves_half_a_message_that_nobody_reads() -> None:
    async def run() -> None:
        parts: list[dict[str, Any]] = [
            {"type": "http.request", "body": b'{"a"', "more_body": True},
            {"type": "http.disconnect"},
        ]

        async def receive() -> dict[str, Any]:
            return parts.pop(0)

        bodies = Bodies(100)
        with pytest.raises(Unread) as no:
            async with bodies.read(receive):
                pass
        assert (no.value.status, bodies.bytes) == (408, 0)

    asyncio.run(run())


def test_a_body_that_was_given_up_is_never_taken_for_a_whole_one() -> None:
    """Its last part arrives at the moment at which another one takes its place."""

    async def run() -> None:
        bodies, last = Bodies(100, at_once=1), asyncio.Event()
        parts = [{"type": "http.request", "body": b"12", "more_body": True}]

        async def receive() -> dict[str, Any]:
            if parts:
                return parts.pop()
            await last.wait()
            return {"type": "http.request", "body": b"34", "more_body": False}

        async def slow() -> bytes:
            async with bodies.read(receive) as body:
                return body

        reading = asyncio.create_task(slow())
        await asyncio.sleep(0)
        last.set()
        async with bodies.read(once(b"quick")) as body:
            assert body == b"quick"
        with pytest.raises(Unread):
            await reading

    asyncio.run(run())


def once(body: bytes) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return receive


# Without it


def test_without_a_time_limit_slow_bodies_stay_for_ever(function: Function) -> None:
    """The mutant: all limits so large that they are none. Every byte that was sent is still held."""
    function.bodies = Bodies(LARGEST_BODY, seconds=FOR_EVER, at_once=10 * MANY, all_bytes=1 << 40)
    sent = 20 * ((1 << 17) - 1)
    with hosted(function) as port:
        wires = [post(port, "/", 1 << 17, b"x" * ((1 << 17) - 1)) for _ in range(20)]
        # The host answers another request only after what was sent before it has been read.
        while function.bodies.bytes < sent:
            assert answer_to_a_quick_one(port) == 204
        assert (function.bodies.bytes, function.bodies.count) == (sent, 20)
        for wire in wires:
            wire.close()
