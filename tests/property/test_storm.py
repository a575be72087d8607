"""The storm brake's count: never too high, exact up to its limit, and it holds while the storm lasts."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.errors import Retry
from quietpager.functions.govern.decide.handler import handle
from quietpager.model.finding import Diagnosis, Evidence, Finding
from quietpager.model.incident import Incident
from quietpager.model.message import FINDING, Message
from quietpager.model.objects import ObjectRef
from quietpager.model.signal import Signal
from quietpager.model.time import to_text
from quietpager.runtime.context import Lazy, make_context
from quietpager.safety import records, storm
from quietpager.safety.machine import incident_id
from quietpager.safety.policy import Policy, Storm
from quietpager.store.memory import MemoryStore
from quietpager.store.port import Put
from tests import deciding
from tests.acts import intents, tell

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(storm=Storm(incidents=4, window=300.0))


def count(store: MemoryStore, now: datetime) -> int:
    return storm.recent(store.get_many(storm.keys(POLICY)), POLICY, now)


def opening(store: MemoryStore, name: str, now: datetime) -> None:
    write = storm.mark(store.get_many(storm.keys(POLICY)), name, POLICY, now)
    store.transact([write] if write else [])


@given(st.lists(st.floats(0, 400), min_size=1, max_size=25))
def test_it_counts_exactly_up_to_the_limit_and_never_too_much(gaps: list[float]) -> None:
    store, now, opened = MemoryStore(), NOW, list[datetime]()
    most = POLICY.storm.incidents + 1
    overrun = False
    for number, gap in enumerate(gaps):
        now += timedelta(seconds=gap)
        opening(store, f"inc-{number}", now)
        opened.append(now)
        true = sum(now - at < timedelta(seconds=300) for at in opened)
        overrun = overrun or true > most
        seen = count(store, now)
        assert seen <= true
        if not overrun:
            assert seen == true
        if true <= POLICY.storm.incidents:
            assert seen <= POLICY.storm.incidents


@pytest.mark.parametrize("every", [0.0, 1.0, 5.0, 30.0])
def test_while_the_storm_lasts_the_brake_holds_and_afterwards_it_lets_go(every: float) -> None:
    """At twice the limit and at any higher rate, and at none of the moments between two openings less."""
    store, now = MemoryStore(), NOW
    for number in range(400):
        opening(store, f"inc-{number}", now)
        now += timedelta(seconds=every)
        if number >= POLICY.storm.incidents:
            assert count(store, now) > POLICY.storm.incidents
    assert count(store, now + timedelta(seconds=301)) == 0


def finding(number: int) -> Finding:
    pod = ObjectRef(api_version="v1", kind="Pod", namespace="shop", name=f"web-{number}", uid=f"p{number}")
    owner = ObjectRef(
        api_version="apps/v1", kind="Deployment", namespace="shop", name="web", uid=f"u{number}"
    )
    return Finding(
        id=f"f{number}", outcome="failing", at=NOW, family="crash", target=pod, why="killed", autonomy="auto",
        signal=Signal(id="s", cluster="c", target=pod, reason="BackOff", first_seen=NOW, last_seen=NOW),
        diagnosis=Diagnosis(
            failure_class="oom_killed", cause=f"workload:u{number}", owner=owner,
            since=NOW - timedelta(hours=1), evidence=(Evidence(text="killed", source="status"),),
        ),
    )  # fmt: skip


class World:
    """Decide over a store in memory, with findings that wait for it, and a clock."""

    def __init__(self, findings: int) -> None:
        self.store, self.now = MemoryStore(), NOW
        self.ctx = make_context(
            "govern-decide", Lazy(lambda: self.store, self.nowhere), policy=POLICY, clock=lambda: self.now
        )
        for number in range(findings):
            one = finding(number)
            self.store.transact([Put(records.finding(one.id), one.to_json(), 0)])

    def nowhere(self) -> Any:
        raise AssertionError("decide reads no cluster")

    def say(self, message: Message) -> None:
        for _ in range(20):
            try:
                handle(message, self.ctx)
            except Retry:
                continue
            return
        raise AssertionError("lost every race")

    def tell(self, number: int) -> None:
        self.say(Message(id="m", type=FINDING, data={"finding": f"f{number}"}))

    def incident(self, number: int) -> str:
        return incident_id(f"workload:u{number}", 1)

    def told(self) -> list[str]:
        """What people are told, in words."""
        return [str(record.body["text"]) for record in self.store.scan("TELL")]


def test_many_incidents_that_open_at_once_are_all_opened_and_counted() -> None:
    world = World(40)
    world.tell(0)
    assert count(world.store, NOW) == 1
    world.tell(0)
    assert count(world.store, NOW) == 1
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(world.tell, range(40)))
    assert len(world.store.scan("INCIDENT")) == 40
    assert count(world.store, NOW) == POLICY.storm.incidents + 1
    assert len(world.store.scan("OPENING")) == POLICY.storm.incidents + 1


def storms(texts: list[str]) -> int:
    return sum("Suspect the observer" in text for text in texts)


def test_of_a_storm_people_are_told_once_and_of_its_incidents_not_one_by_one() -> None:
    world = World(40)
    for number in range(40):
        world.tell(number)
    # Until the limit is passed nobody knows that it is a storm.
    assert len(world.told()) == POLICY.storm.incidents + 2
    assert storms(world.told()) == 1
    quiet = [one for one in world.store.audit(world.incident(39)) if one.kind == "not told"]
    assert [one.body["note"] for one in quiet] == [storm.UNTOLD]


def test_the_same_when_they_open_at_once() -> None:
    world = World(40)
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(world.tell, range(40)))
    assert storms(world.told()) == 1


def test_a_storm_that_lasts_is_told_again_with_each_reminder() -> None:
    world = World(40)
    for number in range(20):
        world.tell(number)
    world.now += timedelta(seconds=POLICY.reminder)
    for number in range(20, 40):
        world.tell(number)
    assert storms(world.told()) == 2


def test_what_was_not_told_speaks_with_its_reminder_once_the_storm_is_over() -> None:
    world = World(40)
    for number in range(40):
        world.tell(number)
    before = len(world.told())
    world.now += timedelta(seconds=POLICY.reminder + 1)
    [due] = [one for one in world.store.due_items() if one.id == records.deadline(world.incident(39))]
    world.say(Message.from_json(due.message))
    assert len(world.told()) == before + 1
    assert storms(world.told()) == 1


def test_without_the_brake_on_messages_everybody_is_told_of_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("quietpager.safety.storm.HELD_BACK", frozenset())
    world = World(40)
    for number in range(40):
        world.tell(number)
    assert len(world.told()) == 40


def test_decide_stops_acting_in_a_storm_and_goes_on_after_it() -> None:
    store, ctx, clock = deciding.world(2, deciding.POLICY.but(storm=Storm(incidents=3)))
    for number in range(4):
        deciding.change(store, records.opening(number), at=to_text(NOW), incident=f"inc-{number}")
    tell(ctx, 0)
    assert intents(store) == []
    refused = Incident.from_json(store.scan("INCIDENT")[0].body).refusals
    assert refused[0].startswith(
        "Guard 6 (storm brake): More than 3 incidents opened in 300 s: suspect the obs"
    )
    clock.now += timedelta(seconds=300)
    tell(ctx, 1)
    assert len(intents(store)) == 1
