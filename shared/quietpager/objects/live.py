"""The live objects around a target, read when they are asked for, once.

`Live` is what a rule's `diagnose` and an action's `plan` get. It reads through an injected port, so
the same code runs in a function, in replay over a folder, and in tests.
"""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Final, Generic, TypeVar

from quietpager.errors import BadMessage
from quietpager.model.cluster import Kind, Reader
from quietpager.model.event import Event, read_event
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import EventRef
from quietpager.model.text import is_name
from quietpager.objects.types import (
    Deployment,
    Namespace,
    Node,
    OwnerReference,
    Pod,
    ReplicaSet,
    ResourceQuota,
)

Json = dict[str, Any]
READABLE: Mapping[str, Kind] = {
    "Deployment": "Deployment",
    "ReplicaSet": "ReplicaSet",
    "Pod": "Pod",
    "Node": "Node",
    "Namespace": "Namespace",
    "PersistentVolumeClaim": "PersistentVolumeClaim",
    "Job": "Job",
}
"""Kinds of targets that can be looked at; for any other kind only the Event itself is known."""


_API_VERSIONS: Final = {"Deployment": "apps/v1", "ReplicaSet": "apps/v1", "Job": "batch/v1"}
"""Of the readable kinds; all others are of the core group, v1."""

LONG_AGO: Final = datetime.fromtimestamp(0, UTC)
"""The time of a look whose caller asks for nothing that depends on it."""


