"""ControllerRevision: what a StatefulSet or a DaemonSet keeps of one template.

`data` is the strategic merge patch that makes the template: `spec.template` with `$patch: replace`
(pkg/controller/statefulset/stateful_set_utils.go and pkg/controller/daemon/update.go, `getPatch`); `revision`
counts up, and a rollback gives an old one a new number.
"""

from collections.abc import Callable

from quietpager.model.cluster import Json, Reader
from quietpager.objects.kind import ObjectKind, Resource, Revision, owned, within
from quietpager.objects.types import Object

HASH = "controller-revision-hash"
"""Label of a pod with its revision: of a StatefulSet's pod the ControllerRevision's name, of a DaemonSet's
the hash that the ControllerRevision carries under the same label
(https://kubernetes.io/docs/reference/labels-annotations-taints/#controller-revision-hash)."""


class ControllerRevision(Object):
    """A ControllerRevision."""

    revision: int = 0


class ControllerRevisionKind(ObjectKind):
    """Read as a part of its owner only."""

    resource = Resource("ControllerRevision", "controllerrevisions", "apps", has_status=False)
    view = ControllerRevision
    target = False


KIND = ControllerRevisionKind()


def kept(
    raw: Json, labels: dict[str, str], reader: Reader, key: Callable[[ControllerRevision], str]
) -> tuple[Revision, ...]:
    """Give the revisions that an object keeps, newest first."""
    found = []
    for one in owned(KIND.name, raw, labels, reader):
        seen = ControllerRevision.read(one | {"kind": KIND.name, "apiVersion": "apps/v1"})
        template = within(one, "data", "spec", "template") or {}
        clean = {name: value for name, value in template.items() if name != "$patch"}
        found.append(Revision(seen.revision, seen.ref, key(seen), seen.metadata.creation_timestamp, clean))
    return tuple(sorted(found, key=lambda one: -one.number))
