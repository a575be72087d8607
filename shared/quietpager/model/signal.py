"""A signal: one normalised observation about one object. It is a hint, never a fact."""

from datetime import datetime
from typing import Literal

from quietpager.masking.told import Told
from quietpager.model.data import Data
from quietpager.model.message import SIGNAL, Message
from quietpager.model.objects import ObjectRef

Origin = Literal["event", "sweep", "recheck", "alert", "release"]

UNKNOWN_FAMILY = "unknown"
"""The family of what no route matches; `analyze/unknown` is its reader."""

MOST_HOPS = 2
"""How often a detector may say "not mine" before a signal counts as unknown."""


class Signal(Data):
    """What ingest makes of an Event, a sweep's find or a recheck. `count` is at least 1.

    `cause` is set on a recheck: the cause key of the incident that asks.
    """

    id: str
    cluster: str
    target: ObjectRef
    container: str | None = None
    reason: Told
    component: Told = ""
    type: Told = "Warning"
    message: Told = ""
    count: int = 1
    first_seen: datetime
    last_seen: datetime
    family: str = UNKNOWN_FAMILY
    origin: Origin = "event"
    incident: str | None = None
    cause: str | None = None
    hops: int = 0
    looks: int = 0

    def to_message(self) -> Message:
        """Put it into the message that a detector is triggered by."""
        attributes = {
            "family": self.family,
            "reason": self.reason,
            "involvedkind": self.target.kind,
            "namespace": self.target.namespace or "",
            "origin": self.origin,
            "partitionkey": f"{self.target.namespace or ''}/{self.target.name}",
            "hops": str(self.hops),
        }
        return Message(
            id=f"{self.id}.{self.hops}.{self.looks}",
            type=SIGNAL,
            subject=self.incident,
            attributes={name: value for name, value in attributes.items() if value},
            data=self.to_json(),
        )
