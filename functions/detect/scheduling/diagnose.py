"""Why does no node take a pod? The scheduler's own words in the pod's status, held against the nodes.

The condition PodScheduled=False/Unschedulable carries the same text as the Event (recorded, Kubernetes
1.35); only the condition counts. Reasons are those of the scheduler's plugins
(k8s.io/kubernetes pkg/scheduler/framework/plugins, 1.35); a node is counted under the first that
refused it. That a request is larger than every node is told by the nodes, never by the text.
"""

import re
from collections import Counter
from datetime import datetime
from decimal import Decimal
from typing import Final

from quietpager.model.finding import Diagnosis, Evidence, Healthy, NotMine, NotYet, Verdict
from quietpager.model.quantity import memory_text
from quietpager.model.signal import Signal
from quietpager.model.text import clean
from quietpager.objects.live import Live
from quietpager.objects.room import COUNTED, SYSTEM_TAINT, asked, fits, is_open, offers
from quietpager.objects.types import Pod

FITS_NO_NODE: Final = "fits_no_node"
"""The fact that no node, however empty, cordoned or tainted, could hold the pod."""

CLAIM = "claim"
_KINDS: Final[tuple[tuple[str, re.Pattern[str]], ...]] = (
    (CLAIM, re.compile(
        r"PersistentVolumeClaim|persistentvolumeclaim|persistent volumes to bind|persistentvolume ")),
    ("volume", re.compile(r"volume node affinity|max volume count|volume zone|enough free storage")),
    ("resources", re.compile(r"^Insufficient |Too many pods|free ports|cannot allocate all claims")),
    ("cordoned", re.compile(r"were unschedulable|untolerated taint \{node\.kubernetes\.io/")),
    ("taint", re.compile(r"untolerated taint")),
    ("affinity", re.compile(r"node affinity|affinity rules|topology spread|requested node name")),
)  # fmt: skip
_CLASSES: Final = {
    "volume": "unschedulable_volume",
    "resources": "unschedulable_resources",
    "cordoned": "unschedulable_cordoned",
    "taint": "unschedulable_taint",
    "affinity": "unschedulable_affinity",
}
_HEAD: Final = " nodes are available: "
_NO_NODES: Final = "no nodes available to schedule pods"
_NEXT: Final = re.compile(r", (?=\d+ )")
_COUNTED: Final = re.compile(r"(?:(\d+) )?(.+)", re.DOTALL)
_SELECTIVE: Final = ("affinity", "taint", "cordoned")
"""Where as many nodes are refused for each: the reason that somebody chose comes first."""


def diagnose(_signal: Signal, live: Live) -> Verdict:
    """Judge the pod's PodScheduled condition."""
    pod = live.pod
    if pod is None or live.owner is None:
        return NotMine(family="unknown", why="only pods are scheduled")
    if pod.leaving:
        return Healthy(why="the pod is on its way out")
    scheduled = pod.condition("PodScheduled")
    if pod.spec.node_name or (scheduled is not None and scheduled.status == "True"):
        return Healthy(why="the pod has its node")
    if scheduled is None:
        return NotYet(why="the scheduler has not said anything yet")
    if scheduled.reason == "SchedulingGated":
        return Healthy(why="a scheduling gate holds the pod back, as somebody asked for")
    if scheduled.reason != "Unschedulable":
        return NotMine(family="unknown", why=f"the scheduler says {scheduled.reason or 'no reason'}")
    kinds = kinds_of(scheduled.message)
    if kinds[CLAIM]:
        return NotMine(family="storage", why="it waits for a PersistentVolumeClaim")
    if not kinds:
        return NotMine(family="unknown", why="the scheduler gives a reason that is not known here")
    return _found(live, pod, kinds, scheduled.message)


def kinds_of(message: str) -> Counter[str]:
    """Count the nodes refused for each kind of reason, from the scheduler's message.

    What follows the first full stop is about preemption, and says nothing of the nodes.
    """
    if message.startswith(_NO_NODES):
        return Counter(resources=1)
    found: Counter[str] = Counter()
    for part in _NEXT.split(message.partition(_HEAD)[2].partition(". ")[0].rstrip(".")):
        match = _COUNTED.fullmatch(part)
        if match is not None:
            kind = next((name for name, pattern in _KINDS if pattern.search(match[2])), None)
            if kind is not None:
                found[kind] += int(match[1] or 1)
    return found


def _class_of(live: Live, pod: Pod, kinds: Counter[str]) -> str:
    """Choose the kind of reason that, were it gone, would let the pod run."""
    if kinds["volume"]:
        return "volume"
    kinds = _without_unwell(live, kinds)
    if kinds["resources"]:
        wanted = asked(pod.spec)
        roomy = [node for node in live.nodes if fits(wanted, node)]
        closed = kinds["cordoned"] or kinds["taint"]
        if not closed or not roomy or any(is_open(node) for node in roomy):
            return "resources"
        return "cordoned" if kinds["cordoned"] else "taint"
    return max(_SELECTIVE, key=lambda kind: (kinds[kind], -_SELECTIVE.index(kind)))


def _without_unwell(live: Live, kinds: Counter[str]) -> Counter[str]:
    """Count taints that only say a node is cordoned or unwell as that; Kubernetes 1.35 names no taint."""
    taints = [taint for node in live.nodes for taint in node.spec.taints if taint.effect.startswith("No")]
    if kinds["taint"] and taints and all(taint.key.startswith(SYSTEM_TAINT) for taint in taints):
        kinds = kinds + Counter(cordoned=kinds["taint"])
        del kinds["taint"]
    return kinds


def _found(live: Live, pod: Pod, kinds: Counter[str], message: str) -> Diagnosis:
    owner = live.owner
    assert owner is not None  # noqa: S101 (diagnose has looked)
    kind = _class_of(live, pod, kinds)
    name, place = pod.metadata.name, f"{pod.metadata.namespace}/{pod.metadata.name}"
    evidence = [
        Evidence(
            text=f"no node takes {name}: {clean(message, 400)}",
            source=f"Pod {place} status.conditions PodScheduled",
        )
    ]
    too_large = _too_large(live, pod) if kind == "resources" else None
    if too_large is not None:
        evidence.append(too_large)
    return Diagnosis(
        failure_class=_CLASSES[kind],
        cause=f"workload:{owner.identity}",
        owner=owner,
        evidence=tuple(evidence),
        facts=frozenset() if too_large is None else frozenset({FITS_NO_NODE}),
        since=pod.metadata.creation_timestamp or datetime.fromisoformat("1970-01-01T00:00:00+00:00"),
    )


def _too_large(live: Live, pod: Pod) -> Evidence | None:
    """Say so where no node at all, were it empty, could hold the pod; None where one could."""
    wanted = asked(pod.spec)
    if not live.nodes or any(fits(wanted, node) for node in live.nodes):
        return None
    most = {name: max(offers(node)[name] for node in live.nodes) for name in COUNTED}
    said = [
        f"{_text(name, wanted[name])} {name}, and the largest node has {_text(name, most[name])}"
        for name in COUNTED
        if wanted[name] > most[name]
    ]
    if not said:
        said = [f"{_text('memory', wanted['memory'])} memory with {wanted['cpu']} cpu, and no node has both"]
    return Evidence(text=f"{pod.metadata.name} asks for {'; '.join(said)}", source="Nodes status.allocatable")


def _text(name: str, amount: Decimal) -> str:
    return memory_text(amount) if name == "memory" else f"{amount.normalize():f}"
