"""ReplicaSet: pods of one template. One that has a controller, a Deployment as a rule, stands for that.

Its status has no count of updated pods, for it has one template only
(https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/replica-set-v1/#ReplicaSetStatus).
"""

from quietpager.model.cluster import Reader
from quietpager.model.view import View
from quietpager.objects.kind import TEMPLATE, Counts, ObjectKind, Resource, unseen
from quietpager.objects.types import Object, PodTemplate, Status


class ReplicaSetSpec(View):
    """Spec of a ReplicaSet."""

    replicas: int = 1
    template: PodTemplate = PodTemplate()


class ReplicaSetStatus(Status):
    """Status of a ReplicaSet."""

    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0


class ReplicaSet(Object):
    """A ReplicaSet."""

    spec: ReplicaSetSpec = ReplicaSetSpec()
    status: ReplicaSetStatus = ReplicaSetStatus()

    @property
    def revision(self) -> int:
        """The rollout revision that the Deployment controller wrote; 0 where it has not."""
        text = self.metadata.annotations.get("deployment.kubernetes.io/revision", "0")
        # Who may edit the object may write anything there; 18 digits are fewer than Go's int64 has.
        return int(text) if text.isdecimal() and len(text) <= 18 else 0


class ReplicaSetKind(ObjectKind):
    """What the product knows of ReplicaSets."""

    resource = Resource("ReplicaSet", "replicasets", "apps", has_generation=True)
    view = ReplicaSet
    owns_pods = passes_on = first = True
    read_with = ("Pod",)
    template_at = TEMPLATE
    well_when = {"ReplicaFailure": "False"}
    dated_by = ("ReplicaFailure",)

    def counts(self, one: ReplicaSet) -> Counts:
        """Count by its status."""
        status = one.status
        return Counts(
            one.spec.replicas, status.replicas, status.ready_replicas, status.available_replicas,
            status.replicas,
        )  # fmt: skip

    def unsettled(self, one: ReplicaSet, reader: Reader) -> str | None:
        """Replicas are missing, or too many."""
        del reader
        counts = self.counts(one)
        if counts.total != counts.wanted:
            return unseen(one) or f"it has {counts.total} replicas and wants {counts.wanted}"
        return unseen(one) or counts.short()


KIND = ReplicaSetKind()
