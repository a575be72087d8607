"""Attack: a pod calls a function's Service itself, and so gets the answer that was meant for the Broker.

Who polled the clock got every due item, moved on and said to nobody else: no recheck, no deadline, no apply
came through while the poll lasted. Who sent `rehearsed` to decide was given the intent's id, its mark.
Who sent an intent to another action's remediator had it claimed there and refused. Who named another incident
beside a message to people had it told there, and taken off the list.
"""

import asyncio
import json
import os
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quietpager.functions.people.notify.handler import handle as notify
from quietpager.incident import records
from quietpager.model.incident import Incident, Intent, IntentState, State
from quietpager.model.message import APPLY, DUE, INCIDENT, PING, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import ABSENT, Due, Put
from quietpager.render import function_folders
from quietpager.runtime import connect, loading, remediating
from quietpager.runtime.context import Context, Lazy, functions_folder, make_context
from quietpager.runtime.edge import Function
from quietpager.store.memory import MemoryStore
from tests.contract.test_edge import Answer, ask

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TICK = timedelta(seconds=5)
OWNER = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web", uid="u")


@dataclass
class Place:
    """A store with a due item each second, a function over it, and what reached the Broker."""

    store: MemoryStore = field(default_factory=MemoryStore)
    now: datetime = NOW
    posted: list[Message] = field(default_factory=list)

    def context(self, name: str, cluster: Any = None) -> Context:
        return make_context(name, Lazy(lambda: self.store, lambda: cluster), clock=lambda: self.now)

    def incident(self, name: str, owner: ObjectRef = OWNER) -> None:
        one = Incident(
            id=name, cause=f"workload:{name}", episode=1, cluster="c", family="crash",
            failure_class="oom_killed", owner=owner, state=State.PLANNING, opened_at=NOW, state_since=NOW,
            since=NOW, deadline_at=NOW, recheck_every=10.0, symptom_count=2,
        )  # fmt: skip
        self.store.transact([Put(records.incident(name), one.to_json(), ABSENT)])

    def calls(self, function: Function, type_: str = PING, data: object = None) -> Answer:
        head = {
            "ce-specversion": "1.0", "ce-id": "mine", "ce-source": "/mallory", "ce-type": type_,
            "content-type": "application/json",
        }  # fmt: skip
        return asyncio.run(ask(function, head, json.dumps(data or {}).encode()))

    def polls_the_clock(self, *, replies: bool) -> str:
        """Poll faster than any PingSource ticks; gives all that the pod was answered."""
        for number in range(20):
            data = {"incident": f"inc-{number}"}
            said = Message(id=f"inc-{number}/deadline", type=DUE, data=data).to_json()
            self.store.transact([Due(f"d{number}", NOW + timedelta(seconds=number), TICK * 60, said)])
        clock = loading.handler("govern/clock")
        ctx = self.context("govern-clock")
        edge = Function(clock, lambda: ctx, self.posted.append, replies=replies)
        heard = ""
        for _ in range(20):
            heard += self.calls(edge).body.decode()
            self.now += timedelta(seconds=1)
        edge.stop()
        return heard


@pytest.fixture
def place() -> Place:
    return Place()


def test_who_polls_the_clock_hears_nothing_and_the_broker_everything(place: Place) -> None:
    assert place.polls_the_clock(replies=False) == ""
    assert {m.data["incident"] for m in place.posted if m.type == DUE} == {f"inc-{n}" for n in range(20)}


def test_where_the_clock_replies_whoever_polls_it_silences_it(place: Place) -> None:
    heard = place.polls_the_clock(replies=True)
    assert all(f"inc-{number}" in heard for number in range(20))
    assert [m for m in place.posted if m.type == DUE] == []


