"""What the pages show, as plain data: pure, so that a test reads it without a browser."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import BaseModel

from quietpager.deciding.decisions import Question
from quietpager.incident.policy import Dial, Policy
from quietpager.model.incident import Autonomy, Edit, Incident, PlanFacts, Rehearsal, State
from quietpager.model.store import AuditEntry
from quietpager.rules.schema import Rule

ASKS, THEIRS, BUSY, OVER = "Waiting for you", "Taken over by a person", "Being handled", "Recently closed"
GROUPS: Final = (ASKS, BUSY, THEIRS, OVER)
MOST_CLOSED: Final = 10

_URGENCY: Final = (
    State.APPROVAL, State.BLOCKED, State.PROPOSED, State.HANDOVER, State.UNDOING, State.ACTING,
    State.VERIFYING, State.PLANNING, State.WAITING, State.CLOSED,
)  # fmt: skip

_STATE: Final = {
    State.APPROVAL: "Waiting for your approval",
    State.BLOCKED: "Blocked: every remedy was refused",
    State.PROPOSED: "A change is proposed in Git",
    State.HANDOVER: "Needs a person: no allowed action is left to try",
    State.UNDOING: "Undoing a change that did not help",
    State.ACTING: "Writing the change",
    State.VERIFYING: "Changed; checking whether it helped",
    State.PLANNING: "Planning a change",
    State.WAITING: "Waiting to see whether it lasts",
}

_UNDO: Final = {
    "worse": "It is undone if it makes things worse.",
    "unchanged": "It is undone if it makes things worse or does not help.",
    "never": "It is never undone automatically.",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One incident in the queue."""

    id: str
    title: str
    broke: str
    state: str
    detail: str
    group: str


def group_of(incident: Incident) -> str:
    """Say in which part of the queue an incident is."""
    if incident.state is State.CLOSED:
        return OVER
    if incident.state is State.HANDOVER and incident.taken_over:
        return THEIRS
    return ASKS if incident.state.value.startswith("WITH_PERSON") else BUSY


def queue(found: Iterable[Incident], now: datetime, answer_within: float) -> dict[str, list[Row]]:
    """Sort by urgency: what asks a person first, and of that what expires first.

    Args:
        found: all incidents.
        now: the moment they are looked at.
        answer_within: seconds that an approval may be given.
    """

    def urgency(one: Incident) -> tuple[int, int, float]:
        closed = one.state is State.CLOSED
        moment = (-one.state_since.timestamp()) if closed else one.deadline_at.timestamp()
        return GROUPS.index(group_of(one)), _URGENCY.index(one.state), moment

    rows: dict[str, list[Row]] = {name: [] for name in GROUPS}
    for one in sorted(found, key=urgency):
        rows[group_of(one)].append(_row(one, now, answer_within))
    rows[OVER] = rows[OVER][:MOST_CLOSED]
    return rows


def _row(one: Incident, now: datetime, answer_within: float) -> Row:
    """Write one line, with what presses: the time that is left, or that has passed."""
    detail = f"for {ago(one.state_since, now)}"
    left = answer_within - (now - one.state_since).total_seconds()
    if one.state is State.APPROVAL:
        detail = f"{ago(now, now + timedelta(seconds=left))} left to answer" if left > 0 else "expired"
    if one.state is State.CLOSED:
        detail = f"{ago(one.state_since, now)} ago"
    return Row(one.id, str(one.owner), words(one.failure_class), state_words(one), detail, group_of(one))


def state_words(one: Incident) -> str:
    """Say where an incident stands, in words."""
    if one.state is State.CLOSED:
        return f"Closed: {words(one.reason or '')}"
    if one.state is State.HANDOVER and one.taken_over:
        return f"Taken over by {one.decided_by}"
    return _STATE[one.state]


def words(name: str) -> str:
    """Write an identifier as words: oom_killed, OOM killed."""
    return name.replace("_", " ").replace("oom", "OOM")


def broke(one: Incident, now: datetime) -> str:
    """Say what broke, in one sentence."""
    restarts = f", {one.restarts} restarts" if one.restarts else ""
    others = f", {one.symptom_count} objects affected" if one.symptom_count > 1 else ""
    return f"{one.owner}: {words(one.failure_class)}{restarts}{others}, for {ago(one.since, now)}."


def ago(then: datetime, now: datetime) -> str:
    """Write how long it is from one moment to the other, whichever comes first."""
    seconds = abs(int((now - then).total_seconds()))
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size or (unit == "min" and seconds >= size):
            return f"{seconds // size} {unit}"
    return f"{seconds} s"


@dataclass(frozen=True, slots=True)
class Field:
    """One field that would change; its path in parts, so that a narrow screen can break it between them."""

    path: tuple[str, ...]
    had: str
    gets: str


def diff(edits: Sequence[Edit]) -> list[Field]:
    """Write the exact change, field by field."""
    return [Field(_dotted(edit.path), _value(edit.had), _value(edit.gets)) for edit in edits]


def _dotted(pointer: str) -> tuple[str, ...]:
    parts: list[str] = []
    for part in pointer.split("/")[1:]:
        name = part.replace("~1", "/").replace("~0", "~")
        parts.append(f"[{name}]" if name.isdigit() else f".{name}" if parts else name)
    return tuple(parts)


