"""ingest/intake: an Event comes in, a signal with its family goes out. It judges nothing."""

from quietpager.errors import BadMessage
from quietpager.model.event import signal_from_event
from quietpager.model.message import EVENT_ADD, EVENT_UPDATE, Message
from quietpager.runtime.context import Context


def handle(message: Message, ctx: Context) -> list[Message]:
    """Normalise one Event and stamp its family.

    Raises:
        BadMessage: it cannot be an Event.
    """
    if message.type not in (EVENT_ADD, EVENT_UPDATE):
        raise BadMessage(f"intake reads Kubernetes Events, not {message.type[:100]}.")
    signal = signal_from_event(message.data, cluster=ctx.cluster_name, received=ctx.clock())
    family = ctx.routes.family_of(signal)
    if family is None:
        return []
    return [signal.but(family=family).to_message()]
