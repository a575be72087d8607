"""What was approved is one thing, what would be written another: other pods, another node, another Job.

An approval was bound to edits, and an eviction has none: so an approval of the eviction of pod A, even by two
people, was one for pod B as well. A name is used again, too: by the time that an eviction is sent, the pod of
that name may be another one, and one that is well. So what an approval binds to are uids and digests, each
kind of change looks again before it is sent, and the API server gets what it must find as a precondition. And
what a plan says about itself (which guards it needs, whom it counted) is not believed where its change says
otherwise.
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from quietpager.change import create_object, remove_pods
from quietpager.change.create_object import run_again
from quietpager.change.mark_node import MarkNode, mark_of
from quietpager.change.remove_pods import Pins, RemovePods, removal_of
from quietpager.change.send import is_for
from quietpager.change.write import Write
from quietpager.cluster.client import ApiServer
from quietpager.deciding import decisions
from quietpager.deciding.guards import disruption_budgets, rehearsal, scope
from quietpager.model.incident import (
    AnyChange,
    Applies,
    Disruption,
    Fleet,
    Intent,
    IntentState,
    PlanFacts,
    Rehearsal,
    State,
)
from quietpager.model.reference import ObjectRef
from quietpager.store.memory import MemoryStore
from tests.acts import rehearsal as about_to_act
from tests.asked import Asked
from tests.changes import CORDON, EVICT, RERUN, SIDES, Bench, bench_on, ref_of
from tests.contract.test_changes import BOTH
from tests.property.test_guards import GOOD


@pytest.fixture(scope="module", params=BOTH)
def client(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    with SIDES[request.param]() as found:
        yield found


@pytest.fixture
def bench(client: ApiServer) -> Iterator[Bench]:
    with bench_on(client) as made:
        yield made


# The approval


def pods(*uids: str, version: str = "7") -> RemovePods:
    refs = tuple(
        ObjectRef(api_version="v1", kind="Pod", namespace="shop", name=f"pod-{uid}", uid=uid) for uid in uids
    )
    return RemovePods(pods=refs, pins=Pins(versions=(version,) * len(refs)))


def node(uid: str, *, closed: bool = True) -> MarkNode:
    raw = {"metadata": {"name": "n1", "uid": uid}, "spec": {"unschedulable": not closed}}
    return mark_of(raw, unschedulable=closed)


def job(image: str, uid: str = "j") -> Write:
    containers = [{"name": "a", "image": image}]
    return run_again({
        "metadata": {"name": "load", "namespace": "shop", "uid": uid},
        "spec": {"template": {"spec": {"containers": containers}}},
        "status": {"conditions": [{"type": "Failed", "status": "True"}]},
    })  # fmt: skip


SWAPPED: dict[str, tuple[Write, Write]] = {
    "another pod": (pods("a"), pods("b")),
    "one pod more": (pods("a"), pods("a", "b")),
    "another pod of the same name": (pods("a"), RemovePods(
        pods=(pods("a").pods[0].but(uid="new"),), pins=Pins(versions=("7",))
    )),
    "another node": (node("n"), node("other")),
    "opened instead of closed": (node("n"), node("n", closed=False)),
    "another image": (job("load:1"), job("load:2")),
    "another Job": (job("load:1"), job("load:1", uid="other")),
    "another kind of change": (pods("a"), node("n")),
}  # fmt: skip


def planned(asked: Asked, name: str, change: Write) -> None:
    """Let a remediator answer with this change, and facts that permit it."""
    targets = change.pods if isinstance(change, RemovePods) else (asked.the(name).owner,)
    removes = isinstance(change, RemovePods)
    facts = PlanFacts(
        namespace="shop", opted_in=True, ignored=False, dry_run="admitted", targets=targets,
        guards=Applies(fraction=removes, rollout_of_others="refuse", pdb=removes), siblings=9, healthy=6,
        domains=("z",), disruptions=(), fleet=Fleet(nodes=3, kubelets=("v1.35.4",)),
    )  # fmt: skip
    asked.plan(name, edits=(), change=change.stored(), facts=facts)


def approved(first: Write, then: Write) -> Asked:
    """Ask about one change, have it approved, and answer the silent rehearsal with another."""
    asked = Asked(MemoryStore())
    name = asked.fail()
    planned(asked, name, first)
    assert asked.the(name).state is State.APPROVAL
    assert decisions.answer(asked.store, name, "approve", by="ann", via="console", now=asked.now).used
    asked.tick()
    assert asked.the(name).state is State.PLANNING
    planned(asked, name, then)
    return asked


@pytest.mark.parametrize("what", SWAPPED)
def test_an_approval_of_one_change_permits_no_other(what: str) -> None:
    asked = approved(*SWAPPED[what])
    assert asked.intents() == []
    assert [one.state for one in asked.incidents()] == [State.APPROVAL]


@pytest.mark.parametrize("what", SWAPPED)
def test_where_the_change_is_no_part_of_what_is_approved_it_is_carried_out(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(AnyChange, "identity", {})
    [intent] = approved(*SWAPPED[what]).intents()
    assert intent.change == SWAPPED[what][1].stored()


@pytest.mark.parametrize("change", [pods("a", "b"), node("n"), job("load:1")])
def test_the_same_change_is_carried_out_though_its_pins_have_moved(change: Write) -> None:
    newer = pods("a", "b", version="8") if isinstance(change, RemovePods) else change
    [intent] = approved(change, newer).intents()
    assert intent.change == newer.stored()
    assert Intent.from_json(intent.to_json()) == intent


# What a plan says about itself


def said(change: Write, **facts: Any) -> dict[int, str]:
    """Ask guards 3, 9 and 10 about a plan whose facts say that none of them applies."""
    known: Any = about_to_act().facts
    lies = known.but(**({"siblings": 9, "healthy": 6, "domains": ("z",), "disruptions": ()} | facts))
    plan: Rehearsal = about_to_act().but(edits=(), change=change.stored(), facts=lies)
    found = (one.GUARD.ask(replace(GOOD, rehearsal=plan)) for one in (scope, disruption_budgets, rehearsal))
    return {one.number: one.sentence for one in found if one.said == "refused"}


TWO = pods("a", "b")
LIES: list[tuple[dict[str, Any], int, str]] = [
    ({"targets": TWO.pods[:1]}, 3, "other pods than those that were counted"),
    ({"targets": TWO.pods, "siblings": 3}, 3, "2 of 3 pods would go"),
    ({"targets": TWO.pods, "healthy": 0}, 3, "the floor is 1"),
    ({"targets": TWO.pods, "domains": ("y", "z")}, 3, "2 failure domains"),
    ({"targets": TWO.pods, "disruptions": None}, 9, "does not say which PodDisruptionBudgets"),
    (
        {
            "targets": TWO.pods,
            "disruptions": (Disruption(name="web", allowed=1, targets=("pod-a", "pod-b")),),
        },
        9,
        "allows 1 now; 2 would go",
    ),
]


@pytest.mark.parametrize(("facts", "number", "sentence"), LIES)
def test_what_removes_pods_is_judged_as_such_whatever_its_facts_say(
    facts: dict[str, Any], number: int, sentence: str
) -> None:
    refused = said(TWO, **facts)
    assert sentence in refused[number]
    assert 10 not in refused


@pytest.mark.parametrize(("facts", "number", "sentence"), LIES)
def test_where_the_facts_are_believed_it_gets_through(
    facts: dict[str, Any], number: int, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del sentence
    for guard in (scope, disruption_budgets):
        monkeypatch.setattr(guard, "removed_by", lambda _ground: None)
    assert number not in said(TWO, **facts)


def test_a_plan_that_removes_pods_in_bounds_passes() -> None:
    assert said(TWO, targets=TWO.pods) == {}


def test_a_change_and_edits_beside_it_are_no_plan() -> None:
    edits = about_to_act().edits
    plan = about_to_act().but(change=node("n").stored(), edits=edits)
    assert "it must be one write" in rehearsal.GUARD.ask(replace(GOOD, rehearsal=plan)).sentence


@pytest.mark.parametrize(
    "odd",
    [
        {"kind": "drop_table"},
        {"kind": "remove_pods", "pods": [], "pins": {"versions": []}},
        {"kind": "remove_pods", "pods": [pods("a").pods[0].to_json()], "pins": {"versions": []}},
        {"kind": "mark_node", "node": {}, "unschedulable": True},
    ],
)
def test_a_change_of_no_known_kind_is_refused_by_the_guards_and_claimed_by_nobody(
    odd: dict[str, Any],
) -> None:
    plan = about_to_act().but(edits=(), change=AnyChange.from_json(odd))
    assert rehearsal.GUARD.ask(replace(GOOD, rehearsal=plan)).said == "refused"
    intent = Intent(
        id="int", incident="i", rehearsal="r", action=EVICT.name, target=plan.owner, generation=1, edits=(),
        change=plan.change, created_at=plan.asked_at, expires_at=plan.asked_at,
    )  # fmt: skip
    assert is_for(EVICT.cage, intent.but(change=pods("a").stored()))
    assert not is_for(EVICT.cage, intent)


# The write


def test_the_eviction_of_a_pod_that_was_replaced_is_refused_and_costs_its_budget_nothing(
    bench: Bench,
) -> None:
    bench.budget("web", 1)
    change = removal_of((bench.pod("a"),))
    bench.replace("a")
    done = bench.done(bench.intent(change, EVICT, bench.owner), EVICT)
    assert (done.state, bench.taken) == (IntentState.REFUSED, [])
    assert "is another pod by now" in done.result
    assert not bench.leaves("a")
    assert bench.allowed("web") == 1


def test_without_the_look_the_preconditions_still_hold_but_the_budget_is_used_up(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench.budget("web", 1)
    change = removal_of((bench.pod("a"),))
    bench.replace("a")
    monkeypatch.setattr(RemovePods, "judge", lambda *_: None)
    done = bench.done(bench.intent(change, EVICT, bench.owner), EVICT)
    assert done.state is IntentState.REFUSED
    assert "409" in done.result
    assert not bench.leaves("a")
    assert bench.allowed("web") == 0


def test_without_preconditions_either_the_pod_that_is_well_goes(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    change = removal_of((bench.pod("a"),))
    bench.replace("a")
    real = RemovePods._evictions

    def bare(self: RemovePods, intent: Intent) -> list[dict[str, Any]]:
        return [one | {"deleteOptions": {}} for one in real(self, intent)]

    monkeypatch.setattr(remove_pods, "_differs", lambda *_: "")
    monkeypatch.setattr(RemovePods, "_evictions", bare)
    assert bench.done(bench.intent(change, EVICT, bench.owner), EVICT).state is IntentState.APPLIED
    assert bench.leaves("a")


def test_replaced_between_the_look_and_the_eviction_it_is_refused(bench: Bench) -> None:
    change = removal_of((bench.pod("a"),))
    bench.before.append(lambda: bench.replace("a"))
    assert bench.done(bench.intent(change, EVICT, bench.owner), EVICT).state is IntentState.REFUSED
    assert not bench.leaves("a")


def test_the_node_that_is_closed_is_the_one_that_the_intent_names(bench: Bench) -> None:
    named, other = bench.node(), bench.node()
    intent = bench.intent(mark_of(other, unschedulable=True), CORDON, ref_of(named, "Node"))
    assert bench.done(intent, CORDON).state is IntentState.REFUSED
    assert not bench.closed(other)


def test_without_the_comparison_another_node_is_closed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    named, other = bench.node(), bench.node()
    intent = bench.intent(mark_of(other, unschedulable=True), CORDON, ref_of(named, "Node"))
    monkeypatch.setattr(
        MarkNode, "look", lambda self, _intent, cluster: cluster.get("Node", None, self.node.name)
    )
    bench.done(intent, CORDON)
    assert bench.closed(other)


def test_the_nodes_mark_is_what_stops_a_worker_that_stalled(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its mutant: without that `test` the field alone is as planned again, and the node is closed twice."""
    target = bench.node()
    name = target["metadata"]["name"]
    bench.real.merge_patch("Node", None, name, {"metadata": {"annotations": {"note": "kept"}}})
    raw = bench.get("Node", None, name)
    assert raw is not None
    intent = bench.intent(mark_of(raw, unschedulable=True), CORDON, ref_of(raw, "Node"))
    real = MarkNode._patch

    def unpinned(self: MarkNode, of: Intent, live: dict[str, Any]) -> list[dict[str, Any]]:
        patch = real(self, of, live)
        return [one for one in patch if one["op"] != "test" or not one["path"].endswith("~1intent")]

    def others() -> None:
        bench.late()
        bench.carry(intent, CORDON)
        bench.real.merge_patch("Node", None, name, {"spec": {"unschedulable": None}})

    monkeypatch.setattr(MarkNode, "_patch", unpinned)
    bench.before.append(others)
    bench.carry(intent, CORDON)
    assert bench.taken == [f"patch {name}"] * 2
    assert bench.closed(target)


