"""The terminal's view for people: list incidents, show one, answer one."""

import getpass
import os
from collections.abc import Mapping

from quietpager.actions.schema import load_actions
from quietpager.cli.exits import CannotBegin, SaysNo
from quietpager.deciding.decisions import Answer, Decision, Question, Seen, question_of, read_remedy
from quietpager.deciding.decisions import answer as decide
from quietpager.errors import Refused, Retry
from quietpager.incident import records
from quietpager.model.incident import Incident, Rehearsal
from quietpager.model.ledger import Count
from quietpager.model.page import Changed, Page, Similar
from quietpager.model.store import Json, Store
from quietpager.model.text import clean
from quietpager.model.time import system_clock, to_text
from quietpager.runtime.connect import open_store
from quietpager.runtime.context import function_roots


def open_store_or_exit() -> Store:
    """Open the store, or end with the sentence that says what is missing, and exit 2."""
    try:
        return open_store()
    except Retry as no:
        raise CannotBegin(str(no)) from None


def table(store: Store) -> str:
    """List all incidents, newest first."""
    found = sorted((Incident.from_json(r.body) for r in store.scan("INCIDENT")), key=lambda i: i.opened_at)
    lines = [
        f"{i.id}  {i.state:24} {i.reason or '-':16} {i.failure_class:24} {i.about}" for i in reversed(found)
    ]
    return "".join(f"{line}\n" for line in lines) or "No incidents.\n"


def story(store: Store, name: str) -> str:
    """Tell one incident: where it stands, the evidence, and every audited step.

    Raises:
        SaysNo: there is no such incident.
    """
    record = store.get(records.incident(name))
    if record is None:
        raise SaysNo(f"There is no incident {name}.")
    incident = Incident.from_json(record.body)
    lines = [
        f"{incident.failure_class} on {incident.about}: {incident.state} {incident.reason or ''}".rstrip()
    ]
    if incident.page is None:
        lines += [f"  evidence: {e.text} [{e.source}]" for e in incident.evidence]
    else:
        lines += page_lines(incident.page)
    lines += [f"  refused: {sentence}" for sentence in incident.refusals]
    lines += _asked(store, incident)
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


def page_lines(page: Page) -> list[str]:
    """Write the analyst's page, a line for each sentence."""
    parts: list[tuple[str, list[str]]] = [
        ("look first at", [f"{one.what} ({one.why})" for one in page.causes]),
        ("where to look next", [*page.look_next]),
        ("what changed", [f"{_when(one)} {one.what} [{one.source}]" for one in page.changed]),
        ("facts", [f"{one.text} [{one.source}]" for one in page.facts]),
        ("ruled out", [f"{one.what}: {one.why}" for one in page.ruled_out]),
        ("similar incidents", [_past(one) for one in page.similar]),
        ("what helped then", [*page.helped]),
        ("could not be read", [*page.missing]),
    ]
    lines = [f"  {page.summary}"]
    for title, sentences in parts:
        if sentences:
            lines += [f"  {title}:", *(f"    - {one}" for one in sentences)]
    return lines


def _when(one: Changed) -> str:
    return "at an unknown time" if one.at is None else to_text(one.at)


def _past(one: Similar) -> str:
    tried = f"; tried {', '.join(one.tried)}" if one.tried else ""
    return f"{one.incident}: {one.what} It ended: {one.ended}{tried}"


def ledger(store: Store) -> str:
    """Tell for each failure class and action how often it was tried, and how that ended."""
    counts = [Count.from_json(record.body) for record in store.scan("LEDGER")]
    head = f"{'failure class':28} {'action':20} {'tried':>6} {'helped':>7} {'not':>5} {'undone':>7} "
    head += f"{'unproven':>9}\n"
    rows = [
        f"{c.failure_class:28} {c.action:20} {c.tried:6} {c.helped:7} {c.not_helped:5} {c.undone:7} "
        f"{c.unproven:9}\n"
        for c in counts
    ]
    return head + "".join(rows) if rows else "Nothing was tried in any closed incident yet.\n"


def answer(
    store: Store,
    name: str,
    decision: Decision,
    *,
    diff: str | None = None,
    action: str = "",
    fields: Mapping[str, str] | None = None,
) -> Answer:
    """Answer the question that an incident asks, as the person at this terminal; gives what became of it.

    Args:
        store: where question and answer are kept.
        name: the incident.
        decision: what is answered.
        diff: the diff key that `show` printed; without one, whatever is asked now is meant.
        action: for `modify`: what to do instead.
        fields: for `modify`: the action's parameters, as typed.
    """
    actions = load_actions(function_roots())
    remedy = None
    if decision == "modify":
        if action not in actions:
            return Answer(
                used=False,
                sentence=f"There is no action {action!r}. There are: {', '.join(sorted(actions))}.",
            )
        try:
            remedy = read_remedy(actions[action], fields or {})
        except Refused as no:
            return Answer(used=False, sentence=str(no))
    seen = None
    if diff is not None:
        question = _question(store, name)
        seen = Seen("" if question is None else question.id, diff)
    return decide(
        store, name, decision, by=terminal_user(), via="terminal", now=system_clock(),
        seen=seen, remedy=remedy, actions=actions,
    )  # fmt: skip


def terminal_user() -> str:
    """Name who sits at this terminal: whoever the machine says, not an argument."""
    return os.environ.get("SUDO_USER") or getpass.getuser()


def _question(store: Store, name: str) -> Question | None:
    record = store.get(records.incident(name))
    return None if record is None else question_of(store, Incident.from_json(record.body))


def _asked(store: Store, incident: Incident) -> list[str]:
    """Write what is asked now: the exact diff with its key, until when, and what may be answered."""
    question = question_of(store, incident)
    if question is None:
        return []
    plan = question.rehearsal
    lines = [] if plan is None else [f"  would change: {plan.summary}"] if plan.summary else []
    lines += [f"    {e.path}: {e.had} -> {e.gets}" for e in (() if plan is None else plan.edits)]
    until = "" if question.expires is None else f" until {question.expires:%H:%M} UTC, diff {question.diff}"
    if question.decision:
        return [*lines, f"  answered: {question.decision} by {question.by}"]
    if question.needs > 1:
        so_far = ", ".join(question.approved_by) or "nobody"
        lines.append(f"  needs {question.needs} people, in the console; approved so far by {so_far}")
    return [*lines, f"  you may: {', '.join(question.choices)}{until}"]


def said(body: Json) -> str:
    """Pick the words of an audit entry: its note, a plan's summary, or a result."""
    return str(body.get("note") or body.get("summary") or body.get("result") or "")
