"""Each kind of change through the one sender, on the sandbox and on a real API server."""

from collections.abc import Iterator

import pytest

from quietpager.actions.plan import server_dry_run
from quietpager.change.create_object import COPY_OF, again, digest_of, run_again
from quietpager.change.kinds import change_of, inverse_of
from quietpager.change.mark_node import mark_of
from quietpager.change.marks import MARK, UNDO_OF
from quietpager.change.remove_pods import removal_of
from quietpager.change.write import Write
from quietpager.cluster.client import ApiServer
from quietpager.errors import Refused
from quietpager.model.cluster import ClusterUnavailable
from quietpager.model.finding import Remedy
from quietpager.model.incident import Intent, IntentState, Rehearsal
from quietpager.model.reference import ObjectRef
from tests import apiserver
from tests.changes import CORDON, EVICT, RERUN, SIDES, START, Bench, bench_on, ref_of

BOTH = [
    pytest.param("sandbox", id="sandbox"),
    pytest.param(
        "real",
        id="real",
        marks=pytest.mark.skipif(
            bool(apiserver.missing()), reason="no kube-apiserver: `make cluster` builds it"
        ),
    ),
]


@pytest.fixture(scope="module", params=BOTH)
def client(request: pytest.FixtureRequest) -> Iterator[ApiServer]:
    with SIDES[request.param]() as found:
        yield found


@pytest.fixture
def bench(client: ApiServer) -> Iterator[Bench]:
    with bench_on(client) as made:
        yield made


def dry_run(bench: Bench, change: Write, target: ObjectRef) -> str | None:
    planned = Rehearsal(
        id="r", incident="i", remedy=Remedy(action="a"), owner=target, asked_at=START, change=change.stored()
    )
    return server_dry_run(bench.real, START)(planned, {})


# Evictions


def test_a_pod_is_evicted_once_and_its_record_says_so(bench: Bench) -> None:
    bench.budget("web", 1)
    intent = bench.intent(removal_of((bench.pod("a"),)), EVICT, bench.owner)
    done = bench.done(intent, EVICT)
    assert (done.state, done.result) == (IntentState.APPLIED, "evicted 1 of 1 pod(s)")
    assert bench.leaves("a")
    assert bench.allowed("web") == 0
    bench.late()
    bench.carry(intent, EVICT)
    assert bench.taken == ["evict a"]


def test_a_budget_that_allows_none_refuses_and_nothing_goes(bench: Bench) -> None:
    bench.budget("web", 0)
    intent = bench.intent(removal_of((bench.pod("a"),)), EVICT, bench.owner)
    done = bench.done(intent, EVICT)
    assert done.state is IntentState.REFUSED
    assert "429" in done.result
    assert "disruption budget" in done.result
    assert not bench.leaves("a")


def test_two_budgets_for_one_pod_refuse_with_500(bench: Bench) -> None:
    bench.budget("one", 1)
    bench.budget("two", 1)
    intent = bench.intent(removal_of((bench.pod("a"),)), EVICT, bench.owner)
    done = bench.done(intent, EVICT)
    assert done.state is IntentState.REFUSED
    assert "500" in done.result
    assert "more than one PodDisruptionBudget" in done.result
    assert not bench.leaves("a")


def test_a_pod_that_is_gone_is_refused_and_nothing_is_sent(bench: Bench) -> None:
    change = removal_of((bench.pod("a"),))
    bench.real.evict(
        bench.namespace, "a", {"metadata": {"name": "a"}, "deleteOptions": {"gracePeriodSeconds": 0}}
    )
    done = bench.done(bench.intent(change, EVICT, bench.owner), EVICT)
    assert (done.state, bench.taken) == (IntentState.REFUSED, [])
    assert done.result.endswith("is gone")


def test_of_several_pods_the_first_no_ends_it_and_the_record_says_how_far(bench: Bench) -> None:
    bench.budget("web", 1)
    change = removal_of((bench.pod("a"), bench.pod("b"), bench.pod("c")))
    done = bench.done(bench.intent(change, EVICT, bench.owner), EVICT)
    assert done.state is IntentState.APPLIED
    assert done.result.startswith("evicted 1 of 3 pods, then: ")
    assert "429" in done.result
    assert [bench.leaves(name) for name in "abc"] == [True, False, False]


