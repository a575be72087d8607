"""Between a CloudEvent and what the local broker stores: attributes as text, and `data` or `data_base64`.

Who calls it: `local/broker.py`. It also reads what a subscriber answered, as Knative's filter does
(knative/eventing v0.49.2, pkg/broker/filter/filter_handler.go).
"""

import json
from base64 import b64decode, b64encode
from collections.abc import Mapping
from contextlib import suppress
from copy import deepcopy
from datetime import datetime
from typing import Any, Final

from cloudevents.core.v1.event import CloudEvent

from quietpager.errors import BadMessage
from quietpager.model.time import to_text
from quietpager.runtime.wire import event_from_http

TTL: Final = "knativebrokerttl"
"""Extension that counts how often replies may still go round; of subscribers only dead letters' see it."""

ARRIVAL: Final = "knativearrivaltime"
"""Extension with the time at which the ingress took the event (`EventArrivalTime`); RFC 3339."""

VERSIONS: Final = frozenset({"0.3", "1.0"})
"""What Knative takes for an event's specversion; with another one, an answer is no event."""

_NOT_TEXT: Final = frozenset({*range(9), 0x0B, *range(0x0E, 0x1B), *range(0x1C, 0x20)})
"""Bytes that make data binary (https://mimesniff.spec.whatwg.org/#binary-data-byte)."""


def wire_of(event: object) -> dict[str, Any] | None:
    """Write an event as the JSON object of its structured form; None if it is no valid event."""
    if not isinstance(event, CloudEvent):
        return None
    with suppress(Exception):
        # Its attributes can be changed after it was made, so they are validated again.
        attributes = CloudEvent(dict(event.get_attributes())).get_attributes()
        wire: dict[str, Any] = {name: _text(value) for name, value in attributes.items() if value is not None}
        data = event.get_data()
        if isinstance(data, bytes | bytearray):
            wire["data_base64"] = b64encode(data).decode()
        elif data is not None:
            wire["data"] = data
        return wire
    return None


def event_of(wire: Mapping[str, Any], *, dead: bool) -> CloudEvent:
    """Make the event that a subscriber gets; `dead`: of a dead letter, which also tells its TTL."""
    hidden = ("data", "data_base64") if dead else ("data", "data_base64", TTL)
    attributes = {name: value for name, value in wire.items() if name not in hidden}
    if "time" in attributes:
        attributes["time"] = datetime.fromisoformat(attributes["time"])
    if "data_base64" in wire:
        return CloudEvent(attributes, b64decode(wire["data_base64"]))
    # A copy: what one subscriber does to it must not reach the next attempt or another subscriber.
    return CloudEvent(attributes, deepcopy(wire.get("data")))


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return to_text(value)
    return str(value).lower() if isinstance(value, bool) else str(value)


def ttl_of(wire: Mapping[str, Any]) -> int | None:
    """Read how often an event may still go round; None where it says nothing that is a number."""
    try:
        return int(float(wire[TTL]))
    except (KeyError, ValueError, OverflowError):
        return None


def read(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """Read one CloudEvent; raises `BadMessage`. The SDK would take JSON without a version for 1.0."""
    event = event_from_http(headers, body)
    if "ce-specversion" not in headers and "specversion" not in json.loads(body):
        raise BadMessage("The CloudEvent has no specversion.")
    return event


def type_untyped(reply: dict[str, Any]) -> None:
    """Give a reply's data a type if it has none, as Go's HTTP server does when Knative's filter passes it on.

    So JSON without a `datacontenttype` arrives as text (net/http's `DetectContentType`; of its many
    signatures only text and not text are told apart here).
    """
    if "datacontenttype" in reply or not {"data", "data_base64"} & set(reply):
        return
    if "data" in reply and not isinstance(reply["data"], str):
        reply["data"] = json.dumps(reply["data"])
    raw = b64decode(reply["data_base64"]) if "data_base64" in reply else reply["data"].encode()
    binary = any(byte in _NOT_TEXT for byte in raw[:512])
    reply["datacontenttype"] = "application/octet-stream" if binary else "text/plain; charset=utf-8"


def is_readable(headers: Mapping[str, str], body: bytes) -> bool:
    """Tell whether a reply that is not valid only lacks attributes; Knative sends such a one on."""
    attributes: object = None
    if "ce-specversion" in headers:
        attributes = {name.removeprefix("ce-"): value for name, value in headers.items()}
    else:
        with suppress(ValueError, RecursionError):
            attributes = json.loads(body)
    return (
        isinstance(attributes, dict)
        and attributes.get("specversion") == "1.0"
        and not all(attributes.get(name) for name in ("id", "source", "type"))
    )
