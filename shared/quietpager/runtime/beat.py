"""Writes heartbeats: each live part writes one. `runtime.pulse` reads them and finds the silent parts.

    clock, sweep ── a beat of their own, at the end of each turn
         └── a message `heartbeat` through the broker ──▶ intake ── the broker's beat
    source ──▶ intake ── the source's beat, with the time of the newest Event seen
    sweep ── compares that with the newest Event on the API server; nothing missed is a beat, too

So a quiet cluster is no silent source, and the broker's beat is a message that really came through it.

Who calls it: intake, sweep and clock. The store needs no beat: whoever reads the others has asked it.
"""

from datetime import datetime, timedelta
from typing import Any, Final

import structlog

from quietpager.errors import BadMessage
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.cluster import ClusterUnavailable, Rejected
from quietpager.model.message import HEARTBEAT, Message
from quietpager.model.store import ABSENT, Conflict, Put, Record, StoreUnavailable
from quietpager.model.time import to_text
from quietpager.runtime.context import Context

LEAST_SLACK: Final = timedelta(seconds=2)
"""An Event's creationTimestamp has whole seconds, so less than this cannot be told apart."""

log = structlog.get_logger()


def beat(ctx: Context, part: str) -> None:
    """Write that `part` lived just now. Losing a race with another beat is as good as winning it.

    Raises:
        StoreUnavailable: the turn has failed and is to be delivered again.
    """
    _write(ctx, part, ctx.store.get(records.heartbeat(part)), {"at": to_text(ctx.clock())})


def canary(ctx: Context) -> Message:
    """Make the message whose arrival is the broker's beat; clock and sweep say it at every turn."""
    at = to_text(ctx.clock())
    return Message(id=f"heartbeat.{ctx.name}.{at}", type=HEARTBEAT, data={"at": at, "by": ctx.name})


def canary_arrived(message: Message, ctx: Context) -> None:
    """Write the broker's beat: when the newest message that came through was said.

    Raises:
        BadMessage: it does not say when.
    """
    try:
        said = datetime.fromisoformat(str(message.data["at"]))
        said = min(said, ctx.clock())
    except (KeyError, ValueError, TypeError):
        raise BadMessage("A heartbeat says when it was sent, as `at` in RFC 3339 with a zone.") from None
    before = ctx.store.get(records.heartbeat("broker"))
    if before is None or moment(before, "at") < said:
        _write(ctx, "broker", before, {"at": to_text(said)})


def event_arrived(created: datetime | None, ctx: Context) -> None:
    """Write the source's beat, at most once in a while; never stands in the way of the Event itself."""
    now, lately = ctx.clock(), ctx.lazy.beaten.get("source")
    if created is None or (lately is not None and now - lately < slack_of(ctx.policy)):
        return
    key = records.heartbeat("source")
    try:
        before = ctx.store.get(key)
        seen = min(created, now)  # nobody's clock makes us wait for the future
        if before is not None:
            seen = max(seen, moment(before, "seen"))
        _write(ctx, "source", before, {"at": to_text(now), "seen": to_text(seen)})
    except StoreUnavailable as away:
        log.warning("the source's heartbeat was not written", error=str(away))
        return
    ctx.lazy.beaten["source"] = now


def compare_source(ctx: Context) -> None:
    """Beat for a source that is quiet because the cluster is; called by the sweep.

    Lists Events only where none came for a while; then there are few.
    """
    now, slack = ctx.clock(), slack_of(ctx.policy)
    before = ctx.store.get(records.heartbeat("source"))
    if before is None:
        # From here on it counts what is missed; what was there before it began no source delivers.
        _write(ctx, "source", None, {"at": to_text(now), "seen": to_text(now)})
        return
    if now - moment(before, "at") < timedelta(seconds=ctx.policy.silent_after / 3):
        return
    try:
        created = [_created(event) for event in ctx.cluster.each("Event")]
    except (ClusterUnavailable, Rejected) as away:
        log.warning("the Events cannot be listed, so the source cannot be judged", error=str(away))
        return
    seen = moment(before, "seen")
    missed = [at for at in created if at is not None and seen + slack < at <= now - slack]
    if missed:
        log.warning("Events are on the API server that did not come through", count=len(missed),
                    newest=to_text(max(missed)), seen=to_text(seen))  # fmt: skip
        return
    _write(ctx, "source", before, {"at": to_text(now), "seen": to_text(seen)})


def slack_of(policy: Policy) -> timedelta:
    """Tell how far what intake wrote may be behind what it saw, and how long an Event may take."""
    return max(timedelta(seconds=policy.sweep), LEAST_SLACK)


def moment(record: Record, name: str) -> datetime:
    """Read a time of a heartbeat record."""
    return datetime.fromisoformat(str(record.body[name]))


def _created(event: dict[str, Any]) -> datetime | None:
    try:
        return datetime.fromisoformat(str(event["metadata"]["creationTimestamp"]))
    except (KeyError, ValueError, TypeError):
        return None


def _write(ctx: Context, part: str, before: Record | None, body: dict[str, str]) -> None:
    try:
        version = ABSENT if before is None else before.version
        ctx.store.transact([Put(records.heartbeat(part), body, version)])
    except Conflict:
        return
