"""Fleet: an owner that is invented, with a pod template, and pods that name it as their controller."""

from quietpager.model.cluster import Reader
from quietpager.model.view import View
from quietpager.objects.kind import TEMPLATE, Counts, ObjectKind, Resource
from quietpager.objects.types import Object


class FleetSpec(View):
    """Spec of a fleet."""

    ships: int = 0


class FleetStatus(View):
    """Status of a fleet."""

    afloat: int = 0


class Fleet(Object):
    """A fleet."""

    spec: FleetSpec = FleetSpec()
    status: FleetStatus = FleetStatus()


class FleetKind(ObjectKind):
    """All that the product needs to know of it."""

    resource = Resource("Fleet", "fleets", "example.com", has_generation=True)
    view = Fleet
    owns_pods = True
    read_with = ("Pod",)
    template_at = TEMPLATE

    def counts(self, one: Fleet) -> Counts:
        """Count by its status."""
        afloat = one.status.afloat
        return Counts(one.spec.ships, updated=afloat, ready=afloat, available=afloat, total=afloat)

    def unsettled(self, one: Fleet, reader: Reader) -> str | None:
        """Ships are missing."""
        del reader
        return self.counts(one).short()


KIND = FleetKind()
