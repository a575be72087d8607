"""Finds what is wrong without an Event: one look at all pods, a signal for each pod and family.

    pod ─┬ a container has failed ──────────────────────────▶ a signal of its status
         ├ the scheduler has no node for it ────────────────▶ a signal of its condition
         ├ runs, and is not ready for a while ──────────────▶ a signal of its condition
         └ has its node, and starts nothing for a while ────▶ the Warnings that the API server holds about it
    any object ─ a rule's `sweep` looks for such a one ───▶ a signal for that rule's family

Who calls it: `ingest/sweep` and `quietpager scan`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice, zip_longest
from typing import Any

from pydantic import ValidationError

from quietpager.analysis.unwell import events_about
from quietpager.model.cluster import EventReader, Json, Kind
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import UNKNOWN_FAMILY, Signal
from quietpager.objects.health import STARTING, crash_of, waits_to_start
from quietpager.objects.table import resource
from quietpager.objects.types import ContainerStatus, Pod
from quietpager.rules.looking import listed
from quietpager.rules.routing import Observation, RouteTable

POD = "Pod"
PATIENCE = 30
"""Seconds that a pod may be unready, or start nothing, before it is worth a look; a start takes its time."""

MOST_ASKED = 20
"""Pods whose Events one look asks for, one call each. Many that wait for one Secret say the same.

The namespaces take turns, and each look begins elsewhere: pods that wait in one namespace, however many,
must not keep those of the others from being asked about.
"""


def find(reader: EventReader, routes: RouteTable, now: datetime) -> Iterator[Signal]:
    """Look at everything once, and give a signal for each pod and family that something is wrong for.

    Raises whatever the reader raises.
    """
    waiting: dict[str, list[ObjectRef]] = {}
    for raw in reader.each(POD):
        yield from looked_for(POD, raw, routes, now)
        try:
            pod = Pod.read(raw | {"kind": "Pod", "apiVersion": "v1"})
        except ValidationError:
            continue
        seen = _Seen(pod.ref.but(kind="Pod", api_version="v1"), routes)
        if waits_for_a_node(pod):
            seen.condition(pod, "PodScheduled", "Unschedulable")
        failing = [(one, why) for one in pod.containers if (why := reason_of(pod, one)) is not None]
        for container, reason in failing:
            state = container.state.waiting
            seen.add(reason, state.message if state else "")
        if not failing and runs_unready(pod, now):
            seen.condition(pod, "Ready", "NotReady")
        if not failing and starts_nothing(pod, now):
            waiting.setdefault(pod.metadata.namespace or "", []).append(pod.ref)
        yield from seen.signals
    for ref in _in_turns(waiting, int(now.timestamp()) // PATIENCE):
        seen = _Seen(ref, routes)
        seen.warnings(reader, now)
        yield from seen.signals
    yield from _others(reader, routes, now)


def _others(reader: EventReader, routes: RouteTable, now: datetime) -> Iterator[Signal]:
    """Look at the kinds beside pods that some rule looks at, one list for each."""
    kinds = {row.look.kind for row in routes.looks} - {POD}
    for kind in (one for one in listed() if one in kinds):
        for raw in reader.each(kind):
            yield from looked_for(kind, raw, routes, now)


def looked_for(kind: Kind, raw: Json, routes: RouteTable, now: datetime) -> Iterator[Signal]:
    """Give a signal for each family whose rule looks for an object that is like this one."""
    families = [row.family for row in routes.looks if row.look.kind == kind and row.look.found_in(raw, now)]
    meta = raw.get("metadata") or {}
    if not families or not meta.get("name"):
        return
    target = ObjectRef(
        api_version=resource(kind).api_version, kind=kind, namespace=meta.get("namespace"), name=meta["name"],
        uid=meta.get("uid"),
    )  # fmt: skip
    for family in dict.fromkeys(families):
        yield Signal(target=target, family=family, origin="sweep")


def _in_turns(waiting: Mapping[str, Sequence[ObjectRef]], turn: int) -> Iterator[ObjectRef]:
    """Choose whom to ask about: one of each namespace, then a second one; `turn` says with whom to begin."""
    places = _from(sorted(waiting), turn)
    queues = [_from(waiting[place], turn * MOST_ASKED) for place in places]
    in_turns = (ref for one_of_each in zip_longest(*queues) for ref in one_of_each if ref is not None)
    return islice(in_turns, MOST_ASKED)


def _from(every: Sequence[Any], turn: int) -> list[Any]:
    """Let a list begin elsewhere, with what was at its begin at the end."""
    start = turn % max(len(every), 1)
    return [*every[start:], *every[:start]]


@dataclass(slots=True)
class _Seen:
    """What one pod is worth a look for; a family is told once, however many containers fail for it."""

    target: ObjectRef
    routes: RouteTable
    signals: list[Signal] = field(default_factory=list)

    def condition(self, pod: Pod, kind: str, reason: str) -> None:
        """Say what only a condition says."""
        condition = pod.condition(kind)
        self.add(reason, condition.message if condition else "")

    def add(self, reason: str, message: str) -> None:
        """Route what the status says."""
        seen = Observation(kind="Pod", reason=reason, message=message, component="sweep", origin="sweep")
        self._route(seen, Signal(target=self.target, origin="sweep"))

    def warnings(self, reader: EventReader, now: datetime) -> None:
        """Route the newest Warning of each reason about the pod, as the source would have brought it."""
        reasons: set[str] = set()
        for told in events_about(reader, [self.target], now):
            if told.type == "Warning" and told.reason not in reasons:
                reasons.add(told.reason)
                self._route(Observation.of(told), told.signal(UNKNOWN_FAMILY))

    def _route(self, seen: Observation, signal: Signal) -> None:
        family = self.routes.family_of(seen)
        if family is not None and (routed := signal.but(family=family)) not in self.signals:
            self.signals.append(routed)


def waits_for_a_node(pod: Pod) -> bool:
    """Tell whether the scheduler has found no node for a pod; such a pod has no container status at all."""
    scheduled = pod.condition("PodScheduled")
    return scheduled is not None and scheduled.reason == "Unschedulable" and not pod.leaving


def runs_unready(pod: Pod, now: datetime) -> bool:
    """Tell whether a pod runs and has not been ready for a while: its only Event may have been lost."""
    ready = pod.condition("Ready")
    if ready is None or ready.status == "True" or pod.leaving or pod.status.phase != "Running":
        return False
    since = ready.last_transition_time or pod.metadata.creation_timestamp
    return since is not None and (now - since).total_seconds() >= PATIENCE


def starts_nothing(pod: Pod, now: datetime) -> bool:
    """Tell whether a pod has waited a while for its first container: its status does not say for what."""
    created = pod.metadata.creation_timestamp
    if created is None or pod.leaving or not waits_to_start(pod):
        return False
    return (now - created).total_seconds() >= PATIENCE


def reason_of(pod: Pod, container: ContainerStatus) -> str | None:
    """Name what is wrong with a container, or None. An end that was no clean exit comes first."""
    if pod.leaving or pod.status.phase == "Failed":
        return None
    waiting = container.state.waiting
    ended = container.ended
    if ended is not None and crash_of(container, None) is not None:
        return ended.reason if ended.reason == "OOMKilled" else "ContainerExited"
    if waiting is not None and waiting.reason not in STARTING:
        return waiting.reason
    return None
