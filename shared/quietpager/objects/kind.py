"""What the product must know of one kind of object: where it lives in the API, its pods, what healthy means.

    kinds/deployment.py   KIND = DeploymentKind()  ─┐
    kinds/statefulset.py  KIND = StatefulSetKind() ─┼─▶ table.KINDS ─▶ Live, health, client, RBAC, cage, scan
    kinds/…                                         ─┘

A new kind is one file in `kinds/` with a subclass of `ObjectKind`, and its examples in `tests/objects/`.
Whatever is asked of an object by its kind is asked here; no other module names kinds.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final

from quietpager.model.cluster import Json, Reader
from quietpager.model.reference import ObjectRef
from quietpager.objects.types import Condition, Object, Pod

TEMPLATE: Final = ("spec", "template")
"""Where the workloads of apps/v1 and a Job keep their pod template."""


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind lives in the API: what discovery would say, so that no discovery request is needed."""

    kind: str
    plural: str
    group: str = ""
    version: str = "v1"
    namespaced: bool = True
    has_status: bool = True
    """Whether there is a /status subresource, which alone changes the status."""
    has_generation: bool = False
    """Whether the API server counts changes of the spec in metadata.generation."""
    in_view: bool = True
    """Whether Kubernetes' own ClusterRole `view` lets one list it
    (https://kubernetes.io/docs/reference/access-authn-authz/rbac/#user-facing-roles)."""

    @property
    def api_version(self) -> str:
        """Group and version, as objects say it: `apps/v1`, `v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def root(self) -> str:
        """The path below which the API server has it."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.version}"

    @property
    def qualified(self) -> str:
        """The resource's name in messages: `deployments.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def right(self) -> str:
        """The resource as a func.yaml's `reads` names it: `apps/deployments`, `pods`."""
        return f"{self.group}/{self.plural}" if self.group else self.plural


@dataclass(frozen=True, slots=True)
class Counts:
    """How many pods an owner wants, and how many it has: of the newest revision, ready, available, in all."""

    wanted: int
    updated: int
    ready: int
    available: int
    total: int

    def short(self) -> str | None:
        """Say in which count it is short, as `kubectl rollout status` would; None where none is missing."""
        if self.updated < self.wanted or self.total > self.wanted:
            return f"{self.updated} of {self.wanted} replicas are of the newest revision"
        if self.available < self.wanted:
            return f"{self.available} of {self.wanted} replicas are available"
        return None


@dataclass(frozen=True, slots=True)
class Revision:
    """One template that an owner has, or had. `key` is what `ObjectKind.revision_of` says of its pods."""

    number: int
    ref: ObjectRef
    key: str
    created: datetime | None
    template: Json


