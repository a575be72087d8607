"""What a sender sees of any function: status codes, audited refusals, and probes that never wait."""

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quietpager.errors import BadMessage, GiveUp, Retry
from quietpager.incident.policy import Policy
from quietpager.model.message import Message
from quietpager.model.store import Store, StoreUnavailable
from quietpager.rules.routing import render_routes
from quietpager.runtime.context import Context, Handler, Lazy
from quietpager.runtime.edge import REFUSALS, Function
from quietpager.runtime.trace import TRACE
from quietpager.runtime.wire import LARGEST_BODY, event_from_http, message_from_event
from quietpager.store.audit import verify_all
from quietpager.store.memory import MemoryStore

CE = {
    "ce-specversion": "1.0", "ce-id": "1", "ce-source": "/test", "ce-type": "test.type",
    "content-type": "application/json",
}  # fmt: skip
STRUCTURED = {"content-type": "application/cloudevents+json"}
ENVELOPE = {"specversion": "1.0", "id": "1", "source": "/test", "type": "test.type", "data": {"a": 1}}
CODES = {200, 204, 400, 405, 422, 503}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    function: Function, headers: dict[str, str], *chunks: bytes, method: str = "POST", path: str = "/"
) -> Answer:
    parts = list(chunks or (b"",))
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        chunk = parts.pop(0)
        return {"type": "http.request", "body": chunk, "more_body": bool(parts)}

    async def send(part: dict[str, Any]) -> None:
        sent.append(part)

    pairs = [(k.encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
    await function.handle({"type": "http", "method": method, "path": path, "headers": pairs}, receive, send)
    start, *bodies = sent
    return Answer(
        start["status"],
        {k.decode("latin-1"): v.decode("latin-1") for k, v in start["headers"]},
        b"".join(part["body"] for part in bodies),
    )


@dataclass
class Edge:
    store: Store
    function: Function

    def post(self, headers: dict[str, str], *chunks: bytes, method: str = "POST") -> Answer:
        answer = asyncio.run(ask(self.function, headers, *chunks, method=method))
        assert answer.status in CODES
        return answer

    def refusals(self) -> list[str]:
        return [str(entry.body["sentence"]) for entry in self.store.audit(REFUSALS)]


MakeEdge = Callable[..., Edge]


def quiet(_message: Message, _ctx: Context) -> list[Message]:
    return []


@pytest.fixture
def edge() -> Iterator[MakeEdge]:
    made: list[Function] = []

    def make(handler: Handler = quiet, store: Store | None = None) -> Edge:
        kept = store or MemoryStore()

        def nowhere() -> Any:
            raise AssertionError("no test of the edge reads a cluster")

        ctx = Context("edge", Lazy(lambda: kept, nowhere), Policy(), (), render_routes(()), {})
        made.append(Function(handler, lambda: ctx))
        return Edge(kept, made[-1])

    yield make
    for function in made:
        function.stop()


def noting(got: list[Message]) -> Handler:
    def handle(message: Message, _ctx: Context) -> list[Message]:
        got.append(message)
        return []

    return handle


def raising(error: Exception) -> Handler:
    def handle(_message: Message, _ctx: Context) -> list[Message]:
        raise error

    return handle


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        (CE | {"ce-subject": "inc-1", "ce-family": "crash"}, b'{"a": 1}'),
        (STRUCTURED, json.dumps(ENVELOPE | {"subject": "inc-1", "family": "crash"}).encode()),
        (
            {"content-type": "application/cloudevents+json; charset=utf-8"},
            json.dumps(ENVELOPE | {"subject": "inc-1", "family": "crash"}).encode(),
        ),
    ],
)
def test_binary_and_structured_events_reach_the_handler_alike(
    edge: MakeEdge, headers: dict[str, str], body: bytes
) -> None:
    got: list[Message] = []
    made = edge(noting(got))
    assert made.post(headers, body).status == 204
    message = got[0].but(attributes={"family": got[0].attributes["family"]})
    assert message == Message(
        id="1", type="test.type", subject="inc-1", attributes={"family": "crash"}, data={"a": 1}
    )


