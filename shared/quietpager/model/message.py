"""Messages: the CloudEvents that functions exchange, before they are put on the wire.

From the finding on a message carries only ids; whoever reads it loads the record from the store.
"""

from typing import Final, Literal

from quietpager.model.data import Data, Json

EventType = Literal[
    "dev.knative.apiserver.resource.add",
    "dev.knative.apiserver.resource.update",
    "dev.knative.sources.ping",
    "dev.quietpager.heartbeat",
    "dev.quietpager.signal",
    "dev.quietpager.finding",
    "dev.quietpager.remedy.rehearse",
    "dev.quietpager.remedy.rehearsed",
    "dev.quietpager.remedy.apply",
    "dev.quietpager.remedy.undo",
    "dev.quietpager.remedy.outcome",
    "dev.quietpager.due",
    "dev.quietpager.decision",
    "dev.quietpager.incident.opened",
    "dev.quietpager.incident.updated",
    "dev.quietpager.incident.needsperson",
    "dev.quietpager.incident.closed",
]

EVENT_ADD: Final = "dev.knative.apiserver.resource.add"
EVENT_UPDATE: Final = "dev.knative.apiserver.resource.update"
PING: Final = "dev.knative.sources.ping"
HEARTBEAT: Final = "dev.quietpager.heartbeat"
SIGNAL: Final = "dev.quietpager.signal"
FINDING: Final = "dev.quietpager.finding"
REHEARSE: Final = "dev.quietpager.remedy.rehearse"
REHEARSED: Final = "dev.quietpager.remedy.rehearsed"
APPLY: Final = "dev.quietpager.remedy.apply"
UNDO: Final = "dev.quietpager.remedy.undo"
OUTCOME: Final = "dev.quietpager.remedy.outcome"
DUE: Final = "dev.quietpager.due"
DECISION: Final = "dev.quietpager.decision"
INCIDENT: Final = "dev.quietpager.incident."

OURS: Final = "dev.quietpager."
"""How the types begin whose data has a form of ours."""

UNDELIVERABLE: Final = "knativeerrordest"
"""The attribute by which a broker says who could not be reached with a message (Knative, delivery spec)."""


class Message(Data):
    """One message. `attributes` are CloudEvents extensions: lower-case letters and digits only.

    `id` is stable, so that a duplicate is visible; `subject` is the incident's id where there is one.
    """

    id: str
    type: str
    subject: str | None = None
    attributes: dict[str, str] = {}
    data: Json = {}

    @property
    def ours(self) -> bool:
        """Whether its data is in a form of ours, which says its version, and no object of Kubernetes."""
        return self.type.startswith(OURS)

    @property
    def undeliverable(self) -> bool:
        """Whether a broker gave it up; then it is put on record, whatever version it is of."""
        return UNDELIVERABLE in self.attributes
