"""An owner of a kind that nothing here describes, such as somebody's own CRD: its pods are all that is known.

Nothing is read of the owner itself, and no action is for it. Its pods are those that name it, or what one of
them names, as their controller: between a CRD and its pods there may be a ReplicaSet or a Job of its own.
"""

from collections.abc import Iterator
from typing import Final

from quietpager.model.cluster import Json, Reader
from quietpager.model.reference import ObjectRef
from quietpager.objects.kind import ObjectKind, controller_uid


class OpaqueKind(ObjectKind):
    """Any owner that is not in the table."""

    owns_pods = True
    tells_all = False

    def pods_of(self, owner: ObjectRef, through: str | None, reader: Reader) -> Iterator[Json]:
        """Give the pods of an owner by its uid, or by that of what is between it and the pod at hand."""
        uids = {one for one in (owner.uid, through) if one}
        if uids and owner.namespace:
            for pod in reader.each("Pod", owner.namespace):
                if controller_uid(pod) in uids:
                    yield pod


OPAQUE: Final = OpaqueKind()
