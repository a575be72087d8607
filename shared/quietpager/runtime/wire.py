"""Between a message and the wire: CloudEvents 1.0 over HTTP, binary and structured.

Who calls it: the edge of every function, the local broker's tests, `quietpager send`.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from cloudevents.core.bindings.http import (
    HTTPMessage,
    from_http_event,
    to_binary_event,
)
from cloudevents.core.v1.event import CloudEvent

from quietpager.errors import BadMessage
from quietpager.model.data import stamped
from quietpager.model.message import Message
from quietpager.model.text import clean

LARGEST_BODY = 1 << 20
"""Bytes of a request body that a function accepts (1 MiB)."""

LONGEST_ATTRIBUTE = 2048
"""Characters of an attribute: id, type, subject, trace. The longest that we or Knative write is below 1,500
(`knativeerrordata`: 1 KiB as base64). Attributes are logged and masked several times for each message."""

_CORE = frozenset({"id", "source", "type", "specversion", "subject", "time", "datacontenttype", "dataschema"})


def event_from_http(headers: Mapping[str, str], body: bytes) -> CloudEvent:
    """Read one CloudEvent; header names in lower case.

    Raises:
        BadMessage: it is none, or a batch, or its attributes or JSON are wrong.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "application/cloudevents-batch+json" or (
        "ce-specversion" not in headers and body.lstrip()[:1] == b"["
    ):
        raise BadMessage("A batch of CloudEvents is not accepted; send them one by one.")
    if "ce-specversion" not in headers and kind != "application/cloudevents+json":
        raise BadMessage(
            "The request is no CloudEvent: it has neither ce-specversion nor content type "
            "application/cloudevents+json."
        )
    if not _has_id(headers, body):
        # The SDK would invent an id, and a duplicate would no longer be seen as one.
        raise BadMessage("The CloudEvent has no id.")
    try:
        event = from_http_event(HTTPMessage(dict(headers), body))
    except RecursionError:
        raise BadMessage("The CloudEvent is nested too deeply.") from None
    except Exception as wrong:  # noqa: BLE001 (the SDK raises many kinds; all mean the same to a sender)
        raise BadMessage(f"The CloudEvent cannot be read: {clean(str(wrong), 300)}") from None
    if not isinstance(event, CloudEvent):
        raise BadMessage("Only CloudEvents of specversion 1.0 are accepted.")
    return event


def _has_id(headers: Mapping[str, str], body: bytes) -> bool:
    if "ce-specversion" in headers:
        return bool(headers.get("ce-id"))
    try:
        event = json.loads(body)
    except (ValueError, RecursionError):
        return True  # not JSON at all: the SDK says so
    return not isinstance(event, dict) or bool(event.get("id"))


def message_from_event(event: CloudEvent) -> Message:
    """Take a CloudEvent apart; its data must be a JSON object (or nothing).

    Raises:
        BadMessage: the data is something else, or broken JSON; or an attribute is too long.
    """
    data = event.get_data()
    if isinstance(data, bytes | str):
        # cloudevents 2.2 hands broken JSON through as text, so it is read again here.
        try:
            data = json.loads(data) if data else {}
        except (ValueError, RecursionError) as wrong:
            raise BadMessage(f"The data is not JSON: {clean(str(wrong), 200)}") from None
    if data is None:
        data = {}
    if not isinstance(data, dict):
        raise BadMessage(f"The data must be a JSON object, it is a {type(data).__name__}.")
    attributes: dict[str, Any] = event.get_attributes()
    for name, value in attributes.items():
        if max(len(name), len(str(value))) > LONGEST_ATTRIBUTE:
            raise BadMessage(
                f"An attribute of the CloudEvent, {name[:40]}, is longer than {LONGEST_ATTRIBUTE} characters."
            )
    return Message(
        id=str(attributes["id"]),
        type=str(attributes["type"]),
        subject=attributes.get("subject"),
        attributes={
            name: str(value) for name, value in attributes.items() if name not in _CORE and value is not None
        },
        data=data,
    )


def event_from_message(message: Message, *, source: str, now: datetime) -> CloudEvent:
    """Put a message into its envelope. `source` names cluster and function; the data says its version."""
    attributes: dict[str, Any] = {
        **message.attributes,
        "id": message.id,
        "source": source,
        "type": message.type,
        "specversion": "1.0",
        "time": now,
        "datacontenttype": "application/json",
    }
    if message.subject is not None:
        attributes["subject"] = message.subject
    return CloudEvent(attributes, stamped(message.data) if message.ours else message.data)


def http_from_event(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """Write a CloudEvent as binary HTTP: headers and body."""
    written = to_binary_event(event)
    return dict(written.headers), written.body
