"""The sandbox's controllers, kubelet, loading and audit, seen through the client.

Nothing here measures time: tests poll, with a generous deadline.
"""

import importlib
import json
import subprocess
import sys
import urllib.request
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from quietpager.cluster.client import ApiServer, connect
from quietpager.model.cluster import Rejected
from quietpager.model.quantity import quantity
from quietpager.sandbox import fields
from quietpager.sandbox.load import load_case, read_case
from quietpager.sandbox.patching import PatchError, apply, merge, same
from quietpager.sandbox.server import running
from tests.polling import until

Json = dict[str, Any]
SLEEPER = ["sh", "-c", 'trap "exit 0" TERM; while :; do sleep 1; done']
BOUNDED = ["sh", "-c", "x=$(head -c 30000000 /dev/zero)"]
BUSYBOX = "localhost/busybox:1"
MISSING = "registry.example.com/missing/app:1.2.3"


@pytest.fixture
def space(client: ApiServer, request: pytest.FixtureRequest) -> str:
    """Make a namespace for one test."""
    name = request.node.name.replace("_", "-").split("[")[0][:60]
    client.create("Namespace", {"metadata": {"name": name}})
    return str(name)


def deployment(space: str, command: list[str], image: str = BUSYBOX, **spec: Any) -> Json:
    """Make a Deployment of three pods."""
    container: Json = {"name": "web", "image": image, "command": command}
    container["resources"] = {"requests": {"memory": "16Mi"}, "limits": {"memory": "32Mi"}}
    return {
        "metadata": {"name": "web", "namespace": space},
        "spec": {
            "replicas": 3,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [container], "terminationGracePeriodSeconds": 2},
            },
            **spec,
        },
    }


def read(client: ApiServer, space: str, name: str = "web") -> Json:
    """Read a Deployment that is there."""
    found = client.get("Deployment", space, name)
    assert found is not None
    return found


def conditions(obj: Json) -> dict[str, tuple[str, str]]:
    """Name the conditions by type."""
    return {c["type"]: (c["status"], c["reason"]) for c in obj["status"].get("conditions", ())}


def is_complete(client: ApiServer, space: str, name: str = "web") -> bool:
    """Say whether the rollout has ended and all pods are ready."""
    found = read(client, space, name)
    status, want = found["status"], found["spec"]["replicas"]
    return (
        status.get("observedGeneration") == found["metadata"]["generation"]
        and status.get("replicas") == status.get("updatedReplicas") == want
        and status.get("availableReplicas") == want
        and conditions(found).get("Progressing") == ("True", "NewReplicaSetAvailable")
    )


def set_container(client: ApiServer, space: str, path: str, value: Any, name: str = "web") -> Json:
    """Patch the container of a Deployment."""
    path = f"/spec/template/spec/containers/0/{path}"
    return client.json_patch("Deployment", space, name, [{"op": "replace", "path": path, "value": value}])


def container(pod: Json) -> Json:
    """Give the status of a pod's only container."""
    statuses: list[Json] = pod["status"].get("containerStatuses") or [{}]
    return statuses[0]


def events(client: ApiServer, space: str) -> list[tuple[str, str, str]]:
    """List type, reason and message of a namespace's Events."""
    return [(e["type"], e["reason"], e["message"]) for e in client.list("Event", space)]


def revisions(client: ApiServer, space: str) -> dict[str, int]:
    """Give the replicas of each revision."""
    key = "deployment.kubernetes.io/revision"
    return {
        rs["metadata"]["annotations"][key]: rs["spec"]["replicas"] for rs in client.list("ReplicaSet", space)
    }


