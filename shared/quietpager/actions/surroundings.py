"""What surrounds a plan: the facts that guards 3, 4, 6 and 9 are decided on.

Who calls it: `quietpager.actions.plan.rehearse`. Pure but for the reader behind `Live`.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from quietpager.model.incident import Disruption, Fleet
from quietpager.model.reference import ObjectRef
from quietpager.objects.health import pod_fault
from quietpager.objects.kinds.node import Node
from quietpager.objects.live import Live
from quietpager.objects.selector import selects
from quietpager.objects.types import Pod

ZONE = "topology.kubernetes.io/zone"
"""The well-known label for a failure domain; a node without it is a domain of its own."""


def scope_of(live: Live, owner: ObjectRef, removes: Sequence[ObjectRef]) -> dict[str, Any]:
    """Give guard 3's facts: the targets, and of pods that go, who stays and where they run."""
    if not removes:
        return {"targets": (owner,)}
    going = {one.uid for one in removes}
    present = [pod for pod in live.pods if not pod.leaving]
    zones = {node.metadata.name: _domain(node) for node in live.nodes}
    return {
        "targets": tuple(removes),
        "siblings": len(present),
        "healthy": sum(_well(pod) for pod in present if pod.metadata.uid not in going),
        "domains": tuple(sorted({_place(pod, zones) for pod in present if pod.metadata.uid in going})),
    }


def disruptions_of(live: Live, removes: Sequence[ObjectRef]) -> tuple[Disruption, ...]:
    """Give guard 9's facts: each PodDisruptionBudget that selects a pod that goes, and what it allows now.

    A budget whose status is of an older generation allows nothing: its controller has not counted yet.
    """
    going = {one.uid for one in removes}
    pods = [pod for pod in live.pods if pod.metadata.uid in going]
    found = []
    for raw in live.reader.list("PodDisruptionBudget", live.target.namespace):
        selector = (raw.get("spec") or {}).get("selector")
        chosen = tuple(pod.metadata.name for pod in pods if selects(selector, pod.metadata.labels))
        if chosen:
            meta, status = raw["metadata"], raw.get("status") or {}
            counted = (status.get("observedGeneration") or 0) >= (meta.get("generation") or 0)
            allowed = int(status.get("disruptionsAllowed") or 0) if counted else 0
            found.append(Disruption(name=str(meta["name"]), allowed=allowed, targets=chosen))
    return tuple(found)


def _well(pod: Pod) -> bool:
    return pod.ready and pod_fault(pod, None) is None


def _domain(node: Node) -> str:
    return node.metadata.labels.get(ZONE) or node.metadata.name


def _place(pod: Pod, zones: Mapping[str, str]) -> str:
    name = pod.spec.node_name or "(no node)"
    return zones.get(name, name)


def fleet_of(live: Live) -> Fleet:
    """Give what guards 4 and 6 must know of the nodes."""
    return Fleet(
        nodes=len(live.nodes),
        unhealthy=sum(not node.ready for node in live.nodes),
        cordoned=tuple(sorted(node.metadata.name for node in live.nodes if node.spec.unschedulable)),
        kubelets=tuple(sorted({v for node in live.nodes if (v := node.status.node_info.kubelet_version)})),
    )


def other_rollout(live: Live) -> str | None:
    """Say why a rollout that is under way is somebody else's, or None.

    It is if pods fail and none of them is of the newest revision: whoever rolls that one out did not
    cause the symptom, and may be ending it.
    """
    if len(live.revisions) < 2:
        return None
    newest = live.revisions[0]
    failing = [pod for pod in live.pods if pod_fault(pod, None) is not None]
    if not failing or any(live.kind.revision_of(pod) == newest.key for pod in failing):
        return None
    return f"{len(failing)} failing pod(s) are of an earlier revision than {newest.number}, the newest"
