"""govern/clock: the only owner of time. Claims whatever is due and says its message."""

from quietpager.model.message import Message
from quietpager.model.time import to_text
from quietpager.runtime.beat import beat, canary
from quietpager.runtime.context import Context
from quietpager.runtime.metrics import show_pulse, show_queue
from quietpager.runtime.pulse import Pulse

MOST = 200
"""Due items claimed in one tick; what is left comes with the next."""


def handle(_message: Message, ctx: Context) -> list[Message]:
    """Tick once; every due message is an answer. An item that is not consumed speaks again."""
    now = ctx.clock()
    due = ctx.store.claim_due(now, MOST)
    beat(ctx, "clock")
    show_queue(ctx.metrics, due, now)
    if ctx.metrics.active:
        show_pulse(ctx.metrics, Pulse(lambda: ctx.store, ctx.policy, ctx.clock).read())
    messages = (Message.from_json(item.message).but(id=f"{item.id}@{to_text(item.at)}") for item in due)
    return [*messages, canary(ctx)]
