"""people/notify: tells a person, in three lines: what broke, what was or would be done, where to look.

The terminal is the only channel yet. At least once: a message that was said and not recorded is said
again, with the same number.
"""

import sys

from quietpager.errors import BadMessage
from quietpager.model.incident import Incident
from quietpager.model.message import INCIDENT, Message
from quietpager.model.text import clean
from quietpager.runtime.context import Context
from quietpager.runtime.links import incident_link
from quietpager.safety import records
from quietpager.store.port import Audit, Conflict, Delete, DueDone


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
    sys.stdout.write(lines(str(record.body["what"]), str(record.body["text"]), incident))
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
        f"  {incident_link(incident.id) or f'quietpager show {incident.id}'}\n"
    )
