"""The storm brake's count: never too high, exact up to its limit, and it holds while the storm lasts."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.govern.decide.handler import handle
from quietpager.errors import Retry
from quietpager.model.finding import Diagnosis, Evidence, Finding
from quietpager.model.message import FINDING, Message
from quietpager.model.objects import ObjectRef
from quietpager.model.signal import Signal
from quietpager.runtime.context import Lazy, make_context
from quietpager.safety import records, storm
from quietpager.safety.policy import Policy, Storm
from quietpager.store.memory import MemoryStore
from quietpager.store.port import Put

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
            failure_class="oom_killed", cause=f"workload:u{number}", owner=owner, since=NOW,
            evidence=(Evidence(text="killed", source="status"),),
        ),
    )  # fmt: skip


def test_many_incidents_that_open_at_once_are_all_opened_and_counted() -> None:
    store = MemoryStore()

    def nowhere() -> Any:
        raise AssertionError("decide reads no cluster")

    ctx = make_context("govern-decide", Lazy(lambda: store, nowhere), policy=POLICY, clock=lambda: NOW)
    for number in range(40):
        one = finding(number)
        store.transact([Put(records.finding(one.id), one.to_json(), 0)])

    def tell(number: int) -> None:
        for _ in range(20):
            try:
                handle(Message(id="m", type=FINDING, data={"finding": f"f{number}"}), ctx)
            except Retry:
                continue
            return
        raise AssertionError("lost every race")

    tell(0)
    assert count(store, NOW) == 1
    tell(0)
    assert count(store, NOW) == 1
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(tell, range(40)))
    assert len(store.scan("INCIDENT")) == 40
    assert count(store, NOW) == POLICY.storm.incidents + 1
    assert len(store.scan("OPENING")) == POLICY.storm.incidents + 1
