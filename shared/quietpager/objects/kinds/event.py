"""Event: what others have said of an object. Read by name, or as those about one object."""

from quietpager.objects.kind import ObjectKind, Resource


class EventKind(ObjectKind):
    """Never a target: `quietpager.model.event` gives it its type."""

    resource = Resource("Event", "events", has_status=False)
    target = False


KIND = EventKind()
