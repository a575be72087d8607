"""For each kind: an object that is well with what belongs to it, and changes that make it ill.

A new file of `objects/kinds` needs its examples here: a test holds that every kind has some.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from quietpager.model.cluster import Json
from tests.objects.held import made, owned_by, pod, template

SELECTED: Final = {"selector": {"matchLabels": {"app": "web"}}, "template": template("app")}


@dataclass(frozen=True)
class Example:
    """`objects` are all that there is, the one that is judged first; `ill` has each change and its reason."""

    objects: tuple[Json, ...]
    ill: Mapping[str, tuple[Callable[[Json], None], str]]
    pods: frozenset[str] = frozenset()
    revisions: tuple[str, ...] = ()
    counts: tuple[int, int, int, int] | None = None
    """Wanted, updated, ready, available."""
    also_well: Mapping[str, Callable[[Json], None]] = field(default_factory=dict)


def sets(part: str, **values: object) -> Callable[[Json], None]:
    """Make the change that sets fields of a part."""

    def change(one: Json) -> None:
        one[part].update(values)

    return change


def says(kind: str, status: str, reason: str = "R") -> Callable[[Json], None]:
    """Make the change that sets the object's only condition."""
    return sets("status", conditions=[{"type": kind, "status": status, "reason": reason, "message": "m"}])


def deployment() -> Example:
    status = {"observedGeneration": 2, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1,
              "availableReplicas": 1}  # fmt: skip
    web = made("Deployment", {"replicas": 1, **SELECTED}, status)
    sets_ = [
        made(
            "ReplicaSet", SELECTED, name=f"web-{number}", uid=f"uid-web-{number}", labels={"app": "web"},
            annotations={"deployment.kubernetes.io/revision": str(number)}, ownerReferences=owned_by(web),
        )
        for number in (1, 2)
    ]  # fmt: skip
    stranger = pod(None, "stranger")
    return Example(
        (web, *sets_, pod(sets_[1]), stranger),
        {
            "its controller lags": (sets("status", observedGeneration=1), "newest generation"),
            "a rollout": (sets("status", updatedReplicas=0), "of the newest revision"),
            "old pods are left": (sets("status", replicas=2), "of the newest revision"),
            "none available": (sets("status", availableReplicas=0), "0 of 1 replicas are available"),
        },
        frozenset({"web-1"}), ("web-2", "web-1"), (1, 1, 1, 1),
    )  # fmt: skip


def replica_set() -> Example:
    status = {"observedGeneration": 2, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1}
    one = made("ReplicaSet", {"replicas": 1, **SELECTED}, status)
    return Example(
        (one, pod(one)),
        {
            "its controller lags": (sets("status", observedGeneration=1), "newest generation"),
            "too few": (sets("status", replicas=0), "it has 0 replicas and wants 1"),
            "none available": (sets("status", availableReplicas=0), "are available"),
        },
        frozenset({"web-1"}), (), (1, 1, 1, 1),
    )  # fmt: skip


def revision(owner: Json, number: int, hash_: str) -> Json:
    """Make a ControllerRevision as the controllers write it."""
    made_ = made(
        "ControllerRevision", name=f"web-{hash_}", uid=f"uid-{hash_}", ownerReferences=owned_by(owner),
        labels={"app": "web", "controller-revision-hash": hash_},
    )  # fmt: skip
    body = template("app", image=f"app:{number}") | {"$patch": "replace"}
    return made_ | {"revision": number, "data": {"spec": {"template": body}}}


def stateful_set() -> Example:
    status = {"observedGeneration": 2, "replicas": 1, "readyReplicas": 1, "availableReplicas": 1,
              "updatedReplicas": 1, "currentRevision": "web-b", "updateRevision": "web-b"}  # fmt: skip
    one = made("StatefulSet", {"replicas": 1, **SELECTED}, status)
    own = pod(one, "web-0", labels={"controller-revision-hash": "web-b"})
    on_delete = sets("spec", updateStrategy={"type": "OnDelete"})

    def waits_for_a_person(raw: Json) -> None:
        on_delete(raw)
        raw["status"].update(updatedReplicas=0, updateRevision="web-c")

    def partitioned(raw: Json) -> None:
        raw["spec"]["updateStrategy"] = {"rollingUpdate": {"partition": 1}}
        raw["status"].update(updatedReplicas=0, updateRevision="web-c")

    return Example(
        (one, revision(one, 1, "a"), revision(one, 2, "b"), own),
        {
            "its controller lags": (sets("status", observedGeneration=1), "newest generation"),
            "too few": (sets("status", replicas=0), "it has 0 replicas and wants 1"),
            "none available": (sets("status", availableReplicas=0), "are available"),
            "a rollout": (sets("status", updatedReplicas=0), "of the newest revision"),
            "a rollout that ends": (sets("status", updateRevision="web-c"), "not complete"),
        },
        frozenset({"web-0"}), ("web-b", "web-a"), (1, 1, 1, 1),
        {"pods are replaced by hand": waits_for_a_person, "all are below the partition": partitioned},
    )  # fmt: skip


def daemon_set() -> Example:
    status = {"observedGeneration": 2, "desiredNumberScheduled": 1, "currentNumberScheduled": 1,
              "updatedNumberScheduled": 1, "numberReady": 1, "numberAvailable": 1}  # fmt: skip
    one = made("DaemonSet", SELECTED, status)
    own = pod(one, "web-x", labels={"controller-revision-hash": "b"})
    return Example(
        (one, revision(one, 2, "b"), revision(one, 1, "a"), own),
        {
            "its controller lags": (sets("status", observedGeneration=1), "newest generation"),
            "a node lacks it": (sets("status", desiredNumberScheduled=2), "1 of 2 nodes"),
            "a rollout": (sets("status", updatedNumberScheduled=0), "of the newest revision"),
            "none available": (sets("status", numberAvailable=0), "are available"),
        },
        frozenset({"web-x"}), ("web-b", "web-a"), (1, 1, 1, 1),
    )  # fmt: skip