def test_rollout(client: ApiServer, space: str) -> None:
    """Pods come, are ready and belong to the ReplicaSet of their template."""
    client.create("Deployment", deployment(space, SLEEPER))
    until(lambda: is_complete(client, space))
    pods = client.list("Pod", space, "app=web")
    (rs,) = client.list("ReplicaSet", space)
    hash_ = rs["metadata"]["labels"]["pod-template-hash"]
    assert rs["metadata"]["name"] == f"web-{hash_}"
    assert {p["metadata"]["ownerReferences"][0]["uid"] for p in pods} == {rs["metadata"]["uid"]}
    assert {p["metadata"]["labels"]["pod-template-hash"] for p in pods} == {hash_}
    assert {container(p)["ready"] for p in pods} == {True}
    reasons = {reason for _, reason, _ in events(client, space)}
    assert reasons == {"ScalingReplicaSet", "SuccessfulCreate", "Scheduled", "Pulled", "Created",
                       "Started"}  # fmt: skip


def test_a_rollout_keeps_its_bounds(client: ApiServer, space: str) -> None:
    """A change replaces all pods and never leaves less than desired or more than one on top."""
    client.create("Deployment", deployment(space, SLEEPER))
    until(lambda: is_complete(client, space))
    before = {p["metadata"]["uid"] for p in client.list("Pod", space)}
    start = client.listing("Deployment", space)
    set_container(client, space, "resources/limits/memory", "64Mi")
    until(lambda: is_complete(client, space))
    until(lambda: len(client.list("Pod", space)) == 3)
    assert not before & {p["metadata"]["uid"] for p in client.list("Pod", space)}
    assert revisions(client, space) == {"1": 0, "2": 3}
    statuses = [e.object["status"] for e in client.watch("Deployment", space, start, 1)]
    assert min(s.get("availableReplicas", 0) for s in statuses) >= 3
    assert max(s.get("replicas", 0) for s in statuses) <= 4


def test_scaling_down_takes_the_unready_first(client: ApiServer, space: str) -> None:
    """Fewer replicas: pods go, with their grace."""
    client.create("Deployment", deployment(space, SLEEPER))
    until(lambda: is_complete(client, space))
    client.merge_patch("Deployment", space, "web", {"spec": {"replicas": 1}})
    until(lambda: len(client.list("Pod", space)) == 1)
    until(lambda: is_complete(client, space))
    assert ("Normal", "Killing", "Stopping container web") in events(client, space)


def test_a_deleted_pod_comes_back(client: ApiServer, space: str) -> None:
    """A pod first gets a deletionTimestamp, then goes; a new one takes its place."""
    client.create("Deployment", deployment(space, SLEEPER, replicas=1))
    until(lambda: is_complete(client, space))
    (pod,) = client.list("Pod", space)
    start = client.listing("Pod", space)
    client.delete("Pod", space, pod["metadata"]["name"])
    seen = []
    for event in client.watch("Pod", space, start, 10):
        if event.object["metadata"]["uid"] == pod["metadata"]["uid"]:
            seen.append((event.type, "deletionTimestamp" in event.object["metadata"]))
        if event.type == "DELETED":
            break
    assert (seen[0], seen[-1]) == (("MODIFIED", True), ("DELETED", True))
    until(lambda: is_complete(client, space))
    assert read(client, space)["metadata"]["generation"] == 1


def test_deleting_a_deployment_takes_all_of_it(client: ApiServer, space: str) -> None:
    """Garbage collection follows ownerReferences."""
    client.create("Deployment", deployment(space, SLEEPER))
    until(lambda: is_complete(client, space))
    client.delete("Deployment", space, "web")
    until(lambda: not client.list("ReplicaSet", space) and not client.list("Pod", space))


