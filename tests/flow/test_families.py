"""What no node can hold, and what one deleted ConfigMap breaks: through the real handlers and the sandbox."""

import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from quietpager.cli.people import answer
from quietpager.cluster.client import connect
from quietpager.incident import records
from quietpager.model.incident import Autonomy, Incident, Rehearsal, State
from quietpager.model.message import INCIDENT
from quietpager.sandbox.server import running
from quietpager.store.audit import verify_all
from quietpager.store.memory import MemoryStore
from tests.flow.harness import Product
from tests.flow.test_stories import World

Json = dict[str, Any]
TOO_LARGE = "detect/scheduling/cases/23-unschedulable"
SECRET_VOLUME = "detect/config/cases/21-secret-volume-missing"  # noqa: S105 (a case's name)
UNBOUND = "detect/storage/cases/17-pvc-unbound"
SPACE = "shop"


@pytest.fixture
def world() -> Iterator[World]:
    with running(speed=25) as url:
        cluster, own = connect(url, manager="world"), connect(url, manager="product")
        product = Product(MemoryStore(), own)
        product.resume()
        yield World(url, cluster, product)
        cluster.close()
        own.close()


def request_of(world: World) -> str:
    container = world.deployment("team-33", "app")["spec"]["template"]["spec"]["containers"][0]
    return str(container["resources"]["requests"]["memory"])


def state_of(world: World, state: State) -> Callable[[], bool]:
    def reached() -> bool:
        return [i.state for i in world.product.incidents()] == [state]

    return reached


def told(world: World) -> Counter[str]:
    """Count the messages to people, each once however often it was delivered."""
    sent = {m.id: m.type.removeprefix(INCIDENT) for m in world.product.seen if m.type.startswith(INCIDENT)}
    return Counter(sent.values())


def make_rule_say_auto(world: World) -> None:
    """Let the rule itself allow what its action forbids."""
    contexts = world.product.contexts
    for name, ctx in contexts.items():
        rules = tuple(
            rule.but(classes={n: c.but(autonomy=Autonomy.AUTO) for n, c in rule.classes.items()})
            for rule in ctx.rules
        )
        contexts[name] = replace(ctx, rules=rules)


@pytest.mark.parametrize("events", [True, False])
def test_what_no_node_can_hold_is_asked_about_approved_applied_and_verified(
    world: World, events: bool
) -> None:
    world.load(TOO_LARGE, events=events)
    assert world.product.run_until(state_of(world, State.APPROVAL))
    incident = world.the("app")
    assert (incident.family, incident.failure_class) == ("scheduling", "unschedulable_resources")
    record = world.product.store.get(records.rehearsal(incident.rehearsal or ""))
    assert record is not None
    plan = Rehearsal.from_json(record.body)
    assert [(e.had, e.gets) for e in plan.edits] == [("40Gi", "12001Mi")]
    assert plan.edits[0].path.endswith("/resources/requests/memory")
    assert plan.facts is not None
    assert plan.facts.dry_run == "admitted"
    assert world.writes() == []

    assert "noted" in answer(world.product.store, incident.id, "approve").sentence
    assert world.product.run_until(state_of(world, State.CLOSED))
    closed = world.the("app")
    assert (closed.state, closed.reason) == (State.CLOSED, "fixed")
    assert request_of(world) == "12001Mi"
    assert len(world.writes()) == 1
    assert verify_all(world.product.store) == []


def test_even_a_rule_and_a_policy_that_say_auto_ask_before_a_request_is_lowered(world: World) -> None:
    make_rule_say_auto(world)
    world.load(TOO_LARGE)
    assert world.product.run_until(state_of(world, State.APPROVAL))
    assert world.the("app").autonomy is Autonomy.AUTO
    assert world.writes() == []
    assert request_of(world) == "40Gi"


def workload(name: str, replicas: int) -> Json:
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "x"}}}]
    container = {"name": "app", "image": "localhost/busybox:1", "env": env}
    return {
        "metadata": {"name": name, "namespace": SPACE},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {"app": name}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 1},
            },
        },
    }


NAMES = ("web", "api", "jobs")
SETTINGS = {
    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings", "namespace": SPACE},
    "data": {"x": "1"},
}  # fmt: skip


def is_up(world: World) -> bool:
    found = [world.deployment(SPACE, name)["status"].get("availableReplicas", 0) for name in NAMES]
    return found == [10, 10, 10]


def break_thirty_pods(world: World) -> None:
    """Bring three workloads up, delete the ConfigMap that all use, and start their pods anew."""
    world.put([SETTINGS])
    for name in NAMES:
        world.cluster.create("Deployment", workload(name, 10))
    assert world.product.run_until(lambda: is_up(world))
    assert world.product.incidents() == []
    delete(world, "settings")
    for pod in world.cluster.list("Pod", SPACE):
        world.cluster.delete("Pod", SPACE, pod["metadata"]["name"])


def delete(world: World, name: str) -> None:
    path = f"{world.url}/api/v1/namespaces/{SPACE}/configmaps/{name}"
    request = urllib.request.Request(path, method="DELETE")
    urllib.request.urlopen(request, timeout=5).close()


def the_one(world: World) -> Incident:
    [incident] = world.product.incidents()
    return incident