def test_a_body_in_pieces_is_put_together(edge: MakeEdge) -> None:
    got: list[Message] = []
    made = edge(noting(got))
    made.post(CE, b'{"a"', b": ", b"1}")
    assert got[0].data == {"a": 1}


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ({"content-type": "application/cloudevents-batch+json"}, json.dumps([ENVELOPE]).encode()),
        (STRUCTURED, json.dumps([ENVELOPE]).encode()),
        (CE | {"ce-id": ""}, b"{}"),
        ({k: v for k, v in CE.items() if k != "ce-id"}, b"{}"),
        (STRUCTURED, json.dumps({k: v for k, v in ENVELOPE.items() if k != "id"}).encode()),
        ({k: v for k, v in CE.items() if k != "ce-type"}, b"{}"),
        ({k: v for k, v in CE.items() if k != "ce-source"}, b"{}"),
        (CE | {"ce-time": "yesterday"}, b"{}"),
        (CE | {"ce-specversion": "9.9"}, b"{}"),
        (CE, b'{"a": '),
        (STRUCTURED, b'{"specversion": "1.0"'),
        (STRUCTURED, b'{"specversion": "1.0"}'),
        (STRUCTURED, b"null"),
        ({"content-type": "application/json"}, b'{"a": 1}'),
        ({}, b""),
        (CE, b"[1, 2]"),
        (CE, b'"text"'),
        (STRUCTURED, json.dumps(ENVELOPE | {"data": 7}).encode()),
    ],
)
def test_what_is_no_event_is_400_and_on_record(edge: MakeEdge, headers: dict[str, str], body: bytes) -> None:
    called: list[Message] = []
    made = edge(noting(called))
    answer = made.post(headers, body)
    assert answer.status == 400
    assert made.refusals() == [answer.body.decode()]
    assert verify_all(made.store) == []
    assert called == []


def test_a_body_above_the_limit_is_422_and_one_at_the_limit_is_read(edge: MakeEdge) -> None:
    made = edge()
    frame = len(b'{"a":""}')
    assert made.post(CE, b'{"a":"' + b"x" * (LARGEST_BODY - frame) + b'"}').status == 204
    assert made.post(CE, b'{"a":"' + b"x" * (LARGEST_BODY - frame + 1) + b'"}').status == 422
    assert made.post(CE, *[b"x" * 1000] * (LARGEST_BODY // 1000 + 1)).status == 422
    assert len(made.refusals()) == 1, "the second one of the hour is counted"
    assert [record.body["count"] for record in made.store.scan("REFUSED")] == [2]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (GiveUp("never"), 422),
        (BadMessage("not what its type says"), 400),
        (ValueError("a bug"), 503),
        (RuntimeError("a bug"), 503),
        (Retry("later"), 503),
        (StoreUnavailable("away"), 503),
        (KeyError("bug"), 503),
    ],
)
def test_each_error_of_a_handler_has_its_one_status(edge: MakeEdge, error: Exception, status: int) -> None:
    made = edge(raising(error))
    assert made.post(CE, b"{}").status == status
    assert bool(made.refusals()) == (status != 503)


def test_a_handler_that_says_nothing_gives_204_without_a_body(edge: MakeEdge) -> None:
    answer = edge().post(CE, b"{}")
    assert (answer.status, answer.body) == (204, b"")


def test_a_handler_that_answers_gives_200_and_a_cloud_event(edge: MakeEdge) -> None:
    said = Message(
        id="a", type="test.answer", subject="inc-\u00e4 1", attributes={"family": "crash"}, data={"\u00e4": 1}
    )
    answer = edge(lambda _message, _ctx: [said]).post(CE, b"{}")
    assert answer.status == 200
    got = message_from_event(event_from_http(answer.headers, answer.body))
    assert got.but(attributes={k: v for k, v in got.attributes.items() if k != TRACE}) == said
    assert answer.headers["ce-specversion"] == "1.0"
    assert answer.headers["ce-source"] == "/default/edge"


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_other_methods_are_405(edge: MakeEdge, method: str) -> None:
    assert edge().post(CE, b"{}", method=method).status == 405


