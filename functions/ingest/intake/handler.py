"""ingest/intake: an Event comes in, a signal with its family goes out. It judges nothing.

What the Event says chooses the family and goes no further: anybody may have sent it.
"""

from quietpager.errors import BadMessage
from quietpager.model.event import created_at, read_event
from quietpager.model.message import EVENT_ADD, EVENT_UPDATE, HEARTBEAT, Message
from quietpager.rules.routing import Observation
from quietpager.runtime.beat import canary_arrived, event_arrived
from quietpager.runtime.context import Context


def handle(message: Message, ctx: Context) -> list[Message]:
    """Normalise one Event and stamp its family; that it came is the source's beat, a heartbeat the broker's.

    Raises:
        BadMessage: it cannot be an Event, or a heartbeat that says no time.
    """
    if message.type == HEARTBEAT:
        canary_arrived(message, ctx)
        return []
    if message.type not in (EVENT_ADD, EVENT_UPDATE):
        raise BadMessage(f"intake reads Kubernetes Events, not {message.type[:100]}.")
    event = read_event(message.data, received=ctx.clock())
    event_arrived(created_at(message.data, ctx.clock()), ctx)
    family = ctx.routes.family_of(Observation.of(event))
    if family is None:
        return []
    return [event.signal(family).to_message(event.id)]
