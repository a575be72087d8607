"""Scheduled messages that an older version wrote: said in the form that functions read now, or taken away.

Until November 2026 a signal carried an Event's words, and a second look at a target was scheduled under
`again/<the signal's id>`, which no detector takes away any more. Such an item ends here:

    first time    it becomes a signal of its target, under the same id, and is said
    second time   it is said once more and taken away; a detector that still waits has its own item by then
    unreadable    it is taken away, with one audit entry that says so

A recheck of that time names its incident, and a deadline is as it was: both are read as they stand.

Who calls it: `govern/clock`, for each item that it has claimed.
"""

from typing import Final

import structlog
from pydantic import ValidationError

from quietpager.errors import BadMessage
from quietpager.model.data import Json
from quietpager.model.message import SIGNAL, Message
from quietpager.model.signal import Signal, read_signal
from quietpager.model.store import Audit, Due, DueDone
from quietpager.model.text import clean
from quietpager.runtime.context import Context

CHAIN: Final = "due"
"""The audit chain of scheduled messages that were taken away unsaid."""

CONVERTED: Final = "converted"
"""Attribute of a scheduled message that was said once in its new form; the next time is its last."""

_OLD: Final = frozenset({"target", "family", "origin", "hops"})
"""Fields of an old signal that mean what they mean now. Nothing in it names its Event."""

log = structlog.get_logger()


def said(item: Due, ctx: Context) -> Message | None:
    """Give the message that an item says now; None where it could say nothing, and is gone.

    Raises:
        StoreUnavailable: the item stays as it was.
    """
    try:
        message = Message.from_json(item.message)
        if message.type != SIGNAL:
            return message
        if CONVERTED in message.attributes:
            ctx.store.transact([DueDone(item.id)])
            rest = {name: value for name, value in message.attributes.items() if name != CONVERTED}
            return message.but(attributes=rest)
        try:
            read_signal(message.data)
        except BadMessage:
            return _convert(item, message.data, ctx)
    except (ValidationError, BadMessage) as wrong:
        _give_up(item, wrong, ctx)
        return None
    return message


def _convert(item: Due, data: Json, ctx: Context) -> Message:
    signal = Signal.model_validate({name: value for name, value in data.items() if name in _OLD})
    message = signal.to_message(item.id)
    read_signal(message.data)  # what a detector would refuse is not said
    marked = message.but(attributes={**message.attributes, CONVERTED: "yes"})
    ctx.store.transact([Due(item.id, item.at + item.every, item.every, marked.to_json(), item.since)])
    log.info("a scheduled look of an older version is said in its new form", id=item.id)
    return message


def _give_up(item: Due, wrong: Exception, ctx: Context) -> None:
    """Take an item away that would be refused each time it is said."""
    if isinstance(wrong, ValidationError):
        first = wrong.errors(include_url=False, include_input=False, include_context=False)[0]
        why = f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    else:
        why = str(wrong)
    body = {"id": clean(item.id, 200), "why": clean(why, 300)}
    log.warning("a scheduled message cannot be read, and is taken away", **body)
    ctx.store.transact([DueDone(item.id), Audit(CHAIN, ctx.clock(), "taken away unsaid", ctx.name, body)])
