"""Each guard says no in its case, and only then; one that is missing or broken is noticed."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.govern.decide.handler import handle
from infra.cli.policy import explain, explain_now
from quietpager.cluster.port import ClusterUnavailable
from quietpager.errors import Retry
from quietpager.model.finding import Diagnosis, Dwell, Finding
from quietpager.model.incident import (
    ALL_APPLY,
    Applies,
    Autonomy,
    Disruption,
    Fleet,
    Incident,
    Intent,
    IntentState,
    PlanFacts,
    Rehearsal,
    State,
    lowest,
)
from quietpager.model.message import DUE, UNDO, Message
from quietpager.model.objects import ObjectRef
from quietpager.model.time import to_text
from quietpager.runtime.context import Context, make_context
from quietpager.safety import records
from quietpager.safety.effect import carry_out
from quietpager.safety.ground import Conditions, ground_of, scopes, slot_is_free
from quietpager.safety.guards import (
    GUARDS,
    UNDO_GUARDS,
    Ground,
    Level,
    Said,
    Verdict,
    autonomy,
    check,
    refusal,
    verdicts,
)
from quietpager.safety.machine import Input, News, step
from quietpager.safety.policy import Budget, Change, Limit, Policy, Storm
from quietpager.store.memory import MemoryStore
from quietpager.store.port import Put
from tests.acts import NOW, add, context, facts_of, incident, intents, owner, rehearsal, tell

POLICY = Policy(autonomy=Autonomy.AUTO, budget=Budget(target=1, namespace=100, cluster=4))


def pod(number: int, uid: str | None = None) -> ObjectRef:
    return ObjectRef(
        api_version="v1", kind="Pod", namespace="shop", name=f"web-{number}", uid=uid or f"p{number}"
    )


EVICTS = Applies(fraction=True, rollout_of_others="refuse", pdb=True)


FREE = Level("cluster", Limit(acts=4, window=3600.0), 0)
GOOD = Ground(
    incident=incident(), rehearsal=rehearsal(), policy=POLICY, now=NOW, stopped=False,
    breaker_until=None, last_act=None, levels=(FREE,), recent=0, at_most=Autonomy.AUTO,
)  # fmt: skip


def facts(**changes: Any) -> Ground:
    return replace(GOOD, rehearsal=rehearsal().but(facts=facts_of().but(**changes)))


def evicts(count: int = 1, **changes: Any) -> Ground:
    """An act that removes pods, with nothing against it but what is changed."""
    good: dict[str, Any] = {
        "guards": EVICTS, "targets": tuple(pod(n) for n in range(count)), "siblings": 9, "healthy": 8,
        "domains": ("a",), "disruptions": (Disruption(name="web", allowed=1, targets=("p0",)),),
    }  # fmt: skip
    return facts(**(good | changes))


def ruled(**changes: Any) -> Ground:
    return replace(GOOD, policy=POLICY.but(**changes))


def waited(seconds: float, restarts: int) -> Ground:
    return replace(GOOD, incident=incident().but(since=NOW - timedelta(seconds=seconds), restarts=restarts))


def freezes(*windows: dict[str, Any]) -> Ground:
    return replace(GOOD, policy=Policy.model_validate({"freeze": windows}))


CLOSED = {"from": NOW - timedelta(seconds=1), "to": NOW + timedelta(seconds=1), "why": "year's end"}
CASES: dict[str, tuple[int, Ground]] = {
    "stopped": (1, replace(GOOD, stopped=True)),
    "platform namespace": (2, facts(namespace="kube-system")),
    "our own namespace": (2, facts(namespace="quietpager-test")),
    "no namespace": (2, facts(namespace="")),
    "not opted in": (2, facts(opted_in=False)),
    "ignored": (2, facts(ignored=True)),
    "owned": (5, facts(owned_by="Argo CD (shop)")),
    "a target elsewhere": (2, evicts(targets=(pod(0).but(namespace="other"),))),
    "no target": (3, facts(targets=())),
    "a target by its name alone": (3, facts(targets=(owner().but(uid=None),))),
    "a target twice": (3, evicts(targets=(pod(0), pod(0)))),
    "pods of nobody knows how many": (3, evicts(siblings=None)),
    "nobody knows how many stay": (3, evicts(healthy=None)),
    "more than a third": (3, evicts(count=4, disruptions=())),
    "nobody healthy would stay": (3, evicts(healthy=0)),
    "two failure domains": (3, evicts(domains=("a", "b"))),
    "no failure domain": (3, evicts(domains=())),
    "a freeze window": (4, freezes(CLOSED)),
    "a recurring freeze window": (4, freezes({"cron": "0 0 1 1 *", "duration": 60})),
    "a drain": (4, facts(fleet=Fleet(nodes=10, cordoned=("n1",)))),
    "an upgrade": (4, facts(fleet=Fleet(nodes=10, kubelets=("v1.34.0", "v1.35.4")))),
    "somebody else's rollout": (4, facts(other_rollout="2 failing pods are of revision 1, the newest is 2")),
    "too many incidents": (6, replace(GOOD, recent=POLICY.storm.incidents + 1)),
    "too many unhealthy nodes": (6, facts(fleet=Fleet(nodes=10, unhealthy=3))),
    "two unhealthy nodes of nine": (6, facts(fleet=Fleet(nodes=9, unhealthy=2))),
    "breaker open": (7, replace(GOOD, breaker_until=NOW + timedelta(seconds=1))),
    "acted just now": (7, replace(GOOD, last_act=NOW - timedelta(seconds=POLICY.cool_down - 1))),
    "budget spent": (8, replace(GOOD, levels=(FREE, replace(FREE, taken=4)))),
    "budgets nobody looked at": (8, replace(GOOD, levels=())),
    "a budget of none": (8, replace(GOOD, levels=(Level("action/x", Limit(acts=0, window=1.0), 0),))),
    "disruption budgets nobody read": (9, evicts(disruptions=None)),
    "a disruption budget that allows none": (
        9, evicts(disruptions=(Disruption(name="web", allowed=0, targets=("p0",)),))
    ),
    "two disruption budgets on one pod": (
        9, evicts(disruptions=tuple(Disruption(name=n, allowed=5, targets=("p0",)) for n in "ab"))
    ),
    "changes nothing": (10, replace(GOOD, rehearsal=rehearsal().but(edits=()))),
    "outside may_change": (10, facts(outside_may_change=("/spec/replicas",))),
    "does not fit": (10, facts(does_not_fit="no room")),
    "dry run refused": (10, facts(dry_run_refused="denied by a webhook")),
    "not yet": (12, waited(59, 1)),
    "a policy that waits longer": (12, ruled(dwell_seconds=3601.0)),
}  # fmt: skip

PASSES: dict[str, Ground] = {
    "everything": GOOD,
    "breaker and cool-down just over": replace(
        GOOD, breaker_until=NOW, last_act=NOW - timedelta(seconds=POLICY.cool_down)
    ),
    "an eviction within all limits": evicts(),
    "exactly a third": evicts(count=3, disruptions=()),
    "exactly the floor": evicts(healthy=1),
    "a pod that no budget selects": evicts(disruptions=()),
    "a freeze window just over": freezes({"from": NOW - timedelta(seconds=1), "to": NOW}),
    "a freeze window elsewhere": freezes(CLOSED | {"namespace": "bank-*"}),
    "a recurring freeze window just over": freezes({"cron": "59 23 31 12 *", "duration": 60}),
    "a cordoned node that is everyday life": replace(
        facts(fleet=Fleet(nodes=10, cordoned=("n1",))), policy=POLICY.but(change=Change(cordoned=1))
    ),
    "kubelets of two versions as always": replace(
        facts(fleet=Fleet(nodes=10, kubelets=("a", "b"))), policy=POLICY.but(change=Change(kubelets=2))
    ),
    "a rollout that the action may ignore": facts(
        other_rollout="x", guards=Applies(fraction=False, rollout_of_others="ignore", pdb=False)
    ),
    "as many incidents as are allowed": replace(GOOD, recent=POLICY.storm.incidents),
    "one unhealthy node of two": facts(fleet=Fleet(nodes=2, unhealthy=1)),
    "exactly a fifth of the nodes": facts(fleet=Fleet(nodes=10, unhealthy=2)),
    "the dwell's last second": waited(60, 0),
    "restarts enough at once": waited(0, 2),
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


@pytest.mark.parametrize("case", PASSES)
def test_at_each_limit_all_guards_pass(case: str) -> None:
    assert check(PASSES[case]) is None


@pytest.mark.parametrize("case", CASES)
def test_each_guard_refuses_in_its_case_with_number_and_sentence(case: str) -> None:
    number, ground = CASES[case]
    refused = check(ground)
    assert refused is not None
    assert refused.number == number
    assert refused.sentence.startswith(f"Guard {number} (")
    assert "itself failed" not in refused.sentence or "nobody" in case


@pytest.mark.parametrize("case", CASES)
def test_without_its_guard_the_case_gets_through(case: str) -> None:
    number, ground = CASES[case]
    mutant = tuple(guard for guard in GUARDS if guard[0] != number)
    assert len(mutant) == len(GUARDS) - 1
    assert check(ground, mutant) is None


def test_every_guard_has_a_case_and_they_are_in_order() -> None:
    numbers = [number for number, _, _ in GUARDS]
    assert set(numbers) == {number for number, _ in CASES.values()}
    assert numbers == sorted(set(numbers))


def test_an_undo_passes_five_guards_and_no_more() -> None:
    assert {number for number, _, _ in UNDO_GUARDS} == {n for n, _, _ in GUARDS} & {1, 2, 5, 8, 10}
    for number, ground in CASES.values():
        assert (check(ground, UNDO_GUARDS) is not None) == (number in {1, 2, 5, 8, 10})


@pytest.mark.parametrize("case", CASES)
def test_every_guard_is_asked_and_its_figures_survive_the_audit(case: str) -> None:
    number, ground = CASES[case]
    said = verdicts(ground)
    assert [one.number for one in said] == [n for n, _, _ in GUARDS]
    assert [Verdict.from_json(one.to_json()) for one in said] == list(said)
    decided = refusal(said)
    assert decided is not None
    assert decided.number == number
    assert decided.figures or decided.sentence


def test_what_does_not_apply_says_so() -> None:
    said = {one.number: one.said for one in verdicts(GOOD)}
    assert said == dict.fromkeys(said, "pass") | {9: "not applicable"}
    assert {one.said for one in verdicts(evicts())} == {"pass"}


# --- properties: whatever the facts -----------------------------------------------------------------------

NAMES = st.sampled_from(["shop", "kube-system", "kube-", "openshift-x", "knative-eventing", "quietpager", ""])
TARGETS = st.builds(pod, st.integers(0, 9), st.sampled_from([None, "u1", "u2"])).flatmap(
    lambda one: NAMES.map(lambda name: one.but(namespace=name or None))
)
ANY_FACTS = st.builds(
    PlanFacts,
    namespace=NAMES, opted_in=st.booleans(), ignored=st.booleans(),
    guards=st.sampled_from(
        [EVICTS, ALL_APPLY.but(fraction=False, pdb=False), ALL_APPLY.but(rollout_of_others="ignore")]
    ),
    targets=st.lists(TARGETS, max_size=4).map(tuple), siblings=st.none() | st.integers(-1, 9),
    healthy=st.none() | st.integers(-1, 9), domains=st.lists(st.sampled_from("ab"), max_size=2).map(tuple),
    fleet=st.none() | st.builds(Fleet, nodes=st.integers(0, 9), unhealthy=st.integers(0, 3)),
    disruptions=st.none() | st.just(()), dry_run=st.sampled_from(["skipped", "admitted"]),
)  # fmt: skip


@given(ANY_FACTS, NAMES, st.booleans(), st.sampled_from([(), ("x",), POLICY.protected_prefixes]))
def test_no_facts_let_a_protected_namespace_through(
    some: PlanFacts, name: str, approved: bool, prefixes: tuple[str, ...]
) -> None:
    """Whatever a remediator, a person or a policy file says: neither namespace may be the platform's."""
    one = incident().but(approved="yes" if approved else None)
    plan = rehearsal().but(facts=some, owner=owner().but(namespace=name or None))
    policy = POLICY.but(protected_prefixes=prefixes)
    for guards in (GUARDS, UNDO_GUARDS):
        if check(replace(GOOD, incident=one, rehearsal=plan, policy=policy), guards) is None:
            places = {some.namespace, name, *(target.namespace for target in some.targets)}
            assert places == {"shop"}
            assert some.opted_in
            assert not some.ignored


