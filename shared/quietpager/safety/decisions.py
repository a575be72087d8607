"""What a person decides: approve, modify, reject, take over; one mechanism for terminal and console.

    what is asked   question_of(incident)        in WITH_PERSON there is one, with an id of its own
    the answer      answer(...)                  checked, then kept by compare-and-set: the first counts
    the execution   govern/decide                checks it again (`refusal`), and uses it up

In WITH_PERSON(approval) the question is a record that `govern/decide` wrote, bound to one diff. In the
other states the record is made by the first answer, under an id made of the moment the state began; so
an answer to an older question finds another id, and changes nothing.

Who calls it: the terminal (`infra/cli/people.py`), `people/console`, and `govern/decide`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from quietpager.actions.schema import Action
from quietpager.errors import Refused
from quietpager.model.data import digest
from quietpager.model.finding import Remedy
from quietpager.model.incident import Incident, Rehearsal, State
from quietpager.model.message import DECISION, Message
from quietpager.model.time import to_text
from quietpager.safety import records
from quietpager.store.port import ABSENT, Audit, Conflict, Due, Json, Put, Record, Store

Decision = Literal["approve", "modify", "reject", "take over"]

CHOICES: Final[Mapping[State, tuple[Decision, ...]]] = {
    State.APPROVAL: ("approve", "modify", "reject", "take over"),
    State.PROPOSED: ("modify", "reject", "take over"),
    State.BLOCKED: ("modify", "reject", "take over"),
    State.HANDOVER: ("take over",),
}
"""What may be answered in which state; whatever is not here, the state machine would ignore."""

RETRY: Final = timedelta(seconds=5)
"""An answer that govern/decide has not used yet speaks again after so long."""


@dataclass(frozen=True, slots=True)
class Question:
    """What an incident asks a person. `diff` and `expires` are those of the plan to be approved.

    `decision`, `by` and `at` (RFC 3339) are those of the answer that was given and not carried out yet.
    """

    id: str
    incident: Incident
    choices: tuple[Decision, ...]
    record: Record | None = None
    rehearsal: Rehearsal | None = None
    diff: str = ""
    expires: datetime | None = None
    decision: str = ""
    by: str = ""
    at: str = ""


@dataclass(frozen=True, slots=True)
class Seen:
    """What the person had before their eyes: the question's id and the diff that was shown."""

    question: str
    diff: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of an answer: whether it counts, and the sentence for the person."""

    used: bool
    sentence: str


def question_id(incident: Incident) -> str | None:
    """Name the question an incident asks now; None where it asks nothing."""
    if incident.state is State.APPROVAL:
        return incident.approval
    if incident.state not in CHOICES:
        return None
    return f"{incident.id}-q{digest(incident.state.value, to_text(incident.state_since), length=8)}"


def choices_of(incident: Incident) -> tuple[Decision, ...]:
    """Give what may be answered now; nothing once somebody has taken it over and it is theirs."""
    if incident.state is State.HANDOVER and incident.taken_over:
        return ()
    return CHOICES.get(incident.state, ())


def question_of(store: Store, incident: Incident) -> Question | None:
    """Read what an incident asks now, with its answer if there is one; None where it asks nothing."""
    name, choices = question_id(incident), choices_of(incident)
    if name is None or not choices:
        return None
    keys = [records.approval(name), records.rehearsal(incident.rehearsal or "")]
    found = store.get_many(keys)
    record, planned = found.get(keys[0]), found.get(keys[1])
    rehearsal = None if planned is None else Rehearsal.from_json(planned.body)
    if record is None:
        return Question(name, incident, choices, rehearsal=rehearsal)
    body = record.body
    return Question(
        name,
        incident,
        choices,
        record,
        rehearsal,
        diff=str(body.get("diff") or ""),
        expires=_moment(body.get("expires")),
        decision=str(body.get("decision") or ""),
        by=str(body.get("by") or ""),
        at=str(body.get("at") or ""),
    )


def answer(
    store: Store,
    name: str,
    decision: Decision,
    *,
    by: str,
    via: str,
    now: datetime,
    seen: Seen | None = None,
    remedy: Remedy | None = None,
    actions: Mapping[str, Action] | None = None,
) -> Answer:
    """Answer what an incident asks. Kept once, by compare-and-set: of any number at once one counts.

    Args:
        store: where question and answer are kept.
        name: the incident.
        decision: one of `CHOICES` for its state.
        by: who decides; whoever calls this has made sure of it.
        via: `terminal` or `console`.
        now: the moment of the answer.
        seen: what the person looked at; None where they did not say, then the question of now counts.
        remedy: for `modify`: what to do instead.
        actions: the catalogue, for `modify`.
    """
    record = store.get(records.incident(name))
    if record is None:
        return Answer(False, f"There is no incident {name}.")
    incident = Incident.from_json(record.body)
    question = question_of(store, incident)
    no = _unanswerable(question, incident, decision, by, now, seen) or _bad_remedy(
        incident, decision, remedy, actions or {}
    )
    if no or question is None:
        return Answer(False, no)
    given: Json = {"decision": decision, "by": by, "via": via, "at": to_text(now)}
    if remedy is not None:
        given["remedy"] = remedy.to_json()
    asked: Json = {"incident": name, "diff": None} if question.record is None else question.record.body
    message = Message(
        id=f"{question.id}.{decision.replace(' ', '-')}",
        type=DECISION,
        subject=name,
        data={"approval": question.id},
    )
    try:
        store.transact(
            [
                Put(
                    records.approval(question.id),
                    asked | given,
                    ABSENT if question.record is None else question.record.version,
                ),
                Audit(name, now, decision, by, _noted(question, via, remedy)),
                Due(records.talk(question.id), now, RETRY, message.to_json()),
            ]
        )
    except Conflict:
        again = question_of(store, incident)
        return Answer(
            False, _answered(again, by) or "Somebody else was faster. Look again before you answer."
        )
    return Answer(True, f"{decision}: noted for {by}; it is carried out with the clock's next tick.")


def _noted(question: Question, via: str, remedy: Remedy | None) -> Json:
    return {
        "approval": question.id,
        "diff": question.diff or None,
        "via": via,
        "note": "" if remedy is None else remedy_text(remedy),
    }


def _unanswerable(
    question: Question | None,
    incident: Incident,
    decision: Decision,
    by: str,
    now: datetime,
    seen: Seen | None,
) -> str:
    """Say why this answer cannot be taken; empty: it can."""
    if question is None:
        return f"Incident {incident.id} asks nothing just now: {_stands(incident)}."
    if seen is not None and seen.question != question.id:
        return f"What you were shown is stale: the incident went on, and {_stands(incident)}. Look again."
    if taken := _answered(question, by):
        return taken
    if decision not in question.choices:
        return (
            f"Incident {incident.id} asks nothing that you could {decision}: {_stands(incident)}. "
            f"You may: {', '.join(question.choices)}."
        )
    if seen is not None and seen.diff != question.diff:
        return (
            "The change that is planned is not the one you were shown. Nothing was done; look at the new one."
        )
    if question.expires is not None and now > question.expires:
        return _expired(question.expires)
    return ""


def _answered(question: Question | None, by: str) -> str:
    if question is None or not question.decision:
        return ""
    who = "You have" if question.by == by else f"{question.by} has"
    return f"{who} answered already: {question.decision}. One answer counts, the first."


def _expired(at: datetime) -> str:
    return f"Too late: the question expired at {at:%H:%M:%S} UTC. Nothing was done."


def _stands(incident: Incident) -> str:
    """Say where an incident stands, as the end of a sentence."""
    if incident.state is State.CLOSED:
        return f"it is closed ({(incident.reason or '').replace('_', ' ')})"
    if incident.state is State.HANDOVER and incident.taken_over:
        return f"{incident.decided_by} has taken it over"
    return f"it is {incident.state}"


# --- the person's own remedy ---------------------------------------------------------------------------


def offered(incident: Incident, actions: Mapping[str, Action]) -> list[Action]:
    """List the actions of the catalogue that are for this kind of owner; those a person may choose from."""
    return [one for _, one in sorted(actions.items()) if incident.owner.kind in one.applies_to]


def read_remedy(action: Action, fields: Mapping[str, str]) -> Remedy:
    """Make a remedy of what a person typed; an empty field is one that is not given.

    Raises:
        Refused: a field is no number, or is outside its bounds; the sentence says which and what is allowed.
    """
    params: dict[str, str | float] = {}
    for name, text in fields.items():
        value = text.strip()
        if not value:
            continue
        bound = action.params.get(name)
        params[name] = value if bound is None or bound.quantity else _number(action, name, value)
    action.check_params(params)
    return Remedy(action=action.name, params=params)


def _number(action: Action, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise Refused(f"{action.name}: {name} must be a number, not {text[:40]!r}.") from None


def remedy_text(remedy: Remedy) -> str:
    """Write a remedy as one line: raise-memory factor=1.5 ceiling=1Gi."""
    return " ".join([remedy.action, *(f"{key}={value}" for key, value in remedy.params.items())])


def _bad_remedy(
    incident: Incident, decision: Decision, remedy: Remedy | None, actions: Mapping[str, Action]
) -> str:
    if decision != "modify":
        return "" if remedy is None else f"A remedy belongs to `modify`, not to `{decision}`."
    names = [one.name for one in offered(incident, actions)]
    known = f"For a {incident.owner.kind} there are: {', '.join(names) or 'none'}."
    if remedy is None:
        return f"Say what to do instead. {known}"
    if remedy.action not in names:
        return f"There is no action {remedy.action!r} for this. {known}"
    try:
        actions[remedy.action].check_params(remedy.params)
    except Refused as no:
        return str(no)
    return ""


# --- at execution --------------------------------------------------------------------------------------


def refusal(
    record: Record, incident: Incident, actions: Mapping[str, Action], now: datetime, *, name: str
) -> str:
    """Say why an answer must not be carried out after all; empty: it may. Asked by govern/decide.

    Args:
        record: the question with its answer.
        incident: as it is now.
        actions: the catalogue.
        now: the moment of the execution.
        name: the question's id, as the message had it.
    """
    body = record.body
    decision: Sequence[Decision] = [d for d in choices_of(incident) if d == body.get("decision")]
    if question_id(incident) != name or not decision:
        return f"Nothing was done: nothing of this kind is asked any more; {_stands(incident)}."
    expires = _moment(body.get("expires"))
    if expires is not None and now > expires:
        return _expired(expires)
    if incident.state is State.APPROVAL and body.get("diff") != incident.approved_diff:
        return "Nothing was done: the planned change is another one than the one that was answered."
    given = body.get("remedy")
    remedy = None if given is None else Remedy.from_json(given)
    return _bad_remedy(incident, decision[0], remedy, actions)


def _moment(text: object) -> datetime | None:
    return None if not text else datetime.fromisoformat(str(text))
