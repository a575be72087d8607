"""What a person decides: approve, modify, reject, take over; one mechanism for terminal and console.

    what is asked   question_of(incident)        in WITH_PERSON there is one, with an id of its own
    the answer      answer(...)                  checked, then kept by compare-and-set: the first counts
    the execution   govern/decide                checks it again (`refusal`), and uses it up

Where the action needs two people (`approvals: 2`), an approval is kept beside the question until another
person, who did not propose the remedy either, approves the same question; only then is it an answer.

In WITH_PERSON(approval) the question is a record that `govern/decide` wrote, bound to one diff. In the
other states the record is made by the first answer, under an id made of the moment the state began; so
an answer to an older question finds another id, and changes nothing.

Who calls it: the terminal (`shared/quietpager/cli/people.py`), `people/console`, and `govern/decide`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

from quietpager.actions.schema import Action
from quietpager.errors import Refused
from quietpager.incident import records
from quietpager.model.data import digest
from quietpager.model.finding import Remedy
from quietpager.model.incident import Incident, Rehearsal, State
from quietpager.model.message import DECISION, Message
from quietpager.model.store import ABSENT, Audit, Conflict, Due, Json, Put, Record, Store
from quietpager.model.time import to_text

Decision = Literal["approve", "modify", "reject", "take over"]

CHOICES: Final[Mapping[State, tuple[Decision, ...]]] = {
    State.APPROVAL: ("approve", "modify", "reject", "take over"),
    State.PROPOSED: ("modify", "reject", "take over"),
    State.BLOCKED: ("modify", "reject", "take over"),
    State.HANDOVER: ("take over",),
}
"""What may be answered in which state; whatever is not here, the state machine would ignore."""

UNVERIFIED: Final = frozenset({"terminal"})
"""Where a name is only what the machine says: one person could be two there."""

RETRY: Final = timedelta(seconds=5)
"""An answer that govern/decide has not used yet speaks again after so long."""


@dataclass(frozen=True, slots=True)
class Question:
    """What an incident asks a person. `diff` and `expires` are those of the plan to be approved.

    `decision`, `by` and `at` (RFC 3339) are those of the answer that was given and not carried out yet.
    `needs` is how many people must approve, `approved_by` who has so far.
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
    needs: int = 1
    approved_by: tuple[str, ...] = ()


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
        needs=_count(body.get("needs")),
        approved_by=_approvers(body),
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
    if decision == "approve" and question.needs > 1:
        if no := _not_entitled(question, by, via):
            return Answer(False, no)
        if len(question.approved_by) + 1 < question.needs:
            return _one_of_several(store, question, by=by, via=via, now=now)
    given: Json = {"decision": decision, "by": by, "via": via, "at": to_text(now)}
    if remedy is not None:
        given["remedy"] = remedy.to_json()
    asked: Json = {"incident": name, "diff": None} if question.record is None else question.record.body
    if decision == "approve":
        given["approvals"] = [*(asked.get("approvals") or ()), {"by": by, "via": via, "at": to_text(now)}]
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
                Due(records.talk(question.id), now, RETRY, message.to_json(), incident.opened_at),
            ]
        )
    except Conflict:
        return _too_slow(store, incident, by)
    return Answer(True, f"{decision}: noted for {by}; it is carried out with the clock's next tick.")


def _one_of_several(store: Store, question: Question, *, by: str, via: str, now: datetime) -> Answer:
    """Keep an approval that is not enough yet. It is no answer, so nothing is due and nothing is said."""
    record = question.record
    if record is None:
        raise AssertionError("a question that is approved has a record")
    kept = [*(record.body.get("approvals") or ()), {"by": by, "via": via, "at": to_text(now)}]
    count = f"{len(kept)} of {question.needs}"
    try:
        store.transact(
            [
                Put(record.key, record.body | {"approvals": kept}, record.version),
                Audit(question.incident.id, now, f"approve ({count})", by, _noted(question, via, None)),
            ]
        )
    except Conflict:
        return _too_slow(store, question.incident, by)
    return Answer(
        True, f"approve: noted for {by}, {count}. Nothing is done until another person approves it."
    )


def _too_slow(store: Store, incident: Incident, by: str) -> Answer:
    again = question_of(store, incident)
    return Answer(False, _answered(again, by) or "Somebody else was faster. Look again before you answer.")


def _not_entitled(question: Question, by: str, via: str) -> str:
    """Say why this person's approval does not count where two are needed; empty: it counts."""
    what = f"This needs {question.needs} people"
    if via in UNVERIFIED:
        return f"{what}, and a name at a {via} is not verified: approve it in the console."
    if _same(by, question.incident.proposed_by):
        return f"{what} beside whoever proposed it, and that was you. Ask somebody else."
    if any(_same(by, other) for other in question.approved_by):
        return f"{what}: you have approved it already, and the other one must be another person."
    return ""


def _same(one: str, other: str) -> bool:
    """Tell whether two names are one person's: nobody becomes two by a capital letter or a space."""
    return " ".join(one.casefold().split()) == " ".join(other.casefold().split())


def _approvers(body: Json) -> tuple[str, ...]:
    """Read who has approved; whatever is no such list is nobody."""
    kept = body.get("approvals")
    return (
        tuple(str(one.get("by")) for one in kept if isinstance(one, dict)) if isinstance(kept, list) else ()
    )


def _count(value: object) -> int:
    return value if isinstance(value, int) else 1


def needed(action: str, actions: Mapping[str, Action]) -> int:
    """Say how many people must approve an action; of one that the catalogue does not know, two."""
    known = actions.get(action)
    return 2 if known is None else known.approvals


def answered_by(record: Record) -> str:
    """Name who decided: one person, or all that approved."""
    if record.body.get("decision") == "approve" and len(people := _approvers(record.body)) > 1:
        return " and ".join(people)
    return str(record.body.get("by", ""))


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
    if decision[0] == "approve" and (no := _too_few(record, incident, actions)):
        return no
    given = body.get("remedy")
    remedy = None if given is None else Remedy.from_json(given)
    return _bad_remedy(incident, decision[0], remedy, actions)


def _too_few(record: Record, incident: Incident, actions: Mapping[str, Action]) -> str:
    """Count the people once more, against the catalogue: the record could have been made by anybody."""
    needs = needed("" if incident.remedy is None else incident.remedy.action, actions)
    if needs < 2:
        return ""
    kept = record.body.get("approvals")
    people = {
        " ".join(str(one.get("by")).casefold().split())
        for one in (kept if isinstance(kept, list) else ())
        if isinstance(one, dict)
        and one.get("via") not in UNVERIFIED
        and not _same(str(one.get("by")), incident.proposed_by)
    }
    if len(people) >= needs:
        return ""
    return f"Nothing was done: it needs {needs} people who did not propose it, and {len(people)} approved."


def _moment(text: object) -> datetime | None:
    return None if not text else datetime.fromisoformat(str(text))
