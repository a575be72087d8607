"""ResourceQuota: well when nothing is used beyond what it allows.

A quota that is just full is no fault: the API server refuses what would go beyond it, and that shows on
whoever asked (https://kubernetes.io/docs/concepts/policy/resource-quotas/). More may be in use than is
allowed where it was lowered later. Its status says nothing of refusals, so Warnings about it count as well.
"""

from quietpager.model.cluster import Reader
from quietpager.model.quantity import quantity
from quietpager.model.view import View
from quietpager.objects.kind import ObjectKind, Resource
from quietpager.objects.types import Object


class QuotaStatus(View):
    """A quota's status."""

    hard: dict[str, str | int] = {}
    used: dict[str, str | int] = {}


class ResourceQuota(Object):
    """A quota."""

    status: QuotaStatus = QuotaStatus()


class ResourceQuotaKind(ObjectKind):
    """What the product knows of quotas."""

    resource = Resource("ResourceQuota", "resourcequotas")
    view = ResourceQuota
    tells_all = False

    def unsettled(self, one: ResourceQuota, reader: Reader) -> str | None:
        """More is in use than it allows."""
        del reader
        status = one.status
        for name, hard in status.hard.items():
            used = status.used.get(name, 0)
            if quantity(used) > quantity(hard):
                return f"{used} of {name} is in use, {hard} is allowed"
        return None

    def well(self, one: ResourceQuota) -> str:
        """Say so."""
        del one
        return "nothing is used beyond what it allows"


KIND = ResourceQuotaKind()
