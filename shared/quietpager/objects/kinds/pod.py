"""Pod: one that nobody controls is its own owner; of any other, its controller is looked at.

`objects.health.pod_fault` says what is wrong with a pod; the view is `objects.types.Pod`.
"""

from collections.abc import Iterable, Iterator

from quietpager.model.cluster import Json, Reader
from quietpager.objects.kind import ObjectKind, Resource, Revision
from quietpager.objects.types import Pod


class PodKind(ObjectKind):
    """What the product knows of pods."""

    resource = Resource("Pod", "pods", has_generation=True)
    view = Pod
    owns_pods = passes_on = first = True

    def pods(self, raw: Json, revisions: Iterable[Revision], reader: Reader) -> Iterator[Json]:
        """It is its own."""
        del revisions, reader
        yield raw

    def well(self, one: Pod) -> str:
        """Say that it is ready, or has ended well."""
        return "the pod is ready" if one.ready else "the pod has ended, or is on its way out"


KIND = PodKind()
