"""Carries one trace (`traceparent`) from the Event to the last notification.

    Event ─ intake ─▶ signal ─▶ finding ─▶ … ─▶ told      one trace id, a new span id at each hop
               └ a new root, where nobody began one   └▶ due items, which carry it on

The attribute is that of CloudEvents' distributed tracing extension, its form W3C Trace Context's
(`00-<32 hex>-<16 hex>-<2 hex>`). Who calls it: the edge of every function, around its handler.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import replace
from typing import Final

from quietpager.model.message import Message
from quietpager.model.store import Due, Store, Write
from quietpager.store.delegate import Wrapped

TRACE: Final = "traceparent"
"""The extension attribute."""

_FORM: Final = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def new_trace() -> str:
    """Begin a trace."""
    return f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-01"


def trace_id(traceparent: str) -> str | None:
    """Give the id that all messages of a trace share; None where the text is no `traceparent`."""
    found = _FORM.fullmatch(traceparent)
    return found[1] if found else None


def next_hop(traceparent: str) -> str:
    """Give the same trace with a span of its own; what is no `traceparent` begins a new one."""
    found = trace_id(traceparent)
    return f"00-{found}-{secrets.token_hex(8)}-{traceparent[-2:]}" if found else new_trace()


def traced(message: Message, traceparent: str) -> Message:
    """Put a message into a trace, unless it is in one already, as a due item's is."""
    if trace_id(message.attributes.get(TRACE, "")):
        return message
    return message.but(attributes={**message.attributes, TRACE: traceparent})


class TracedStore(Wrapped):
    """A store whose due items are put into a trace."""

    def __init__(self, store: Store, traceparent: str) -> None:
        """Wrap a store for the time of one message."""
        super().__init__(store)
        self._trace = traceparent

    def transact(self, writes: Iterable[Write]) -> None:
        """Stamp the due items' messages; see `Store.transact`."""
        self._store.transact([self._stamped(one) for one in writes])

    def _stamped(self, write: Write) -> Write:
        if not isinstance(write, Due):
            return write
        return replace(write, message=traced(Message.from_json(write.message), self._trace).to_json())
