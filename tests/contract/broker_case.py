"""What a case of the broker contract is made of: data that every bench can carry out.

A case is Triggers, events that are posted as raw HTTP, what subscribers answer, and what is expected:
the ingress's status of each post, and what each subscriber got. An expected arrival says the event's id
and what the broker added to it; that all else arrives as it was sent is checked for every one.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Final

from cloudevents.core.v1.event import CloudEvent

from quietpager.errors import BadMessage
from quietpager.model.time import to_text
from quietpager.runtime.wire import event_from_http

Json = dict[str, Any]

CASE: Final = "$CASE"
"""Stands for the case's name, which every event carries."""

GROUP: Final = "$GROUP"
"""Stands for the case's group: cases with the same Triggers share them. Every Trigger filters by it."""

BROKER: Final = "the broker"
"""How an arrival calls the broker's own address in `knativeerrordest`."""

NO_ANSWER: Final = "dispatch error: "
"""How `knativeerrordata` begins where there was no response; the rest is each broker's own words."""


@dataclass(frozen=True)
class Post:
    """One request to the ingress."""

    headers: Mapping[str, str]
    body: bytes = b""


@dataclass(frozen=True)
class Say:
    """One answer of a subscriber. `delay` in seconds; `drop`: hang up without an answer."""

    status: int = 204
    headers: Mapping[str, str] = field(default_factory=dict)
    body: str = ""
    delay: float = 0.0
    drop: bool = False


@dataclass(frozen=True, order=True)
class Arrival:
    """An event that a subscriber got. `added`: attributes that it was not sent with, sorted."""

    id: str
    added: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Case:
    """One behaviour. `triggers`: name → what its spec says beside broker and subscriber.

    The subscriber has the Trigger's name. A delivery's `deadLetterSink` is the name of another one.
    `got`: subscriber → what it is to get, in any order; "12" is short for events 1 and 2.
    """

    name: str
    triggers: Mapping[str, Json]
    posts: Sequence[Post]
    got: Mapping[str, Sequence[Arrival | str]] = field(default_factory=dict)
    says: Mapping[str, Sequence[Say]] = field(default_factory=dict)
    statuses: Sequence[int] = (202,)

    @property
    def group(self) -> str:
        """Name the cases that have these Triggers."""
        return hashlib.sha256(json.dumps(self.triggers).encode()).hexdigest()[:8]

    def wanted(self) -> dict[str, list[Arrival]]:
        """Give what every subscriber is to have got, sorted; those with nothing are left out."""
        return {
            who: sorted(one if isinstance(one, Arrival) else Arrival(one) for one in arrivals)
            for who, arrivals in self.got.items()
            if arrivals
        }


@dataclass(frozen=True)
class Seen:
    """What became of a case."""

    statuses: list[int]
    got: dict[str, list[Arrival]]


def named(case: Case) -> Case:
    """Put the case's name where its data has the placeholder."""

    def fill(text: str) -> str:
        return text.replace(CASE, case.name).replace(GROUP, case.group)

    def headers(old: Mapping[str, str]) -> dict[str, str]:
        return {name: fill(value) for name, value in old.items()}

    # Bytes are no text, and latin-1 keeps any.
    posts = [Post(headers(p.headers), fill(p.body.decode("latin-1")).encode("latin-1")) for p in case.posts]
    says = {
        who: [replace(say, headers=headers(say.headers), body=fill(say.body)) for say in every]
        for who, every in case.says.items()
    }
    return replace(case, posts=posts, says=says)


def address(sink: str, case: Case, who: str) -> str:
    """Give a subscriber's URL."""
    return f"{sink}/{case.group}/{who}"


def trigger_manifests(case: Case, sink: str) -> list[Json]:
    """Write the case's Triggers. One without any filter gets every group's events, and answers 204."""
    manifests = []
    for name, stated in case.triggers.items():
        spec: Json = {"broker": "default", "subscriber": {"uri": address(sink, case, name)}, **stated}
        if "filters" in spec:
            spec["filters"] = [*spec["filters"], {"exact": {"group": case.group}}]
        elif "filter" in spec:
            spec["filter"] = {"attributes": {**spec["filter"]["attributes"], "group": case.group}}
        if dead := (spec.get("delivery") or {}).get("deadLetterSink"):
            spec["delivery"] = spec["delivery"] | {"deadLetterSink": {"uri": address(sink, case, dead)}}
        manifests.append(
            {
                "apiVersion": "eventing.knative.dev/v1",
                "kind": "Trigger",
                "metadata": {"name": f"{case.group}-{name}"},
                "spec": spec,
            }
        )
    return manifests


