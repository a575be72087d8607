"""ControllerRevision: what a StatefulSet or a DaemonSet keeps of one template.

`data` is the strategic merge patch that makes the template: `spec.template` with `$patch: replace`
(pkg/controller/statefulset/stateful_set_utils.go and pkg/controller/daemon/update.go, `getPatch`); `revision`
counts up, and a rollback gives an old one a new number.
"""

from quietpager.model.cluster import Json, Reader
from quietpager.objects.kind import TEMPLATE, ObjectKind, Resource, Revision, owned, within
from quietpager.objects.types import Object, Pod

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


class KeepsRevisions(ObjectKind):
    """What StatefulSet and DaemonSet share: a pod template, and its earlier forms as ControllerRevisions."""

    owns_pods = revised = True
    read_with = (KIND.name, "Pod")
    template_at = TEMPLATE

    def revisions(self, raw: Json, reader: Reader) -> tuple[Revision, ...]:
        """Give its ControllerRevisions, newest first."""
        found = []
        for one in owned(KIND.name, raw, self.selector(raw), reader):
            seen = ControllerRevision.read(one | {"kind": KIND.name, "apiVersion": "apps/v1"})
            template = within(one, "data", "spec", "template") or {}
            clean = {name: value for name, value in template.items() if name != "$patch"}
            made = seen.metadata.creation_timestamp
            found.append(Revision(seen.revision, seen.ref, self.carried(seen), made, clean))
        return tuple(sorted(found, key=lambda one: -one.number))

    def revision_of(self, pod: Pod) -> str:
        """A pod carries its revision as a label."""
        return pod.metadata.labels.get(HASH, "")

    def carried(self, revision: ControllerRevision) -> str:
        """Give what the pods of a revision carry as that label."""
        raise NotImplementedError
