"""EndpointSlice: the addresses behind a Service, by the label `kubernetes.io/service-name`.

`conditions.ready` that is absent counts as true
(https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions).
"""

from quietpager.model.view import View
from quietpager.objects.kind import ObjectKind, Resource
from quietpager.objects.types import Object

SERVICE = "kubernetes.io/service-name"


class EndpointConditions(View):
    """How an endpoint is."""

    ready: bool = True


class Endpoint(View):
    """One pod, or another address."""

    addresses: tuple[str, ...] = ()
    conditions: EndpointConditions = EndpointConditions()


class EndpointSlice(Object):
    """Some of a Service's endpoints."""

    endpoints: tuple[Endpoint, ...] = ()


class EndpointSliceKind(ObjectKind):
    """Read as a part of a Service only."""

    resource = Resource("EndpointSlice", "endpointslices", "discovery.k8s.io", has_status=False,
                        has_generation=True)  # fmt: skip
    view = EndpointSlice
    target = False


KIND = EndpointSliceKind()
