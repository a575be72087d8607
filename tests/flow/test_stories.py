"""The three stories and the benign ones, through the real handlers and the sandbox cluster."""

import json
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from quietpager.change.marks import MARK
from quietpager.cli.people import answer
from quietpager.cluster.client import ApiServer, connect
from quietpager.deciding.decisions import Decision
from quietpager.incident import records
from quietpager.incident.policy import Budget
from quietpager.model.incident import Autonomy, Incident, Intent, IntentState, State
from quietpager.model.message import APPLY, OUTCOME, REHEARSED
from quietpager.model.store import Put
from quietpager.model.time import system_clock
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.load import load_case, read_case
from quietpager.sandbox.server import running
from quietpager.store.audit import verify_all
from quietpager.store.memory import MemoryStore
from tests.flow.harness import QUICK, Product

CASES = functions_folder()
OOM, TAG, HOPELESS = (
    "detect/crash/cases/30-oom-bounded",
    "detect/image/cases/32-bad-tag-new-revision",
    ("detect/crash/cases/15-oomkilled"),
)


@dataclass
class World:
    url: str
    cluster: ApiServer
    product: Product

    def load(self, case: str, *, enabled: bool = True, events: bool = True) -> None:
        loaded = load_case(self.url, CASES / case, system_clock(), enabled=enabled)
        for event in loaded.events() if events else []:
            self.product.event(self.cluster.create("Event", event))

    def put(self, objects: list[Any]) -> None:
        body = json.dumps({"objects": objects, "enabled": True}).encode()
        head = {"Content-Type": "application/json"}
        urllib.request.urlopen(
            urllib.request.Request(f"{self.url}/sandbox/load", body, head), timeout=5
        ).close()

    def the(self, name: str) -> Incident:
        return next(i for i in self.product.incidents() if i.owner.name == name)

    def ended(self, *names: str) -> Callable[[], bool]:
        def done() -> bool:
            found = {i.owner.name: i for i in self.product.incidents()}
            ends = (State.CLOSED, State.HANDOVER, State.BLOCKED, State.APPROVAL)
            return all(n in found and found[n].state in ends for n in names)

        return done

    def writes(self) -> list[Any]:
        """What the product wrote to the cluster, by the cluster's own log."""
        with urllib.request.urlopen(f"{self.url}/sandbox/audit", timeout=5) as answer:
            log = json.load(answer)
        return [
            line for line in log
            if line["user_agent"] == "product" and line["verb"] == "patch"
            and not line["dryRun"] and line["code"] == 200
        ]  # fmt: skip

    def deployment(self, namespace: str, name: str) -> Any:
        return self.cluster.get("Deployment", namespace, name)


@pytest.fixture
def world() -> Iterator[World]:
    with running(speed=25) as url:
        cluster = connect(url, manager="world")
        product = Product(MemoryStore(), connect(url, manager="product"))
        product.resume()
        yield World(url, cluster, product)
        cluster.close()
        product.cluster.close()  # type: ignore[attr-defined]


