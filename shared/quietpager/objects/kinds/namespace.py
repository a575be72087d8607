"""Namespace: well while it is Active.

One that is Terminating has conditions that say what keeps it
(https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/namespace-v1/#NamespaceStatus). Its
status tells of its deletion only, so Warnings about it count as well.
"""

from quietpager.model.cluster import Reader
from quietpager.model.view import View
from quietpager.objects.kind import ObjectKind, Resource
from quietpager.objects.types import Condition, Object


class NamespaceStatus(View):
    """A namespace's status."""

    phase: str = "Active"
    conditions: tuple[Condition, ...] = ()


class Namespace(Object):
    """A namespace."""

    status: NamespaceStatus = NamespaceStatus()


class NamespaceKind(ObjectKind):
    """What the product knows of namespaces."""

    resource = Resource("Namespace", "namespaces", namespaced=False)
    view = Namespace
    tells_all = False
    well_when = {
        "NamespaceDeletionDiscoveryFailure": "False", "NamespaceDeletionContentFailure": "False",
        "NamespaceDeletionGroupVersionParsingFailure": "False", "NamespaceContentRemaining": "False",
        "NamespaceFinalizersRemaining": "False",
    }  # fmt: skip
    dated_by = tuple(well_when)

    def unsettled(self, one: Namespace, reader: Reader) -> str | None:
        """It is being deleted."""
        del reader
        if one.status.phase != "Terminating":
            return None
        kept = [c.message or c.reason for c in self.bad_news(one)]
        return "the namespace is being deleted" + (f": {kept[0]}" if kept else "")

    def well(self, one: Namespace) -> str:
        """Say so."""
        del one
        return "the namespace is active"


KIND = NamespaceKind()
