"""Each guard says no in its case, and only then; one that is missing or broken is noticed."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.deciding.ground import Ground, Level, slot_is_free
from quietpager.deciding.guard import Said, Verdict
from quietpager.deciding.guards import GUARDS, UNDO_GUARDS, autonomy, check, refusal, verdicts
from quietpager.incident.policy import Budget, Change, Limit, Places, Policy
from quietpager.incident.storm import CALM, Openings
from quietpager.model.incident import ALL_APPLY, Applies, Autonomy, Disruption, Fleet, PlanFacts, lowest
from quietpager.model.reference import ObjectRef
from tests.acts import NOW, facts_of, incident, owner, rehearsal

POLICY = Policy(
    autonomy=Autonomy.AUTO, namespaces=Places(allow=("*",)), budget=Budget(target=1, namespace=100, cluster=4)
)


def pod(number: int, uid: str | None = None) -> ObjectRef:
    return ObjectRef(
        api_version="v1", kind="Pod", namespace="shop", name=f"web-{number}", uid=uid or f"p{number}"
    )


EVICTS = Applies(fraction=True, rollout_of_others="refuse", pdb=True)


FREE = Level("cluster", Limit(acts=4, window=3600.0), 0)
GOOD = Ground(
    incident=incident(), rehearsal=rehearsal(), policy=POLICY, now=NOW, stopped=False,
    breaker_until=None, last_act=None, levels=(FREE,), openings=CALM, at_most=Autonomy.AUTO,
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
    return replace(GOOD, policy=Policy.model_validate({"freeze": windows, "namespaces": {"allow": ["*"]}}))


CLOSED = {"from": NOW - timedelta(seconds=1), "to": NOW + timedelta(seconds=1), "why": "year's end"}
CASES: dict[str, tuple[int, Ground]] = {
    "stopped": (1, replace(GOOD, stopped=True)),
    "platform namespace": (2, facts(namespace="kube-system")),
    "our own namespace": (2, facts(namespace="quietpager-test")),
    "no namespace": (2, facts(namespace="")),
    "not opted in by its label": (2, facts(opted_in=False)),
    "not opted in by the policy": (2, ruled(namespaces=Places())),
    "opted in for others": (2, ruled(namespaces=Places(allow=("shop-*", "Shop", "bank")))),
    "denied by the policy": (2, ruled(namespaces=Places(allow=("*",), deny=("sh*",)))),
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
    "too many incidents everywhere": (
        6, replace(GOOD, openings=replace(CALM, acting=POLICY.storm.incidents + 1, namespaces=5))
    ),
    "too many incidents in its namespace": (
        6, replace(GOOD, openings=replace(CALM, own=POLICY.storm.namespace + 1))
    ),
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
    "as many incidents as are allowed": replace(
        GOOD,
        openings=Openings(
            own=POLICY.storm.namespace, acting=POLICY.storm.incidents, namespaces=5, telling=1000
        ),
    ),
    "a namespace that a pattern names": ruled(namespaces=Places(allow=("bank", "s?op"), deny=("shop-*",))),
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
    mutant = tuple(guard for guard in GUARDS if guard.number != number)
    assert len(mutant) == len(GUARDS) - 1
    assert check(ground, mutant) is None


def test_every_guard_has_a_case_and_they_are_in_order() -> None:
    numbers = [one.number for one in GUARDS]
    assert set(numbers) == {number for number, _ in CASES.values()}
    assert numbers == sorted(set(numbers))


def test_an_undo_passes_five_guards_and_no_more() -> None:
    assert {one.number for one in UNDO_GUARDS} == {one.number for one in GUARDS} & {1, 2, 5, 8, 10}
    for number, ground in CASES.values():
        assert (check(ground, UNDO_GUARDS) is not None) == (number in {1, 2, 5, 8, 10})


@pytest.mark.parametrize("case", CASES)
def test_every_guard_is_asked_and_its_figures_survive_the_audit(case: str) -> None:
    number, ground = CASES[case]
    said = verdicts(ground)
    assert [one.number for one in said] == [one.number for one in GUARDS]
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

    number, name = GUARDS[place].number, GUARDS[place].name
    refused = check(GOOD, (*GUARDS[:place], replace(GUARDS[place], judge=broken), *GUARDS[place + 1 :]))
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


@given(st.floats(1, 10**6), st.floats(0, 1000, exclude_min=True), st.floats(0, 100), st.integers(1, 10**9))
def test_a_slot_is_free_only_after_window_act_and_twice_the_skew(
    window: float, act: float, skew: float, more: int
) -> None:
    policy = POLICY.but(act=act, skew=skew)
    padding = timedelta(seconds=window + act + 2 * skew)
    assert not slot_is_free(NOW, window, policy, NOW + padding)
    assert not slot_is_free(NOW, window, policy, NOW)
    assert slot_is_free(NOW, window, policy, NOW + padding + timedelta(microseconds=more))
