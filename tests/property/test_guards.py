"""Each guard says no in its case, and only then; one that is missing or broken is noticed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Never

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.govern.decide import writes
from functions.govern.decide.handler import handle
from quietpager.errors import Retry
from quietpager.model.finding import Remedy
from quietpager.model.incident import Autonomy, Edit, Incident, Intent, PlanFacts, Rehearsal, State, lowest
from quietpager.model.message import REHEARSED, Message
from quietpager.model.objects import ObjectRef
from quietpager.runtime.context import Context, Lazy, make_context
from quietpager.safety import records
from quietpager.safety.guards import GUARDS, Ground, autonomy, check, slot_is_free
from quietpager.safety.policy import Budget, Policy
from quietpager.store.memory import MemoryStore
from quietpager.store.port import Put

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(autonomy=Autonomy.AUTO, budget=Budget(target=1, namespace=100, cluster=4))
FACTS = PlanFacts(namespace="shop", opted_in=True, ignored=False, dry_run="admitted")


def owner(number: int = 0) -> ObjectRef:
    return ObjectRef(
        api_version="apps/v1", kind="Deployment", namespace="shop", name=f"web-{number}", uid=f"u{number}"
    )


def incident(number: int = 0) -> Incident:
    return Incident(
        id=f"inc-{number}", cause=f"workload:u{number}", episode=1, cluster="c", family="crash",
        failure_class="oom_killed", owner=owner(number), state=State.PLANNING, opened_at=NOW,
        state_since=NOW, autonomy=Autonomy.AUTO, since=NOW, remedies=(Remedy(action="raise-memory"),),
        rehearsal=f"inc-{number}-r1", rehearsals=1, deadline_at=NOW, recheck_every=10.0,
    )  # fmt: skip


def rehearsal(number: int = 0) -> Rehearsal:
    return Rehearsal(
        id=f"inc-{number}-r1", incident=f"inc-{number}", remedy=Remedy(action="raise-memory"),
        owner=owner(number), state="rehearsed", asked_at=NOW, generation=1, facts=FACTS,
        edits=(Edit(path="/spec/x", had=1, gets=2),),
    )  # fmt: skip


GOOD = Ground(incident=incident(), rehearsal=rehearsal(), policy=POLICY, now=NOW, stopped=False)


def facts(**changes: Any) -> Ground:
    return replace(GOOD, rehearsal=rehearsal().but(facts=FACTS.but(**changes)))


CASES: dict[str, tuple[int, Ground]] = {
    "stopped": (1, replace(GOOD, stopped=True)),
    "platform namespace": (2, facts(namespace="kube-system")),
    "our own namespace": (2, facts(namespace="quietpager-test")),
    "no namespace": (2, facts(namespace="")),
    "not opted in": (2, facts(opted_in=False)),
    "ignored": (2, facts(ignored=True)),
    "owned": (5, facts(owned_by="Argo CD (shop)")),
    "breaker open": (7, replace(GOOD, breaker_until=NOW + timedelta(seconds=1))),
    "acted just now": (7, replace(GOOD, last_act=NOW - timedelta(seconds=POLICY.cool_down - 1))),
    "budget spent": (8, replace(GOOD, spent=("cluster",))),
    "changes nothing": (10, replace(GOOD, rehearsal=rehearsal().but(edits=()))),
    "outside may_change": (10, facts(outside_may_change=("/spec/replicas",))),
    "does not fit": (10, facts(does_not_fit="no room")),
    "dry run refused": (10, facts(dry_run_refused="denied by a webhook")),
    "dwell": (12, replace(GOOD, dwell_met=False)),
}


@pytest.mark.parametrize("mode", ["patch", "patch+propose"])
def test_what_is_owned_is_written_where_the_policy_says_so(mode: str) -> None:
    assert check(facts(owned_by="Argo CD (shop)", owner_mode=mode)) is None


def test_the_owner_is_named() -> None:
    refusal = check(facts(owned_by="Argo CD (shop)"))
    assert refusal is not None
    assert "Argo CD (shop)" in refusal.sentence


def test_with_nothing_against_it_all_guards_pass() -> None:
    assert check(GOOD) is None
    assert check(replace(GOOD, breaker_until=NOW, last_act=NOW - timedelta(seconds=POLICY.cool_down))) is None


@pytest.mark.parametrize("case", CASES)
def test_each_guard_refuses_in_its_case_with_number_and_sentence(case: str) -> None:
    number, ground = CASES[case]
    refusal = check(ground)
    assert refusal is not None
    assert refusal.number == number
    assert refusal.sentence.startswith(f"Guard {number} (")


@pytest.mark.parametrize("case", CASES)
def test_without_its_guard_the_case_gets_through(case: str) -> None:
    number, ground = CASES[case]
    mutant = tuple(guard for guard in GUARDS if guard[0] != number)
    assert len(mutant) == len(GUARDS) - 1
    assert check(ground, mutant) is None


def test_every_guard_has_a_case() -> None:
    assert {number for number, _, _ in GUARDS} == {number for number, _ in CASES.values()}


@pytest.mark.parametrize("place", range(len(GUARDS)))
@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), ZeroDivisionError(), RecursionError()])
def test_a_guard_that_raises_refuses(place: int, error: Exception) -> None:
    def broken(_ground: Ground) -> Never:
        raise error

    number, name, _ = GUARDS[place]
    refusal = check(GOOD, (*GUARDS[:place], (number, name, broken), *GUARDS[place + 1 :]))
    assert refusal is not None
    assert (refusal.number, refusal.guard) == (number, name)


def test_a_plan_without_facts_is_refused() -> None:
    refusal = check(replace(GOOD, rehearsal=rehearsal().but(facts=None)))
    assert refusal is not None
    assert refusal.number == 2


@given(st.sampled_from(list(Autonomy)))
def test_only_an_approval_raises_the_autonomy(dial: Autonomy) -> None:
    one = incident().but(autonomy=dial)
    assert autonomy(replace(GOOD, incident=one)) is dial
    assert autonomy(replace(GOOD, incident=one.but(approved="a"))) is Autonomy.AUTO


@given(st.sampled_from(list(Autonomy)), st.sampled_from(list(Autonomy)))
def test_an_actions_own_limit_lowers_the_dial_and_never_raises_it(dial: Autonomy, limit: Autonomy) -> None:
    one = incident().but(autonomy=dial)
    assert autonomy(replace(GOOD, incident=one, at_most=limit)) is lowest(dial, limit)
    assert autonomy(replace(GOOD, incident=one.but(approved="a"), at_most=limit)) is Autonomy.AUTO


@given(st.floats(1, 10**6), st.floats(0, 1000), st.floats(0, 100), st.integers(1, 10**9))
def test_a_slot_is_free_only_after_window_act_and_twice_the_skew(
    window: float, act: float, skew: float, more: int
) -> None:
    policy = Policy(budget=Budget(window=window), act=act, skew=skew)
    padding = timedelta(seconds=window + act + 2 * skew)
    assert not slot_is_free(NOW, policy, NOW + padding)
    assert not slot_is_free(NOW, policy, NOW)
    assert slot_is_free(NOW, policy, NOW + padding + timedelta(microseconds=more))


# --- the budget, through decide and a store -------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def world(count: int = 15) -> tuple[MemoryStore, Context, Clock]:
    store, clock = MemoryStore(), Clock()
    store.transact([Put(records.SWITCH, {"stopped": False}, 0)])
    add(store, range(count))

    def nowhere() -> Any:
        raise AssertionError("decide reads no cluster")

    ctx = make_context("govern-decide", Lazy(lambda: store, nowhere), policy=POLICY, clock=clock)
    return store, ctx, clock


def add(store: MemoryStore, numbers: range) -> None:
    for number in numbers:
        store.transact(
            [
                Put(records.incident(f"inc-{number}"), incident(number).to_json(), 0),
                Put(records.rehearsal(f"inc-{number}-r1"), rehearsal(number).to_json(), 0),
            ]
        )


def tell(ctx: Context, number: int) -> None:
    handle(Message(id="m", type=REHEARSED, data={"rehearsal": f"inc-{number}-r1"}), ctx)


def intents(store: MemoryStore) -> list[Intent]:
    return [Intent.from_json(record.body) for record in store.scan("INTENT")]


def test_never_more_acts_than_the_budget_and_afterwards_as_many_again() -> None:
    store, ctx, clock = world()
    for number in range(15):
        tell(ctx, number)
        tell(ctx, number)
    assert len(intents(store)) == POLICY.budget.cluster
    padding = timedelta(seconds=POLICY.budget.window + POLICY.act + 2 * POLICY.skew)
    clock.now = NOW + padding
    add(store, range(15, 30))
    for number in range(15, 20):
        tell(ctx, number)
    assert len(intents(store)) == POLICY.budget.cluster
    clock.now += timedelta(microseconds=1)
    for number in range(20, 30):
        tell(ctx, number)
    assert len(intents(store)) == 2 * POLICY.budget.cluster


def test_many_at_the_same_time_share_the_budget() -> None:
    store, ctx, _ = world()

    def one(number: int) -> None:
        for _ in range(20):
            try:
                return tell(ctx, number)
            except Retry:
                continue
        raise AssertionError("lost every race")

    with ThreadPoolExecutor(15) as pool:
        list(pool.map(one, range(15)))
    assert len(intents(store)) == POLICY.budget.cluster


def _always(*_args: Any) -> bool:
    return True


def _no_conditions(real: Callable[..., Any]) -> Callable[..., Any]:
    def ground_of(*args: Any) -> tuple[Ground, writes.Conditions]:
        ground, _ = real(*args)
        return ground, writes.Conditions(())

    return ground_of


def test_the_budget_holds_by_slots_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mutants: slots that are always free, and slots that are looked at and never taken."""
    store, ctx, _ = world()
    with monkeypatch.context() as patch:
        patch.setattr(writes, "slot_is_free", _always)
        for number in range(15):
            tell(ctx, number)
    assert len(intents(store)) == 15
    store, ctx, _ = world()
    monkeypatch.setattr("functions.govern.decide.handler.ground_of", _no_conditions(writes.ground_of))
    for number in range(15):
        tell(ctx, number)
    assert len(intents(store)) == 15


def test_an_intent_is_not_written_when_the_switch_moves_between_look_and_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, ctx, _ = world(1)
    real = writes.ground_of

    def ground_of(*args: Any) -> Any:
        seen = real(*args)
        switch = store.get(records.SWITCH)
        if switch is not None and not switch.body["stopped"]:
            store.transact([Put(records.SWITCH, {"stopped": True}, switch.version)])
        return seen

    monkeypatch.setattr("functions.govern.decide.handler.ground_of", ground_of)
    tell(ctx, 0)
    assert intents(store) == []