def arrival(case: Case, sink: str, broker: str, event: CloudEvent) -> Arrival:
    """Compare what arrived with what was sent; what is missing or changed is named with a minus."""
    attributes, data = _flat(event)
    was, was_data = _sent(case).get(event.get_id(), ({}, None))
    was.pop("knativebrokerttl", None)
    was.pop("knativearrivaltime", None)
    if "time" not in was:
        attributes.pop("time", None)  # the SDK says "now" where an event has none
    added = {k: v for k, v in attributes.items() if k not in was}
    added |= {f"-{name}": value for name, value in was.items() if attributes.get(name) != value}
    if data != was_data:
        added["-data"] = repr(was_data)
    arrived = added.pop("knativearrivaltime", None)
    if arrived is None or datetime.fromisoformat(arrived).tzinfo is None:
        added["-knativearrivaltime"] = str(arrived)
    if dest := added.get("knativeerrordest"):
        added["knativeerrordest"] = {broker: BROKER}.get(dest, dest.removeprefix(address(sink, case, "")))
        text = base64.b64decode(added.get("knativeerrordata", ""), validate=True).decode()
        added["knativeerrordata"] = NO_ANSWER if text.startswith(NO_ANSWER) else text
    return Arrival(event.get_id(), tuple(sorted(added.items())))


def _sent(case: Case) -> dict[str, tuple[dict[str, str], object]]:
    """Read every event of the case, posts and replies, that can be read at all; by id."""
    says = [say for every in case.says.values() for say in every]
    raw = [(p.headers, p.body) for p in case.posts] + [(say.headers, say.body.encode()) for say in says]
    found = {}
    for headers, body in raw:
        with suppress(BadMessage):
            event = event_from_http({name.lower(): value for name, value in headers.items()}, body)
            attributes, data = _flat(event)
            if "ce-time" not in headers:
                del attributes["time"]
            found[event.get_id()] = attributes, data
    return found


def _flat(event: CloudEvent) -> tuple[dict[str, str], object]:
    attributes = {
        name: to_text(value) if isinstance(value, datetime) else _text(value)
        for name, value in event.get_attributes().items()
        if value is not None
    }
    return attributes, event.get_data()


def _text(value: object) -> str:
    """Write a value of the JSON form as binary headers do."""
    return str(value).lower() if isinstance(value, bool) else str(value)


# Writing events


def event(name: str = "1", data: object = None, **attributes: str) -> Post:
    """Write an event in binary form, with JSON data."""
    core = {"specversion": "1.0", "id": name, "source": "/test", "type": "t", "case": CASE, "group": GROUP}
    headers = {f"ce-{key}": value for key, value in (core | attributes).items()}
    body = json.dumps({"n": name} if data is None else data).encode()
    return Post({"content-type": "application/json", **headers}, body)


def reply(name: str = "r", kind: str = "reply", status: int = 200, **attributes: str) -> Say:
    """Answer with an event in structured form."""
    core: Json = {
        "specversion": "1.0",
        "id": name,
        "source": "/r",
        "type": kind,
        "case": CASE,
        "group": GROUP,
    }
    core |= {"datacontenttype": "application/json", "data": {"x": 1}}
    return Say(status, {"Content-Type": "application/cloudevents+json"}, json.dumps(core | attributes))


def dead(name: str, code: int, to: str = "s", answer: str = "", ttl: int = 255) -> Arrival:
    """Expect a dead letter with its attributes."""
    why = (("knativeerrorcode", str(code)), ("knativeerrordata", answer), ("knativeerrordest", to))
    return Arrival(name, (("knativebrokerttl", str(ttl)), *why))


def bare(name: str, ttl: int = 255) -> Arrival:
    """Expect a dead letter that does not say why."""
    return Arrival(name, (("knativebrokerttl", str(ttl)),))
