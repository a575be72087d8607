"""StatefulSet: pods with a name of their own, replaced one after the other, the last first.

Status: https://kubernetes.io/docs/reference/kubernetes-api/workload-resources/stateful-set-v1/#StatefulSetStatus.
A rollout is complete when `currentRevision` is `updateRevision`; with a partition, when all pods from the
partition on are updated. With `OnDelete` nobody but a person replaces pods, so an old one is no fault.
kstatus (pkg/kstatus/status/core.go, `stsConditions`) decides the same.
"""

from quietpager.model.cluster import Reader
from quietpager.model.view import View
from quietpager.objects.kind import Counts, Resource, unseen
from quietpager.objects.kinds.controllerrevision import ControllerRevision, KeepsRevisions
from quietpager.objects.types import Object, PodTemplate, Status


class RollingUpdate(View):
    """How pods are replaced."""

    partition: int = 0


class UpdateStrategy(View):
    """Whether pods are replaced at all."""

    type: str = "RollingUpdate"
    rolling_update: RollingUpdate = RollingUpdate()


class StatefulSetSpec(View):
    """Spec of a StatefulSet."""

    replicas: int = 1
    update_strategy: UpdateStrategy = UpdateStrategy()
    template: PodTemplate = PodTemplate()


class StatefulSetStatus(Status):
    """Status of a StatefulSet."""

    replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0
    updated_replicas: int = 0
    current_revision: str = ""
    update_revision: str = ""


class StatefulSet(Object):
    """A StatefulSet."""

    spec: StatefulSetSpec = StatefulSetSpec()
    status: StatefulSetStatus = StatefulSetStatus()


class StatefulSetKind(KeepsRevisions):
    """What the product knows of StatefulSets."""

    resource = Resource("StatefulSet", "statefulsets", "apps", has_generation=True)
    view = StatefulSet

    def carried(self, revision: ControllerRevision) -> str:
        """Its pods carry the name."""
        return revision.metadata.name

    def counts(self, one: StatefulSet) -> Counts:
        """Count by its status."""
        status = one.status
        return Counts(
            one.spec.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas,
            status.replicas,
        )  # fmt: skip

    def unsettled(self, one: StatefulSet, reader: Reader) -> str | None:
        """A rollout is under way, or replicas are missing."""
        del reader
        counts, strategy, status = self.counts(one), one.spec.update_strategy, one.status
        if why := unseen(one):
            return why
        if counts.total != counts.wanted:
            return f"it has {counts.total} replicas and wants {counts.wanted}"
        if counts.available < counts.wanted:
            return counts.short() or f"{counts.available} of {counts.wanted} replicas are available"
        if strategy.type == "OnDelete":
            return None
        partition = strategy.rolling_update.partition
        if counts.updated < counts.wanted - partition:
            return f"{counts.updated} of {counts.wanted - partition} replicas are of the newest revision"
        if not partition and status.current_revision != status.update_revision:
            return "its rollout is not complete yet"
        return None


KIND = StatefulSetKind()