def test_bad_image_and_rollback(client: ApiServer, space: str) -> None:
    """A missing image stops the rollout; the first revision serves on and can be gone back to."""
    client.create("Deployment", deployment(space, SLEEPER, progressDeadlineSeconds=60))
    until(lambda: is_complete(client, space))
    template = read(client, space)["spec"]["template"]
    set_container(client, space, "image", MISSING)
    waiting = until(
        lambda: [
            w
            for p in client.list("Pod", space)
            if (w := container(p).get("state", {}).get("waiting")) and w["reason"] == "ImagePullBackOff"
        ]
    )
    not_found = (
        f'rpc error: code = NotFound desc = failed to pull and unpack image "{MISSING}": failed to '
        f'resolve reference "{MISSING}": {MISSING}: not found'
    )
    assert waiting[0]["message"] == f'Back-off pulling image "{MISSING}": ErrImagePull: {not_found}'
    said = events(client, space)
    assert ("Normal", "Pulling", f'Pulling image "{MISSING}"') in said
    assert ("Warning", "Failed", f'Failed to pull image "{MISSING}": {not_found}') in said
    assert ("Warning", "Failed", "Error: ErrImagePull") in said
    assert ("Warning", "Failed", "Error: ImagePullBackOff") in said
    assert ("Normal", "BackOff", f'Back-off pulling image "{MISSING}"') in said
    assert read(client, space)["status"]["availableReplicas"] == 3
    stuck = ("False", "ProgressDeadlineExceeded")
    until(lambda: conditions(read(client, space))["Progressing"] == stuck)
    client.json_patch(
        "Deployment", space, "web", [{"op": "replace", "path": "/spec/template", "value": template}]
    )
    until(lambda: is_complete(client, space))
    assert revisions(client, space) == {"2": 0, "3": 3}
    annotations = read(client, space)["metadata"]["annotations"]
    assert annotations["deployment.kubernetes.io/revision"] == "3"


def test_a_flaky_pull_heals_itself(client: ApiServer, space: str) -> None:
    """The second try of a pull succeeds."""
    image = "registry.example.com/flaky/app:1"
    client.create("Deployment", deployment(space, SLEEPER, image, replicas=1))
    until(lambda: is_complete(client, space))
    assert ("Warning", "Failed", "Error: ErrImagePull") in events(client, space)


def test_too_little_memory(client: ApiServer, space: str) -> None:
    """Below its need it is OOM-killed again and again; above it lives."""
    client.create("Deployment", deployment(space, BOUNDED, replicas=1))

    def dying() -> Json | None:
        pods = [p for p in client.list("Pod", space) if container(p).get("restartCount", 0) >= 2]
        return pods[0] if pods else None

    pod = until(dying)
    last = container(pod)["lastState"]["terminated"]
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")
    looping = until(
        lambda: [
            w
            for p in client.list("Pod", space)
            if (w := container(p)["state"].get("waiting")) and w["reason"] == "CrashLoopBackOff"
        ]
    )
    assert "restarting failed container=web pod=web-" in looping[0]["message"]
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    text = f"Back-off restarting failed container web in pod {name}_{space}({uid})"
    backed_off = [e for e in client.list("Event", space) if e["reason"] == "BackOff"]
    assert [(e["type"], e["message"]) for e in backed_off] == [("Warning", text)]
    assert backed_off[0]["count"] >= 1
    assert "OOMKilled" not in {reason for _, reason, _ in events(client, space)}
    set_container(client, space, "resources/limits/memory", "48Mi")
    until(lambda: any(_limit(p) == "48Mi" and container(p).get("restartCount", 0) >= 2
                      for p in client.list("Pod", space)))  # fmt: skip
    set_container(client, space, "resources/limits/memory", "64Mi")
    until(lambda: is_complete(client, space) and len(client.list("Pod", space)) == 1)
    assert container(client.list("Pod", space)[0])["restartCount"] == 0


def _limit(pod: Json) -> str:
    return str(pod["spec"]["containers"][0]["resources"]["limits"]["memory"])


def test_unlimited_appetite(client: ApiServer, space: str) -> None:
    """No limit is enough for what takes all there is."""
    client.create("Deployment", deployment(space, ["tail", "/dev/zero"], replicas=1))
    set_container(client, space, "resources/limits/memory", "4Gi")
    until(lambda: any(_limit(p) == "4Gi" and container(p).get("restartCount", 0) >= 2
                      for p in client.list("Pod", space)))  # fmt: skip


