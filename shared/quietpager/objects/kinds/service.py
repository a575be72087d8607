"""Service: well when something answers behind it: a ready endpoint in one of its EndpointSlices.

One without a selector, or with an external name, gets its endpoints from elsewhere and is not judged
(https://kubernetes.io/docs/concepts/services-networking/service/#services-without-selectors). Its status says
nothing of all that, so Warnings about it count as well. Its pods are whatever its selector finds; they have
owners of their own, and one that is ill does not make the Service ill.
"""

from collections.abc import Iterable, Iterator

from quietpager.model.cluster import Json, Reader
from quietpager.model.view import View
from quietpager.objects.kind import ObjectKind, Resource, Revision
from quietpager.objects.kinds.endpointslice import KIND as SLICE
from quietpager.objects.kinds.endpointslice import SERVICE, EndpointSlice
from quietpager.objects.types import Object


class ServiceSpec(View):
    """Spec of a Service."""

    type: str = "ClusterIP"
    selector: dict[str, str] = {}


class Service(Object):
    """A Service."""

    spec: ServiceSpec = ServiceSpec()


class ServiceKind(ObjectKind):
    """What the product knows of Services."""

    resource = Resource("Service", "services")
    view = Service
    tells_all = False
    read_with = ("EndpointSlice",)

    def selector(self, raw: Json) -> dict[str, str]:
        """A Service's selector is labels and nothing else."""
        labels = (raw.get("spec") or {}).get("selector") or {}
        return {str(key): str(value) for key, value in labels.items()}

    def pods(self, raw: Json, revisions: Iterable[Revision], reader: Reader) -> Iterator[Json]:
        """Give the pods that its selector finds."""
        del revisions
        labels = self.selector(raw)
        return reader.each("Pod", raw["metadata"].get("namespace"), labels) if labels else iter(())

    def unsettled(self, one: Service, reader: Reader) -> str | None:
        """Nothing answers behind it."""
        if not one.spec.selector or one.spec.type == "ExternalName":
            return None
        meta = one.metadata
        slices = reader.each(SLICE.name, meta.namespace, {SERVICE: meta.name})
        ends = [end for raw in slices for end in EndpointSlice.read(raw).endpoints]
        if any(end.conditions.ready for end in ends):
            return None
        return f"none of its {len(ends)} endpoints is ready" if ends else "it has no endpoints"

    def well(self, one: Service) -> str:
        """Say so."""
        has = one.spec.selector and one.spec.type != "ExternalName"
        return "it has a ready endpoint" if has else "its endpoints are given from elsewhere"


KIND = ServiceKind()
