"""Is anything wrong with the target of a signal that no family knows, and since when?

Who calls it: `analyze/unknown` and replay. It errs towards "something is wrong".
"""

import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from pydantic import ValidationError

from quietpager.errors import BadMessage
from quietpager.masking.told import Told
from quietpager.model.cluster import EventReader, Json, LogReader
from quietpager.model.data import Data
from quietpager.model.event import Event, read_event
from quietpager.model.reference import ObjectRef
from quietpager.objects.health import health_of, pod_fault
from quietpager.objects.kinds.pod import KIND as POD
from quietpager.objects.live import Live
from quietpager.objects.table import known
from quietpager.objects.types import Condition, ContainerStatus, Pod

PROBED_EARLY = re.compile(r"Readiness probe (failed|errored)")
"""What a kubelet says of a pod that is not ready yet; no other complaint is excused by slowness."""
OVERDUE = "ProgressDeadlineExceeded"
NOT_READY = "not ready"
"""What `pod_fault` says of a pod that runs, has not crashed, and is not ready."""
QUIET: Final = timedelta(minutes=10)
"""An object whose status nothing here reads has come to rest once nobody has warned for so long."""
LONGEST_START: Final = 86400 * 365
"""Seconds that a container may take to become ready at most, whatever its author allows it."""


class Trouble(Data):
    """What is wrong, and since when, by the live object."""

    why: Told
    since: datetime


def unwell(live: Live, reader: LogReader, now: datetime) -> Trouble | None:
    """Say what is wrong with the target or its owner; None where it is well, or gone.

    Raises what the reader raises.
    """
    target = live.target
    kind = known(target)
    if kind is None:
        return warned_of(target, reader, now)
    try:
        why = _judged(live)
        if why is None and not kind.tells_all:
            return warned_of(target, reader, now)
        # A status may be written after the Event that speaks of it.
        return None if why is None else Trouble(why=why, since=min(_since(live) or now, now))
    except ValidationError:
        first = now if live.event is None else live.event.first_seen
        return Trouble(why=f"{target} cannot be read", since=min(first, now))


def warned_of(target: ObjectRef, reader: LogReader, now: datetime) -> Trouble | None:
    """Judge an object by the Warnings about it that the API server holds; a signal alone proves nothing."""
    told = [one for one in events_about(reader, [target], now) if one.type != "Normal"]
    fresh = [one for one in told if now - one.last_seen <= QUIET]
    if not fresh:
        return None
    newest = max(fresh, key=lambda one: one.last_seen)
    why = f"{newest.reason or 'an Event'} about {target}, which nothing here can judge"
    return Trouble(why=why, since=min(one.first_seen for one in fresh))


def events_about(reader: EventReader, targets: Iterable[ObjectRef], now: datetime) -> list[Event]:
    """List the Events about some objects, newest first. What cannot be an Event is left out."""
    found: dict[str, Event] = {}
    for target in targets:
        # An Event about an object without a namespace stands in `default` (Kubernetes API validation).
        for raw in reader.events(target.kind, target.namespace or "default", target.name):
            try:
                one = read_event(raw, received=now)
            except BadMessage:
                continue
            if _is(one.target, target):
                found[one.id] = one
    return sorted(found.values(), key=lambda one: one.last_seen, reverse=True)


def _is(named: ObjectRef, target: ObjectRef) -> bool:
    """Tell whether an Event's object is this one; by name where one of them says no uid."""
    same_uid = named.uid is None or target.uid is None or named.uid == target.uid
    return same_uid and (named.kind, named.name) == (target.kind, target.name)


def _since(live: Live) -> datetime | None:
    """Find the earliest moment at which what is wrong now began, by transition times."""
    owner, times = live.object, list[datetime | None]()
    if owner is not None:
        times.append(live.kind.since(owner))
    if live.kind.owns_pods:
        times += [
            _turned(pod.status.conditions, "Ready") or pod.metadata.creation_timestamp
            for pod in live.pods
            if pod_fault(pod, None) is not None
        ]
    if not any(times) and owner is not None:
        newest = live.revisions[0].created if live.revisions else None
        times.append(newest or owner.metadata.creation_timestamp)
    return min((one for one in times if one is not None and one.tzinfo is not None), default=None)


def _turned(conditions: Iterable[Condition], kind: str) -> datetime | None:
    """Tell when a condition became other than True."""
    return next((c.last_transition_time for c in conditions if c.type == kind and c.status != "True"), None)


def _judged(live: Live) -> str | None:
    if live.raw_target is None:
        return None
    health = health_of(live, None)
    if health.healthy or _probed_early(live):
        return None
    return health.why


def _probed_early(live: Live) -> bool:
    """Say whether the Event that pointed here only says that a slow rollout is not ready yet."""
    told = live.event
    return told is not None and bool(PROBED_EARLY.match(told.message)) and _only_slow(live, told.last_seen)


def _only_slow(live: Live, now: datetime) -> bool:
    """Say whether a rollout is merely slow: what is not ready yet still has its own time to become so."""
    owner = live.object
    if owner is None or any(c.reason == OVERDUE for c in live.kind.conditions(owner)):
        return False
    unready = [pod for pod in live.pods if pod_fault(pod, None) is not None]
    return bool(unready) and all(_may_still_start(live, pod, now) for pod in unready)


def _may_still_start(live: Live, pod: Pod, now: datetime) -> bool:
    """Say whether each container that is not ready runs, and its readiness probe may fail until now.

    How long it may comes from its author: the initial delay, and as many periods as are a failure
    (https://kubernetes.io/docs/concepts/configuration/liveness-readiness-startup-probes/).
    """
    if pod_fault(pod, None) != NOT_READY:
        return False
    raw = live.reader.get(POD.name, pod.metadata.namespace, pod.metadata.name) or {}
    specs = {one["name"]: one for one in (raw.get("spec") or {}).get("containers") or ()}
    waited = [one for one in pod.status.container_statuses if not one.ready]
    return bool(waited) and all(_in_time(specs.get(one.name) or {}, one, now) for one in waited)


def _in_time(container: Json, status: ContainerStatus, now: datetime) -> bool:
    running, probe = status.state.running, container.get("readinessProbe")
    if running is None or running.started_at is None or not isinstance(probe, dict):
        return False
    # The defaults are the API's own; a recorded object carries them filled in.
    delay, period = probe.get("initialDelaySeconds", 0), probe.get("periodSeconds", 10)
    # Each of them may be as large as an int32; the product is more than a timedelta holds.
    allowed = timedelta(seconds=min(delay + period * probe.get("failureThreshold", 3), LONGEST_START))
    return now - running.started_at < allowed