class ObjectKind:
    """One kind. What a subclass leaves out: an object without pods whose status says nothing is well."""

    resource: ClassVar[Resource]
    view: ClassVar[type[Object]] = Object

    target: ClassVar[bool] = True
    """An Event may be about it; who judges that reads it. False: it is read as a part of others only."""
    owns_pods: ClassVar[bool] = False
    """It makes pods, so it can be the owner that an incident is about."""
    passes_on: ClassVar[bool] = False
    """Its own controller is the owner that counts: a ReplicaSet's Deployment, a Job's CronJob."""
    revised: ClassVar[bool] = False
    """It keeps earlier templates; `kubectl rollout history` shows them."""
    read_with: ClassVar[tuple[str, ...]] = ()
    """Kinds that are read to know its pods, its revisions or its health."""
    first: ClassVar[bool] = False
    """A scan lists all of them at once, even where no pod leads there."""
    ends: ClassVar[bool] = False
    """Its pods end by themselves, and a pod that has ended is no fault: its own status counts them."""
    tells_all: ClassVar[bool] = True
    """Its status says all that can be wrong with it; where it does not, Warnings about it count as well."""
    template_at: ClassVar[tuple[str, ...]] = ()
    """The keys that lead to its pod template; empty where it has none."""
    well_when: ClassVar[Mapping[str, str]] = {}
    """Condition types that say how it is, each with the status that is good news."""
    dated_by: ClassVar[tuple[str, ...]] = ()
    """Those of them that tell since when it is not well."""

    @property
    def name(self) -> str:
        """The kind, as objects say it."""
        return self.resource.kind

    @property
    def has_template(self) -> bool:
        """Tell whether its pods are made from a template of its own, which an action may change."""
        return bool(self.template_at)

    def is_kind_of(self, ref: ObjectRef) -> bool:
        """Tell whether a reference means this kind: another group may have one of the same name.

        Knative's Service, for one, is none of ours. Who names an object may leave out the group.
        """
        group = ref.api_version.rpartition("/")[0]
        return ref.kind == self.name and (not ref.api_version or group == self.resource.group)

    def read(self, raw: Json) -> Object:
        """Parse the API's JSON; raises pydantic.ValidationError where a field has the wrong type."""
        return self.view.read(raw | {"kind": self.name, "apiVersion": self.resource.api_version})

    def template(self, raw: Json) -> Json | None:
        """Give the pod template."""
        return within(raw, *self.template_at) if self.template_at else None

    def selector(self, raw: Json) -> dict[str, str]:
        """Give the labels that all of its pods carry, so that a namespace's others are not read.

        Whose they are, their controller says: labels may be on others, too.
        """
        labels = (within(raw, "spec", "selector") or {}).get("matchLabels") or {}
        return {str(key): str(value) for key, value in labels.items()}

    def revisions(self, raw: Json, reader: Reader) -> tuple[Revision, ...]:
        """Give what it keeps of its templates, newest first; none where it keeps none."""
        del raw, reader
        return ()

    def controllers(self, raw: Json, revisions: Iterable[Revision], reader: Reader) -> set[str]:
        """Give the uids that its pods name as their controller: its own, or those of what is in between."""
        del revisions, reader
        return {str(raw["metadata"].get("uid"))}

    def pods(self, raw: Json, revisions: Iterable[Revision], reader: Reader) -> Iterator[Json]:
        """Give its pods."""
        if self.owns_pods:
            uids = self.controllers(raw, revisions, reader)
            for pod in reader.each("Pod", raw["metadata"].get("namespace"), self.selector(raw)):
                if controller_uid(pod) in uids:
                    yield pod

    def revision_of(self, pod: Pod) -> str:
        """Give the key of the revision that a pod was made from; empty where nothing says."""
        del pod
        return ""

    def counts(self, one: Any) -> Counts | None:
        """Count its pods by its own status; None where it has no such counts. `one` is its typed view."""
        del one
        return None

    def unsettled(self, one: Any, reader: Reader) -> str | None:
        """Say by its own status why it is not as it should be; None where it is. Its pods are asked besides.

        `one` is its typed view. Raises whatever the reader raises.
        """
        del one, reader
        return None

    def well(self, one: Any) -> str:
        """Say in what way it is well, where it is."""
        counts = self.counts(one)
        if counts is None:
            return f"the {self.name} is well"
        return f"{counts.available} of {counts.wanted} replicas available"

    def conditions(self, one: Object) -> tuple[Condition, ...]:
        """Give the conditions of its status."""
        found: tuple[Condition, ...] = getattr(getattr(one, "status", None), "conditions", ())
        return found

    def bad_news(self, one: Object) -> tuple[Condition, ...]:
        """Give those conditions that say that something is wrong."""
        judged = (c for c in self.conditions(one) if c.type in self.well_when)
        # Unknown is bad news where True is wanted, and no news where False is.
        return tuple(c for c in judged if (c.status == "True") != (self.well_when[c.type] == "True"))

    def since(self, one: Object) -> datetime | None:
        """Tell since when it is not well, by its conditions; None where they do not say."""
        turned = (c.last_transition_time for c in self.bad_news(one) if c.type in self.dated_by)
        return min((at for at in turned if at is not None), default=None)


def within(raw: Json, *keys: str) -> Json | None:
    """Follow keys into an object's JSON; None where they do not lead to an object."""
    found: Any = raw
    for key in keys:
        found = found.get(key) if isinstance(found, dict) else None
    return found if isinstance(found, dict) else None


def unseen(one: Any) -> str | None:
    """Say that a controller has not yet seen the newest spec.

    What its status counts is then of an earlier one (KEP-2170, and kstatus in
    https://github.com/kubernetes-sigs/cli-utils/tree/master/pkg/kstatus).
    """
    if one.status.observed_generation < one.metadata.generation:
        return "its controller has not seen the newest generation yet"
    return None


def controller_uid(raw: Json) -> str | None:
    """Read who manages an object, before the whole of it is parsed: most of a list is somebody else's."""
    owners = (raw.get("metadata") or {}).get("ownerReferences")
    named = [one for one in owners if isinstance(one, dict)] if isinstance(owners, list) else []
    return next((str(one.get("uid")) for one in named if one.get("controller")), None)


def owned(kind: str, raw: Json, labels: Mapping[str, str] | None, reader: Reader) -> list[Json]:
    """Read the objects of a kind that an object controls."""
    meta = raw["metadata"]
    every = reader.each(kind, meta.get("namespace"), labels)
    return [one for one in every if controller_uid(one) == meta.get("uid")]
