"""PersistentVolumeClaim: well when it is Bound, as kstatus has it (`pvcConditions`).

A Pending one may merely wait for its first pod
(https://kubernetes.io/docs/concepts/storage/storage-classes/#volume-binding-mode): whether that is a fault,
the storage family decides by the pods. What goes wrong with one that is bound, such as growing it, is in
Warnings.
"""

from quietpager.model.cluster import Reader
from quietpager.model.view import View
from quietpager.objects.kind import ObjectKind, Resource
from quietpager.objects.types import Condition, Object


class ClaimSpec(View):
    """A claim's spec."""

    storage_class_name: str = ""


class ClaimStatus(View):
    """A claim's status."""

    phase: str = ""
    conditions: tuple[Condition, ...] = ()


class Claim(Object):
    """A PersistentVolumeClaim."""

    spec: ClaimSpec = ClaimSpec()
    status: ClaimStatus = ClaimStatus()


class ClaimKind(ObjectKind):
    """What the product knows of claims."""

    resource = Resource("PersistentVolumeClaim", "persistentvolumeclaims")
    view = Claim
    tells_all = False

    def unsettled(self, one: Claim, reader: Reader) -> str | None:
        """It is not bound."""
        del reader
        return None if one.status.phase == "Bound" else f"the claim is {one.status.phase or 'Pending'}"

    def well(self, one: Claim) -> str:
        """Say so."""
        del one
        return "the claim is bound"


KIND = ClaimKind()
