"""The storm brake's counts: never too high, exact up to their limits, and they hold while the storm lasts.

And whose they are: what opens in one namespace stops that namespace, and changes nothing for another.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.errors import Retry
from quietpager.functions.govern.decide.handler import handle
from quietpager.incident import records, storm
from quietpager.incident.opening import incident_id
from quietpager.incident.policy import Places, Policy, Storm
from quietpager.model.finding import Diagnosis, Evidence, Finding
from quietpager.model.incident import Incident
from quietpager.model.message import FINDING, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Put
from quietpager.model.time import to_text
from quietpager.runtime.context import Lazy, make_context
from quietpager.store.memory import MemoryStore
from tests import deciding
from tests.acts import intents, tell

NOW = datetime(2026, 1, 1, tzinfo=UTC)
EVERYWHERE = Places(allow=("*",), deny=("off-*",))
POLICY = Policy(storm=Storm(incidents=6, each=2, namespace=4, window=300.0), namespaces=EVERYWHERE)
MANY = [f"ns-{number}" for number in range(20)]
"""Namespaces, each of which opens what is everyday life for it."""


def owner(namespace: str, name: str = "web") -> ObjectRef:
    return ObjectRef(
        api_version="apps/v1", kind="Deployment", namespace=namespace, name=name, uid=f"u-{namespace}-{name}"
    )


def count(store: MemoryStore, now: datetime, namespace: str = "shop") -> storm.Openings:
    one = owner(namespace)
    return storm.openings(store.get_many(storm.keys(one, POLICY)), one, POLICY, now)


def opening(store: MemoryStore, name: str, now: datetime, namespace: str = "shop") -> None:
    one = owner(namespace)
    store.transact([*storm.marks(store.get_many(storm.keys(one, POLICY)), one, name, POLICY, now)])


@given(st.lists(st.floats(0, 400), min_size=1, max_size=25))
def test_a_namespace_is_counted_exactly_up_to_its_limit_and_never_too_much(gaps: list[float]) -> None:
    store, now, opened = MemoryStore(), NOW, list[datetime]()
    most = POLICY.storm.namespace + 1
    overrun = False
    for number, gap in enumerate(gaps):
        now += timedelta(seconds=gap)
        opening(store, f"inc-{number}", now)
        opened.append(now)
        true = sum(now - at < timedelta(seconds=300) for at in opened)
        overrun = overrun or true > most
        seen = count(store, now).own
        assert seen <= true
        if not overrun:
            assert seen == true
        if true <= POLICY.storm.namespace:
            assert seen <= POLICY.storm.namespace


PLACES = st.sampled_from(["a", "b", "c", "d", "e"])


@given(st.lists(st.tuples(PLACES, st.floats(0, 200)), min_size=1, max_size=30))
def test_the_cluster_is_counted_in_shares_exactly_up_to_its_limit(steps: list[tuple[str, float]]) -> None:
    store, now, opened = MemoryStore(), NOW, list[tuple[str, datetime]]()
    overrun = False
    for number, (namespace, gap) in enumerate(steps):
        now += timedelta(seconds=gap)
        opening(store, f"inc-{number}", now, namespace)
        opened.append((namespace, now))
        of = [one for one, at in opened if now - at < timedelta(seconds=300)]
        true = sum(min(of.count(one), POLICY.storm.each) for one in set(of))
        # A namespace that is itself in a storm is counted no more exactly: its share is full, though.
        overrun = overrun or true > POLICY.storm.incidents or max(map(of.count, of)) > POLICY.storm.each
        seen = count(store, now).acting
        assert seen <= true
        if not overrun:
            assert seen == true


@pytest.mark.parametrize("every", [0.0, 1.0, 5.0, 30.0])
def test_while_the_storm_lasts_the_brake_holds_and_afterwards_it_lets_go(every: float) -> None:
    """In one namespace, at every rate above its limit, and at no moment between two openings less."""
    store, now = MemoryStore(), NOW
    for number in range(400):
        opening(store, f"inc-{number}", now)
        now += timedelta(seconds=every)
        if number >= POLICY.storm.namespace:
            assert count(store, now).own > POLICY.storm.namespace
    assert count(store, now + timedelta(seconds=301)).own == 0


@pytest.mark.parametrize("every", [0.0, 1.0, 5.0, 20.0])
def test_the_same_for_a_storm_of_the_whole_cluster(every: float) -> None:
    store, now = MemoryStore(), NOW
    for number in range(400):
        opening(store, f"inc-{number}", now, MANY[number % len(MANY)])
        now += timedelta(seconds=every)
        if number >= POLICY.storm.incidents:
            assert count(store, now).acting > POLICY.storm.incidents
    assert count(store, now + timedelta(seconds=301)).acting == 0


# --- one namespace and the others ---------------------------------------------------------------------------

STEP = st.tuples(st.sampled_from(["mine", "mine", "b", "off-d"]), st.floats(0, 120))


def seen_by_others(steps: Iterable[tuple[str, float]], noise: str | None) -> list[object]:
    """Play openings, `mine` under the name `noise` or not at all; give all that decides for the others."""
    store, now, found = MemoryStore(), NOW, list[object]()
    for number, (namespace, gap) in enumerate(steps):
        now += timedelta(seconds=gap)
        place = noise if namespace == "mine" else namespace
        if place is not None:
            opening(store, f"inc-{number}", now, place)
        for other in ("b", "off-d", "quiet"):
            one = owner(other)
            records_ = store.get_many(storm.keys(one, POLICY))
            had = storm.openings(records_, one, POLICY, now)
            storms = had.acting > POLICY.storm.incidents, storm.lasts(records_, one, POLICY, now)
            found.append((other, had.own, storms))
    return found


@given(st.lists(STEP, max_size=60), st.sampled_from(["mine", "off-mine", "kube-mine"]))
def test_whatever_one_namespace_does_the_decisions_for_the_others_are_the_same(
    steps: list[tuple[str, float]], noise: str
) -> None:
    """The others leave room for one share, as they do but in a storm: two of them have 2 x 2 of 6 at most."""
    assert seen_by_others(steps, noise) == seen_by_others(steps, None)


def test_where_one_namespace_counts_whole_it_stops_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "_share", lambda policy: policy.storm.incidents + 1)
    steps = [("b", 0.0), ("b", 0.0), *[("mine", 0.0)] * 30]
    assert seen_by_others(steps, "mine") != seen_by_others(steps, None)


def test_what_is_never_written_to_stops_nobody() -> None:
    store = MemoryStore()
    for number in range(40):
        opening(store, f"inc-{number}", NOW, f"off-{number}")
    assert count(store, NOW).acting == 0
    assert count(store, NOW).telling > POLICY.storm.incidents


def test_openings_at_once_never_take_more_than_the_namespaces_share() -> None:
    store = MemoryStore()

    def open_one(number: int) -> None:
        for _ in range(200):
            try:
                opening(store, f"inc-{number}", NOW)
            except Exception:  # noqa: BLE001, S112 (a lost race, which decide tries again as well)
                continue
            return
        raise AssertionError("lost every race")

    with ThreadPoolExecutor(16) as pool:
        list(pool.map(open_one, range(40)))
    assert count(store, NOW).own == POLICY.storm.namespace + 1
    held = [one for one in store.scan("OPENING#named") if one.body["namespace"] == "shop"]
    assert len(held) == POLICY.storm.each


# --- through decide -----------------------------------------------------------------------------------------


def finding(number: int, namespace: str) -> Finding:
    pod = ObjectRef(api_version="v1", kind="Pod", namespace=namespace, name=f"web-{number}", uid=f"p{number}")
    return Finding(
        id=f"f{number}", outcome="failing", at=NOW, family="crash", target=pod, why="killed", autonomy="auto",
        cluster="c",
        diagnosis=Diagnosis(
            failure_class="oom_killed", cause=f"workload:u{number}", owner=owner(namespace, f"web-{number}"),
            since=NOW - timedelta(hours=1), evidence=(Evidence(text="killed", source="status"),),
        ),
    )  # fmt: skip


class World:
    """Decide over a store in memory, with findings that wait for it, and a clock."""

    def __init__(self, spaces: list[str]) -> None:
        self.store, self.now = MemoryStore(), NOW
        self.ctx = make_context(
            "govern-decide", Lazy(lambda: self.store, self.nowhere), policy=POLICY, clock=lambda: self.now
        )
        for number, namespace in enumerate(spaces):
            one = finding(number, namespace)
            self.store.transact([Put(records.finding(one.id), one.to_json(), 0)])

    def nowhere(self) -> Any:
        raise AssertionError("decide reads no cluster")

    def say(self, message: Message) -> None:
        for _ in range(100):
            try:
                handle(message, self.ctx)
            except Retry:
                continue
            return
        raise AssertionError("lost every race")

    def tell(self, number: int) -> None:
        self.say(Message(id="m", type=FINDING, data={"finding": f"f{number}"}))

    def incident(self, number: int) -> str:
        return incident_id(f"workload:u{number}", 1, "c")

    def told(self, namespace: str = "") -> list[str]:
        """What people are told, in words; of one namespace, where it is given."""
        found: list[str] = []
        for record in self.store.scan("TELL"):
            name = record.key.partition("#")[2].split(".")[0]
            kept = self.store.get(records.incident(name))
            assert kept is not None
            if namespace in ("", Incident.from_json(kept.body).owner.namespace):
                found.append(str(record.body["text"]))
        return found


def test_many_incidents_that_open_at_once_are_all_opened_and_counted() -> None:
    world = World(["shop"] * 40)
    world.tell(0)
    assert count(world.store, NOW).own == 1
    world.tell(0)
    assert count(world.store, NOW).own == 1
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(world.tell, range(40)))
    assert len(world.store.scan("INCIDENT")) == 40
    assert count(world.store, NOW).own == POLICY.storm.namespace + 1
    assert len(world.store.scan("OPENING")) == 1 + POLICY.storm.each


def storms(texts: list[str]) -> int:
    return sum("A storm" in text and "lasts in the cluster" not in text for text in texts)


SPREAD = [MANY[number % len(MANY)] for number in range(60)]


def test_of_a_storm_people_are_told_once_and_of_its_incidents_not_one_by_one() -> None:
    world = World(["shop"] * 40)
    for number in range(40):
        world.tell(number)
    # Until the limit is passed nobody knows that it is a storm.
    assert len(world.told()) == POLICY.storm.namespace + 2
    assert storms(world.told()) == 1
    assert any("A storm in namespace shop: more than 4 incidents" in text for text in world.told())
    quiet = [one for one in world.store.audit(world.incident(39)) if one.kind == "not told"]
    assert [one.body["note"] for one in quiet] == [storm.UNTOLD]


def test_in_a_storm_of_the_cluster_each_namespace_speaks_once_and_the_storm_is_told_once() -> None:
    world = World(SPREAD)
    for number in range(60):
        world.tell(number)
    assert storms(world.told()) == 1
    assert {len(world.told(namespace)) for namespace in MANY} <= {1, 2}
    assert len(world.told()) <= POLICY.storm.incidents + 1 + len(MANY)


def test_the_same_when_they_open_at_once() -> None:
    for spaces in (["shop"] * 40, SPREAD):
        world = World(spaces)
        with ThreadPoolExecutor(16) as pool:
            list(pool.map(world.tell, range(len(spaces))))
        assert storms(world.told()) == 1
        assert all(world.told(namespace) for namespace in set(spaces))


def test_a_storm_that_lasts_is_told_again_with_each_reminder() -> None:
    for spaces in (["shop"] * 60, SPREAD):
        world = World(spaces)
        for number in range(30):
            world.tell(number)
        world.now += timedelta(seconds=POLICY.reminder)
        for number in range(30, 60):
            world.tell(number)
        assert storms(world.told()) == 2


def test_what_was_not_told_speaks_with_its_reminder_once_the_storm_is_over() -> None:
    world = World(["shop"] * 40)
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
    monkeypatch.setattr("quietpager.incident.storm.HELD_BACK", frozenset())
    world = World(["shop"] * 40)
    for number in range(40):
        world.tell(number)
    assert len(world.told()) == 40


@pytest.mark.parametrize("whose", ["its own namespace", "the cluster"])
def test_decide_stops_acting_in_a_storm_and_goes_on_after_it(whose: str) -> None:
    limits = Storm(incidents=6, each=2, namespace=3)
    store, ctx, clock = deciding.world(2, deciding.POLICY.but(storm=limits))
    if whose == "the cluster":
        for number in range(7):
            body = {"at": to_text(NOW), "incident": f"inc-{number}", "namespace": f"n{number // 2}"}
            deciding.change(store, records.opening("named", number), **body)
        said = "Guard 6 (storm brake): More than 6 incidents opened in 300 s in 4 namespaces, of which each "
    else:
        opened = [{"at": to_text(NOW), "incident": f"inc-{number}"} for number in range(4)]
        deciding.change(store, records.opened_in("shop"), opened=opened)
        said = "Guard 6 (storm brake): More than 3 incidents opened in namespace shop in 300 s. Acting has "
    tell(ctx, 0)
    assert intents(store) == []
    refused = Incident.from_json(store.scan("INCIDENT")[0].body).refusals
    assert refused[0].startswith(said)
    clock.now += timedelta(seconds=300)
    tell(ctx, 1)
    assert len(intents(store)) == 1