@given(
    st.lists(st.integers(0, 30), max_size=12), st.integers(0, 30), st.integers(0, 30),
    st.lists(st.sampled_from("abc"), max_size=3, unique=True), st.floats(0, 1), st.integers(0, 5),
)  # fmt: skip
def test_whatever_passes_is_explicit_within_the_fraction_and_leaves_the_floor(
    numbers: list[int], siblings: int, healthy: int, domains: list[str], fraction: float, floor: int
) -> None:
    targets = tuple(pod(n) for n in numbers)
    ground = evicts(
        targets=targets, siblings=siblings, healthy=healthy, domains=tuple(domains), disruptions=()
    )
    ground = replace(ground, policy=POLICY.but(fraction=fraction, floor=floor))
    within = (
        0 < len(targets) <= fraction * siblings and len(set(numbers)) == len(numbers)
        and healthy >= floor and len(domains) == 1
    )  # fmt: skip
    assert (check(ground) is None) == within


@pytest.mark.parametrize("place", range(len(GUARDS)))
@pytest.mark.parametrize("error", [KeyError("x"), RuntimeError("x"), ZeroDivisionError(), RecursionError()])
def test_a_guard_that_raises_refuses(place: int, error: Exception) -> None:
    def broken(_ground: Ground) -> Said:
        raise error

    number, name, _ = GUARDS[place]
    refused = check(GOOD, (*GUARDS[:place], (number, name, broken), *GUARDS[place + 1 :]))
    assert refused is not None
    assert (refused.number, refused.guard) == (number, name)
    assert "itself failed" in refused.sentence