def test_quota(client: ApiServer, space: str) -> None:
    """A full quota refuses pods: Event, ReplicaFailure; room in it lets them come."""
    hard = {"pods": "10", "requests.memory": "20Mi"}
    metadata = {"name": "q", "namespace": space}
    client.create("ResourceQuota", {"metadata": metadata, "spec": {"hard": hard}})
    client.create("Deployment", deployment(space, SLEEPER, replicas=2))
    until(lambda: conditions(read(client, space)).get("ReplicaFailure") == ("True", "FailedCreate"))
    said = [m for kind, reason, m in events(client, space) if (kind, reason) == ("Warning", "FailedCreate")]
    assert said[0].startswith('Error creating: pods "web-')
    assert said[0].endswith(
        "is forbidden: exceeded quota: q, requested: requests.memory=16Mi, used: "
        "requests.memory=16Mi, limited: requests.memory=20Mi"
    )

    def used() -> bool:
        found = client.get("ResourceQuota", space, "q")
        return bool(found and found["status"].get("used", {}).get("pods") == "1")

    until(used)
    client.merge_patch("ResourceQuota", space, "q", {"spec": {"hard": {"requests.memory": "64Mi"}}})
    until(lambda: is_complete(client, space))
    assert "ReplicaFailure" not in conditions(read(client, space))


def test_no_room_on_the_node(client: ApiServer, space: str) -> None:
    """A request beyond the node stays Pending, with the scheduler's Event."""
    body = deployment(space, SLEEPER, replicas=1)
    resources = {"requests": {"memory": "40Gi"}, "limits": {"memory": "40Gi"}}
    body["spec"]["template"]["spec"]["containers"][0]["resources"] = resources
    client.create("Deployment", body)
    until(lambda: "FailedScheduling" in {reason for _, reason, _ in events(client, space)})
    (pod,) = client.list("Pod", space)
    assert pod["status"]["phase"] == "Pending"


def _write_case(folder: Path, client: ApiServer, space: str) -> None:
    """Record a running Deployment as a case."""
    (folder / "objects").mkdir(parents=True)
    objects = [
        *client.list("Pod", space),
        *client.list("ReplicaSet", space),
        *client.list("Deployment", space),
    ]
    for number, obj in enumerate(objects):
        path = folder / "objects" / f"{number:02}.json"
        path.write_text(json.dumps(obj))
    (folder / "event.json").write_text(json.dumps(client.list("Event", space)[-1]))


def test_a_loaded_case_is_adopted(client: ApiServer, url: str, space: str, tmp_path: Path) -> None:
    """Loaded objects keep uid, name and status, and the controllers go on from there."""
    client.create("Deployment", deployment(space, SLEEPER))
    until(lambda: is_complete(client, space))
    _write_case(tmp_path / "case", client, space)
    client.delete("Namespace", None, space)
    now = datetime.fromisoformat("2030-01-01T00:00:00Z")
    case = load_case(url, tmp_path / "case", now, enabled=True)
    namespace = client.get("Namespace", None, space)
    assert namespace is not None
    assert namespace["metadata"]["labels"]["quietpager.dev/enabled"] == "true"
    wanted = {o["metadata"]["uid"] for o in case.objects if o["kind"] == "Pod"}
    set_container(client, space, "image", MISSING)
    until(lambda: revisions(client, space) == {"1": 3, "2": 1})
    assert wanted < {p["metadata"]["uid"] for p in client.list("Pod", space)}
    for event in case.events():
        client.create("Event", event)


def test_a_case_is_moved_to_now(tmp_path: Path) -> None:
    """All times move by one constant; null times stay."""
    (tmp_path / "objects").mkdir()
    pod = {"kind": "Pod", "metadata": {"creationTimestamp": "2026-11-22T19:00:00Z"}}
    (tmp_path / "objects" / "0.json").write_text(json.dumps(pod))
    event = {
        "metadata": {"name": "e", "namespace": "n", "uid": "u"},
        "firstTimestamp": None,
        "eventTime": "2026-11-22T19:01:00.500000Z",
    }
    (tmp_path / "event.json").write_text(json.dumps(event))
    now = datetime.fromisoformat("2027-01-01T00:01:00Z")
    case = read_case(tmp_path, now)
    created = case.objects[0]["metadata"]["creationTimestamp"]
    assert created == "2026-12-31T23:59:59Z"
    moved = datetime.fromisoformat(case.event["eventTime"])
    assert moved - datetime.fromisoformat(created) == timedelta(seconds=60.5)
    assert case.event["firstTimestamp"] is None
    assert case.events() == [case.event | {"metadata": {"name": "e", "namespace": "n"}}]