def test_past_the_claim_no_further_pod_is_evicted(bench: Bench) -> None:
    change = removal_of((bench.pod("a"), bench.pod("b")))
    bench.after.append(bench.late)
    done = bench.done(bench.intent(change, EVICT, bench.owner), EVICT)
    assert done.result == "evicted 1 of 2 pods, then: the time to act was over"
    assert not bench.leaves("b")


def test_an_eviction_whose_answer_was_lost_is_unknown_and_not_repeated(bench: Bench) -> None:
    def lost() -> None:
        raise ClusterUnavailable("the answer was lost")

    bench.after.append(lost)
    intent = bench.intent(removal_of((bench.pod("a"),)), EVICT, bench.owner)
    assert bench.carry(intent, EVICT) is None
    bench.late()
    assert bench.done(intent, EVICT).state is IntentState.UNKNOWN
    assert bench.taken == ["evict a"]


def test_an_eviction_that_was_never_sent_is_sent_by_whoever_comes_next(bench: Bench) -> None:
    def away() -> None:
        raise ClusterUnavailable("nobody answered")

    bench.before.append(away)
    intent = bench.intent(removal_of((bench.pod("a"),)), EVICT, bench.owner)
    assert bench.carry(intent, EVICT) is None
    bench.late()
    assert bench.done(intent, EVICT).state is IntentState.APPLIED
    assert bench.taken == ["evict a"]


def test_the_dry_run_of_an_eviction_asks_and_uses_nothing_up(bench: Bench) -> None:
    bench.budget("web", 1)
    change = removal_of((bench.pod("a"),))
    assert dry_run(bench, change, bench.owner) is None
    assert (bench.allowed("web"), bench.leaves("a")) == (1, False)
    bench.budget("second", 1)
    refused = dry_run(bench, change, bench.owner)
    assert refused is not None
    assert "more than one PodDisruptionBudget" in refused


# Nodes


def undo(bench: Bench, forward: Intent) -> Intent:
    """Put the undo's intent into the store, as decide does."""
    change = change_of(inverse_of(forward))
    target = forward.target
    return bench.intent(change, CORDON, target, id=f"{forward.id}{UNDO_OF}", undoes=forward.id)


def test_a_node_is_closed_and_opened_again(bench: Bench) -> None:
    node = bench.node()
    intent = bench.intent(mark_of(node, unschedulable=True), CORDON, ref_of(node, "Node"))
    assert dry_run(bench, change_of(intent), intent.target) is None
    assert not bench.closed(node)
    done = bench.done(intent, CORDON)
    assert (done.state, bench.closed(node)) == (IntentState.APPLIED, True)
    back = bench.done(undo(bench, done), CORDON)
    assert (back.state, bench.closed(node)) == (IntentState.APPLIED, False)
    raw = bench.get("Node", None, node["metadata"]["name"])
    assert raw is not None
    assert raw["metadata"]["annotations"][MARK] == f"{intent.id}{UNDO_OF}"


def test_a_node_that_somebody_else_closed_or_opened_is_left_alone(bench: Bench) -> None:
    node, name = bench.node(), ""
    name = node["metadata"]["name"]
    intent = bench.intent(mark_of(node, unschedulable=True), CORDON, ref_of(node, "Node"))
    bench.real.merge_patch("Node", None, name, {"spec": {"unschedulable": True}})
    assert bench.done(intent, CORDON).state is IntentState.REFUSED
    assert bench.taken == []
    bench.real.merge_patch("Node", None, name, {"spec": {"unschedulable": None}})
    again_ = bench.intent(mark_of(node, unschedulable=True), CORDON, ref_of(node, "Node"))
    done = bench.done(again_, CORDON)
    assert done.state is IntentState.APPLIED
    bench.real.merge_patch("Node", None, name, {"spec": {"unschedulable": None}})
    back = bench.done(undo(bench, done), CORDON)
    assert back.state is IntentState.REFUSED
    assert bench.taken == [f"patch {name}"]