def test_a_plan_without_facts_is_refused() -> None:
    refused = check(replace(GOOD, rehearsal=rehearsal().but(facts=None)))
    assert refused is not None
    assert refused.number == 2


def test_a_plan_that_does_not_say_how_the_nodes_are_is_refused() -> None:
    said = {one.number: one.said for one in verdicts(facts(fleet=None))}
    assert (said[4], said[6]) == ("refused", "refused")


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
    policy = POLICY.but(act=act, skew=skew)
    padding = timedelta(seconds=window + act + 2 * skew)
    assert not slot_is_free(NOW, window, policy, NOW + padding)
    assert not slot_is_free(NOW, window, policy, NOW)
    assert slot_is_free(NOW, window, policy, NOW + padding + timedelta(microseconds=more))


# --- the budget, through decide and a store -------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def world(count: int = 15, policy: Policy = POLICY) -> tuple[MemoryStore, Context, Clock]:
    store, clock = MemoryStore(), Clock()
    store.transact([Put(records.SWITCH, {"stopped": False}, 0)])
    add(store, range(count))

    ctx = context(store, policy, clock)
    return store, ctx, clock


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
            intent.id, store=store, cluster=Away(), policy=POLICY, clock=lambda: now,  # type: ignore[arg-type]
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
        "target/u0": (1, 60.0), "namespace/shop": (3, 60.0), "cluster": (10, 60.0),
        "action/raise-memory": (7, 70.0),
    }  # fmt: skip
    in_a_zone = rehearsal().but(facts=facts_of().but(domains=("a",)))
    assert {name: limit.acts for name, limit in scopes(incident(), in_a_zone, Policy()).items()} == {
        "target/u0": 1, "namespace/shop": 3, "domain/a": 3, "cluster": 10,
    }  # fmt: skip
    on_a_node = scopes(incident().but(owner=node), rehearsal().but(owner=node), Policy())
    assert {name: (limit.acts, limit.window) for name, limit in on_a_node.items()} == {
        "target/n1": (1, 3600.0), "cluster": (10, 3600.0), "node/n1": (1, 3600.0), "nodes": (2, 86400.0),
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
        patch.setattr("quietpager.safety.ground.slot_is_free", _always)
        for number in range(15):
            tell(ctx, number)
    assert len(intents(store)) == 15
    store, ctx, _ = world()
    monkeypatch.setattr("functions.govern.decide.handler.ground_of", _no_conditions(ground_of))
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

    monkeypatch.setattr("functions.govern.decide.handler.ground_of", moved)
    tell(ctx, 0)
    assert intents(store) == []


# --- the dwell, through decide ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "restarts", "limits", "acts"),
    [
        (59.0, 1, {}, 0),
        (60.0, 0, {}, 1),
        (0.0, 2, {}, 1),
        (60.0, 0, {"dwell_seconds": 61.0}, 0),
        (1.0, 0, {"dwell_seconds": 1.0}, 1),
        (1.0, 2, {"dwell_restarts": 3}, 0),
        (1.0, 99, {"dwell_restarts": 0}, 0),
    ],
)
def test_decide_computes_the_dwell_from_the_incident_and_the_policy(
    seconds: float, restarts: int, limits: dict[str, Any], acts: int
) -> None:
    """Fails if the answer is wired to yes or to no anywhere between the store and the guard."""
    store, ctx, _ = world(0, POLICY.but(**limits))
    young = incident().but(since=NOW - timedelta(seconds=seconds), restarts=restarts)
    put(store, young)
    tell(ctx, 0)
    assert len(intents(store)) == acts
    if not acts:
        refused = Incident.from_json(store.scan("INCIDENT")[0].body).refusals
        assert refused[0].startswith(
            f"Guard 12 (dwell): The symptom has lasted {seconds:.0f} s and {restarts}"
        )


