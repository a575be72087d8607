"""govern/clock: the only owner of time. Claims whatever is due and says its message."""

from quietpager.model.message import Message
from quietpager.model.time import to_text
from quietpager.runtime.beat import beat, canary
from quietpager.runtime.context import Context

MOST = 200
"""Due items claimed in one tick; what is left comes with the next."""


def handle(_message: Message, ctx: Context) -> list[Message]:
    """Tick once; every due message is an answer. An item that is not consumed speaks again."""
    now = ctx.clock()
    due = ctx.store.claim_due(now, MOST)
    beat(ctx, "clock")
    messages = (Message.from_json(item.message).but(id=f"{item.id}@{to_text(item.at)}") for item in due)
    return [*messages, canary(ctx)]