def _value(value: Any) -> str:
    if value is None:
        return "(not set)"
    return value if isinstance(value, str) else json.dumps(value, indent=1, ensure_ascii=False)


def facts(plan: Rehearsal) -> list[str]:
    """Say what the rehearsal found out, in sentences."""
    said = [] if plan.facts is None else _facts(plan.facts)
    replicas = "1 replica is" if plan.available == 1 else f"{plan.available} replicas are"
    return [*said, _UNDO[plan.undo_when], f"{replicas} available now."]


def _facts(found: PlanFacts) -> list[str]:
    dry = {
        "admitted": "The API server's dry run admits exactly this change.",
        "refused": f"The API server's dry run refuses it: {found.dry_run_refused}",
    }.get(found.dry_run, "No dry run was made: writing was stopped.")
    outside = ", ".join(found.outside_may_change)
    return [
        dry,
        found.does_not_fit or "Quota and the largest node can hold the result.",
        f"It would change {outside}, which this action may not." if outside
        else "It changes nothing but what this action may change.",
        "" if found.opted_in else f"Namespace {found.namespace} has not opted in.",
        "The object is annotated to be left alone." if found.ignored else "",
    ]  # fmt: skip


def until(question: Question, now: datetime) -> str:
    """Say until when a question may be answered."""
    if question.expires is None:
        return ""
    if now > question.expires:
        return f"This question expired at {question.expires:%H:%M} UTC; nothing was done."
    return f"Answer until {question.expires:%H:%M} UTC: {ago(now, question.expires)} left."


def why(one: Incident, audit: Sequence[AuditEntry]) -> str:
    """Say why it stands where it stands: the note of the step that led there, else the first evidence."""
    if one.state is not State.APPROVAL:
        for entry in reversed(audit):
            if entry.kind.endswith(f"-> {one.state}") and not entry.kind.startswith(f"{one.state} "):
                note = str(entry.body.get("note") or "")
                if note and note != f"{one.failure_class} on {one.owner}":  # the heading says that
                    return note
    return one.evidence[0].text if one.evidence else ""


def page_parts(page: object) -> list[tuple[str, list[str]]]:
    """Read an incident's page for people, whatever fields it has: a heading, and lines."""
    if not isinstance(page, BaseModel):
        return []
    parts = []
    for name in type(page).model_fields:
        value = getattr(page, name)
        lines = [_line(one) for one in (value if isinstance(value, tuple | list) else [value]) if one]
        if lines:
            parts.append((words(name).capitalize(), lines))
    return parts


def _line(value: object) -> str:
    if isinstance(value, BaseModel):
        return ": ".join(str(part) for part in value.model_dump().values() if part)
    return str(value)


# --- the dial ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Place:
    """What may be done about one failure class in one namespace, and which line says so."""

    autonomy: Autonomy
    why: str


@dataclass(frozen=True, slots=True)
class DialRow:
    """One failure class over all namespaces."""

    failure_class: str
    family: str
    places: tuple[Place, ...]


OTHERS: Final = "(any other)"


def namespaces_of(policy: Policy, found: Iterable[Incident]) -> list[str]:
    """Name the namespaces worth a column: those of the policy and those of incidents."""
    named = {dial.namespace for dial in policy.dials} | {one.owner.namespace or "" for one in found}
    return [*sorted(named - {""}), OTHERS]


def dial_rows(policy: Policy, rules: Sequence[Rule], namespaces: Sequence[str]) -> list[DialRow]:
    """Write the effective autonomy for each class and namespace."""
    return [
        DialRow(
            name, rule.family, tuple(_place(policy, rule.classes[name].autonomy, n, name) for n in namespaces)
        )
        for rule in sorted(rules, key=lambda one: one.family)
        for name in sorted(rule.classes)
    ]


def _place(policy: Policy, rule: Autonomy | str, namespace: str, failure_class: str) -> Place:
    wanted = Autonomy(rule)
    effective = policy.dial(wanted, namespace, failure_class)
    if policy.is_protected(namespace):
        return Place(effective, "a platform namespace: nothing is ever written here")
    setting = policy.dial(Autonomy.AUTO, namespace, failure_class)
    if wanted.rank < setting.rank:
        return Place(effective, f"the rule, which is lower than the policy's {setting}")
    for number, dial in reversed(list(enumerate(policy.dials, start=1))):
        if _matches(dial, namespace, failure_class):
            return Place(effective, f"policy, dial {number}: {_dial_text(dial)}")
    return Place(effective, f"policy, autonomy: {policy.autonomy}")


def _matches(dial: Dial, namespace: str, failure_class: str) -> bool:
    """Ask the policy itself whether this one dial counts here, by a policy that has no other."""
    other = Autonomy.ALERT if dial.autonomy is not Autonomy.ALERT else Autonomy.ANALYZE
    alone = Policy(autonomy=other, dials=(dial,))
    return alone.dial(Autonomy.AUTO, namespace, failure_class) is dial.autonomy


def _dial_text(dial: Dial) -> str:
    where = [f"namespace {dial.namespace}"] if dial.namespace else []
    where += [dial.failure_class] if dial.failure_class else []
    return f"{', '.join(where) or 'everywhere'}: {dial.autonomy}"
