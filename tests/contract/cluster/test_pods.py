"""What becomes of pods and rollouts, and what containers have said."""

import pytest

from quietpager.model.cluster import Cluster
from tests.contract.cluster.support import (
    LIMIT,
    REVISION,
    Json,
    condition,
    containers_of,
    done,
    patch,
    pod,
    read,
    refused,
    running_deployment,
    sizes,
    state_of,
    until,
    waiting_for,
)

CONTRACT = "cluster"


# Pods and what becomes of them


OOM_ENDS = {(137, "OOMKilled"), (137, "Error")}
"""containerd 1.6 hears of the kill beside the exit: now and then the exit is told first, as an Error
(measured under load); the next kill then mostly says what it was."""


def test_a_pods_spec_stays_as_it_is_but_for_its_images(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", pod(namespace, "one"))
    path = "/spec/containers/0"
    more = {"op": "add", "path": f"{path}/resources", "value": {"limits": {"memory": "1Gi"}}}
    with refused(422, "Invalid") as caught:
        cluster.json_patch("Pod", namespace, "one", [more])
    assert caught.value.message.startswith(
        'Pod "one" is invalid: spec: Forbidden: pod updates may not change fields other than '
        "`spec.containers[*].image`,`spec.initContainers[*].image`"
    )
    image = {"op": "replace", "path": f"{path}/image", "value": "localhost/busybox:2"}
    changed = cluster.json_patch("Pod", namespace, "one", [image], dry_run=True)
    assert changed["spec"]["containers"][0]["image"] == "localhost/busybox:2"
    assert changed["metadata"]["generation"] == 2


def test_an_annotation_on_a_pod_does_not_count(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", pod(namespace, "one"))
    change = {"metadata": {"annotations": {"a": "b"}}}
    assert cluster.merge_patch("Pod", namespace, "one", change)["metadata"]["generation"] == 1


def test_a_pod_has_its_requests_from_its_limits(cluster: Cluster, namespace: str) -> None:
    made = cluster.create("Pod", pod(namespace, "one", limit="32Mi"), dry_run=True)
    assert made["spec"]["containers"][0]["resources"]["requests"] == {"memory": "32Mi"}
    assert made["status"] == {"phase": "Pending", "qosClass": "Burstable"}


def test_a_healthy_pod_reads_so(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", pod(namespace, "one"))

    def ready() -> Json | None:
        found = read(cluster, "Pod", namespace, "one")
        return found if (condition(found, "Ready") or {}).get("status") == "True" else None

    found = until(ready, "the pod to be ready")
    assert found["status"]["phase"] == "Running"
    [status] = containers_of(found)
    assert (status["name"], status["image"]) == ("a", "localhost/busybox:1")
    assert (status["ready"], status["started"], status["restartCount"]) == (True, True, 0)
    assert (status["state"].keys(), status["lastState"]) == ({"running"}, {})
    conditions = {one["type"]: one["status"] for one in found["status"]["conditions"]}
    assert conditions == dict.fromkeys(
        ("PodReadyToStartContainers", "Initialized", "Ready", "ContainersReady", "PodScheduled"), "True"
    )


@pytest.mark.timeout(150)
def test_what_takes_too_much_memory_is_killed_and_backs_off(cluster: Cluster, namespace: str) -> None:
    cluster.create("Deployment", running_deployment(namespace, command=["tail", "/dev/zero"]))

    def backs_off() -> Json | None:
        for one in cluster.list("Pod", namespace):
            for status in containers_of(one):
                waits = status["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
                ended = status["lastState"].get("terminated") or {}
                if ended:
                    assert (ended["exitCode"], ended["reason"]) in OOM_ENDS
                if waits and ended.get("reason") == "OOMKilled":
                    return one
        return None

    found = until(backs_off, "an OOM kill with its back-off", 120)
    name, uid = found["metadata"]["name"], found["metadata"]["uid"]
    [status] = containers_of(found)
    last = status["lastState"]["terminated"]
    assert status["lastState"].keys() == {"terminated"}
    assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")
    assert last["startedAt"] <= last["finishedAt"]
    assert last.keys() == {"exitCode", "reason", "startedAt", "finishedAt", "containerID"}
    assert status["restartCount"] >= 1
    assert (status["ready"], status["started"]) == (False, False)
    assert status["state"]["waiting"]["message"] in {
        f"back-off {seconds}s restarting failed container=web pod={name}_{namespace}({uid})"
        for seconds in ("10", "20", "40", "1m20")
    }
    assert found["status"]["phase"] == "Running"
    unready = condition(found, "Ready") or {}
    assert (unready["status"], unready["reason"]) == ("False", "ContainersNotReady")
    assert unready["message"] == "containers with unready status: [web]"
    told = [e for e in cluster.list("Event", namespace) if e["reason"] == "BackOff"]
    assert {(e["type"], e["message"]) for e in told} == {
        ("Warning", f"Back-off restarting failed container web in pod {name}_{namespace}({uid})")
    }
    about = told[0]["involvedObject"]
    assert (about["kind"], about["name"], about["uid"]) == ("Pod", name, uid)
    assert about["fieldPath"] == "spec.containers{web}"
    assert told[0]["source"]["component"] == told[0]["reportingComponent"] == "kubelet"
    assert not [e for e in cluster.list("Event", namespace) if "OOM" in e["reason"] + e["message"]]


def test_an_image_that_is_nowhere_is_waited_for(cluster: Cluster, namespace: str) -> None:
    image = "registry.example.com/missing/app:1.2.3"
    cluster.create("Deployment", running_deployment(namespace, image=image))
    why = (
        f'failed to pull and unpack image "{image}": failed to resolve reference "{image}": '
        f"{image}: not found"
    )
    why = f"rpc error: code = NotFound desc = {why}"
    first = waiting_for(cluster, namespace, "ErrImagePull")
    [status] = containers_of(first)
    assert status["state"] == {"waiting": {"reason": "ErrImagePull", "message": why}}
    assert (status["lastState"], status["restartCount"], status["image"]) == ({}, 0, image)
    assert first["status"]["phase"] == "Pending"
    later = waiting_for(cluster, namespace, "ImagePullBackOff")
    assert state_of(later)["waiting"]["message"] == f'Back-off pulling image "{image}": ErrImagePull: {why}'
    told = {(e["type"], e["reason"], e["message"]) for e in cluster.list("Event", namespace)}
    assert told >= {
        ("Normal", "Pulling", f'Pulling image "{image}"'),
        ("Warning", "Failed", f'Failed to pull image "{image}": {why}'),
        ("Warning", "Failed", "Error: ErrImagePull"),
        ("Normal", "BackOff", f'Back-off pulling image "{image}"'),
        ("Warning", "Failed", "Error: ImagePullBackOff"),
    }


def test_a_rollout_without_progress_says_so_in_time(cluster: Cluster, namespace: str) -> None:
    body = running_deployment(namespace, image="registry.example.com/missing/app:1.2.3")
    body["spec"]["progressDeadlineSeconds"] = 3
    cluster.create("Deployment", body)

    def late() -> Json | None:
        found = condition(read(cluster, "Deployment", namespace), "Progressing")
        return found if found and found["status"] == "False" else None

    found = until(late, "the deadline to pass")
    [one] = cluster.list("ReplicaSet", namespace)
    assert found["reason"] == "ProgressDeadlineExceeded"
    assert found["message"] == f'ReplicaSet "{one["metadata"]["name"]}" has timed out progressing.'
    deployment_ = read(cluster, "Deployment", namespace)
    available = condition(deployment_, "Available") or {}
    assert (available["status"], available["reason"]) == ("False", "MinimumReplicasUnavailable")
    assert deployment_["status"]["unavailableReplicas"] == 1
    assert "availableReplicas" not in deployment_["status"]


def test_a_rollout_and_its_way_back(cluster: Cluster, namespace: str) -> None:
    cluster.create("Deployment", running_deployment(namespace))
    first = until(lambda: done(cluster, namespace), "the first rollout")
    assert first["metadata"]["annotations"] == {REVISION: "1"}
    [old] = cluster.list("ReplicaSet", namespace)
    hash_ = old["metadata"]["labels"]["pod-template-hash"]
    assert old["metadata"]["name"] == f"web-{hash_}"
    assert old["metadata"]["annotations"] == {
        REVISION: "1",
        "deployment.kubernetes.io/desired-replicas": "1",
        "deployment.kubernetes.io/max-replicas": "2",
    }
    assert owners(old) == [("apps/v1", "Deployment", "web", first["metadata"]["uid"], True)]
    assert old["spec"]["selector"]["matchLabels"] == {"app": "web", "pod-template-hash": hash_}
    assert old["spec"]["template"]["metadata"]["labels"] == {"app": "web", "pod-template-hash": hash_}
    [pod_] = cluster.list("Pod", namespace)
    assert pod_["metadata"]["name"].startswith(f"web-{hash_}-")
    assert owners(pod_) == [("apps/v1", "ReplicaSet", old["metadata"]["name"], old["metadata"]["uid"], True)]
    assert first["status"] == {
        "observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
        "availableReplicas": 1, "conditions": first["status"]["conditions"], "terminatingReplicas": 0,
    }  # fmt: skip

    patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "48Mi"})
    second = until(lambda: done(cluster, namespace), "the second rollout")
    assert second["metadata"]["annotations"] == {REVISION: "2"}
    assert sizes(cluster, namespace) == {"1": 0, "2": 1}

    patch(cluster, namespace, {"op": "replace", "path": LIMIT, "value": "32Mi"})
    third = until(lambda: done(cluster, namespace), "the way back")
    assert third["metadata"]["annotations"] == {REVISION: "3"}
    assert (third["metadata"]["generation"], sizes(cluster, namespace)) == (3, {"2": 0, "3": 1})
    again = read(cluster, "ReplicaSet", namespace, old["metadata"]["name"])
    assert again["metadata"]["uid"] == old["metadata"]["uid"]
    assert again["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] == "1"
    scaled = [e["message"] for e in cluster.list("Event", namespace) if e["reason"] == "ScalingReplicaSet"]
    assert f"Scaled up replica set web-{hash_} from 0 to 1" in scaled
    assert f"Scaled down replica set web-{hash_} from 1 to 0" in scaled

    cluster.delete("Deployment", namespace, "web")
    until(lambda: not cluster.list("ReplicaSet", namespace), "the ReplicaSets to go with their owner")
    until(lambda: not cluster.list("Pod", namespace), "the pods to go with theirs")


def owners(obj: Json) -> list[tuple[str, str, str, str, bool]]:
    references = obj["metadata"]["ownerReferences"]
    return [(o["apiVersion"], o["kind"], o["name"], o["uid"], o["controller"]) for o in references]


# What containers have said


def talking(namespace: str, name: str, script: str) -> Json:
    body = pod(namespace, name)
    body["spec"]["containers"][0]["command"] = ["sh", "-c", script]
    return body


def test_a_containers_last_lines_are_read(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", talking(namespace, "one", 'echo "first line"; echo second; echo third; sleep 1000'))
    until(lambda: "running" in state_of(read(cluster, "Pod", namespace, "one")), "the pod to run")
    whole = b"first line\nsecond\nthird\n"
    until(lambda: cluster.logs(namespace, "one", "a") == whole, "the log")
    assert cluster.logs(namespace, "one", "a", tail=2) == b"second\nthird\n"
    assert cluster.logs(namespace, "one", "a", tail=2, most=4) == b"seco"


def test_what_has_no_log_says_why(cluster: Cluster, namespace: str) -> None:
    cluster.create("Pod", talking(namespace, "one", "echo hello; sleep 1000"))
    until(lambda: "running" in state_of(read(cluster, "Pod", namespace, "one")), "the pod to run")
    with refused(404, "NotFound"):
        cluster.logs(namespace, "nobody", "a")
    with refused(400, "BadRequest") as caught:
        cluster.logs(namespace, "one", "b")
    assert caught.value.message == "container b is not valid for pod one"
    with refused(400, "BadRequest") as caught:
        cluster.logs(namespace, "one", "a", previous=True)
    assert caught.value.message == 'previous terminated container "a" in pod "one" not found'


def test_a_container_that_waits_has_no_log_yet(cluster: Cluster, namespace: str) -> None:
    body = pod(namespace, "one")
    body["spec"]["containers"][0]["image"] = "registry.example.com/missing/app:1"
    cluster.create("Pod", body)
    waiting_for(cluster, namespace, "ErrImagePull")
    with refused(400, "BadRequest") as caught:
        cluster.logs(namespace, "one", "a")
    assert 'container "a" in pod "one" is waiting to start: ' in caught.value.message


def test_a_config_map_can_be_read(cluster: Cluster, namespace: str) -> None:
    metadata = {"name": "settings", "namespace": namespace}
    cluster.create("ConfigMap", {"metadata": metadata, "data": {"a": "b"}})
    assert read(cluster, "ConfigMap", namespace, "settings")["data"] == {"a": "b"}
    assert cluster.get("ConfigMap", namespace, "other") is None
