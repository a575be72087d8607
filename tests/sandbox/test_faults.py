"""Pods without a node, and pods whose ConfigMap, Secret or claim is missing: as on a real cluster."""

import json
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from quietpager.cluster.client import ApiServer
from quietpager.model.time import system_clock
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.load import load_case
from quietpager.sandbox.node import first_node
from quietpager.sandbox.scheduler import place
from tests.polling import until

Json = dict[str, Any]
CASES = functions_folder() / "detect"


def load(url: str, *objects: Json) -> None:
    body = json.dumps({"objects": objects, "enabled": True}).encode()
    request = urllib.request.Request(f"{url}/sandbox/load", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=5).close()


def node(name: str, memory: str = "8Gi", **spec: Any) -> Json:
    one = first_node("2026-11-25T00:00:00Z")
    one["metadata"]["name"] = name
    one["status"]["allocatable"]["memory"] = memory
    return one | {"spec": spec}


def pod(memory: str = "1Gi", **spec: Any) -> Json:
    container = {"name": "c", "image": "localhost/busybox:1", "resources": {"requests": {"memory": memory}}}
    return {"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [container], **spec}}


def said(one: Json, *nodes: Json, pods: tuple[Json, ...] = (), claims: tuple[str, ...] = ()) -> str:
    bound = {name: {"status": {"phase": phase}} for name, _, phase in (c.partition("=") for c in claims)}
    return place(one, nodes, pods, bound.get).message


def test_it_says_what_the_real_scheduler_said_of_the_recorded_pods(url: str, client: ApiServer) -> None:
    recorded = load_case(url, CASES / "scheduling/cases/23-unschedulable", system_clock())
    [live] = client.list("Pod", "team-33")
    [condition] = next(o for o in recorded.objects if o["kind"] == "Pod")["status"]["conditions"]
    nodes = [o for o in recorded.objects if o["kind"] == "Node"]
    assert said(live, *nodes) == condition["message"] == recorded.event["message"]


WANTED: Json = {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"}
NOT_HELPFUL = "Preemption is not helpful for scheduling"
NO_VICTIMS = "No preemption victims found for incoming pod"


@pytest.mark.parametrize(
    ("one", "nodes", "reasons", "preemption"),
    [
        (pod("9Gi"), [node("a"), node("b")], "2 Insufficient memory", f"2 {NOT_HELPFUL}"),
        (pod("2Gi"), [node("full"), node("b", "1Gi")],
         "2 Insufficient memory", f"1 {NO_VICTIMS}, 1 {NOT_HELPFUL}"),
        (pod(), [node("a", unschedulable=True)], "1 node(s) were unschedulable", f"1 {NOT_HELPFUL}"),
        (pod(), [node("a", taints=[WANTED])], "1 node(s) had untolerated taint(s)", f"1 {NOT_HELPFUL}"),
        (pod("9Gi"), [node("a", taints=[WANTED]), node("b")],
         "1 Insufficient memory, 1 node(s) had untolerated taint(s)", f"2 {NOT_HELPFUL}"),
        (pod(nodeSelector={"disk": "ssd"}), [node("a")],
         "1 node(s) didn't match Pod's node affinity/selector", f"1 {NOT_HELPFUL}"),
    ],
)  # fmt: skip
def test_the_schedulers_words(one: Json, nodes: list[Json], reasons: str, preemption: str) -> None:
    head = f"0/{len(nodes)} nodes are available: "
    other = pod("7Gi", nodeName="full")
    expected = f"{head}{reasons}. no new claims to deallocate, preemption: {head}{preemption}."
    assert said(one, *nodes, pods=(other,)) == expected


@pytest.mark.parametrize(
    "toleration",
    [
        {"operator": "Exists"},
        {"key": "dedicated", "operator": "Exists"},
        {"key": "dedicated", "value": "gpu", "effect": "NoSchedule"},
    ],
)
def test_a_tolerated_taint_keeps_nothing_off(toleration: Json) -> None:
    assert said(pod(tolerations=[toleration]), node("a", taints=[WANTED])) == ""
    assert said(pod(tolerations=[{"key": "other", "operator": "Exists"}]), node("a", taints=[WANTED]))


def test_a_claim_that_is_not_bound_keeps_its_pod_waiting() -> None:
    waits = pod(volumes=[{"name": "v", "persistentVolumeClaim": {"claimName": "data"}}])
    unbound = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found"
    assert said(waits, node("a"), claims=("data=Pending",)) == unbound  # recorded case 17
    assert 'persistentvolumeclaim "data" not found' in said(waits, node("a"))
    assert said(waits, node("a"), claims=("data=Bound",)) == ""


def workload(space: str, **pod_spec: Any) -> Json:
    container = {"name": "app", "image": "localhost/busybox:1"} | pod_spec.pop("container", {})
    return {
        "metadata": {"name": "app", "namespace": space},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": {"app": "app"}},
            "template": {
                "metadata": {"labels": {"app": "app"}},
                "spec": {"containers": [container], **pod_spec},
            },
        },
    }


def config(kind: str, space: str, **data: str) -> Json:
    return {"apiVersion": "v1", "kind": kind, "metadata": {"name": "conf", "namespace": space}, "data": data}


def events(client: ApiServer, space: str, reason: str) -> list[str]:
    return [e["message"] for e in client.list("Event", space) if e["reason"] == reason]


def waiting(client: ApiServer, space: str) -> Json:
    [one] = client.list("Pod", space)
    statuses = one["status"].get("containerStatuses") or [{}]
    found: Json = (statuses[0].get("state") or {}).get("waiting") or {}
    return found


def is_ready(client: ApiServer, space: str) -> bool:
    found = client.get("Deployment", space, "app")
    return bool(found and found["status"].get("availableReplicas"))


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_a_missing_reference_and_then_a_missing_key_until_both_are_there(
    url: str, client: ApiServer, kind: str
) -> None:
    space = f"env-{kind.lower()}"
    client.create("Namespace", {"metadata": {"name": space}})
    field = "configMapKeyRef" if kind == "ConfigMap" else "secretKeyRef"
    env = [{"name": "X", "valueFrom": {field: {"name": "conf", "key": "x"}}}]
    client.create("Deployment", workload(space, container={"env": env}))
    absent = f'{kind.lower()} "conf" not found'
    until(lambda: waiting(client, space) == {"reason": "CreateContainerConfigError", "message": absent})
    assert f"Error: {absent}" in events(client, space, "Failed")
    load(url, config(kind, space, y="1"))
    until(lambda: waiting(client, space).get("message") == f"couldn't find key x in {kind} {space}/conf")
    assert not is_ready(client, space)
    load(url, config(kind, space, x="1"))
    until(lambda: is_ready(client, space))


@pytest.mark.parametrize(("kind", "word"), [("ConfigMap", "config"), ("Secret", "secret")])
def test_a_volume_that_is_missing_shows_in_an_event_only(
    url: str, client: ApiServer, kind: str, word: str
) -> None:
    space = f"volume-{kind.lower()}"
    client.create("Namespace", {"metadata": {"name": space}})
    items = {"items": [{"key": "x", "path": "x"}]}
    source = {"configMap": {"name": "conf", **items}}
    if kind == "Secret":
        source = {"secret": {"secretName": "conf", **items}}
    client.create("Deployment", workload(space, volumes=[{"name": "v", **source}]))
    head = 'MountVolume.SetUp failed for volume "v" : '
    until(lambda: f'{head}{kind.lower()} "conf" not found' in events(client, space, "FailedMount"))
    assert waiting(client, space) == {"reason": "ContainerCreating"}
    [one] = client.list("Pod", space)
    found = {c["type"]: c["status"] for c in one["status"]["conditions"]}
    assert found["PodReadyToStartContainers"] == "False"
    load(url, config(kind, space, y="1"))
    until(lambda: f"{head}references non-existent {word} key: x" in events(client, space, "FailedMount"))
    load(url, config(kind, space, x="1"))
    until(lambda: is_ready(client, space))


def test_what_is_optional_is_not_waited_for(client: ApiServer) -> None:
    space = "optional"
    client.create("Namespace", {"metadata": {"name": space}})
    env = [{"name": "X", "valueFrom": {"configMapKeyRef": {"name": "no", "key": "x", "optional": True}}}]
    volumes = [{"name": "v", "secret": {"secretName": "no", "optional": True}}]
    client.create("Deployment", workload(space, container={"env": env}, volumes=volumes))
    until(lambda: is_ready(client, space))


@pytest.mark.parametrize(
    ("case", "space", "kind", "name", "data"),
    [
        ("config/cases/01-configmap-key-missing", "team-11", "ConfigMap", "app-config", {"x": "1"}),
        ("config/cases/02-configmap-missing", "team-12", "ConfigMap", "app-config", {"x": "1"}),
        ("config/cases/21-secret-volume-missing", "team-31", "Secret", "app-tls", {}),
    ],
)
def test_a_recorded_pod_goes_on_once_what_it_lacks_is_there(
    url: str, client: ApiServer, case: str, space: str, kind: str, name: str, data: Json
) -> None:
    load_case(url, CASES / case, system_clock())
    time.sleep(0.2)
    assert not is_ready(client, space)
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": name, "namespace": space}, "data": data}
    load(url, body)
    until(lambda: is_ready(client, space))


def test_a_lowered_request_lets_the_recorded_pod_run(url: str, client: ApiServer) -> None:
    path = Path(CASES / "scheduling/cases/23-unschedulable")
    load_case(url, path, system_clock())
    assert not is_ready(client, "team-33")
    edit = {
        "op": "replace",
        "path": "/spec/template/spec/containers/0/resources/requests/memory",
        "value": "1Gi",
    }
    client.json_patch("Deployment", "team-33", "app", [edit])
    until(lambda: is_ready(client, "team-33"))
