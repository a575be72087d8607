"""ingest/dead_letter: what could not be delivered ends here, on record, and nowhere else.

The first twenty of a type in each hour are audited in full, the others counted: whoever posts messages that
every function refuses must not fill the audit by that.
"""

import base64
import binascii
import json
from typing import get_args

import structlog

from quietpager.incident.refusals import Refusal
from quietpager.model.message import EventType, Message
from quietpager.model.text import clean
from quietpager.runtime.context import Context
from quietpager.runtime.metrics import REFUSED

CHAIN = "dead-letter"
"""The audit chain of undeliverable messages."""

KNOWN = frozenset(get_args(EventType))
"""The types that are counted by themselves; what else there is, is counted together."""

log = structlog.get_logger()


def handle(message: Message, ctx: Context) -> list[Message]:
    """Record one undeliverable message, with what the broker says of it."""
    body = {
        "id": clean(message.id, 200),
        "type": clean(message.type, 200),
        "subject": clean(message.subject or "", 200),
        "to": clean(message.attributes.get("knativeerrordest", "unknown"), 300),
        "code": clean(message.attributes.get("knativeerrorcode", "none"), 20),
        "answer": answer_of(message.attributes.get("knativeerrordata", "")),
        "data": clean(json.dumps(message.data), 2000),
    }
    kind = message.type if message.type in KNOWN else "other"
    ctx.metrics.add(REFUSED, function=ctx.name, kind="undeliverable")
    ctx.lazy.undeliverable.note(
        lambda: ctx.store, Refusal(CHAIN, "undeliverable", ctx.name, kind, body), ctx.clock()
    )
    log.warning("a message could not be delivered", type=body["type"], to=body["to"], code=body["code"])
    return []


def answer_of(data: str) -> str:
    """Decode what the function answered: base64 of the body, or of a JSON wrapper (both occur)."""
    try:
        text = base64.b64decode(data, validate=True).decode("utf-8", "replace")
    except (binascii.Error, ValueError):
        text = data
    return clean(text, 500)
