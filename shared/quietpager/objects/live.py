"""The live objects around a target, read when they are asked for, once.

`Live` is what a rule's `diagnose` and an action's `plan` get. It reads through an injected port, so
the same code runs in a function, in replay over a folder, and in tests. It knows every kind of owner alike:
what is particular to one is in its file in `kinds/`.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final, Generic, TypeVar

from quietpager.errors import BadMessage
from quietpager.model.cluster import Json, Reader
from quietpager.model.event import Event, read_event
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import EventRef
from quietpager.model.text import is_name
from quietpager.objects.kind import Counts, ObjectKind, Revision
from quietpager.objects.kinds.namespace import Namespace
from quietpager.objects.kinds.node import Node
from quietpager.objects.kinds.resourcequota import ResourceQuota
from quietpager.objects.opaque import OPAQUE
from quietpager.objects.table import KINDS, known
from quietpager.objects.types import Object, OwnerReference, Pod, PodSpec, PodTemplate

LONG_AGO: Final = datetime.fromtimestamp(0, UTC)
"""The time of a look whose caller asks for nothing that depends on it."""

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
            api_version=KINDS[self.target.kind].resource.api_version, kind=self.target.kind,
            namespace=meta.get("namespace"), name=self.target.name, uid=meta.get("uid"),
        )  # fmt: skip

    @_once
    def raw_target(self) -> Json | None:
        """The target itself; None when it is gone or has another uid by now."""
        return self._read(self.target)

    def _read(self, ref: ObjectRef) -> Json | None:
        """Read an object of a known kind; None where it is gone or has another uid than the reference."""
        if known(ref) is None:
            return None
        raw = self.reader.get(ref.kind, ref.namespace, ref.name)
        same = raw is not None and (ref.uid is None or (raw.get("metadata") or {}).get("uid") == ref.uid)
        return raw if same else None

    @_once
    def pod(self) -> Pod | None:
        """The target, if it is a pod that exists."""
        if self.target.kind != "Pod" or self.raw_target is None:
            return None
        return Pod.read(self.raw_target | {"kind": "Pod", "apiVersion": "v1"})

    @_once
    def owner(self) -> ObjectRef | None:
        """The owner that counts: controller references followed to the end, or the target itself.

        None where the target is a pod that is gone.
        """
        if self.target.kind == "Pod":
            pod = self.pod
            return None if pod is None else self._top(pod.ref, pod.metadata.controller)
        kind = known(self.target)
        if kind is not None and kind.passes_on and self.raw_target is not None:
            one = kind.read(self.raw_target)
            return self._top(one.ref, one.metadata.controller)
        # An operator's Event often names no uid; one workload must not have two causes for that.
        return self.target.but(uid=self.target.uid or self._uid)

    @property
    def _uid(self) -> str | None:
        return None if self.raw_target is None else self.raw_target["metadata"].get("uid")

    def _top(self, of: ObjectRef, controller: OwnerReference | None) -> ObjectRef:
        """Follow controllers as long as one stands for another. Each kind once: no chain of names is endless.

        A pod of the kubelet's own names its node as its controller: what makes no pods owns none.
        """
        seen = {of.kind}
        while controller is not None and _can_be(controller):
            up = ObjectRef(
                api_version=controller.api_version, kind=controller.kind, namespace=of.namespace,
                name=controller.name, uid=controller.uid,
            )  # fmt: skip
            kind = known(up)
            if kind is not None and not kind.owns_pods:
                return of
            raw = self._read(up) if kind is not None and kind.passes_on and up.kind not in seen else None
            if kind is None or raw is None:
                return up
            seen.add(up.kind)
            of, controller = up, kind.read(raw).metadata.controller
        return of

    @property
    def kind(self) -> ObjectKind:
        """What the product knows of the owner's kind."""
        return OPAQUE if self.owner is None else known(self.owner) or OPAQUE

    @_once
    def raw_owner(self) -> Json | None:
        """The owner's JSON; None where it is gone, has another uid by now, or is of a kind nobody knows."""
        if self.owner is None or self.owner == self.target:
            return self.raw_target
        return self._read(self.owner)

    @_once
    def object(self) -> Object | None:
        """The owner, typed by its kind."""
        return None if self.raw_owner is None else self.kind.read(self.raw_owner)

    @_once
    def template(self) -> Json | None:
        """The owner's pod template; None where it has none, or nobody knows where."""
        return None if self.raw_owner is None else self.kind.template(self.raw_owner)

    @property
    def pod_spec(self) -> PodSpec | None:
        """The spec of the owner's template, typed."""
        return None if self.template is None else PodTemplate.model_validate(self.template).spec

    @_once
    def revisions(self) -> tuple[Revision, ...]:
        """The owner's templates, newest first: of a Deployment its ReplicaSets."""
        return () if self.raw_owner is None else self.kind.revisions(self.raw_owner, self.reader)

    @property
    def counts(self) -> Counts | None:
        """How many pods the owner wants and has, by its own status; None where it does not say."""
        return None if self.object is None else self.kind.counts(self.object)

    @property
    def wanted(self) -> int:
        """How many pods the owner wants; 0 where nothing says."""
        return 0 if self.counts is None else self.counts.wanted

    @property
    def updated(self) -> int:
        """How many pods are of the newest revision."""
        return 0 if self.counts is None else self.counts.updated

    @property
    def ready(self) -> int:
        """How many pods are ready."""
        return 0 if self.counts is None else self.counts.ready

    @property
    def available(self) -> int:
        """How many pods are available."""
        return 0 if self.counts is None else self.counts.available

    @_once
    def pods(self) -> tuple[Pod, ...]:
        """All pods of the owner, or the target alone where the owner cannot be read."""
        if self.raw_owner is not None:
            found = self.kind.pods(self.raw_owner, self.revisions, self.reader)
            return tuple(Pod.read(raw) for raw in found)
        alone = () if self.pod is None else (self.pod,)
        if self.owner is None or self.kind is not OPAQUE:
            return alone
        controller = self.pod.metadata.controller if self.pod is not None else None
        through = controller.uid if controller is not None else None
        return tuple(Pod.read(raw) for raw in OPAQUE.pods_of(self.owner, through, self.reader)) or alone

    def pods_of(self, one: Revision) -> tuple[Pod, ...]:
        """Give the pods of one revision."""
        return tuple(pod for pod in self.pods if self.kind.revision_of(pod) == one.key)

    @_once
    def newest_pods(self) -> tuple[Pod, ...]:
        """The pods of the newest revision."""
        return self.pods_of(self.revisions[0]) if self.revisions else self.pods

    def injected_in(self, pod: Pod) -> frozenset[str]:
        """Name the containers of a pod that the template it was made from does not have.

        A webhook put them there, at the pod's admission: the workload's revision is not their cause, and no
        change of the template is a remedy. Native sidecars are init containers, so both lists are looked at.
        Empty where the template is not known.
        """
        key = self.kind.revision_of(pod)
        own = next((one.template for one in self.revisions if key and one.key == key), self.template)
        if not own:
            return frozenset()
        spec = PodTemplate.model_validate(own).spec
        declared = {one.name for one in (*spec.init_containers, *spec.containers)}
        return frozenset(one.name for one in (*pod.spec.init_containers, *pod.spec.containers)) - declared

    @_once
    def injected(self) -> frozenset[str]:
        """The names of injected containers: of the target, if it is a pod, or of all pods of the owner."""
        pods = self.pods if self.pod is None else (self.pod,)
        return frozenset[str]().union(*(self.injected_in(pod) for pod in pods))

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
