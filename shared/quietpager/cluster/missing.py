"""A right to list something that the API server denied, and how to give it.

Who calls it: `quietpager scan` and `quietpager run`, which say what they cannot see and go on without it.
"""

from dataclasses import dataclass

from quietpager.model.cluster import Kind, Reader, Rejected
from quietpager.objects.kinds.namespace import KIND as NAMESPACE
from quietpager.objects.table import resource


@dataclass(frozen=True, slots=True)
class Missing:
    """A right that is missing, as the API server said it."""

    kind: Kind
    namespace: str | None

    @property
    def sentence(self) -> str:
        """Say which right, where, and how to give it."""
        found = resource(self.kind)
        name = found.qualified
        inside = self.namespace if found.namespaced else None
        where = f"namespace {inside}" if inside else "the whole cluster"
        given = (
            "the ClusterRole `view` has it"
            if found.in_view
            else f"`kubectl create clusterrole quietpager-scan --verb=get,list --resource={name}` makes a "
            "ClusterRole that has it"
        )
        return f"These credentials may not list {name} in {where} (403); {given}."


def has_no_namespace(cluster: Reader, name: str) -> bool:
    """Tell whether a namespace is known not to be there; whoever may not read it does not know.

    Raises:
        ClusterUnavailable: the API server is away.
    """
    try:
        return cluster.get(NAMESPACE.name, None, name) is None
    except Rejected:
        return False
