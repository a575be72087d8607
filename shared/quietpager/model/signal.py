"""A signal names an object to check. Everything else in it is untrusted: detectors re-read the live object.

    Signal    from intake and sweep   {target, family, origin, event: {namespace, name, uid} | none, hops}
    Recheck   from the clock          {incident}

Neither carries words, counts or times. A detector that needs what an Event says reads that Event from the
API server by its name and compares the uid; whatever belongs to an incident is read from the store. The
cluster is the one that the function was started for.
"""

from typing import Annotated, Final, Literal, Self

from pydantic import AfterValidator, Field, StrictInt, StrictStr, ValidationError, model_validator

from quietpager.errors import BadMessage
from quietpager.model.data import MARK, Data, Json, digest, readable
from quietpager.model.message import SIGNAL, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.text import clean, is_name

Origin = Literal["event", "sweep", "recheck", "alert", "release"]

UNCONFIRMED: Final = frozenset({"alert", "release"})
"""Origins of which the API server holds no Event: that somebody said so is all that can be told."""

UNKNOWN_FAMILY = "unknown"
"""The family of what no route matches; `analyze/unknown` is its reader."""

MOST_HOPS = 2
"""How often a detector may say "not mine" before a signal counts as unknown."""

LONGEST_PART: Final = 200
"""Characters of a signal's apiVersion and uid. Kubernetes' own are far shorter."""


def _name(text: str) -> str:
    if not is_name(text):
        raise ValueError(f"{clean(text, 60)!r} cannot be a name")
    return text


Name = Annotated[StrictStr, AfterValidator(_name)]
"""What can be the name of a Kubernetes object, or an id of ours: at most 253 characters."""


class EventRef(Data):
    """Which Event a signal was made of; by its name it can be read from the API server."""

    namespace: Name
    name: Name
    uid: Name


class Signal(Data):
    """What ingest makes of an Event, or of something the sweep saw: a hint to look at `target`.

    `hops` counts how often a detector has said "not mine" so far.
    """

    target: ObjectRef
    family: Name = UNKNOWN_FAMILY
    origin: Origin = "event"
    event: EventRef | None = None
    hops: Annotated[StrictInt, Field(ge=0, le=MOST_HOPS)] = 0

    @model_validator(mode="after")
    def _bounded(self) -> Self:
        target = self.target
        for text in (target.kind, target.name, target.namespace):
            _name("x" if text is None else text)
        if max(len(target.api_version), len(target.uid or "")) > LONGEST_PART:
            raise ValueError(f"apiVersion and uid of a target have at most {LONGEST_PART} characters")
        return self

    def to_message(self, name: str = "") -> Message:
        """Put it into the message that a detector is triggered by.

        Args:
            name: what the message is made of, such as an Event's uid and version, so that a duplicate is
                visible. Nothing is decided by it. Without it the signal's own content names it.
        """
        attributes = {
            "family": self.family,
            "involvedkind": self.target.kind,
            "namespace": self.target.namespace or "",
            "origin": self.origin,
            "partitionkey": f"{self.target.namespace or ''}/{self.target.name}",
            "hops": str(self.hops),
        }
        return Message(
            id=f"{name or digest(self.to_json())}.{self.hops}",
            type=SIGNAL,
            attributes={name: value for name, value in attributes.items() if value},
            data=self.to_json(),
        )


class Recheck(Data):
    """The clock asks a detector to look at an incident again. The store knows everything else about it."""

    incident: Name

    def to_message(self, family: str, target: ObjectRef) -> Message:
        """Put it into a message; family and target are for routing and order only."""
        place = target.namespace or ""
        attributes = {
            "family": family,
            "involvedkind": target.kind,
            "namespace": place,
            "origin": "recheck",
            "partitionkey": f"{place}/{target.name}",
        }
        return Message(
            id=f"{self.incident}.recheck",
            type=SIGNAL,
            subject=self.incident,
            attributes={name: value for name, value in attributes.items() if value},
            data=self.to_json(),
        )


def read_signal(data: Json) -> Signal | Recheck:
    """Read what a detector was sent; anybody may have sent it.

    Only a signal of the next version may have a field that is not known here; it goes on with the signal.

    Raises:
        BadMessage: it is neither a signal nor a recheck; the text says what is wrong with it.
        TooNew: it is newer than the next version's.
    """
    body = readable(data)
    try:
        if body.get("incident") is not None:
            return Recheck(incident=body["incident"])
        signal = Signal.model_validate(body, extra="allow" if MARK in body else "forbid")
    except ValidationError as wrong:
        first = wrong.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(clean(str(part), 60) for part in first["loc"]) or "the whole"
        raise BadMessage(f"The signal cannot be read: {where}: {clean(first['msg'], 200)}.") from None
    if signal.origin == "recheck":
        raise BadMessage("A recheck names an incident and nothing else.")
    return signal
