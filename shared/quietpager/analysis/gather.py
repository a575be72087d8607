"""Reads what there is to know about an unhealthy object.

Each part is read on its own, so that one that cannot be read costs a sentence and not the page.

Who calls it: `analyze/unknown`, and replay over a recorded folder. Reads only, through the cluster's
port. Everything it gives is masked and bounded.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, TypeVar

from pydantic import ValidationError

from quietpager.analysis.logs import MOST, TAIL, Tail, tail_of
from quietpager.analysis.templates import ConfigRef, config_refs, differences
from quietpager.analysis.unwell import Trouble, events_about
from quietpager.model.cluster import ClusterUnavailable, Json, LogReader, Rejected
from quietpager.model.event import Event
from quietpager.model.page import Changed, Fact
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import UNCONFIRMED, Origin
from quietpager.model.text import clean
from quietpager.objects.health import culprits, pod_fault
from quietpager.objects.kind import Revision
from quietpager.objects.kinds.node import KIND as NODE
from quietpager.objects.kinds.node import Node
from quietpager.objects.kinds.pod import KIND as POD
from quietpager.objects.live import Live
from quietpager.objects.revision import NEW_REVISION, revision_facts
from quietpager.objects.table import known
from quietpager.objects.types import ContainerStatus, Pod

T = TypeVar("T")

_A: Final = {"alert": "an alert", "release": "word of a release"}
EDITS: Final = "metadata.managedFields"
"""Source of a change that an object itself tells of."""
MOST_EVENTS: Final = 8
MOST_LOGS: Final = 4
"""Containers whose logs are read."""
MOST_PODS: Final = 5
"""Unwell pods that are told one by one."""
MOST_CONFIG: Final = 20
SHORT_TAIL: Final = 5
"""Lines asked for once more where a log was cut: of a cut tail the newest lines are lost."""
_NOT_PEOPLE: Final = frozenset({"kube-controller-manager", "kubelet", "kube-scheduler"})


@dataclass
class Gathered:
    """What was found. `missing` says what could not be read; `config` is None for "cannot be told".

    `told` is the Event that pointed here, as it was read from the API server; `origin` says who did where
    that was no Event.
    """

    target: ObjectRef
    owner: ObjectRef
    trouble: Trouble
    now: datetime
    facts: list[Fact] = field(default_factory=list)
    changed: list[Changed] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    told: Event | None = None
    origin: Origin = "event"
    events: list[Event] = field(default_factory=list)
    logs: list[Tail] = field(default_factory=list)
    config: dict[ConfigRef, bool | None] = field(default_factory=dict)
    nodes: dict[str, str] = field(default_factory=dict)
    """By name: what is wrong with each node that the pods run on; empty text: nothing."""
    revisions: int | None = None
    newest_began: datetime | None = None
    revision_facts: frozenset[str] = frozenset()
    restarts: int = 0
    oom: list[str] = field(default_factory=list)
    unpulled: list[str] = field(default_factory=list)
    pods_seen: bool = False

    def fact(self, text: str, source: str) -> None:
        """Keep one fact, masked."""
        self.facts.append(Fact(text=clean(text, 500), source=source))


class _Reading:
    """Runs the parts; after the API server has stopped answering no further part is tried."""

    def __init__(self, into: Gathered) -> None:
        self.into, self.away = into, False

    def part(self, what: str, read: Callable[[], T | None]) -> T | None:
        """Give what was read, or None with a sentence in `missing`."""
        if self.away:
            return None
        try:
            return read()
        except Rejected as no:
            self.into.missing.append(f"{what} could not be read: {clean(str(no), 300)}.")
        except ClusterUnavailable as gone:
            self.away = True
            said = clean(str(gone), 300)
            self.into.missing.append(f"{what}, and all that comes after it, could not be read: {said}.")
        except (ValidationError, TypeError, KeyError, AttributeError, ValueError) as odd:
            self.into.missing.append(f"{what} makes no sense to this version ({type(odd).__name__}).")
        return None


def gather(origin: Origin, live: Live, reader: LogReader, trouble: Trouble, now: datetime) -> Gathered:
    """Read everything that can be read about the target and its owner; never raises for what cannot."""
    target = live.target
    into = Gathered(target=target, owner=target, trouble=trouble, now=now, origin=origin)
    reading = _Reading(into)
    into.owner = reading.part(f"The owner of {target}", lambda: live.owner) or target
    into.told = reading.part("The Event that pointed here", lambda: live.event)
    into.fact(trouble.why, str(into.owner))
    if origin in UNCONFIRMED:
        into.fact(f"somebody sent {_A[origin]} about {target}; nothing confirms what it said", origin)
    pods = reading.part(f"The pods of {into.owner}", lambda: live.pods) or ()
    unwell = [pod for pod in pods if pod_fault(pod, None) is not None]
    into.pods_seen = bool(pods)
    reading.part(f"Events about {into.owner}", lambda: _events(into, live, reader, unwell or pods))
    reading.part(f"The status of {into.owner}", lambda: _status(into, live, unwell or pods))
    reading.part(f"The revisions of {into.owner}", lambda: _revisions(into, live))
    reading.part(f"ConfigMaps of {into.owner}", lambda: _config(into, live, reader, pods, reading))
    for name in sorted({p.spec.node_name for p in unwell or pods if p.spec.node_name})[:MOST_PODS]:
        reading.part(f"Node {name}", lambda name=name: _node(into, reader, name))  # type: ignore[misc]
    _logs(into, reader, unwell or pods, reading)
    return into


# --- Events and status ----------------------------------------------------------------------------


def _events(into: Gathered, live: Live, reader: LogReader, pods: Iterable[Pod]) -> None:
    about = [into.target, into.owner, *(one.ref for one in live.revisions if known(one.ref) is not None)]
    # One request for each object: so of a large workload the pods that are looked at closely anyway.
    about += [pod.ref.but(kind="Pod", api_version="v1") for pod in [*pods][:MOST_PODS]]
    every = events_about(reader, dict.fromkeys(about), into.now)
    warnings = [one for one in every if one.type != "Normal"]
    into.events = every
    told = into.told
    if told is not None and not any(_same_text(one, told) for one in warnings):
        warnings.insert(0, told)
    for one in warnings[:MOST_EVENTS]:
        often = f", {one.count} times" if one.count > 1 else ""
        who = f" by {one.component}" if one.component else ""
        into.fact(
            f"{one.reason}: {one.message}", f"Event{who} about {one.target}{often}, {_at(one.last_seen)}"
        )


def _same_text(one: Event, two: Event) -> bool:
    return (one.reason, one.message) == (two.reason, two.message)


def _status(into: Gathered, live: Live, pods: Iterable[Pod]) -> None:
    owner = live.object
    if owner is not None:
        for one in live.kind.bad_news(owner):
            since = f" since {_at(one.last_transition_time)}" if one.last_transition_time else ""
            into.fact(f"{one.type} is {one.status}{since}: {one.reason}: {one.message}", str(live.owner))
    for number, pod in enumerate(pods):
        if number < MOST_PODS:
            _pod(into, pod)
        into.restarts += sum(one.restart_count for one in pod.containers)
        into.oom += [
            f"{one.name} in {pod.metadata.name}"
            for one in pod.containers
            if one.ended is not None and one.ended.reason == "OOMKilled"
        ]
        into.unpulled += [
            f"{one.name} in {pod.metadata.name}"
            for one in pod.containers
            if one.state.waiting is not None and "Image" in one.state.waiting.reason
        ]


def _pod(into: Gathered, pod: Pod) -> None:
    source = f"Pod {pod.metadata.namespace}/{pod.metadata.name}"
    for one in pod.status.conditions:
        if one.status != "True" and one.type in ("Ready", "PodScheduled", "Initialized"):
            since = f" since {_at(one.last_transition_time)}" if one.last_transition_time else ""
            into.fact(f"{one.type} is {one.status}{since}: {one.reason}: {one.message}", source)
    for status in pod.containers:
        into.fact(_container(status), f"{source} status.containerStatuses")


def _container(one: ContainerStatus) -> str:
    state = one.state
    if state.waiting is not None:
        now = f"waits: {state.waiting.reason} {state.waiting.message}".strip()
    elif state.running is not None:
        ready = "and is ready" if one.ready else "but is not ready"
        now = f"runs since {_at(state.running.started_at)} {ready}"
    elif state.terminated is not None:
        now = f"has ended: {state.terminated.reason} {state.terminated.exit_code} {state.terminated.message}"
    else:
        now = "says nothing about its state"
    last = one.last_state.terminated
    before = f"; before that it ended: {last.reason} {last.exit_code} {last.message}".rstrip() if last else ""
    return f"{one.name} {now}{before}; {one.restart_count} restarts"


# --- what changed -----------------------------------------------------------------------------------


def _revisions(into: Gathered, live: Live) -> None:
    owner, every = live.object, live.revisions
    if owner is None or live.template is None:
        return
    into.revisions = len(every) if live.kind.revised else None
    if every:
        into.newest_began = every[0].created
        into.changed += [_revision(every, number) for number in range(len(every[:3]))]
    failing = frozenset[str]().union(*(culprits(pod) for pod in live.newest_pods))
    brought = failing and failing <= frozenset[str]().union(*map(live.injected_in, live.newest_pods))
    facts, _ = revision_facts(live, next(iter(failing)) if brought else None)
    if failing:
        into.revision_facts = facts
    else:
        into.revision_facts = facts - {NEW_REVISION}
    raw = live.raw_owner or {}
    created = owner.metadata.creation_timestamp
    for at, manager in _edits(raw):
        if created is None or at - created > timedelta(seconds=1):
            what = f"{manager} changed {owner.kind} {owner.metadata.name}"
            into.changed.append(Changed(what=what, source=EDITS, at=at))


def _revision(every: tuple[Revision, ...], number: int) -> Changed:
    one = every[number]
    at, source = one.created, str(one.ref)
    if number + 1 >= len(every):
        return Changed(what=f"revision {one.number} began, the first that is kept", source=source, at=at)
    earlier = every[number + 1]
    told = differences(earlier.template, one.template) or ("no difference in the template",)
    before = earlier.created
    what = f"revision {one.number} began; against revision {earlier.number}: {'; '.join(told)}"
    if at is not None and before is not None and at < before:
        # A rollback takes the old revision again, and nothing says when.
        return Changed(what=f"{what} (a template that was there before: a rollback)", source=source)
    return Changed(what=what, source=source, at=at)


def _edits(raw: Json) -> Iterator[tuple[datetime, str]]:
    """List who changed an object itself, not its status, and when (metadata.managedFields)."""
    for one in (raw.get("metadata") or {}).get("managedFields") or ():
        if one.get("subresource") or one.get("manager") in _NOT_PEOPLE or not one.get("time"):
            continue
        yield datetime.fromisoformat(one["time"]), clean(str(one.get("manager")), 60)


def _config(into: Gathered, live: Live, reader: LogReader, pods: Iterable[Pod], reading: _Reading) -> None:
    spec: Any = (live.template or {}).get("spec")
    namespace = into.owner.namespace
    if spec is None:
        first = next(iter(pods), None)
        found = None if first is None else reader.get(POD.name, first.metadata.namespace, first.metadata.name)
        spec = (found or {}).get("spec")
    for ref in config_refs(spec or {})[:MOST_CONFIG]:
        into.config[ref] = None
        reading.part(f"ConfigMap {ref.name}", lambda ref=ref: _one_config(into, reader, namespace, ref))  # type: ignore[misc]


def _one_config(into: Gathered, reader: LogReader, namespace: str | None, ref: ConfigRef) -> None:
    """Look whether it is there and when it was changed; what it holds is not even read."""
    raw = reader.metadata("ConfigMap", namespace, ref.name)
    into.config[ref] = raw is not None
    if raw is None:
        optional = "; it is optional" if ref.optional else ""
        into.fact(f"ConfigMap {ref.name} does not exist{optional}", f"{ref.where} refers to it")
        return
    edits = max(_edits(raw), default=None)
    if edits is not None:
        what = f"{edits[1]} changed ConfigMap {ref.name} ({ref.where})"
        into.changed.append(Changed(what=what, source=EDITS, at=edits[0]))


def _node(into: Gathered, reader: LogReader, name: str) -> None:
    raw = reader.get(NODE.name, None, name)
    if raw is None:
        into.nodes[name] = "it is gone"
        return
    node = Node.read(raw)
    wrong = NODE.bad_news(node)
    into.nodes[name] = ", ".join(f"{one.type} is {one.status}: {one.reason}" for one in wrong)
    for one in wrong:
        into.fact(f"{one.type} is {one.status}: {one.reason}: {one.message}", f"Node {name}")
        what = f"Node {name}: {one.type} became {one.status} ({one.reason})"
        into.changed.append(Changed(what=what, source=f"Node {name}", at=one.last_transition_time))
    if node.spec.unschedulable:
        into.fact("it is cordoned: no new pod may start on it", f"Node {name}")


# --- logs --------------------------------------------------------------------------------------------


def _logs(into: Gathered, reader: LogReader, pods: Iterable[Pod], reading: _Reading) -> None:
    for pod, one in _speakers(pods)[:MOST_LOGS]:
        whose = f"of {one.name} in {pod.metadata.name}"
        waits = one.state.waiting is not None and one.restart_count == 0 and one.ended is None
        if waits:
            into.missing.append(f"There is no log {whose}: it has not started yet.")
            continue
        if one.restart_count or one.last_state.terminated is not None:
            _log(into, reader, pod, one, reading, previous=True)
        _log(into, reader, pod, one, reading, previous=False)


def _speakers(pods: Iterable[Pod]) -> list[tuple[Pod, ContainerStatus]]:
    """Order the containers: those that are not ready first, for they have the most to say."""
    every = [(pod, one) for pod in pods for one in pod.containers]
    return sorted(every, key=lambda both: (both[1].ready, -both[1].restart_count))


def _log(
    into: Gathered, reader: LogReader, pod: Pod, one: ContainerStatus, reading: _Reading, *, previous: bool
) -> None:
    which = "previous log" if previous else "log"
    where = f"{which} of {one.name} in Pod {pod.metadata.namespace}/{pod.metadata.name}"

    def read() -> Tail:
        place, name = pod.metadata.namespace or "default", pod.metadata.name
        raw = reader.logs(place, name, one.name, previous=previous, tail=TAIL, most=MOST)
        if len(raw) < MOST:
            return tail_of(raw)
        newest = reader.logs(place, name, one.name, previous=previous, tail=SHORT_TAIL, most=MOST)
        return tail_of(newest, cut=True)

    tail = reading.part(f"The {where}", read)
    if tail is None:
        return
    into.logs.append(tail)
    if tail.note:
        into.missing.append(f"The {where}: {tail.note}")
    for line in tail.lines:
        into.fact(f"{one.name} says: {line}", where)
    if not tail.lines and not tail.note:
        into.missing.append(f"The {where} is empty.")


def _at(moment: datetime | None) -> str:
    return "an unknown time" if moment is None else f"{moment:%H:%M:%S}"
