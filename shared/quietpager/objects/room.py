"""Room for a pod: what it asks of a node, and which nodes could ever hold that.

Who calls it: the scheduling detector, and the plan that sets requests; so both count alike.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

from quietpager.model.quantity import quantity
from quietpager.objects.kinds.node import Node
from quietpager.objects.types import Container, PodSpec

COUNTED: Final = ("memory", "cpu")
"""The resources whose requests can be set here; the rest (devices, storage) is left to people."""
SYSTEM_TAINT: Final = "node.kubernetes.io/"
"""Prefix of the taints that say a node is cordoned or unwell
(https://kubernetes.io/docs/reference/labels-annotations-taints/)."""

Asked = Mapping[str, Decimal]
"""Bytes of memory and cores of cpu."""


def asked(spec: PodSpec) -> Asked:
    """Count what the scheduler counts for a pod.

    The larger of what its containers ask together and what any init container asks, with the sidecars
    that run by then; plus overhead
    (https://kubernetes.io/docs/concepts/workloads/pods/init-containers/#resource-sharing-within-containers).
    """
    return {name: _asked(spec, name) for name in COUNTED}


def _asked(spec: PodSpec, name: str) -> Decimal:
    whole = spec.resources.requests.get(name)
    most = sidecars = Decimal(0)
    for one in spec.init_containers:
        if one.restart_policy == "Always":
            sidecars += request(one, name)
            most = max(most, sidecars)
        else:
            most = max(most, sidecars + request(one, name))
    together = sidecars + sum((request(one, name) for one in spec.containers), Decimal(0))
    counted = max(most, together) if whole is None else quantity(whole)
    return counted + quantity(spec.overhead.get(name, "0"))


def request(container: Container, name: str) -> Decimal:
    """Read a container's request; without one its limit counts as one."""
    resources = container.resources
    return quantity(resources.requests.get(name, resources.limits.get(name, "0")))


def offers(node: Node) -> Asked:
    """Read what a node has for pods, were it empty."""
    return {name: quantity(node.status.allocatable.get(name, "0")) for name in COUNTED}


def fits(wanted: Asked, node: Node) -> bool:
    """Tell whether an empty node could hold it."""
    room = offers(node)
    return all(wanted[name] <= room[name] for name in COUNTED)


def is_open(node: Node) -> bool:
    """Tell whether a node takes pods that tolerate nothing."""
    closed = any(taint.effect in ("NoSchedule", "NoExecute") for taint in node.spec.taints)
    return node.ready and not node.spec.unschedulable and not closed


def closest(wanted: Asked, nodes: Iterable[Node]) -> Node | None:
    """Choose the open node that asks for the least to be given up; None where no node is open."""

    def excess(node: Node) -> Decimal:
        room = offers(node)
        return max(wanted[name] / room[name] if room[name] else Decimal("Infinity") for name in COUNTED)

    return min((node for node in nodes if is_open(node)), key=excess, default=None)