def _audit(url: str) -> list[Json]:
    with urllib.request.urlopen(f"{url}/sandbox/audit") as answer:
        lines: list[Json] = json.load(answer)
        return lines


def test_the_audit_knows_every_write(client: ApiServer, url: str, space: str) -> None:
    """Writes over HTTP are listed, refused and dry ones too; controllers' writes are not."""
    client.create("Deployment", deployment(space, SLEEPER))
    operations = [{"op": "test", "path": "/metadata/uid", "value": "x"}]
    with pytest.raises(Rejected):
        client.json_patch("Deployment", space, "web", operations, dry_run=True)
    client.get("Deployment", space, "web")
    uid = read(client, space)["metadata"]["uid"]
    created, patched = [line for line in _audit(url) if line["namespace"] == space]
    assert created["field_manager"] == "tests"
    assert (created["verb"], created["kind"], created["code"]) == ("create", "Deployment", 201)
    assert (created["uid"], created["dryRun"]) == (uid, False)
    assert (patched["verb"], patched["name"], patched["code"]) == ("patch", "web", 422)
    assert (patched["dryRun"], patched["body"]) == (True, operations)
    assert (patched["user_agent"], patched["field_manager"]) == ("tests", "tests")


def test_field_selectors(client: ApiServer, url: str, space: str) -> None:
    """Events of one object can be picked, as kubectl describe does."""
    client.create("Deployment", deployment(space, SLEEPER))
    until(lambda: is_complete(client, space))
    query = "fieldSelector=involvedObject.name%3Dweb,involvedObject.kind%3DDeployment"
    path = f"{url}/api/v1/namespaces/{space}/events?{query}"
    with urllib.request.urlopen(path) as answer:
        found = json.load(answer)["items"]
    assert {e["reason"] for e in found} == {"ScalingReplicaSet"}


def test_a_watch_from_too_long_ago_is_410() -> None:
    """What is not kept any more cannot be followed."""
    with running(speed=100, history=20) as url:
        client = connect(url, manager="tests")
        start = client.listing("Namespace")
        for number in range(25):
            client.create("Namespace", {"metadata": {"name": f"n-{number}"}})
        with pytest.raises(Rejected, match="too old resource version") as caught:
            next(client.watch("Namespace", None, start, 1))
        assert (caught.value.code, caught.value.reason) == (410, "Expired")
        client.close()


def test_it_runs_as_a_process() -> None:
    """It says where it is, answers, and goes when told to."""
    command = [sys.executable, "-m", "quietpager.sandbox", "--port", "0", "--speed", "10"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("sandbox ready on http://127.0.0.1:")
        client = connect(line.split()[-1], manager="tests")
        assert client.list("Node")
        client.close()
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.parametrize(
    ("document", "operations", "expected"),
    [
        ({"a": [1]}, [{"op": "add", "path": "/a/-", "value": 2}], {"a": [1, 2]}),
        ({"a": [1]}, [{"op": "add", "path": "/a/0", "value": 2}], {"a": [2, 1]}),
        ({"a": 1}, [{"op": "move", "from": "/a", "path": "/b"}], {"b": 1}),
        ({"a": 1}, [{"op": "copy", "from": "/a", "path": "/b"}], {"a": 1, "b": 1}),
        ({"a/b": 1, "m~n": 2}, [{"op": "remove", "path": "/a~1b"}], {"m~n": 2}),
        ({"a": {"b": 1}}, [{"op": "replace", "path": "", "value": {"c": 1}}], {"c": 1}),
        # Where the API server is laxer than the RFC:
        ({"a": 1}, [{"op": "test", "path": "/b", "value": None}], {"a": 1}),
        ({"a": 1}, [{"op": "replace", "path": "/b", "value": 2}], {"a": 1, "b": 2}),
        ({"a": 1}, [{"op": "add", "path": "/a"}], {"a": None}),
        ({"a": 1}, [{"op": "add", "path": "x/a", "value": 2}], {"a": 2}),
    ],
)
def test_json_patch(document: Json, operations: list[Json], expected: Json) -> None:
    """RFC 6902, appendix A in short, and what the API server adds to it."""
    assert apply(document, operations) == expected


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "test", "path": "/a", "value": True},
        {"op": "test", "path": "/a", "value": 1.0},
        {"op": "test", "path": "/b/c", "value": None},
        {"op": "add", "path": "/b/c", "value": 1},
        {"op": "add", "path": "/l/01", "value": 1},
        {"op": "replace", "path": "/l/0", "value": 1},
        {"op": "remove", "path": "/l/-"},
        {"op": "remove", "path": "l"},
        {"op": "jump", "path": "/a"},
        "not an operation",
    ],
)
def test_json_patch_refuses(operation: Any) -> None:
    """A malformed patch fails as a test does."""
    with pytest.raises(PatchError):
        apply({"a": 1, "l": []}, [operation])


