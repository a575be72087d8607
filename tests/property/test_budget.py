"""The budget, through decide and a store: slots, scopes, and what races for them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest

from quietpager.change.send import carry_out
from quietpager.deciding.ground import Conditions, Ground, ground_of, scopes
from quietpager.errors import Retry
from quietpager.incident import records
from quietpager.incident.policy import Budget, Limit, Policy
from quietpager.model.cluster import ClusterUnavailable
from quietpager.model.incident import Incident, Intent, IntentState
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Put
from quietpager.store.memory import MemoryStore
from tests.acts import NOW, RAISE_MEMORY, add, facts_of, incident, intents, rehearsal, tell
from tests.deciding import POLICY, world


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


class Away:
    """A cluster that never answers: a claim is as far as it goes."""

    def get(self, *_: Any) -> Any:
        raise ClusterUnavailable("away")


def claim(store: MemoryStore, intent: Intent, now: datetime) -> None:
    with suppress(ClusterUnavailable):
        carry_out(
            intent.id, cage=RAISE_MEMORY.cage, store=store, cluster=Away(), policy=POLICY, clock=lambda: now,  # type: ignore[arg-type]
            still_failing=lambda _: True, actor="test",
        )  # fmt: skip


def test_a_slot_counts_from_the_claim_on_not_from_the_commit() -> None:
    """An act that comes late, but in time, still leaves no window with more acts than the budget."""
    store, ctx, clock = world()
    for number in range(15):
        tell(ctx, number)
    late = NOW + timedelta(seconds=POLICY.claim - 1)
    for intent in intents(store):
        claim(store, intent, late)
    assert {intent.state for intent in intents(store)} == {IntentState.CLAIMED}
    padding = timedelta(seconds=POLICY.budget.window + POLICY.act + 2 * POLICY.skew)
    clock.now = late + padding
    add(store, range(15, 30))
    for number in range(15, 30):
        tell(ctx, number)
    assert len(intents(store)) == POLICY.budget.cluster
    clock.now += timedelta(microseconds=1)
    add(store, range(30, 45))
    for number in range(30, 45):
        tell(ctx, number)
    assert len(intents(store)) == 2 * POLICY.budget.cluster


def test_a_claim_that_comes_when_others_hold_its_slot_is_refused() -> None:
    store, ctx, _ = world(1)
    tell(ctx, 0)
    [intent] = intents(store)
    assert intent.slots
    taken = store.get(intent.slots[0])
    assert taken is not None
    store.transact([Put(taken.key, taken.body | {"holder": "inc-other"}, taken.version)])
    claim(store, intent, NOW)
    [refused] = intents(store)
    assert (refused.state, refused.result) == (IntentState.REFUSED, "its budget was spent by others")


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


def test_each_scope_has_its_own_budget_and_its_own_window() -> None:
    node = ObjectRef(api_version="v1", kind="Node", namespace=None, name="n1", uid="n1")
    budget = Budget(window=60.0, actions={"raise-memory": Limit(acts=7, window=70.0)})
    found = scopes(incident(), rehearsal(), Policy(budget=budget))
    assert {name: (limit.acts, limit.window) for name, limit in found.items()} == {
        "target/shop/u0": (1, 60.0), "namespace/shop": (3, 60.0), "cluster": (10, 60.0),
        "action/raise-memory": (7, 70.0),
    }  # fmt: skip
    in_a_zone = rehearsal().but(facts=facts_of().but(domains=("a",)))
    assert {name: limit.acts for name, limit in scopes(incident(), in_a_zone, Policy()).items()} == {
        "target/shop/u0": 1, "namespace/shop": 3, "domain/a": 3, "cluster": 10,
    }  # fmt: skip
    on_a_node = scopes(incident().but(owner=node), rehearsal().but(owner=node), Policy())
    assert {name: (limit.acts, limit.window) for name, limit in on_a_node.items()} == {
        "target//n1": (1, 3600.0), "cluster": (10, 3600.0), "node/n1": (1, 3600.0), "nodes": (2, 86400.0),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "acts"),
    [
        (Budget(target=9, namespace=2, cluster=9), 2),
        (Budget(target=9, namespace=9, cluster=3), 3),
        (Budget(target=9, namespace=9, cluster=9, actions={"raise-memory": Limit(acts=1, window=1.0)}), 1),
        (Budget(target=9, namespace=9, cluster=9, actions={"rollout-undo": Limit(acts=0, window=1.0)}), 9),
    ],
)
def test_the_smallest_budget_counts_and_the_sentence_names_its_scope(budget: Budget, acts: int) -> None:
    store, ctx, _ = world(12, POLICY.but(budget=budget))
    for number in range(12):
        tell(ctx, number)
    assert len(intents(store)) == acts
    last = Incident.from_json(store.scan("INCIDENT")[-1].body)
    assert "Guard 8 (budget)" in last.refusals[0]
    assert f"({acts} of {acts} in" in last.refusals[0]


def _always(*_args: Any) -> bool:
    return True


def _no_conditions(real: Callable[..., Any]) -> Callable[..., Any]:
    def mutant(*args: Any, **known: Any) -> tuple[Ground, Conditions]:
        ground, _ = real(*args, **known)
        return ground, Conditions(())

    return mutant


def test_the_budget_holds_by_slots_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two mutants: slots that are always free, and slots that are looked at and never taken."""
    store, ctx, _ = world()
    with monkeypatch.context() as patch:
        patch.setattr("quietpager.deciding.ground.slot_is_free", _always)
        for number in range(15):
            tell(ctx, number)
    assert len(intents(store)) == 15
    store, ctx, _ = world()
    monkeypatch.setattr("quietpager.deciding.verdict.ground_of", _no_conditions(ground_of))
    for number in range(15):
        tell(ctx, number)
    assert len(intents(store)) == 15


def test_an_intent_is_not_written_when_the_switch_moves_between_look_and_write(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store, ctx, _ = world(1)

    def moved(*args: Any, **known: Any) -> Any:
        seen = ground_of(*args, **known)
        switch = store.get(records.SWITCH)
        if switch is not None and not switch.body["stopped"]:
            store.transact([Put(records.SWITCH, {"stopped": True}, switch.version)])
        return seen

    monkeypatch.setattr("quietpager.deciding.verdict.ground_of", moved)
    tell(ctx, 0)
    assert intents(store) == []
