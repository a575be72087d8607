"""Node: well when its condition Ready is True.

The kubelet renews it, and the node lifecycle controller writes Unknown where the kubelet no longer does
(https://kubernetes.io/docs/reference/node/node-status/#condition). Pressure conditions are named to people,
and are no verdict: the kubelet evicts by itself.
"""

from quietpager.model.cluster import Reader
from quietpager.model.view import View
from quietpager.objects.kind import ObjectKind, Resource
from quietpager.objects.types import Condition, Object


class NodeInfo(View):
    """What a kubelet says of itself."""

    kubelet_version: str = ""


class NodeStatus(View):
    """A node's status."""

    allocatable: dict[str, str | int] = {}
    conditions: tuple[Condition, ...] = ()
    node_info: NodeInfo = NodeInfo()


class Taint(View):
    """What keeps pods off a node, unless they tolerate it."""

    key: str
    effect: str = ""


class NodeSpec(View):
    """A node's spec."""

    unschedulable: bool = False
    taints: tuple[Taint, ...] = ()


class Node(Object):
    """A node."""

    spec: NodeSpec = NodeSpec()
    status: NodeStatus = NodeStatus()

    @property
    def ready(self) -> bool:
        """The Ready condition."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)


class NodeKind(ObjectKind):
    """What the product knows of nodes."""

    resource = Resource("Node", "nodes", namespaced=False, in_view=False)
    view = Node
    well_when = {
        "Ready": "True", "MemoryPressure": "False", "DiskPressure": "False", "PIDPressure": "False",
        "NetworkUnavailable": "False",
    }  # fmt: skip
    dated_by = ("Ready",)

    def unsettled(self, one: Node, reader: Reader) -> str | None:
        """It is not ready."""
        del reader
        return None if one.ready else "the node is not ready"

    def well(self, one: Node) -> str:
        """Say so."""
        del one
        return "the node is ready"


KIND = NodeKind()