def test_thirty_pods_that_lack_one_config_map_are_one_incident_that_closes_with_its_return(
    world: World,
) -> None:
    break_thirty_pods(world)
    assert world.product.run_until(
        lambda: len(world.product.incidents()) == 1 and the_one(world).symptom_count >= 30
    )
    assert world.product.run_until(state_of(world, State.HANDOVER))
    incident = the_one(world)
    assert (incident.cause, incident.failure_class) == (
        f"configmap:{SPACE}/settings",
        "config_missing_configmap",
    )
    assert {owner.name for owner in incident.owners} == set(NAMES)
    assert told(world) == {"needsperson": 1}

    world.put([SETTINGS])
    assert world.product.run_until(state_of(world, State.CLOSED))
    assert is_up(world)
    assert the_one(world).reason == "fixed_by_person"
    assert told(world) == {"needsperson": 1, "closed": 1}
    assert world.writes() == []
    assert verify_all(world.product.store) == []


def test_it_stays_open_while_the_last_workload_still_lacks_it(world: World) -> None:
    """Two of three workloads stop to refer to the ConfigMap; the first symptom's owner is one of those."""
    break_thirty_pods(world)
    assert world.product.run_until(
        lambda: len(world.product.incidents()) == 1 and len(the_one(world).owners) == 3
    )
    first = the_one(world).owner.name
    last = next(name for name in NAMES if name != first)
    remove = [{"op": "remove", "path": "/spec/template/spec/containers/0/env"}]
    for name in NAMES:
        if name != last:
            world.cluster.json_patch("Deployment", SPACE, name, remove)

    def others_are_up() -> bool:
        return all(
            world.deployment(SPACE, name)["status"].get("availableReplicas", 0) == 10
            for name in NAMES if name != last
        )  # fmt: skip

    assert world.product.run_until(others_are_up)
    looks = the_one(world).serial + 8
    assert world.product.run_until(lambda: the_one(world).serial >= looks)
    assert the_one(world).state is State.HANDOVER

    world.cluster.json_patch("Deployment", SPACE, last, remove)
    assert world.product.run_until(state_of(world, State.CLOSED))
    assert the_one(world).reason == "fixed_by_person"


def test_a_missing_secret_of_a_volume_is_followed_without_ever_reading_it(world: World) -> None:
    """Its only trace is an Event; the recheck asks for the incident's own cause."""
    world.load(SECRET_VOLUME)
    assert world.product.run_until(state_of(world, State.HANDOVER))
    incident = world.the("app")
    assert incident.cause == "secret:team-31/app-tls"
    looks = incident.serial + 8
    assert world.product.run_until(lambda: the_one(world).serial >= looks)
    assert the_one(world).state is State.HANDOVER
    body = SETTINGS | {"kind": "Secret", "metadata": {"name": "app-tls", "namespace": "team-31"}}
    world.put([body])
    assert world.product.run_until(state_of(world, State.CLOSED))


def test_a_workload_that_fails_for_another_reason_does_not_keep_the_incident_open(world: World) -> None:
    world.put([SETTINGS])
    for name in NAMES:
        world.cluster.create("Deployment", workload(name, 1))
    delete(world, "settings")
    for pod in world.cluster.list("Pod", SPACE):
        world.cluster.delete("Pod", SPACE, pod["metadata"]["name"])
    assert world.product.run_until(
        lambda: len(world.product.incidents()) == 1 and len(the_one(world).owners) == 3
    )
    image = "/spec/template/spec/containers/0/image"
    bad = [{"op": "replace", "path": image, "value": "registry.example.com/missing/app:1"}]
    world.cluster.json_patch("Deployment", SPACE, NAMES[0], bad)
    world.put([SETTINGS])

    def about_the_config_map_is_closed() -> bool:
        found = {i.failure_class: i for i in world.product.incidents()}
        pull, config = found.get("image_pull_not_found"), found["config_missing_configmap"]
        return pull is not None and pull.state is not State.CLOSED and config.state is State.CLOSED

    assert world.product.run_until(about_the_config_map_is_closed)


def test_a_pod_that_only_lacks_room_for_now_is_handed_over_and_left_alone(world: World) -> None:
    """The only node is cordoned: nothing is proposed, nothing scaled, nothing restarted."""
    world.put([SETTINGS])
    world.cluster.merge_patch("Node", None, "tb-node", {"spec": {"unschedulable": True}})
    world.cluster.create("Deployment", workload("web", 2))
    assert world.product.run_until(state_of(world, State.HANDOVER))
    incident = world.the("web")
    assert (incident.failure_class, incident.remedies) == ("unschedulable_cordoned", ())
    assert world.writes() == []
    world.cluster.merge_patch("Node", None, "tb-node", {"spec": {"unschedulable": None}})
    assert world.product.run_until(state_of(world, State.CLOSED))
    assert world.the("web").reason == "fixed_by_person"


@pytest.mark.parametrize("events", [True, False])
def test_pod_and_claim_that_wait_for_each_other_are_one_incident(world: World, events: bool) -> None:
    world.load(UNBOUND, events=events)
    assert world.product.run_until(state_of(world, State.HANDOVER))
    incident = the_one(world)
    assert (incident.family, incident.cause) == ("storage", "pvc:team-27/data")
    assert told(world) == {"needsperson": 1}
    claim = world.cluster.get("PersistentVolumeClaim", "team-27", "data")
    assert claim is not None
    world.put([claim | {"status": {"phase": "Bound"}}])
    assert world.product.run_until(state_of(world, State.CLOSED))
    assert world.writes() == []