def job() -> Example:
    one = made("Job", {"completions": 1, "parallelism": 1, **SELECTED}, {"active": 1, "ready": 1})
    return Example(
        (one, pod(one, "job-1"), pod(one, "job-0", ill="app", phase="Failed")),
        {"it has failed": (says("Failed", "True", "BackoffLimitExceeded"), "BackoffLimitExceeded")},
        frozenset({"job-0", "job-1"}), (), (1, 1, 1, 1),
        {"complete": says("Complete", "True"), "suspended": sets("spec", suspend=True)},
    )  # fmt: skip


def cron_job() -> Example:
    one = made("CronJob", {"schedule": "* * * * *", "jobTemplate": {"spec": SELECTED}})
    jobs = [
        made("Job", SELECTED, name=f"job-{day}", uid=f"uid-job-{day}", ownerReferences=owned_by(one),
             creationTimestamp=f"2026-11-{day}T00:00:00Z")
        for day in (24, 25)
    ]  # fmt: skip
    jobs[0]["status"] = {"conditions": [{"type": "Failed", "status": "True", "reason": "R"}]}

    def newest_failed(_raw: Json) -> None:
        jobs[1]["status"] = jobs[0]["status"]

    return Example(
        (one, *jobs, pod(jobs[1], "cron-1")), {"its newest Job failed": (newest_failed, "Job job-25")},
        frozenset({"cron-1"}),
    )  # fmt: skip


def bare_pod() -> Example:
    one = pod(None, "alone")
    waits = {"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff"}}}
    return Example(
        (one,),
        {
            "a container waits": (sets("status", containerStatuses=[waits]), "ImagePullBackOff"),
            "not ready": (says("Ready", "False"), "not ready"),
        },
        frozenset({"alone"}),
    )


def node() -> Example:
    one = made("Node", status={"conditions": [{"type": "Ready", "status": "True"}]})
    return Example((one,), {"not ready": (says("Ready", "Unknown"), "the node is not ready")})


def claim() -> Example:
    one = made("PersistentVolumeClaim", status={"phase": "Bound"})
    lost = sets("status", phase="Lost")
    return Example((one,), {"pending": (sets("status", phase="Pending"), "Pending"), "lost": (lost, "Lost")})


def autoscaler() -> Example:
    one = made("HorizontalPodAutoscaler", status={"conditions": [{"type": "AbleToScale", "status": "True"}]})
    no_metrics = says("ScalingActive", "False", "FailedGetResourceMetric")
    return Example(
        (one,),
        {
            "no metrics": (no_metrics, "FailedGetResourceMetric"),
            "it cannot scale": (says("AbleToScale", "False"), "AbleToScale"),
        },
        also_well={"scaled to zero": says("ScalingActive", "False", "ScalingDisabled"),
                   "at its bound": says("ScalingLimited", "True", "TooManyReplicas")},
    )  # fmt: skip


def service() -> Example:
    one = made("Service", {"selector": {"app": "web"}})
    ends = made("EndpointSlice", labels={"kubernetes.io/service-name": "service"})
    ends |= {"endpoints": [{"addresses": ["10.0.0.1"], "conditions": {}}]}

    def unready(_raw: Json) -> None:
        ends["endpoints"][0]["conditions"] = {"ready": False}

    def empty(_raw: Json) -> None:
        ends["endpoints"] = []

    return Example(
        (one, ends, pod(None, "behind")),
        {"none ready": (unready, "none of its 1 endpoints"), "none": (empty, "no endpoints")},
        frozenset({"behind"}),
        also_well={"given from elsewhere": sets("spec", selector={})},
    )


def budget() -> Example:
    status = {"observedGeneration": 2, "currentHealthy": 1, "desiredHealthy": 1}
    one = made("PodDisruptionBudget", status=status)
    return Example(
        (one,),
        {
            "too few": (sets("status", currentHealthy=0), "0 pods are healthy, 1 are demanded"),
            "not counted": (says("DisruptionAllowed", "False", "SyncFailed"), "SyncFailed"),
            "its controller lags": (sets("status", observedGeneration=1), "newest generation"),
        },
    )


def quota() -> Example:
    one = made(
        "ResourceQuota", status={"hard": {"requests.memory": "64Mi"}, "used": {"requests.memory": "64Mi"}}
    )
    beyond = sets("status", used={"requests.memory": "65Mi"})
    return Example((one,), {"more than allowed": (beyond, "65Mi of requests.memory")})


def namespace() -> Example:
    one = made("Namespace", status={"phase": "Active"})

    def stuck(raw: Json) -> None:
        says("NamespaceContentRemaining", "True")(raw)
        raw["status"]["phase"] = "Terminating"

    return Example(
        (one,), {"it goes": (sets("status", phase="Terminating"), "deleted"), "stuck": (stuck, ": m")}
    )


EXAMPLES: Final[Mapping[str, Callable[[], Example]]] = {
    "Deployment": deployment, "ReplicaSet": replica_set, "StatefulSet": stateful_set, "DaemonSet": daemon_set,
    "Job": job, "CronJob": cron_job, "Pod": bare_pod, "Node": node, "PersistentVolumeClaim": claim,
    "HorizontalPodAutoscaler": autoscaler, "Service": service, "PodDisruptionBudget": budget,
    "ResourceQuota": quota, "Namespace": namespace,
}  # fmt: skip