def test_the_age_of_a_symptom_is_the_earliest_told_but_begins_anew_after_a_healthy_look() -> None:
    """Else guard 12 would refuse what the state machine has just waited for, or pass a relapse at once."""
    waiting = incident().but(state=State.WAITING, since=NOW, restarts=0)
    hour_ago, minute_ago = NOW - timedelta(hours=1), NOW - timedelta(minutes=1)

    def look(one: Incident, since: datetime) -> Incident:
        told = Diagnosis(
            failure_class="oom_killed", cause=one.cause, owner=one.owner, evidence=(), since=since
        )
        seen = Finding(
            id="look", incident=one.id, serial=one.serial + 1, outcome="failing", at=NOW, family="crash",
            target=one.owner, why="", diagnosis=told, dwell=Dwell(seconds=1e9),
        )  # fmt: skip
        after = step(one, Input(News.FAILING, finding=seen), POLICY, NOW).incident
        assert after is not None
        return after

    first = look(waiting, hour_ago)
    assert first.since == hour_ago
    assert look(first, minute_ago).since == hour_ago
    assert look(first.but(healthy_since=minute_ago), NOW).since == NOW


def test_decide_stops_acting_in_a_storm_and_goes_on_after_it() -> None:
    store, ctx, clock = world(2, POLICY.but(storm=Storm(incidents=3)))
    for number in range(4):
        change(store, records.opening(number), at=to_text(NOW), incident=f"inc-{number}")
    tell(ctx, 0)
    assert intents(store) == []
    refused = Incident.from_json(store.scan("INCIDENT")[0].body).refusals
    assert refused[0].startswith(
        "Guard 6 (storm brake): More than 3 incidents opened in 300 s: suspect the obs"
    )
    clock.now += timedelta(seconds=300)
    tell(ctx, 1)
    assert len(intents(store)) == 1


