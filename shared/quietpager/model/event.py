"""A Kubernetes Event, read: what it is about, and what it says.

Who may use its words: intake, to route it, and whoever has read it from the API server (`Live.event`). They
go into no message.

Both shapes are read: core/v1 (`count`, `firstTimestamp`, `source`) and events.k8s.io (`eventTime`,
`series`, `reportingController`, `regarding`, `note`); the scheduler's core/v1 Events come in a mixture
of both, with null times (recorded on Kubernetes 1.35).
"""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, StrictInt, StrictStr, ValidationError

from quietpager.errors import BadMessage
from quietpager.masking.told import Told
from quietpager.model.data import Data, digest
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import EventRef, Signal
from quietpager.model.text import clean, is_name
from quietpager.model.view import View

CLOCK_SKEW = timedelta(minutes=5)
"""An Event from further in the future than this is dated to its arrival."""

_CONTAINER = re.compile(r"spec\.(?:init|ephemeral)?[cC]ontainers\{([a-z0-9-]+)\}")
_CLUSTER_SCOPED = {"Node", "Namespace", "PersistentVolume"}
_Count = Annotated[StrictInt, Field(ge=0)]


class Event(Data):
    """One Event, normalised: `target` is what it is about; `count` is at least 1.

    `id` is its uid and version, or made of its content where it has none. `ref` is None for an Event that
    could not be read from the API server by name.
    """

    id: str
    ref: EventRef | None = None
    target: ObjectRef
    container: str | None = None
    reason: Told
    component: Told = ""
    type: Told = "Warning"
    message: Told = ""
    count: int = 1
    first_seen: datetime
    last_seen: datetime

    def signal(self, family: str) -> Signal:
        """Make the hint that it is: which object, and which Event said so."""
        return Signal(target=self.target, family=family, event=self.ref)


class _Meta(View):
    name: StrictStr = ""
    namespace: StrictStr = ""
    uid: StrictStr = ""
    resource_version: StrictStr = ""
    creation_timestamp: AwareDatetime | None = None


class _Involved(View):
    api_version: StrictStr = ""
    kind: StrictStr
    namespace: StrictStr = ""
    name: StrictStr
    uid: StrictStr = ""
    field_path: StrictStr = ""


class _Source(View):
    component: StrictStr = ""


class _Series(View):
    count: _Count = 0
    last_observed_time: AwareDatetime | None = None


class _Event(View):
    api_version: StrictStr
    kind: StrictStr
    metadata: _Meta
    involved_object: _Involved | None = None
    regarding: _Involved | None = None
    reason: StrictStr = ""
    message: StrictStr = ""
    note: StrictStr = ""
    type: StrictStr = ""
    count: _Count | None = None
    deprecated_count: _Count | None = None
    first_timestamp: AwareDatetime | None = None
    last_timestamp: AwareDatetime | None = None
    deprecated_first_timestamp: AwareDatetime | None = None
    deprecated_last_timestamp: AwareDatetime | None = None
    event_time: AwareDatetime | None = None
    series: _Series = _Series()
    source: _Source = _Source()
    deprecated_source: _Source = _Source()
    reporting_component: StrictStr = ""
    reporting_controller: StrictStr = ""


def created_at(event: object, received: datetime) -> datetime | None:
    """Tell when the API server made the Event, which no reporter can choose; None where it does not say."""
    try:
        return _utc(_Event.model_validate(event).metadata.creation_timestamp, received)
    except ValidationError:
        return None