def memory(deployment: Any) -> str:
    return str(deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"]["memory"])


def test_bounded_oom_is_seen_without_an_event_of_its_own_raised_verified_and_closed(world: World) -> None:
    world.load(OOM, events=False)
    assert world.product.run_until(world.ended("cache"))
    incident = world.the("cache")
    assert (incident.state, incident.reason) == (State.CLOSED, "fixed")
    assert incident.failure_class == "oom_killed"
    assert memory(world.deployment("team-45", "cache")) == "64Mi"
    assert len(world.writes()) == 1
    assert verify_all(world.product.store) == []


def test_bad_tag_is_rolled_back_and_verified(world: World) -> None:
    world.load(TAG)
    assert world.product.run_until(world.ended("web"))
    incident = world.the("web")
    assert (incident.state, incident.reason) == (State.CLOSED, "fixed")
    containers = world.deployment("team-43", "web")["spec"]["template"]["spec"]["containers"]
    assert containers[0]["image"] == "registry.example.com/good/app:1"
    assert len(world.writes()) == 1


def test_hopeless_oom_is_undone_and_handed_over_with_what_was_tried(world: World) -> None:
    world.load(HOPELESS)
    assert world.product.run_until(world.ended("app"))
    incident = world.the("app")
    assert incident.state is State.HANDOVER
    assert [t.result for t in incident.tried] == ["It did not help and was undone."]
    assert memory(world.deployment("team-25", "app")) == "32Mi"
    intents = [Intent.from_json(r.body) for r in world.product.store.scan("INTENT")]
    assert {i.state for i in intents} == {IntentState.UNDONE, IntentState.APPLIED}
    assert len(world.writes()) == 2
    told = [r.body for r in world.product.store.scan("BREAKER")]
    assert len(told) == 1


def test_a_pod_that_is_well_whatever_an_event_claims_causes_nothing(world: World) -> None:
    case = load_case(world.url, CASES / "ingest/intake/cases/25-healthy-pulled", system_clock())
    pod = next(o for o in case.objects if o["kind"] == "Pod")["metadata"]
    forged = load_case(world.url, CASES / OOM, system_clock()).event
    involved = forged["involvedObject"] | {k: pod[k] for k in ("namespace", "name", "uid")}
    meta = forged["metadata"] | {"namespace": pod["namespace"]}
    for event in [*case.events(), forged | {"involvedObject": involved, "metadata": meta}]:
        world.product.event(event)
    world.product.deliver()
    assert world.product.incidents() == []
    assert world.writes() == []
    assert world.product.refused == []


@pytest.mark.parametrize("enabled", [True, False])
def test_stopped_or_not_opted_in_writes_nothing_and_asks(world: World, enabled: bool) -> None:
    if enabled:
        switch = world.product.store.get(records.SWITCH)
        assert switch is not None
        world.product.store.transact([Put(switch.key, {"stopped": True}, switch.version)])
    world.load(TAG, enabled=enabled)
    assert world.product.run_until(world.ended("web"))
    incident = world.the("web")
    assert incident.state is State.BLOCKED
    assert ("Guard 1" if enabled else "Guard 2") in incident.refusals[0]
    assert world.writes() == []


def test_at_the_default_autonomy_the_plan_is_shown_and_nothing_written(world: World) -> None:
    world.product.policy = QUICK.but(autonomy=Autonomy.ANALYZE)
    world.product.__post_init__()
    world.load(TAG)
    assert world.product.run_until(world.ended("web"))
    assert world.the("web").state is State.HANDOVER
    assert world.writes() == []


def test_duplicates_of_one_event_make_one_incident(world: World) -> None:
    loaded = load_case(world.url, CASES / TAG, system_clock())
    event = world.cluster.create("Event", loaded.events()[-1])
    for _ in range(200):
        world.product.event(event)
    world.product.deliver()
    assert len(world.product.incidents()) == 1
    assert len(world.product.store.scan("FINDING")) == 1


@pytest.mark.parametrize("lost", [APPLY, OUTCOME, REHEARSED])
def test_a_lost_message_costs_a_tick_and_nothing_else(world: World, lost: str) -> None:
    dropped: list[str] = []

    def drop(message: Any) -> bool:
        if message.type == lost and lost not in dropped:
            dropped.append(lost)
            return True
        return False

    world.product.drop = drop
    world.load(TAG)
    assert world.product.run_until(world.ended("web"))
    assert dropped == [lost]
    assert world.the("web").reason == "fixed"
    assert len(world.writes()) == 1


def test_a_foreign_edit_between_plan_and_write_is_refused_and_planned_again(world: World) -> None:
    edited: list[bool] = []

    def edit(message: Any) -> bool:
        if message.type == APPLY and not edited:
            edited.append(True)
            note = {"metadata": {"annotations": {"example.org/seen": "yes"}}}
            world.cluster.merge_patch("Deployment", "team-43", "web", note)
        return False

    world.product.drop = edit
    world.load(TAG)
    assert world.product.run_until(world.ended("web"))
    intents = [Intent.from_json(r.body) for r in world.product.store.scan("INTENT")]
    assert {i.state for i in intents} == {IntentState.REFUSED, IntentState.APPLIED}
    assert world.the("web").reason == "fixed"
    assert len(world.writes()) == 1


def test_an_undo_never_overwrites_a_newer_foreign_change(world: World) -> None:
    touched: list[bool] = []

    def edit(message: Any) -> bool:
        if message.type.endswith("remedy.undo") and not touched:
            touched.append(True)
            note = {"metadata": {"annotations": {"example.org/seen": "yes"}}}
            world.cluster.merge_patch("Deployment", "team-25", "app", note)
        return False

    world.product.drop = edit
    world.load(HOPELESS)
    assert world.product.run_until(world.ended("app"))
    assert memory(world.deployment("team-25", "app")) == "64Mi"
    assert "not undone" in world.the("app").tried[0].result
    assert world.deployment("team-25", "app")["metadata"]["annotations"][MARK].startswith("int-")


def test_healing_while_waiting_is_silent(world: World) -> None:
    world.product.policy = QUICK.but(dwell_seconds=60.0)
    world.product.__post_init__()
    container = {"name": "flaky", "image": "registry.example.com/flaky/app:1"}
    labels = {"app": "flaky"}
    world.load("ingest/intake/cases/25-healthy-pulled", events=False)
    namespace = "team-14"
    world.cluster.create(
        "Deployment",
        {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "flaky", "namespace": namespace},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                     "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}}},
        },
    )  # fmt: skip
    world.product.run_until(lambda: bool(world.product.incidents()) and world.ended("flaky")(), seconds=12)
    assert all(not i.announced for i in world.product.incidents())
    assert world.product.store.scan("TELL") == []
    assert world.writes() == []