# --- what the audit keeps, and `policy explain` ----------------------------------------------------------


def put(store: MemoryStore, *ones: Incident, plan: Rehearsal | None = None) -> None:
    for one in ones:
        body = (plan or rehearsal()).to_json()
        store.transact(
            [Put(records.incident(one.id), one.to_json(), 0), Put(records.rehearsal(f"{one.id}-r1"), body, 0)]
        )


def test_every_verdict_is_audited_once_with_every_guards_figures() -> None:
    store, ctx, _ = world(1)
    tell(ctx, 0)
    tell(ctx, 0)
    kept = [entry for entry in store.audit("inc-0") if entry.kind == "guards"]
    assert len(kept) == 1
    said = [Verdict.from_json(one) for one in kept[0].body["guards"]]
    assert [one.number for one in said] == [number for number, _, _ in GUARDS]
    assert kept[0].body["note"] == "all pass"
    figures = {one.number: dict(one.figures) for one in said}
    assert figures[8] == {"target/u0": "0 of 1", "cluster": "0 of 4", "namespace/shop": "0 of 100"}
    assert figures[6] == {
        "recent": 0, "incidents": 20, "window": 300.0, "unhealthy": 0, "nodes": 10, "part": 0.2,
    }  # fmt: skip
    assert figures[12] == {"lasted": 3600.0, "seconds": 60.0, "restarted": 0, "restarts": 2}