def test_merge_patch() -> None:
    """RFC 7386, its example in short."""
    target = {"title": "x", "author": {"given": "a", "family": "b"}, "tags": [1]}
    patch = {"title": "y", "author": {"family": None}, "tags": [2], "new": {"a": None}}
    expected = {"title": "y", "author": {"given": "a"}, "tags": [2], "new": {}}
    assert merge(target, patch) == expected


def test_a_boolean_is_not_a_number() -> None:
    """JSON and Python disagree about this."""
    assert not same(True, 1)
    assert not same([0], [False])
    assert not same({"a": [1, None]}, {"a": [1.0, None]})  # RFC 6902 says otherwise, the API server not
    assert same({"a": [1, None]}, {"a": [1, None]})


@pytest.mark.parametrize(
    ("written", "stored"),
    [
        ("0", "0"), ("0Mi", "0"), ("512", "512"), ("2048", "2048"), ("2Ki", "2Ki"), ("2048Ki", "2Mi"),
        ("1.5Gi", "1536Mi"), ("1000m", "1"), ("0.5", "500m"), ("1500Mi", "1500Mi"), ("-1Mi", "-1Mi"),
        (100, "100"), (2.5, "2500m"),
    ],
)  # fmt: skip
def test_quantities_in_their_shortest_form(written: str | float, stored: str) -> None:
    """What a client reads back is not always what it wrote."""
    assert fields.canonical(written) == stored
    assert quantity(stored) == quantity(written)


def test_fields_that_the_kind_does_not_have_are_dropped() -> None:
    """At every level that is listed; below it everything is kept."""
    container = {"name": "c", "image": "i:1", "imag": "j", "env": [{"name": "a", "any": 1}], "args": None}
    spec = {"containers": [container], "conatiners": []}
    pod: Json = {"kind": "Pod", "metadata": {"name": "p", "labels": {}, "nme": 1}, "spec": spec, "sepc": {}}
    fields.prune(pod)
    kept = {"name": "c", "image": "i:1", "env": [{"name": "a", "any": 1}]}
    assert pod == {"kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": [kept]}}


def test_the_fields_are_those_of_the_official_client() -> None:
    """Its models are generated from the API's own description."""
    client = importlib.import_module("kubernetes.client")
    for model, names in {
        "V1DeploymentSpec": fields.SPECS["Deployment"],
        "V1ReplicaSetSpec": fields.SPECS["ReplicaSet"],
        "V1ResourceQuotaSpec": fields.SPECS["ResourceQuota"],
        "V1PodSpec": fields.POD_SPEC,
        "V1Container": fields.CONTAINER,
        "V1ObjectMeta": fields.METADATA,
        "V1ConfigMap": fields.TOP["ConfigMap"],
        "V1Secret": fields.TOP["Secret"],
        "CoreV1Event": fields.EVENT,
    }.items():
        assert set(getattr(client, model).attribute_map.values()) - {"selfLink"} == {*names} - {"selfLink"}
