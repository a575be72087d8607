"""govern/clock: the only owner of time. Claims whatever is due and says its message; purges what is over."""

from datetime import datetime

import structlog

from quietpager.incident.retention import purge
from quietpager.model.message import Message
from quietpager.model.store import StoreUnavailable
from quietpager.model.time import to_text
from quietpager.runtime.beat import beat, canary
from quietpager.runtime.context import Context
from quietpager.runtime.metrics import PURGED, show_pulse, show_queue
from quietpager.runtime.old_due import said
from quietpager.runtime.pulse import Pulse

MOST = 200
"""Due items claimed in one tick; what is left comes with the next."""

log = structlog.get_logger()


def handle(_message: Message, ctx: Context) -> list[Message]:
    """Tick once; every due message is an answer. An item that is not consumed speaks again."""
    now = ctx.clock()
    due = ctx.store.claim_due(now, MOST)
    beat(ctx, "clock")
    show_queue(ctx.metrics, due, now)
    if ctx.metrics.active:
        show_pulse(ctx.metrics, Pulse(lambda: ctx.store, ctx.policy, ctx.clock).read())
    _purge(ctx, now)
    found = ((item, said(item, ctx)) for item in due)
    messages = [one.but(id=f"{item.id}@{to_text(item.at)}") for item, one in found if one is not None]
    return [*messages, canary(ctx)]


def _purge(ctx: Context, now: datetime) -> None:
    """Take away what nothing needs any more. What is due is said whether that works or not."""
    try:
        gone = purge(ctx.store, ctx.policy, now)
    except StoreUnavailable as away:
        log.warning("nothing was purged", error=str(away))
        return
    except Exception:
        # A record that nobody expected; the walk has gone on past it.
        log.exception("the purge failed")
        return
    for kind, count in gone.items():
        ctx.metrics.add(PURGED, count, kind=kind)