def test_explain_tells_from_the_audit_which_guard_decided_with_its_figures() -> None:
    store, ctx, _ = world(0)
    put(store, incident().but(since=NOW - timedelta(seconds=5)))
    tell(ctx, 0)
    text = explain(store, "inc-0")
    lines = text.splitlines()
    assert lines[0] == "2026-01-01T00:00:00Z  raise-memory (inc-0-r1): refused by plan, dry run or guard"
    assert [line.split()[0] for line in lines[1:-1]] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
        "11",
        "12",
    ]
    assert [line for line in lines if "<- decides" in line] == [
        "  12 dwell               refused         lasted 5, seconds 60, restarted 0, restarts 2  <- decides"
    ]
    assert lines[-1].strip().startswith("Guard 12 (dwell): The symptom has lasted 5 s")
    assert "not applicable" in next(line for line in lines if line.startswith("   9 "))


def test_explain_now_judges_the_stored_plan_by_todays_records_and_writes_nothing() -> None:
    store, ctx, clock = world(0)
    put(store, incident().but(since=NOW - timedelta(seconds=5)))
    before = store.get_many([records.SWITCH, records.incident("inc-0")])
    clock.now += timedelta(seconds=300)
    first = explain_now(store, "inc-0", ctx.policy, clock)
    assert "<- decides" not in first
    assert "2026-01-01T00:05:00Z  raise-memory (inc-0-r1), were it judged now" in first
    assert store.get_many([records.SWITCH, records.incident("inc-0")]) == before
    switch = store.get(records.SWITCH)
    assert switch is not None
    store.transact([Put(records.SWITCH, {"stopped": True}, switch.version)])
    second = explain_now(store, "inc-0", ctx.policy, clock)
    assert next(line for line in second.splitlines() if "<- decides" in line).split()[:3] == [
        "1",
        "kill",
        "switch",
    ]
    assert store.scan("SLOT") == []
    assert store.audit("inc-0") == []


def test_explain_has_a_sentence_where_there_is_nothing_to_explain() -> None:
    store, ctx, clock = world(0)
    assert explain(store, "inc-0") == "There is no incident inc-0.\n"
    assert explain_now(store, "inc-0", ctx.policy, clock) == "There is no incident inc-0.\n"
    put(store, incident(), plan=rehearsal().but(state="refused", facts=None, refusal="It is gone."))
    tell(ctx, 0)
    assert "No guard has judged inc-0 yet" in explain(store, "inc-0")
    put(store, incident(1), plan=rehearsal(1).but(state="refused", facts=None, refusal="It is gone."))
    assert "It was refused: It is gone." in explain_now(store, "inc-1", ctx.policy, clock)


# --- the undo, through decide ----------------------------------------------------------------------------


def acted(policy: Policy = POLICY) -> tuple[MemoryStore, Context, Clock]:
    """Let incident 0 act; its window has just ended with nothing better."""
    store, ctx, clock = world(0, policy)
    put(store, incident(), plan=rehearsal().but(undo_when="unchanged"))
    tell(ctx, 0)
    (forward,) = intents(store)
    done = forward.but(state=IntentState.APPLIED, applied_at=NOW, generation_after=2)
    one = Incident.from_json(store.scan("INCIDENT")[0].body).but(
        state=State.VERIFYING,
        acted=True,
        acted_at=NOW,
        failing_at=NOW,
        undo_when="unchanged",
        deadline_at=NOW,
    )
    for key, body in ((records.intent(forward.id), done), (records.incident(one.id), one)):
        record = store.get(key)
        assert record is not None
        store.transact([Put(key, body.to_json(), record.version)])
    clock.now += timedelta(seconds=100)
    return store, ctx, clock


