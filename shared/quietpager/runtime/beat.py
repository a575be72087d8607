"""Heartbeats: a part that lives says so; a stale record is an alarm of its own."""

from quietpager.model.time import to_text
from quietpager.runtime.context import Context
from quietpager.safety import records
from quietpager.store.port import ABSENT, Conflict, Put


def beat(ctx: Context, part: str) -> None:
    """Write that `part` lived just now. Losing a race with another beat is as good as winning it."""
    key = records.heartbeat(part)
    before = ctx.store.get(key)
    body = {"at": to_text(ctx.clock())}
    try:
        ctx.store.transact([Put(key, body, ABSENT if before is None else before.version)])
    except Conflict:
        return
