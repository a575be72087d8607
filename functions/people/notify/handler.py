"""people/notify: tells a person, in three lines: what broke, what was or would be done, where to look.

Each channel at least once, and on its own: what a channel has been told is noted at once, so one that
fails neither holds up the others nor makes them repeat themselves. It is tried again by the due item,
each time later; after `notify_tries` the audit says that it was not told, and the message is done with.
"""

from collections.abc import Sequence
from datetime import timedelta
from typing import Final

import structlog

from quietpager.change.send import tell_about
from quietpager.errors import BadMessage, Retry
from quietpager.incident import records
from quietpager.model.incident import Incident
from quietpager.model.message import INCIDENT, Message
from quietpager.model.store import Audit, Conflict, Delete, Due, DueDone, Json, Put, Record, Write
from quietpager.model.text import clean
from quietpager.people.channels import Channel, Notice, NotTold, load_channels
from quietpager.runtime.context import Context
from quietpager.runtime.links import incident_link
from quietpager.runtime.trace import TRACE

LONGEST_WAIT: Final = 300.0
"""Seconds, at most, between two tries of a channel."""

log = structlog.get_logger()


def handle(message: Message, ctx: Context) -> list[Message]:
    """Tell one message on every channel that has not had it yet.

    Raises:
        BadMessage: it is no message about an incident.
        Retry: the list of channels cannot be read.
    """
    if not message.type.startswith(INCIDENT):
        raise BadMessage(f"notify tells of incidents, not of {message.type[:100]}.")
    name = str(message.data.get("tell"))
    record = ctx.store.get(records.tell(name))
    # Which incident it is about its name says, whatever the message does: nobody is told of another one.
    found = ctx.store.get(records.incident(records.told_of(name)))
    if record is None or found is None:
        return []
    incident = Incident.from_json(found.body)
    try:
        channels = load_channels()
    except ValueError as wrong:
        raise Retry(str(wrong)) from None
    notice = notice_of(name, record.body, incident, message.attributes.get(TRACE, ""))
    try:
        for channel in channels:
            record = _tell(channel, notice, record, incident, ctx)
        # Said again is what decide said, not what came: that may be anybody's.
        again = tell_about(name, str(record.body["what"]), incident)
        _finish(channels, record, again, incident, ctx)
    except Conflict:
        # Another delivery of the same message is at it.
        return []
    return []


def notice_of(name: str, told: Json, incident: Incident, trace: str) -> Notice:
    """Write what is told of an incident."""
    affected = f"{incident.symptom_count} affected"
    return Notice(
        id=name,
        what=str(told["what"]),
        broke=_line(f"{incident.failure_class} on {incident.about} ({affected})", 300),
        doing=_line(str(told["text"]), 600),
        link=incident_link(incident.id) or f"quietpager show {incident.id}",
        more={
            "incident": incident.id, "state": incident.state.value, "failure_class": incident.failure_class,
            "owner": str(incident.owner), "namespace": incident.owner.namespace or "",
            "cluster": incident.cluster, TRACE: trace,
        },
    )  # fmt: skip


def _line(text: str, longest: int) -> str:
    return " ".join(clean(text, longest).split())


def _tell(channel: Channel, notice: Notice, record: Record, incident: Incident, ctx: Context) -> Record:
    """Tell one channel, unless it is done with, and note at once how it went.

    Raises:
        Conflict: somebody else has noted something in between.
    """
    body = record.body
    if channel.name in body.get("done", {}):
        return record
    now, writes = ctx.clock(), list[Write]()
    try:
        channel.tell(notice)
        after = _noted(body, channel.name, "told")
    except NotTold as no:
        tries = int(body.get("failed", {}).get(channel.name, 0)) + 1
        after = body | {"failed": body.get("failed", {}) | {channel.name: tries}}
        log.warning("a channel was not told", channel=channel.name, tries=tries, why=str(no))
        if tries >= ctx.policy.notify_tries:
            after = _noted(after, channel.name, "given up")
            note = f"Channel {channel.name} was not told after {tries} tries: {no}."
            writes.append(Audit(incident.id, now, "not told", ctx.name, {"note": note, "what": body["what"]}))
    ctx.store.transact([Put(record.key, after, record.version), *writes])
    return Record(record.key, record.version + 1, after)


def _noted(body: Json, channel: str, how: str) -> Json:
    return body | {"done": body.get("done", {}) | {channel: how}}


def _finish(
    channels: Sequence[Channel], record: Record, message: Message, incident: Incident, ctx: Context
) -> None:
    """Take the message off the list, or have it said again, later each time."""
    done: Json = record.body.get("done", {})
    now, due = ctx.clock(), records.talk(message.id)
    if all(channel.name in done for channel in channels):
        told = sorted(name for name, how in done.items() if how == "told")
        what = {"what": record.body["what"], "channels": told}
        entry = Audit(incident.id, now, "told", ctx.name, what)
        ctx.store.transact([Delete(record.key, record.version), DueDone(due), *([entry] if told else [])])
        return
    tries = min(int(n) for name, n in record.body["failed"].items() if name not in done)
    wait = timedelta(seconds=min(ctx.policy.tick * 2**tries, LONGEST_WAIT))
    ctx.store.transact([Due(due, now + wait, wait, message.to_json(), incident.opened_at)])
