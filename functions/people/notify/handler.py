"""people/notify: tells a person, in three lines: what broke, what was or would be done, where to look.

The terminal is the only channel yet. At least once: a message that was said and not recorded is said
again, with the same number.
"""

import os
import sys

from quietpager.errors import BadMessage
from quietpager.model.incident import Incident
from quietpager.model.message import INCIDENT, Message
from quietpager.model.text import clean
from quietpager.runtime.context import Context
from quietpager.safety import records
from quietpager.store.port import Audit, Conflict, Delete, DueDone

ONE_LINE = "QUIETPAGER_ONE_LINE"
"""Environment variable: any value makes one line of the three, as `quietpager run` prints them."""


def handle(message: Message, ctx: Context) -> list[Message]:
    """Tell one message, and take it off the list.

    Raises:
        BadMessage: it is no message about an incident.
    """
    if not message.type.startswith(INCIDENT):
        raise BadMessage(f"notify tells of incidents, not of {message.type[:100]}.")
    name = str(message.data.get("tell"))
    record = ctx.store.get(records.tell(name))
    found = ctx.store.get(records.incident(str(message.data.get("incident"))))
    if record is None or found is None:
        return []
    incident = Incident.from_json(found.body)
    text = lines(str(record.body["what"]), str(record.body["text"]), incident)
    sys.stdout.write(in_one(text) if os.environ.get(ONE_LINE) else text)
    sys.stdout.flush()
    try:
        ctx.store.transact(
            [
                Delete(record.key, record.version),
                DueDone(records.talk(name)),
                Audit(incident.id, ctx.clock(), "told", ctx.name, {"what": record.body["what"]}),
            ]
        )
    except Conflict:
        return []
    return []


def lines(what: str, text: str, incident: Incident) -> str:
    """Write the three lines."""
    return (
        f"[{what}] {incident.failure_class} on {incident.owner} ({incident.symptom_count} affected)\n"
        f"  {clean(text, 600)}\n"
        f"  quietpager show {incident.id}\n"
    )


def in_one(text: str) -> str:
    """Make one line of the three."""
    return " | ".join(part.strip() for part in text.splitlines()) + "\n"