def test_probes_and_other_requests_are_answered_while_a_handler_blocks(edge: MakeEdge) -> None:
    started, release = threading.Event(), threading.Event()

    def slow(message: Message, _ctx: Context) -> list[Message]:
        if message.id == "slow":
            started.set()
            release.wait(10)
        return []

    function = edge(slow).function

    async def both() -> None:
        task = asyncio.create_task(ask(function, CE | {"ce-id": "slow"}, b"{}"))
        assert await asyncio.to_thread(started.wait, 10)
        assert function.alive() == (True, "alive")
        assert (await ask(function, CE, b"{}")).status == 204
        assert not task.done()
        release.set()
        assert (await task).status == 204

    asyncio.run(both())


@pytest.mark.parametrize("error", [GiveUp, BadMessage, RuntimeError, Retry])
def test_no_error_is_longer_than_knatives_dispatcher_can_bear(edge: MakeEdge, error: type[Exception]) -> None:
    answer = edge(raising(error("\N{SNOWMAN}" * 5000))).post(CE, b"{}")
    assert 600 < len(answer.body) <= 768
    assert answer.body.decode()


def test_ready_only_after_the_rules_are_read(edge: MakeEdge) -> None:
    function = edge().function
    assert function.ready()[0] is False
    function.start({})
    assert function.ready()[0] is True


class Away(MemoryStore):
    def __init__(self, why: Exception) -> None:
        super().__init__()
        self.why = why

    def transact(self, writes: Any) -> None:
        del writes
        raise self.why


@pytest.mark.parametrize("headers", [CE, {}])
@pytest.mark.parametrize("why", [StoreUnavailable("away"), Retry("no store is named")])
def test_a_refusal_that_cannot_be_audited_is_503_so_that_it_comes_again(
    edge: MakeEdge, headers: dict[str, str], why: Exception
) -> None:
    answer = edge(raising(GiveUp("never")), Away(why)).post(headers, b"{}")
    assert (answer.status, b"could not be audited" in answer.body) == (503, True)


latin = st.text(st.characters(max_codepoint=255), max_size=12)
names = st.sampled_from(
    ["ce-id", "ce-type", "ce-source", "ce-specversion", "ce-time", "ce-subject", "ce-x", "content-type"]
)
values = latin | st.sampled_from([*CE.values(), "application/cloudevents+json", "2026-01-01T00:00:00Z"])
bodies = st.binary(max_size=60) | st.sampled_from(
    [
        b"{}",
        b"[]",
        b"null",
        b"[" * 5000,
        json.dumps(ENVELOPE).encode(),
        json.dumps(ENVELOPE | {"id": 4}).encode(),
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(names, values), st.booleans(), bodies)
def test_whatever_is_sent_only_known_codes_come_back(
    edge: MakeEdge, headers: dict[str, str], whole: bool, body: bytes
) -> None:
    made = edge(lambda message, _ctx: [message])
    answer = made.post((CE if whole else {}) | headers, body)
    assert answer.status in {200, 400}
    assert (answer.status == 400) == bool(made.refusals())
    made.function.stop()


def test_any_function_tells_whether_every_part_lives(edge: MakeEdge) -> None:
    function = edge().function
    asked = asyncio.run(ask(function, {}, method="GET", path="/health/heartbeat"))
    assert (asked.status, asked.headers["content-type"]) == (503, "application/json")
    answer = json.loads(asked.body)
    assert {one["part"]: one["verdict"] for one in answer["parts"]} == {
        "store": "ok", "broker": "never", "clock": "unknown", "sweep": "unknown", "source": "unknown",
    }  # fmt: skip
    assert asyncio.run(ask(function, {}, method="GET", path="/")).status == 405
