"""Attack: the same again and again. Every count update of one Event was a finding for ever: 14,000 records in
eight minutes."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import uuid4

import pytest

from quietpager.cluster.recorded import Recorded
from quietpager.incident import records
from quietpager.model.cluster import Cluster
from quietpager.model.data import Json
from quietpager.model.finding import Finding
from quietpager.model.incident import Incident, State
from quietpager.model.message import EVENT_UPDATE, FINDING, Message
from quietpager.model.store import Put, Write
from quietpager.objects.once import Once
from quietpager.runtime import detecting
from quietpager.runtime.context import functions_folder
from quietpager.runtime.detecting import SAY_AGAIN
from quietpager.store.memory import MemoryStore
from tests.flow.harness import QUICK, Product

UPDATES = 14_000
CASE = functions_folder() / "detect/image/cases/32-bad-tag-new-revision"
NOW = datetime(2026, 11, 25, tzinfo=UTC)


class Counting(MemoryStore):
    """A store that counts the transactions that write records, and how many records there are at most."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def transact(self, writes: Any) -> None:
        kept: Sequence[Write] = [*writes]
        super().transact(kept)
        self.writes += [one.key for one in kept if isinstance(one, Put)]


class Repeated:
    """The product over one recorded fault, whose Event is updated as often as a test likes."""

    def __init__(self) -> None:
        self.now, self.store = NOW, Counting()
        cluster = cast("Cluster", Once(Recorded(CASE)))
        policy = QUICK.but(dwell_seconds=1e9, recheck=1e9, cool_down=1e6)
        self.product = Product(self.store, cluster, policy=policy, clock=lambda: self.now)
        self.product.resume()
        self.event: Json = json.loads((CASE / "event.json").read_bytes())
        self.updates = 0

    def update(self, times: int) -> None:
        """Count the Event up, as its reporter does; each update is a version of its own."""
        for _ in range(times):
            self.updates += 1
            meta = self.event["metadata"] | {"resourceVersion": str(1000 + self.updates)}
            raw = self.event | {"count": self.updates, "metadata": meta}
            self.product.queue.append(
                Message(id=str(self.updates), type=EVENT_UPDATE, attributes={"kind": "Event"}, data=raw)
            )
            self.product.deliver()
            self.product.seen.clear()

    def told(self, times: int = 1) -> int:
        """Update the Event; gives how often decide is told."""
        begun = self.updates
        count = 0
        while self.updates < begun + times:
            self.updates += 1
            raw = self.event | {"count": self.updates}
            self.product.event(raw)
            self.product.deliver()
            count += sum(one.type == FINDING for one in self.product.seen)
            self.product.seen.clear()
        return count

    def incident(self) -> Incident:
        [incident] = self.product.incidents()
        return incident

    def put(self, incident: Incident) -> None:
        """Let the incident have come somewhere else meanwhile."""
        record = self.store.get(records.incident(incident.id))
        assert record is not None
        self.store.transact([Put(record.key, incident.to_json(), record.version)])


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_fourteen_thousand_updates_of_one_event_are_one_finding_and_cost_reads() -> None:
    world = Repeated()
    world.update(1)
    assert world.incident().failure_class == "image_pull_not_found"
    size, due = len(world.store._state), len(world.store.due_items())
    del world.store.writes[:]
    world.update(UPDATES - 1)
    assert len(world.store.scan("FINDING")) == 1
    assert (len(world.store._state), len(world.store.due_items())) == (size, due)
    assert [key for key in world.store.writes if not key.startswith("HEARTBEAT#")] == []


def test_named_by_the_message_each_update_is_a_finding_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    real = detecting.finding_of

    def named(*known: Any) -> Finding:
        return real(*known).but(id=uuid4().hex)

    monkeypatch.setattr(detecting, "finding_of", named)
    world = Repeated()
    world.update(100)
    assert len(world.store.scan("FINDING")) == 100


def test_without_looking_what_decide_knows_each_update_is_a_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detecting, "_known", lambda *_: False)
    world = Repeated()
    world.update(100)
    assert world.store.writes.count(world.store.scan("FINDING")[0].key) == 100


# What must be told all the same


def test_what_is_lost_on_the_way_is_said_again_by_the_clock() -> None:
    world = Repeated()
    world.product.drop = lambda message: message.type == FINDING
    world.told()
    assert world.product.incidents() == []
    world.product.drop = lambda _message: False
    assert world.told(5) == 0, "it lies with the clock, and need not be said by every update"
    world.now += timedelta(seconds=1)
    world.product.ping("clock")
    assert world.incident().state is State.WAITING


def test_what_fails_again_after_it_was_closed_is_told_again() -> None:
    world = Repeated()
    world.told()
    world.now += timedelta(minutes=1)
    closed = world.incident().but(state=State.CLOSED, reason="healed_by_itself", state_since=world.now)
    world.put(closed)
    world.now += timedelta(minutes=1)
    assert world.told() == 1
    assert world.incident().state is State.WAITING, "it is open again"
    world.put(closed)
    assert world.told() == 0, "of this closing it was told"
    world.now += SAY_AGAIN
    assert world.told() == 1
    assert world.told(10) == 0


def test_a_workload_of_the_same_cause_that_was_forgotten_with_the_closing_is_told_again() -> None:
    world = Repeated()
    world.told()
    incident = world.incident()
    world.put(incident.but(symptoms=(incident.owner,)))
    assert world.told() == 1
    assert world.told(10) == 0


def test_an_incident_of_no_known_class_hears_of_the_known_one() -> None:
    world = Repeated()
    world.told()
    world.put(world.incident().but(family="unknown", failure_class="unknown"))
    assert world.told() == 1
    assert world.incident().failure_class == "image_pull_not_found"
    assert world.told(10) == 0