def test_a_job_whose_content_is_not_what_was_approved_is_not_created(bench: Bench) -> None:
    raw = bench.job()
    change = run_again(raw)
    bench.real.merge_patch("Job", bench.namespace, "load", {"metadata": {"labels": {"team": "other"}}})
    done = bench.done(bench.intent(change, RERUN, ref_of(raw, "Job")), RERUN)
    assert (done.state, bench.taken) == (IntentState.REFUSED, [])
    assert "its content differs" in done.result


def test_without_the_digest_whatever_is_there_now_is_created(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = bench.job()
    change = run_again(raw)
    bench.real.merge_patch("Job", bench.namespace, "load", {"metadata": {"labels": {"team": "other"}}})
    monkeypatch.setattr(create_object, "digest_of", lambda _obj: change.content)
    bench.done(bench.intent(change, RERUN, ref_of(raw, "Job")), RERUN)
    made = bench.get("Job", bench.namespace, change.name)
    assert made is not None
    assert made["metadata"]["labels"]["team"] == "other"


def test_another_job_of_that_name_is_not_run_again(bench: Bench) -> None:
    raw = bench.job()
    change = run_again(raw)
    target = ref_of(raw, "Job").but(uid="another")
    done = bench.done(bench.intent(change, RERUN, target), RERUN)
    assert (done.state, bench.taken) == (IntentState.REFUSED, [])
