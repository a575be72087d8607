"""Typed views of what all kinds of objects share, and of pods. A kind's own view is in its file in `kinds/`.

A view keeps only the fields something here uses and ignores the rest; JSON nulls count as absent,
as they do in the API's own Go types. Parsing raises pydantic.ValidationError on wrong types.
"""

from datetime import datetime
from typing import Any, Self

from quietpager.model.reference import ObjectRef
from quietpager.model.view import View

Json = dict[str, Any]


class OwnerReference(View):
    """Who owns an object."""

    api_version: str
    kind: str
    name: str
    uid: str
    controller: bool = False


class Metadata(View):
    """ObjectMeta, as far as it is used."""

    name: str
    namespace: str | None = None
    uid: str = ""
    generation: int = 0
    resource_version: str = ""
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}
    owner_references: tuple[OwnerReference, ...] = ()
    creation_timestamp: datetime | None = None
    deletion_timestamp: datetime | None = None

    @property
    def controller(self) -> OwnerReference | None:
        """The one owner that manages the object."""
        return next((owner for owner in self.owner_references if owner.controller), None)


class Condition(View):
    """One condition of any object."""

    type: str
    status: str
    reason: str = ""
    message: str = ""
    last_transition_time: datetime | None = None


class Waiting(View):
    """A container that is not running yet, or not again."""

    reason: str = ""
    message: str = ""


class Running(View):
    """A container that runs."""

    started_at: datetime | None = None


class Terminated(View):
    """A container that has ended."""

    exit_code: int
    reason: str = ""
    message: str = ""
    started_at: datetime | None = None
    finished_at: datetime | None = None


class ContainerState(View):
    """Exactly one of the three, or none."""

    waiting: Waiting | None = None
    running: Running | None = None
    terminated: Terminated | None = None


class ContainerStatus(View):
    """What the kubelet says of one container."""

    name: str
    ready: bool = False
    restart_count: int = 0
    image: str = ""
    state: ContainerState = ContainerState()
    last_state: ContainerState = ContainerState()

    @property
    def ended(self) -> Terminated | None:
        """The newest end of this container: now, or the time before it was started again."""
        return self.state.terminated or self.last_state.terminated


class Resources(View):
    """Requests and limits, as quantities."""

    requests: dict[str, str | int | float] = {}
    limits: dict[str, str | int | float] = {}


class Container(View):
    """One container of a pod's spec."""

    name: str
    image: str = ""
    resources: Resources = Resources()
    restart_policy: str = ""
    liveness_probe: Json | None = None


class VolumeSource(View):
    """A ConfigMap or a Secret as a volume, or in a projected one. A Secret's volume says `secretName`."""

    name: str = ""
    secret_name: str = ""
    optional: bool = False


class Projection(View):
    """One source of a projected volume."""

    config_map: VolumeSource | None = None
    secret: VolumeSource | None = None


class Projected(View):
    """A projected volume."""

    sources: tuple[Projection, ...] = ()


class ClaimSource(View):
    """Which claim a volume is."""

    claim_name: str = ""


class Volume(View):
    """One volume of a pod's spec, as far as it is used."""

    name: str
    config_map: VolumeSource | None = None
    secret: VolumeSource | None = None
    projected: Projected | None = None
    persistent_volume_claim: ClaimSource | None = None


class PodSpec(View):
    """A pod's spec. `resources` are those of the whole pod, where it sets them itself."""

    node_name: str | None = None
    resources: Resources = Resources()
    overhead: dict[str, str | int | float] = {}
    volumes: tuple[Volume, ...] = ()
    containers: tuple[Container, ...] = ()
    init_containers: tuple[Container, ...] = ()


class PodStatus(View):
    """A pod's status."""

    phase: str = ""
    reason: str = ""
    conditions: tuple[Condition, ...] = ()
    container_statuses: tuple[ContainerStatus, ...] = ()
    init_container_statuses: tuple[ContainerStatus, ...] = ()


class Object(View):
    """What all kinds share."""

    api_version: str = ""
    kind: str = ""
    metadata: Metadata

    @classmethod
    def read(cls, raw: Json) -> Self:
        """Parse the API's JSON."""
        return cls.model_validate(raw)

    @property
    def ref(self) -> ObjectRef:
        """Point at this object."""
        meta = self.metadata
        return ObjectRef(
            api_version=self.api_version,
            kind=self.kind,
            namespace=meta.namespace,
            name=meta.name,
            uid=meta.uid or None,
        )


class Pod(Object):
    """A pod."""

    spec: PodSpec = PodSpec()
    status: PodStatus = PodStatus()

    @property
    def containers(self) -> tuple[ContainerStatus, ...]:
        """All container statuses, init containers first."""
        return self.status.init_container_statuses + self.status.container_statuses

    @property
    def ready(self) -> bool:
        """The Ready condition, as the kubelet wrote it."""
        return any(c.type == "Ready" and c.status == "True" for c in self.status.conditions)

    @property
    def leaving(self) -> bool:
        """Being deleted, or finished for good."""
        return self.metadata.deletion_timestamp is not None or self.status.phase == "Succeeded"

    def condition(self, kind: str) -> Condition | None:
        """Find one condition by its type."""
        return next((c for c in self.status.conditions if c.type == kind), None)


class PodTemplate(View):
    """A pod template; the raw JSON stays with whoever patches."""

    spec: PodSpec = PodSpec()


class Status(View):
    """What the status of most kinds has."""

    observed_generation: int = 0
    conditions: tuple[Condition, ...] = ()
