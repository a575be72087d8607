"""The kinds that this API server has. A new kind is one line here."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Resource:
    """One kind and how its API is built."""

    kind: str
    plural: str
    group: str = ""
    namespaced: bool = True
    has_status: bool = True
    """Whether there is a /status subresource, which alone may change the status."""
    has_generation: bool = False
    """Whether the API server counts changes of the spec."""

    @property
    def api_version(self) -> str:
        """Group and version, as objects say it."""
        return f"{self.group}/v1" if self.group else "v1"

    @property
    def qualified(self) -> str:
        """The resource's name in messages, `deployments.apps`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


KINDS: Final = {
    resource.kind: resource
    for resource in (
        Resource("Deployment", "deployments", "apps", has_generation=True),
        Resource("ReplicaSet", "replicasets", "apps", has_generation=True),
        Resource("Pod", "pods", has_generation=True),
        Resource("Node", "nodes", namespaced=False),
        Resource("Namespace", "namespaces", namespaced=False),
        Resource("ResourceQuota", "resourcequotas"),
        Resource("ConfigMap", "configmaps", has_status=False),
        Resource("Secret", "secrets", has_status=False),
        Resource("Job", "jobs", "batch", has_generation=True),
        Resource("PodDisruptionBudget", "poddisruptionbudgets", "policy", has_generation=True),
        Resource("PersistentVolumeClaim", "persistentvolumeclaims"),
        Resource("Event", "events", has_status=False),
        Resource("ConfigMap", "configmaps", has_status=False),
    )
}
BY_PATH: Final = {(resource.group, resource.plural): resource for resource in KINDS.values()}
