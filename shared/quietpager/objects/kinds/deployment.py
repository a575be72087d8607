"""Deployment: pods through ReplicaSets, each of which is a revision.

Status: https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#deployment-status. A rollout is
complete when all replicas are updated and available and no old ones are left; kstatus and `kubectl rollout
status` count the same way. The controller numbers its ReplicaSets by the annotation
`deployment.kubernetes.io/revision`.
"""

from typing import Any

from quietpager.model.cluster import Json, Reader
from quietpager.model.view import View
from quietpager.objects.kind import TEMPLATE, Counts, ObjectKind, Resource, Revision, owned, unseen
from quietpager.objects.kinds.replicaset import ReplicaSet
from quietpager.objects.types import Object, Pod, PodTemplate, Status


class DeploymentSpec(View):
    """Spec of a Deployment."""

    replicas: int = 1
    paused: bool = False
    template: PodTemplate = PodTemplate()


class DeploymentStatus(Status):
    """Status of a Deployment."""

    replicas: int = 0
    updated_replicas: int = 0
    ready_replicas: int = 0
    available_replicas: int = 0


class Deployment(Object):
    """A Deployment."""

    spec: DeploymentSpec = DeploymentSpec()
    status: DeploymentStatus = DeploymentStatus()


class DeploymentKind(ObjectKind):
    """What the product knows of Deployments."""

    resource = Resource("Deployment", "deployments", "apps", has_generation=True)
    view = Deployment
    owns_pods = revised = first = True
    read_with = ("ReplicaSet", "Pod")
    template_at = TEMPLATE
    well_when = {"Available": "True", "Progressing": "True", "ReplicaFailure": "False"}
    dated_by = ("Available",)

    def revisions(self, raw: Json, reader: Reader) -> tuple[Revision, ...]:
        """Give its ReplicaSets by the number that the controller gave them."""
        found = []
        for one in owned("ReplicaSet", raw, self.selector(raw), reader):
            seen = ReplicaSet.read(one | {"kind": "ReplicaSet", "apiVersion": "apps/v1"})
            template = (one.get("spec") or {}).get("template") or {}
            created = seen.metadata.creation_timestamp
            found.append(Revision(seen.revision, seen.ref, seen.metadata.uid, created, template))
        return tuple(sorted(found, key=lambda one: -one.number))

    def controllers(self, raw: Json, revisions: Any, reader: Reader) -> set[str]:
        """Its pods are its ReplicaSets'."""
        del raw, reader
        return {one.key for one in revisions}

    def revision_of(self, pod: Pod) -> str:
        """A pod's ReplicaSet is its revision."""
        controller = pod.metadata.controller
        return "" if controller is None else controller.uid

    def counts(self, one: Deployment) -> Counts:
        """Count by its status."""
        status = one.status
        return Counts(
            one.spec.replicas, status.updated_replicas, status.ready_replicas, status.available_replicas,
            status.replicas,
        )  # fmt: skip

    def unsettled(self, one: Deployment, reader: Reader) -> str | None:
        """A rollout is under way, or replicas are missing."""
        del reader
        return unseen(one) or self.counts(one).short()


KIND = DeploymentKind()
