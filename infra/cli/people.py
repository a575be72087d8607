"""What a person asks at the terminal: incidents, one story, an answer."""

import getpass
import os
from datetime import timedelta

from quietpager.errors import Retry
from quietpager.model.incident import Incident, Rehearsal
from quietpager.model.message import DECISION, Message
from quietpager.model.text import clean
from quietpager.model.time import system_clock, to_text
from quietpager.runtime.connect import open_store
from quietpager.safety import records
from quietpager.store.port import Audit, Conflict, Due, Json, Put, Store


def open_store_or_exit() -> Store:
    """Open the store, or end with the sentence that says what is missing."""
    try:
        return open_store()
    except Retry as no:
        raise SystemExit(str(no)) from None


def table(store: Store) -> str:
    """List all incidents, newest first."""
    found = sorted((Incident.from_json(r.body) for r in store.scan("INCIDENT")), key=lambda i: i.opened_at)
    lines = [
        f"{i.id}  {i.state:24} {i.reason or '-':16} {i.failure_class:24} {i.about}" for i in reversed(found)
    ]
    return "".join(f"{line}\n" for line in lines) or "No incidents.\n"


def story(store: Store, name: str) -> str:
    """Tell one incident: where it stands, the evidence, and every audited step."""
    record = store.get(records.incident(name))
    if record is None:
        return f"There is no incident {name}.\n"
    incident = Incident.from_json(record.body)
    lines = [
        f"{incident.failure_class} on {incident.about}: {incident.state} {incident.reason or ''}".rstrip()
    ]
    lines += [f"  evidence: {e.text} [{e.source}]" for e in incident.evidence]
    lines += [f"  refused: {sentence}" for sentence in incident.refusals]
    lines += [f"  tried: {t.action} {t.params}: {t.result}" for t in incident.tried]
    lines += proposal_lines(store, incident)
    lines += [f"  {to_text(e.at)} {e.actor} {e.kind} {said(e.body)}" for e in store.audit(name)]
    return "\n".join(lines) + "\n"


def proposal_lines(store: Store, incident: Incident) -> list[str]:
    """Tell what is proposed: where it is, and its text to copy."""
    record = store.get(records.rehearsal(incident.rehearsal or ""))
    proposal = None if record is None else Rehearsal.from_json(record.body).proposal
    if proposal is None:
        return []
    text = (f"    {clean(line, 500)}" for line in proposal.text.splitlines())
    return [f"  proposed ({proposal.kind.replace('_', ' ')}): {proposal.where or 'attached'}", *text]


def answer(store: Store, name: str, decision: str) -> str:
    """Answer the question that an incident asks; the answer is used once, and the first one counts."""
    record = store.get(records.incident(name))
    incident = None if record is None else Incident.from_json(record.body)
    asked = None if incident is None or incident.approval is None else incident.approval
    question = None if asked is None else store.get(records.approval(asked))
    if asked is None or question is None:
        return f"Incident {name} asks nothing just now; see `quietpager show {name}`."
    if question.body.get("decision") is not None:
        return f"{question.body.get('by')} has answered already: {question.body['decision']}."
    now, by = system_clock(), os.environ.get("SUDO_USER") or getpass.getuser()
    message = Message(id=f"{asked}.{decision}", type=DECISION, subject=name, data={"approval": asked})
    try:
        store.transact(
            [
                Put(question.key, question.body | {"decision": decision, "by": by}, question.version),
                Audit(name, now, decision, by, {"approval": asked, "diff": question.body.get("diff")}),
                Due(records.talk(asked), now, timedelta(seconds=5), message.to_json()),
            ]
        )
    except Conflict:
        return "Somebody else answered at the same moment; look again."
    return f"{decision}: noted for {by}; it is carried out with the clock's next tick."


def said(body: Json) -> str:
    """Pick the words of an audit entry: its note, a plan's summary, or a result."""
    return str(body.get("note") or body.get("summary") or body.get("result") or "")