class Once:
    """A reader that asks the API server each question once; for one look at many objects."""

    def __init__(self, reader: Reader) -> None:
        """Nothing is read yet."""
        self._reader = reader
        self._got: dict[tuple[Kind, str | None, str], Json | None] = {}
        self._listed: dict[tuple[Kind, str | None, str], list[Json]] = {}
        self._each: dict[tuple[Kind, str | None, tuple[tuple[str, str], ...]], list[Json]] = {}

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object; None where it does not exist."""
        key = (kind, namespace, name)
        if key not in self._got:
            self._got[key] = self._reader.get(kind, namespace, name)
        return self._got[key]

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Read all objects of a kind."""
        key = (kind, namespace, labels)
        if key not in self._listed:
            self._listed[key] = self._reader.list(kind, namespace, labels)
        return self._listed[key]

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Read all objects of a kind that carry the labels; here they are held, as long as the look takes."""
        key = (kind, namespace, tuple(sorted((labels or {}).items())))
        if key not in self._each:
            self._each[key] = [*self._reader.each(kind, namespace, labels)]
        return iter(self._each[key])


Read = TypeVar("Read")


class _once(Generic[Read]):  # noqa: N801 (it is used as a decorator)
    """A property worked out when it is first asked for.

    Not `functools.cached_property`: up to Python 3.11 that holds one lock for all objects of the class, so
    that all threads of a function would wait while one of them reads from the API server. A `Live` belongs
    to one message, and so to one thread.
    """

    def __init__(self, work_out: Callable[["Live"], Read]) -> None:
        self._work_out = work_out
        self._name, self.__doc__ = work_out.__name__, work_out.__doc__

    def __get__(self, live: "Live", _of: object = None) -> Read:
        # The value now in the object's own dictionary comes before this descriptor.
        found: Read = live.__dict__.setdefault(self._name, self._work_out(live))
        return found


class Live:
    """Everything the product may read about one target."""

    def __init__(
        self,
        reader: Reader,
        target: ObjectRef,
        *,
        now: datetime = LONG_AGO,
        told: EventRef | None = None,
        cause: str | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            reader: where everything is read.
            target: what is looked at, as somebody has named it.
            now: when the look is made; whoever lets a rule judge says it. In replay the case's own time.
            told: which Event is said to have pointed here.
            cause: the cause key of the incident that asks again; None where nobody does.
        """
        self.reader, self.target, self.now, self.told, self.cause = reader, target, now, told, cause

    @_once
    def event(self) -> Event | None:
        """The Event that pointed here, as the API server holds it: the only place where its words come from.

        None where nobody named one, where it is gone (they are kept for an hour), where the name is another
        Event's by now, and where it is about something else than the target.
        """
        if self.told is None:
            return None
        raw = self.reader.get("Event", self.told.namespace, self.told.name)
        try:
            event = None if raw is None else read_event(raw, received=self.now)
        except BadMessage:
            return None
        return event if event is not None and event.ref == self.told and self._is_about(event) else None

    def _is_about(self, event: Event) -> bool:
        about, target = event.target, self.named
        # Where an Event or a signal gives no uid, as an operator's often does not, the name counts.
        same = about.uid is None or target.uid is None or about.uid == target.uid
        place = (about.kind, about.namespace, about.name)
        return same and place == (target.kind, target.namespace, target.name)

    @property
    def confirmed(self) -> EventRef | None:
        """The Event that was said to have pointed here, if it was read and did."""
        return self.told if self.__dict__.get("event") is not None else None

    @property
    def named(self) -> ObjectRef:
        """The target as the API server names it, so that one object has one name whoever spoke of it."""
        if self.raw_target is None:
            return self.target
        meta = self.raw_target["metadata"]
        return ObjectRef(
            api_version=_API_VERSIONS.get(self.target.kind, "v1"), kind=self.target.kind,
            namespace=meta.get("namespace"), name=self.target.name, uid=meta.get("uid"),
        )  # fmt: skip

    @_once
    def raw_target(self) -> Json | None:
        """The target itself; None when it is gone or has another uid by now."""
        kind = READABLE.get(self.target.kind)
        if kind is None:
            return None
        raw = self.reader.get(kind, self.target.namespace, self.target.name)
        return raw if raw is not None and self._same(raw) else None

    def _same(self, raw: Json) -> bool:
        uid = (raw.get("metadata") or {}).get("uid")
        return self.target.uid is None or uid == self.target.uid

    @_once
    def pod(self) -> Pod | None:
        """The target, if it is a pod that exists."""
        if self.target.kind != "Pod" or self.raw_target is None:
            return None
        return Pod.read(self.raw_target | {"kind": "Pod", "apiVersion": "v1"})

    @_once
    def owner(self) -> ObjectRef | None:
        """The top owner: controller references followed to the end, or the target itself."""
        if self.target.kind == "Pod":
            pod = self.pod
            return None if pod is None else self._top(pod.ref, pod.metadata.controller)
        if self.target.kind == "ReplicaSet" and self.raw_target is not None:
            one = ReplicaSet.read(self.raw_target | {"kind": "ReplicaSet", "apiVersion": "apps/v1"})
            return self._top(one.ref, one.metadata.controller)
        # An operator's Event often names no uid; one workload must not have two causes for that.
        return self.target.but(uid=self.target.uid or self._uid)

    @property
    def _uid(self) -> str | None:
        return None if self.raw_target is None else self.raw_target["metadata"].get("uid")

    def _top(self, of: ObjectRef, controller: OwnerReference | None) -> ObjectRef:
        if controller is None or not _can_be(controller):
            return of
        up = ObjectRef(
            api_version=controller.api_version, kind=controller.kind, namespace=of.namespace,
            name=controller.name, uid=controller.uid,
        )  # fmt: skip
        # A ReplicaSet is asked once whose it is: one that says it is a ReplicaSet's, or its own, has no end.
        if controller.kind != "ReplicaSet" or of.kind == "ReplicaSet":
            return up
        raw = self.reader.get("ReplicaSet", of.namespace, controller.name)
        if raw is None or (raw.get("metadata") or {}).get("uid") != controller.uid:
            return up
        return self._top(up, ReplicaSet.read(raw).metadata.controller)

    @_once
    def raw_owner(self) -> Json | None:
        """The owner's JSON, of whatever kind, if it exists with the same uid: what a plan would change."""
        owner = self.owner
        if owner is None or owner.kind == "Deployment":
            return self.raw_deployment
        kind = READABLE.get(owner.kind)
        raw = None if kind is None else self.reader.get(kind, owner.namespace, owner.name)
        return None if raw is None or (owner.uid and raw["metadata"].get("uid") != owner.uid) else raw

    @_once
    def raw_deployment(self) -> Json | None:
        """The owner's JSON, if it is a Deployment that exists with the same uid."""
        owner = self.owner
        if owner is None or owner.kind != "Deployment":
            return None
        raw = self.reader.get("Deployment", owner.namespace, owner.name)
        if raw is None or (owner.uid and raw["metadata"].get("uid") != owner.uid):
            return None
        return raw

    @_once
    def deployment(self) -> Deployment | None:
        """The owner, typed."""
        raw = self.raw_deployment
        return None if raw is None else Deployment.read(raw | {"kind": "Deployment"})

    @_once
    def raw_replica_sets(self) -> list[Json]:
        """The Deployment's ReplicaSets, newest revision first."""
        deployment = self.deployment
        if deployment is None:
            return []
        every = self.reader.each("ReplicaSet", deployment.metadata.namespace, self._selected)
        mine = [raw for raw in every if _controller_uid(raw) == deployment.metadata.uid]
        return sorted(mine, key=lambda raw: -ReplicaSet.read(raw).revision)

    @property
    def _selected(self) -> dict[str, str]:
        """The labels that all of the Deployment's own carry, so that a namespace's others are not read.

        Whose they are their owner says: labels may be on others, too.
        """
        spec = (self.raw_deployment or {}).get("spec") or {}
        labels = (spec.get("selector") or {}).get("matchLabels") or {}
        return {str(key): str(value) for key, value in labels.items()}

    @_once
    def replica_sets(self) -> tuple[ReplicaSet, ...]:
        """The same, typed."""
        return tuple(ReplicaSet.read(raw) for raw in self.raw_replica_sets)

    @_once
    def pods(self) -> tuple[Pod, ...]:
        """All pods of the owner, or the target alone where the owner cannot be read."""
        deployment = self.deployment
        if deployment is None:
            return () if self.pod is None else (self.pod,)
        uids = {one.metadata.uid for one in self.replica_sets}
        every = self.reader.each("Pod", deployment.metadata.namespace, self._selected)
        return tuple(Pod.read(raw) for raw in every if _controller_uid(raw) in uids)

    @_once
    def newest_pods(self) -> tuple[Pod, ...]:
        """The pods of the newest revision."""
        if not self.replica_sets:
            return self.pods
        newest = self.replica_sets[0].metadata.uid
        return tuple(p for p in self.pods if p.metadata.controller and p.metadata.controller.uid == newest)

    @_once
    def node(self) -> Node | None:
        """The target, if it is a node that exists."""
        if self.target.kind != "Node" or self.raw_target is None:
            return None
        return Node.read(self.raw_target)

    @_once
    def nodes(self) -> tuple[Node, ...]:
        """All nodes."""
        return tuple(Node.read(raw) for raw in self.reader.list("Node"))

    @_once
    def namespace(self) -> Namespace | None:
        """The owner's namespace."""
        name = self.target.namespace
        raw = None if name is None else self.reader.get("Namespace", None, name)
        return None if raw is None else Namespace.read(raw)

    @_once
    def quotas(self) -> tuple[ResourceQuota, ...]:
        """The namespace's quotas."""
        found = self.reader.list("ResourceQuota", self.target.namespace)
        return tuple(ResourceQuota.read(raw) for raw in found)


def _can_be(owner: OwnerReference) -> bool:
    """Tell whether an owner reference can be one: the API server takes any text that is not empty.

    What cannot be a name is text for the page and the terminal, or too long for a key of the store. Then the
    object is its own owner.
    """
    return all(map(is_name, (owner.kind, owner.name, owner.uid, *owner.api_version.split("/", 1))))


def _controller_uid(raw: Json) -> str | None:
    """Read who manages an object, before the whole of it is parsed: most of a list is somebody else's."""
    owners = (raw.get("metadata") or {}).get("ownerReferences")
    named = [one for one in owners if isinstance(one, dict)] if isinstance(owners, list) else []
    return next((str(one.get("uid")) for one in named if one.get("controller")), None)