def end(store: MemoryStore, ctx: Context) -> tuple[Incident, list[Message]]:
    said = handle(Message(id="m", type=DUE, data={"incident": "inc-0"}), ctx)
    record = store.get(records.incident("inc-0"))
    assert record is not None
    return Incident.from_json(record.body), said


def change(store: MemoryStore, key: str, **body: Any) -> None:
    record = store.get(key)
    store.transact(
        [Put(key, ({} if record is None else record.body) | body, record.version if record else 0)]
    )


def test_an_undo_is_written_in_its_own_slots_which_then_count_from_the_undo_on() -> None:
    store, ctx, clock = acted()
    slots = {record.key: record.body for record in store.scan("SLOT")}
    assert len(slots) == 3
    one, said = end(store, ctx)
    assert one.state is State.UNDOING
    assert UNDO in [message.type for message in said]
    assert {record.key for record in store.scan("SLOT")} == slots.keys()
    assert {record.body["at"] for record in store.scan("SLOT")} == {"2026-01-01T00:01:40Z"}
    kept = [entry.body for entry in store.audit("inc-0") if entry.kind == "guards"]
    assert [one["decided"] for one in kept] == ["rehearsed, guards pass, may act", "undo"]
    assert [one["number"] for one in kept[1]["guards"]] == [number for number, _, _ in UNDO_GUARDS]
    assert clock.now > NOW


def test_neither_freeze_nor_storm_nor_cool_down_nor_dwell_keeps_a_failed_act_in_place() -> None:
    store, ctx, clock = acted()
    always = Policy.model_validate({"freeze": [{"cron": "* * * * *", "duration": 3600}]}).freeze
    policy = POLICY.but(freeze=always, dwell_seconds=1e9, storm=POLICY.storm.but(incidents=1), cool_down=1e9)
    for number in range(2):
        change(store, records.opening(number), at=to_text(clock.now), incident="x")
    change(store, records.target(incident()), at=to_text(NOW))
    ctx = make_context("govern-decide", ctx.lazy, policy=policy, clock=clock)
    assert end(store, ctx)[0].state is State.UNDOING


@pytest.mark.parametrize(
    ("guard", "spoil"),
    [
        ("1 (kill switch)", lambda store: change(store, records.SWITCH, stopped=True)),
        ("2 (protected)", lambda store: spoil_facts(store, opted_in=False)),
        ("2 (protected)", lambda store: spoil_facts(store, ignored=True)),
        ("8 (budget)", lambda store: change(store, records.slot("target/u0", 0), holder="inc-9")),
        ("10 (rehearsal)", lambda store: spoil_facts(store, outside_may_change=("/spec/replicas",))),
    ],
)
def test_an_undo_that_its_guards_refuse_goes_to_a_person_with_the_sentence(
    guard: str, spoil: Callable[[MemoryStore], None]
) -> None:
    store, ctx, _ = acted()
    spoil(store)
    one, said = end(store, ctx)
    assert one.state is State.HANDOVER
    assert UNDO not in [message.type for message in said]
    assert len(intents(store)) == 1
    assert f"It did not help and was not undone: Guard {guard}: " in one.tried[-1].result
    assert len(store.scan("BREAKER")) == 1
    kept = [entry.body for entry in store.audit("inc-0") if entry.kind == "guards"]
    assert kept[-1]["decided"] == "undo refused"


def spoil_facts(store: MemoryStore, **changes: Any) -> None:
    record = store.get(records.rehearsal("inc-0-r1"))
    assert record is not None
    plan = Rehearsal.from_json(record.body)
    assert plan.facts is not None
    changed = plan.but(facts=plan.facts.but(**changes))
    store.transact([Put(record.key, changed.to_json(), record.version)])


def test_without_the_undos_guards_it_would_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    store, ctx, _ = acted()
    monkeypatch.setattr("quietpager.safety.guards.UNDO_GUARDS", ())
    spoil_facts(store, opted_in=False)
    assert end(store, ctx)[0].state is State.UNDOING