@pytest.mark.parametrize(
    ("decision", "state", "writes"), [("approve", State.CLOSED, 1), ("reject", State.HANDOVER, 0)]
)
def test_at_autonomy_approve_a_person_decides_and_one_answer_counts(
    world: World, decision: Decision, state: State, writes: int
) -> None:
    world.product.policy = QUICK.but(autonomy=Autonomy.APPROVE)
    world.product.__post_init__()
    world.load(TAG)
    assert world.product.run_until(world.ended("web"))
    incident = world.the("web")
    assert incident.state is State.APPROVAL
    assert world.writes() == []
    assert "noted" in answer(world.product.store, incident.id, decision).sentence
    assert "already" in answer(world.product.store, incident.id, "approve").sentence
    assert world.product.run_until(lambda: world.the("web").state is state)
    assert len(world.writes()) == writes


def test_an_approval_nobody_answers_expires_and_is_never_used(world: World) -> None:
    world.product.policy = QUICK.but(autonomy=Autonomy.APPROVE, approval=1.0)
    world.product.__post_init__()
    world.load(TAG)
    assert world.product.run_until(lambda: any(i.state is State.HANDOVER for i in world.product.incidents()))
    incident = world.the("web")
    assert "asks nothing" in answer(world.product.store, incident.id, "approve").sentence
    assert world.writes() == []


def test_an_owner_that_cannot_be_read_is_never_taken_for_gone(world: World) -> None:
    case = read_case(CASES / OOM, system_clock())
    pods = [o for o in case.objects if o["kind"] in ("Pod", "Node")]
    for pod in pods:
        for owner in pod["metadata"].get("ownerReferences", []):
            owner |= {
                "apiVersion": "example.com/v1", "kind": "Database", "name": "cache",
                "uid": "3f0c8a52-0000-4000-8000-000000000001",
            }  # fmt: skip
    world.put(pods)
    world.product.event(case.event | {"metadata": case.event["metadata"]})
    assert world.product.run_until(world.ended("cache"))
    world.product.run_until(lambda: False, seconds=2)
    incident = world.the("cache")
    assert (incident.state, incident.reason) == (State.BLOCKED, None)
    assert "not for a Database" in incident.refusals[0]
    assert world.writes() == []


def test_what_a_person_took_over_stays_with_a_person_when_it_fails_again(world: World) -> None:
    world.product.policy = QUICK.but(autonomy=Autonomy.APPROVE)
    world.product.__post_init__()
    world.load(TAG)
    assert world.product.run_until(world.ended("web"))
    answer(world.product.store, world.the("web").id, "reject")
    assert world.product.run_until(lambda: world.the("web").state is State.HANDOVER)
    good = {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": "localhost/busybox:1"}
    world.cluster.json_patch("Deployment", "team-43", "web", [good])
    assert world.product.run_until(lambda: world.the("web").state is State.CLOSED)
    assert world.the("web").reason == "fixed_by_person"
    bad = good | {"value": "registry.example.com/missing/app:9"}
    world.cluster.json_patch("Deployment", "team-43", "web", [bad])
    assert world.product.run_until(lambda: world.the("web").state is State.HANDOVER)
    world.product.run_until(lambda: False, seconds=2)
    assert world.the("web").state is State.HANDOVER
    assert world.writes() == []


def test_a_budget_of_nothing_refuses_every_act(world: World) -> None:
    world.product.policy = QUICK.but(budget=Budget(cluster=0))
    world.product.__post_init__()
    world.load(TAG)
    assert world.product.run_until(world.ended("web"))
    assert world.the("web").state is State.BLOCKED
    assert "Guard 8" in world.the("web").refusals[0]
    assert world.writes() == []