def read_event(raw: Any, *, received: datetime) -> Event:
    """Normalise one Event. Called by ingest/intake, by replay, and by whoever reads it from the API server.

    Args:
        raw: the Event object, as JSON.
        received: when it came in; dates Events without a time, or with one in the future.

    Raises:
        BadMessage: it cannot be an Event; the text says why.
    """
    event = _parse(raw)
    involved = event.involved_object or event.regarding
    if involved is None:
        raise BadMessage("The Event names no involvedObject, so it is about nothing.")
    _check_names(event, involved)
    told = (
        event.first_timestamp,
        event.deprecated_first_timestamp,
        event.event_time,
        event.last_timestamp,
        event.deprecated_last_timestamp,
        event.series.last_observed_time,
    )
    times = [when for one in told if (when := _utc(one, received)) is not None]
    times = times or [_utc(event.metadata.creation_timestamp, received) or received]
    container = _CONTAINER.fullmatch(involved.field_path)
    cluster_scoped = involved.kind in _CLUSTER_SCOPED
    meta = event.metadata
    return Event(
        id=_identity(raw, meta),
        ref=_ref(meta),
        target=ObjectRef(
            api_version=clean(involved.api_version, 100),
            kind=involved.kind,
            namespace=None if cluster_scoped else (involved.namespace or meta.namespace or None),
            name=involved.name,
            uid=clean(involved.uid, 100) or None,
        ),
        container=container.group(1) if container else None,
        reason=clean(event.reason, 128),
        component=clean(
            event.source.component
            or event.reporting_component
            or event.reporting_controller
            or event.deprecated_source.component,
            128,
        ),
        type=clean(event.type, 32) or "Warning",
        message=clean(event.message or event.note),
        count=min(max(event.count or 0, event.deprecated_count or 0, event.series.count, 1), 10**9),
        first_seen=_sane(min(times), received),
        last_seen=_sane(max(times), received),
    )


def _parse(raw: Any) -> _Event:
    if not isinstance(raw, dict):
        raise BadMessage(f"An Event is a JSON object, this is a {type(raw).__name__}.")
    try:
        event = _Event.model_validate(raw)
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BadMessage(f"The Event cannot be read: {where}: {first['msg']}.") from None
    except RecursionError:
        raise BadMessage("The Event is nested too deeply to be one.") from None
    group, _, version = event.api_version.rpartition("/")
    if event.kind != "Event" or group not in ("", "events.k8s.io") or not version.startswith("v1"):
        what = clean(f"{event.kind} of {event.api_version}", 80)
        raise BadMessage(f"This is a {what}, not an Event.")
    return event


def _check_names(event: _Event, involved: _Involved) -> None:
    names = {
        "involvedObject.name": involved.name,
        "involvedObject.kind": involved.kind,
        "involvedObject.namespace": involved.namespace or "default",
        "metadata.namespace": event.metadata.namespace or "default",
    }
    for where, name in names.items():
        if not is_name(name):
            raise BadMessage(f"The Event's {where} is {clean(name, 60)!r}, which cannot be a name.")
    if involved.kind in _CLUSTER_SCOPED:
        return
    if involved.namespace and event.metadata.namespace not in ("", involved.namespace):
        raise BadMessage(
            f"The Event lies in namespace {event.metadata.namespace} and speaks of one in "
            f"{involved.namespace}; the API server never stores such an Event."
        )


def _sane(moment: datetime, received: datetime) -> datetime:
    return received if moment > received + CLOCK_SKEW else moment


def _utc(moment: datetime | None, received: datetime) -> datetime | None:
    """Move a time to UTC; one at the edge of the calendar, which cannot be, counts as its arrival."""
    try:
        return None if moment is None else moment.astimezone(UTC)
    except OverflowError:
        return received


def _ref(meta: _Meta) -> EventRef | None:
    """Say by which name the API server would give it."""
    namespace = meta.namespace or "default"
    if not all(is_name(part) for part in (namespace, meta.name, meta.uid)):
        return None
    return EventRef(namespace=namespace, name=meta.name, uid=meta.uid)


def _identity(raw: Any, meta: _Meta) -> str:
    """Name an Event by uid and resourceVersion, or by its content where it has none."""
    if is_name(meta.uid) and is_name(meta.resource_version):
        return f"{meta.uid}.{meta.resource_version}"
    try:
        return digest(raw)
    except RecursionError:
        raise BadMessage("The Event is nested too deeply to be one.") from None