def test_every_function_that_posts_replies_with_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also the shipped `new()` of each: what its func.yaml says and what it does are one thing."""
    monkeypatch.setenv(connect.SINK, "http://127.0.0.1:9/")
    folders = [one for one in function_folders(functions_folder()) if not one.web]
    for folder in folders:
        made = loading.new(folder.place)
        assert isinstance(made, Function)
        assert made.replies is not folder.posts, folder.name
        made.stop()
    assert {one.name for one in folders if one.posts} >= {"govern-clock", "govern-decide"}
    monkeypatch.delenv(connect.SINK)
    assert connect.SINK not in os.environ
    alone = loading.new("govern/clock")
    assert isinstance(alone, Function)
    assert alone.replies  # with Knative's func alone there is no Broker to post to
    alone.stop()


# --- an intent at another action's door ---------------------------------------------------------


def wrong_door(place: Place, action: str) -> IntentState:
    intent = Intent(
        id="int-1", incident="inc-1", rehearsal="inc-1-r1", action="raise-memory", target=OWNER, generation=1,
        edits=(), created_at=NOW, expires_at=NOW + TICK,
    )  # fmt: skip
    place.store.transact(
        [
            Put(records.intent("int-1"), intent.to_json(), ABSENT),
            Put(records.SWITCH, {"stopped": False}, ABSENT),
        ]
    )
    cluster = type("Gone", (), {"get": lambda *_: None})()
    message = Message(id="x", type=APPLY, data={"intent": "int-1"})
    remediating.remediate(message, place.context("remediate-rollout-undo", cluster), action, lambda *_: None)  # type: ignore[arg-type]
    record = place.store.get(records.intent("int-1"))
    assert record is not None
    return Intent.from_json(record.body).state


def test_an_intent_sent_to_another_actions_door_is_left_alone(place: Place) -> None:
    assert wrong_door(place, "rollout-undo") is IntentState.INTENT


def test_its_own_door_takes_it(place: Place) -> None:
    """Without asking whose it is every door would do this."""
    assert wrong_door(place, "raise-memory") is IntentState.REFUSED


# --- words for people ---------------------------------------------------------------------------


def tells(place: Place, monkeypatch: pytest.MonkeyPatch, url: str = "") -> list[dict[str, Any]]:
    """Let decide tell of inc-1, and a pod say that it is about inc-2, with a megabyte beside it."""
    place.incident("inc-1")
    place.incident("inc-2", OWNER.but(name="bank", namespace="bank"))
    text = {"what": "needsperson", "text": "web is down"}
    place.store.transact([Put(records.tell("inc-1.1.0"), text, ABSENT)])
    channel = {"kind": "webhook", "url": url, "secret": "s"} if url else {"kind": "terminal"}
    monkeypatch.setenv("QUIETPAGER_CHANNELS", json.dumps([channel]))
    data = {"incident": "inc-2", "tell": "inc-1.1.0", "more": "x" * 100_000}
    notify(Message(id="x", type=f"{INCIDENT}nobodyreadsthis", data=data), place.context("people-notify"))
    return [one.message for one in place.store.due_items()]


def test_what_is_told_is_told_of_its_own_incident(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tells(place, monkeypatch)
    shown = capsys.readouterr()
    assert "shop/web" in shown.out + shown.err
    assert "bank" not in shown.out + shown.err
    assert [e.kind for e in place.store.audit("inc-1")] == ["told"]
    assert list(place.store.audit("inc-2")) == []


def test_what_is_said_again_is_what_decide_said(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """A channel was away just then: the due item became the pod's own message, which no Trigger takes."""
    [again] = tells(place, monkeypatch, "https://127.0.0.1:9/")
    assert again["type"] == f"{INCIDENT}needsperson"
    assert again["data"] == {"incident": "inc-1", "tell": "inc-1.1.0"}


def test_without_the_name_it_is_told_of_whatever_the_message_says(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(records, "told_of", lambda _name: "inc-2")
    tells(place, monkeypatch)
    shown = capsys.readouterr()
    assert "bank" in shown.out + shown.err