def test_a_stalled_worker_does_not_close_a_node_that_was_closed_and_opened_since(bench: Bench) -> None:
    """The field is as planned again; our mark is not."""
    node = bench.node()
    name = node["metadata"]["name"]
    intent = bench.intent(mark_of(node, unschedulable=True), CORDON, ref_of(node, "Node"))

    def others() -> None:
        bench.late()
        assert bench.done(intent, CORDON).state is IntentState.APPLIED
        bench.real.merge_patch("Node", None, name, {"spec": {"unschedulable": None}})

    bench.before.append(others)
    bench.carry(intent, CORDON)
    assert bench.taken == [f"patch {name}"]
    assert not bench.closed(node)


def test_a_node_that_is_closed_already_is_not_planned_on(bench: Bench) -> None:
    node = bench.node()
    with pytest.raises(Refused, match="open already"):
        mark_of(node, unschedulable=False)
    node["metadata"]["annotations"] = {MARK: "a text, and none of our ids"}
    with pytest.raises(Refused, match="not ours"):
        mark_of(node, unschedulable=True)


# Jobs


def test_a_job_runs_again_with_the_same_content_and_a_name_of_its_own(bench: Bench) -> None:
    job = bench.job()
    change = run_again(job)
    intent = bench.intent(change, RERUN, ref_of(job, "Job"))
    assert dry_run(bench, change, intent.target) is None
    assert bench.get("Job", bench.namespace, change.name) is None
    done = bench.done(intent, RERUN)
    assert (done.state, done.result) == (IntentState.APPLIED, f"created Job {bench.namespace}/{change.name}")
    made = bench.get("Job", bench.namespace, change.name)
    assert made is not None
    notes = made["metadata"]["annotations"]
    assert (notes[MARK], notes[COPY_OF]) == (intent.id, job["metadata"]["uid"])
    containers = [one["spec"]["template"]["spec"]["containers"] for one in (job, made)]
    assert containers[0] == containers[1]
    assert made["metadata"]["uid"] != job["metadata"]["uid"]
    assert "ttlSecondsAfterFinished" not in made["spec"]
    assert digest_of(again(job, change.name)) == change.content
    assert "hunter2" not in str(done.to_json())


def test_one_that_is_there_already_is_not_made_twice(bench: Bench) -> None:
    job = bench.job()
    change = run_again(job)
    first, second = (bench.intent(change, RERUN, ref_of(job, "Job")) for _ in range(2))
    assert bench.done(first, RERUN).state is IntentState.APPLIED
    assert bench.done(second, RERUN).state is IntentState.REFUSED
    assert bench.taken == [f"create {change.name}"]


def test_a_creation_whose_answer_was_lost_is_recognised(bench: Bench) -> None:
    def lost() -> None:
        raise ClusterUnavailable("the answer was lost")

    bench.after.append(lost)
    job = bench.job()
    intent = bench.intent(run_again(job), RERUN, ref_of(job, "Job"))
    assert bench.carry(intent, RERUN) is None
    bench.late()
    assert bench.done(intent, RERUN).state is IntentState.APPLIED
    assert len(bench.taken) == 1


def test_a_job_that_still_runs_is_not_run_beside_itself(bench: Bench) -> None:
    job = bench.job() | {"status": {}}
    with pytest.raises(Refused, match="has not finished"):
        run_again(job)


# Whatever the kind


def test_no_action_sends_another_kind_of_change(bench: Bench) -> None:
    """Of an intent whose change its action has no rights for, nothing is claimed."""
    node = bench.node()
    change = mark_of(node, unschedulable=True)
    for act in (EVICT, RERUN):
        target = ref_of(node, act.applies_to[0])
        intent = bench.intent(change, act, target)
        assert bench.carry(intent, act) is None
        assert bench.kept(intent).state is IntentState.INTENT
    assert bench.taken == []


def test_while_writing_is_stopped_no_kind_is_sent(bench: Bench) -> None:
    node, job = bench.node(), bench.job()
    every = [
        (bench.intent(removal_of((bench.pod("a"),)), EVICT, bench.owner), EVICT),
        (bench.intent(mark_of(node, unschedulable=True), CORDON, ref_of(node, "Node")), CORDON),
        (bench.intent(run_again(job), RERUN, ref_of(job, "Job")), RERUN),
    ]
    bench.switch(stopped=True)
    for intent, act in every:
        assert bench.done(intent, act).result == "the kill switch is on"
    assert bench.taken == []
