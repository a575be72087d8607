"""DaemonSet: one pod on each node that fits.

Status: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/daemon-set-v1/#DaemonSetStatus.
`kubectl rollout status` and kstatus (`daemonsetConditions`) compare updated and available pods with
`desiredNumberScheduled`. With `OnDelete` an old pod is no fault.
"""

from quietpager.model.cluster import Reader
from quietpager.model.view import View
from quietpager.objects.kind import Counts, Resource, unseen
from quietpager.objects.kinds.controllerrevision import HASH, ControllerRevision, KeepsRevisions
from quietpager.objects.types import Object, PodTemplate, Status


class UpdateStrategy(View):
    """Whether pods are replaced at all."""

    type: str = "RollingUpdate"


class DaemonSetSpec(View):
    """Spec of a DaemonSet."""

    update_strategy: UpdateStrategy = UpdateStrategy()
    template: PodTemplate = PodTemplate()


class DaemonSetStatus(Status):
    """Status of a DaemonSet."""

    desired_number_scheduled: int = 0
    current_number_scheduled: int = 0
    updated_number_scheduled: int = 0
    number_ready: int = 0
    number_available: int = 0
    number_misscheduled: int = 0


class DaemonSet(Object):
    """A DaemonSet."""

    spec: DaemonSetSpec = DaemonSetSpec()
    status: DaemonSetStatus = DaemonSetStatus()


class DaemonSetKind(KeepsRevisions):
    """What the product knows of DaemonSets."""

    resource = Resource("DaemonSet", "daemonsets", "apps", has_generation=True)
    view = DaemonSet

    def carried(self, revision: ControllerRevision) -> str:
        """Its pods carry the hash, which the revision has as the same label."""
        return revision.metadata.labels.get(HASH, "")

    def counts(self, one: DaemonSet) -> Counts:
        """Count by its status; it wants a pod on each node that fits."""
        status = one.status
        wanted, updated = status.desired_number_scheduled, status.updated_number_scheduled
        return Counts(
            wanted, updated, status.number_ready, status.number_available, status.current_number_scheduled
        )

    def unsettled(self, one: DaemonSet, reader: Reader) -> str | None:
        """A rollout is under way, or nodes lack their pod."""
        del reader
        counts = self.counts(one)
        if why := unseen(one):
            return why
        if counts.total < counts.wanted:
            return f"{counts.total} of {counts.wanted} nodes have its pod"
        if one.spec.update_strategy.type != "OnDelete" and counts.updated < counts.wanted:
            return f"{counts.updated} of {counts.wanted} pods are of the newest revision"
        if counts.available < counts.wanted:
            return f"{counts.available} of {counts.wanted} pods are available"
        return None

    def well(self, one: DaemonSet) -> str:
        """Say on how many nodes it runs."""
        counts = self.counts(one)
        return f"{counts.available} of {counts.wanted} pods available"


KIND = DaemonSetKind()
