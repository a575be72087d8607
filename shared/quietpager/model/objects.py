"""References to Kubernetes objects."""

from quietpager.model.data import Data


class ObjectRef(Data):
    """Which object is meant. `uid` is None where an Event does not say (Kubernetes' own do not always)."""

    api_version: str
    kind: str
    namespace: str | None
    name: str
    uid: str | None = None

    def __str__(self) -> str:
        """Write it as a person would: Deployment shop/web."""
        place = f"{self.namespace}/" if self.namespace else ""
        return f"{self.kind} {place}{self.name}"
