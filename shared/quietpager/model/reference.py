"""References to Kubernetes objects."""

from quietpager.model.data import Data


class ObjectRef(Data):
    """Which object is meant. `uid` is None where an Event does not say (Kubernetes' own do not always)."""

    api_version: str
    kind: str
    namespace: str | None
    name: str
    uid: str | None = None

    @property
    def identity(self) -> str:
        """What locks, budgets, breakers and cool-downs are kept under: one object is one identity.

        The namespace comes first, for a uid that an Event or an owner reference gives is said by whoever
        wrote it, and may be that of anything. The namespace the API server saw to, and no name has a slash.
        """
        return f"{self.namespace or ''}/{self.uid or self.name}"

    def __str__(self) -> str:
        """Write it as a person would: Deployment shop/web."""
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"
