"""Which node takes a pod, and the scheduler's words where none does. Pure; `kubelet` calls it.

Filters, their order and wording are those of kube-scheduler 1.35 (pkg/scheduler/framework/plugins,
and the recorded cases 17 and 23): a node counts under the first filter that refuses it, but for each
resource that it lacks. Node affinity beyond `nodeSelector`, pod affinity, spread constraints and ports
are not modelled.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple

from quietpager.model.quantity import quantity

Json = dict[str, Any]

_FINISHED: Final = {"Succeeded", "Failed"}
_KEEPS_OFF: Final = {"NoSchedule", "NoExecute"}
_NOT_READY: Final = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}


class Placed(NamedTuple):
    """The node's name, or None with the message of the condition and the Event."""

    node: str | None
    message: str = ""


def place(
    pod: Json, nodes: Sequence[Json], pods: Sequence[Json], claim: Callable[[str], Json | None]
) -> Placed:
    """Find a node. `pods` are all pods of the cluster, `claim` looks a PersistentVolumeClaim up by name."""
    if not nodes:
        return Placed(None, "no nodes available to schedule pods")
    head = f"0/{len(nodes)} nodes are available: "
    if (waits := _claims(pod, claim)) is not None:
        return Placed(None, f"{head}{waits}. not found")
    refused: Counter[str] = Counter()
    hopeless = 0
    for node in nodes:
        reasons, could_make_room = _refusals(pod, node, pods)
        if not reasons:
            return Placed(node["metadata"]["name"])
        refused.update(reasons)
        hopeless += not could_make_room
    preempting = Counter({
        "Preemption is not helpful for scheduling": hopeless,
        "No preemption victims found for incoming pod": len(nodes) - hopeless,
    })  # fmt: skip
    return Placed(
        None,
        f"{head}{_histogram(refused)}. no new claims to deallocate, preemption: "
        f"{head}{_histogram(preempting)}.",
    )


def _histogram(reasons: Counter[str]) -> str:
    return ", ".join(sorted(f"{count} {reason}" for reason, count in reasons.items() if count))


def _claims(pod: Json, claim: Callable[[str], Json | None]) -> str | None:
    for volume in pod["spec"].get("volumes") or ():
        name = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        found = claim(name) if name else None
        if name and found is None:
            return f'persistentvolumeclaim "{name}" not found'
        if found is not None and (found.get("status") or {}).get("phase") != "Bound":
            return "pod has unbound immediate PersistentVolumeClaims"
    return None


def _refusals(pod: Json, node: Json, pods: Sequence[Json]) -> tuple[list[str], bool]:
    """Say why a node refuses a pod, and whether killing others could make room."""
    spec, labels = node.get("spec") or {}, node["metadata"].get("labels") or {}
    if spec.get("unschedulable"):
        return ["node(s) were unschedulable"], False
    taints = [taint for taint in spec.get("taints") or () if taint.get("effect") in _KEEPS_OFF]
    conditions = (node.get("status") or {}).get("conditions") or ()
    if not any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
        taints.append(_NOT_READY)
    tolerations = pod["spec"].get("tolerations") or ()
    if not all(any(_tolerates(one, taint) for one in tolerations) for taint in taints):
        return ["node(s) had untolerated taint(s)"], False
    if any(labels.get(key) != value for key, value in (pod["spec"].get("nodeSelector") or {}).items()):
        return ["node(s) didn't match Pod's node affinity/selector"], False
    room = node["status"]["allocatable"]
    here = [p for p in pods if p["spec"].get("nodeName") == node["metadata"]["name"] and not _finished(p)]
    lacking = ["Too many pods"] if len(here) + 1 > quantity(room.get("pods", "110")) else []
    never = False
    for name in ("cpu", "memory"):
        wanted, all_of_it = requested(pod, name), quantity(room.get(name, "0"))
        taken = sum((requested(one, name) for one in here), Decimal(0))
        if wanted and wanted > all_of_it - taken:
            lacking.append(f"Insufficient {name}")
            never = never or wanted > all_of_it
    return lacking, not never


def _finished(pod: Json) -> bool:
    return (pod.get("status") or {}).get("phase") in _FINISHED


def _tolerates(toleration: Json, taint: Json) -> bool:
    """Rule: https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/."""
    if toleration.get("effect") not in {None, "", taint.get("effect")}:
        return False
    if not toleration.get("key"):
        return toleration.get("operator") == "Exists"
    same_value = (toleration.get("value") or "") == (taint.get("value") or "")
    return toleration["key"] == taint["key"] and (toleration.get("operator") == "Exists" or same_value)


def requested(pod: Json, name: str) -> Decimal:
    """Count what a pod asks for: all containers together, or one init container, if that is more."""

    def of(container: Json) -> Decimal:
        resources = container.get("resources") or {}
        amount = (resources.get("requests") or {}).get(name, (resources.get("limits") or {}).get(name, "0"))
        return quantity(amount)

    together = sum((of(one) for one in pod["spec"].get("containers") or ()), Decimal(0))
    return max([together, *(of(one) for one in pod["spec"].get("initContainers") or ())])
