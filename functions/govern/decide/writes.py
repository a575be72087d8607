"""Turns one step of an incident into one transaction: the incident, its due items, the effects, the audit."""

from datetime import datetime, timedelta

from quietpager.change.kinds import inverse_of
from quietpager.change.marks import UNDO_OF
from quietpager.change.send import talk_about, tell_about
from quietpager.deciding.decisions import needed
from quietpager.deciding.ground import Conditions
from quietpager.deciding.guard import AUDITED, Verdict
from quietpager.deciding.guards import refusal
from quietpager.incident import records, storm
from quietpager.incident.news import (
    AskPerson,
    Commit,
    Effect,
    Input,
    MarkActed,
    OpenBreaker,
    Rehearse,
    Step,
    Tell,
    Undo,
)
from quietpager.model.data import digest
from quietpager.model.incident import Autonomy, Incident, Intent, IntentState, Rehearsal, State
from quietpager.model.message import APPLY, DUE, REHEARSE, UNDO, Message
from quietpager.model.signal import Recheck
from quietpager.model.store import ABSENT, Audit, Due, DueDone, Json, Put, Record, Write
from quietpager.model.time import to_text
from quietpager.runtime.context import Context


def write_out(
    before: Record | None,
    taken: Step,
    news: Input,
    ctx: Context,
    now: datetime,
    on: Conditions | None,
) -> tuple[list[Write], list[Message]]:
    """Compile a step. Gives the writes and the messages; each message is a due item as well."""
    incident = taken.incident
    if incident is None:
        return [], []
    old = None if before is None else Incident.from_json(before.body)
    if old is not None and old.but(serial=incident.serial) == incident and not taken.effects:
        return [], []
    paper = _Paper(ctx, incident, now, ABSENT if before is None else before.version)
    for number, effect in enumerate(taken.effects):
        paper.add(number, effect, on)
    incident = paper.incident
    if taken.note or old is None or old.state is not incident.state:
        paper.writes.append(_audit(old, incident, taken, news, ctx, now))
    paper.writes.append(Put(records.incident(incident.id), incident.to_json(), paper.version))
    return [*paper.writes, *_dues(old, incident, now)], paper.messages


def _audit(
    old: Incident | None, incident: Incident, taken: Step, news: Input, ctx: Context, now: datetime
) -> Audit:
    return Audit(
        incident.id, now, f"{old.state if old else State.NONE} -> {incident.state}", ctx.name,
        {
            "news": news.kind.value, "note": taken.note, "class": incident.failure_class,
            "owner": str(incident.owner), "by": news.by or incident.decided_by,
            "evidence": [e.to_json() for e in incident.evidence] if old is None else [],
            "tried": [t.to_json() for t in incident.tried],
        },
    )  # fmt: skip


def _dues(old: Incident | None, incident: Incident, now: datetime) -> list[Write]:
    """Keep the two due items every open state owns; a closed one owns none."""
    recheck, deadline = records.recheck(incident.id), records.deadline(incident.id)
    if incident.state is State.CLOSED:
        return [DueDone(recheck), DueDone(deadline)]
    writes: list[Write] = []
    every = timedelta(seconds=incident.recheck_every)
    if old is None or (old.state, old.recheck_every, old.state_since, old.family) != (
        incident.state, incident.recheck_every, incident.state_since, incident.family,
    ):  # fmt: skip
        asks = Recheck(incident=incident.id).to_message(incident.family, incident.owner).to_json()
        writes.append(Due(recheck, now + every, every, asks, incident.opened_at))
    if old is None or old.deadline_at != incident.deadline_at:
        message = Message(
            id=deadline, type=DUE, subject=incident.id, attributes={"what": "deadline"},
            data={"incident": incident.id},
        )  # fmt: skip
        writes.append(Due(deadline, incident.deadline_at, every, message.to_json(), incident.opened_at))
    return writes


def forward_intent(incident: Incident, ctx: Context) -> Intent:
    """Read the intent that an incident's undo would reverse."""
    record = ctx.store.get(records.intent(incident.intent or ""))
    if record is None:
        raise AssertionError(f"intent {incident.intent} of {incident.id} is missing")
    return Intent.from_json(record.body)


def undo_of(forward: Intent, ctx: Context, now: datetime) -> Intent:
    """Make the intent that reverses another, pinned to what that one left behind."""
    return inverse_of(forward).but(
        id=f"{forward.id}{UNDO_OF}", state=IntentState.INTENT, undoes=forward.id, act_by=None, result="",
        generation=forward.generation_after or -1,
        created_at=now, applied_at=None, generation_after=None,
        expires_at=now + timedelta(seconds=ctx.policy.claim),
    )  # fmt: skip


def verdict_audit(
    rehearsal: Rehearsal,
    said: tuple[Verdict, ...],
    dial: Autonomy | None,
    decided: str,
    ctx: Context,
    now: datetime,
) -> Audit:
    """Keep what every guard said, with its figures; `quietpager policy explain` prints it.

    `dial` is guard 11's answer; an undo is not asked for one.
    """
    no = refusal(said)
    return Audit(
        rehearsal.incident, now, AUDITED, ctx.name,
        {
            "note": "all pass" if no is None else no.sentence,
            "rehearsal": rehearsal.id, "action": rehearsal.remedy.action,
            "autonomy": None if dial is None else dial.value,
            "decided": decided, "guards": [one.to_json() for one in said],
        },
    )  # fmt: skip


class _Paper:
    """Collects the writes and messages of one step."""

    def __init__(self, ctx: Context, incident: Incident, now: datetime, version: int) -> None:
        self.ctx, self.incident, self.now, self.version = ctx, incident, now, version
        self.writes: list[Write] = []
        self.messages: list[Message] = []
        self.tick = timedelta(seconds=ctx.policy.tick)

    def add(self, number: int, effect: Effect, on: Conditions | None) -> None:
        """Write one effect down."""
        match effect:
            case Rehearse(rehearsal):
                self.writes.append(Put(records.rehearsal(rehearsal.id), rehearsal.to_json(), ABSENT))
                self._say(rehearsal.id, _ask(rehearsal))
            case Commit(rehearsal):
                if on is None:
                    raise AssertionError("an intent is only ever written on the guards' word")
                self.writes += on.writes
                self._intent(self._forward(rehearsal).but(slots=on.slots))
            case Undo():
                if on is None:
                    raise AssertionError("an undo is only ever written on the guards' word")
                self.writes += on.writes
                self._undo(on.slots)
            case AskPerson(rehearsal):
                expires = self.now + timedelta(seconds=self.ctx.policy.approval)
                body: Json = {
                    "incident": self.incident.id, "rehearsal": rehearsal.id,
                    "diff": rehearsal.diff_key, "expires": expires.isoformat(), "decision": None,
                    "needs": needed(rehearsal.remedy.action, self.ctx.actions), "approvals": [],
                }  # fmt: skip
                key = records.approval(self.incident.approval or rehearsal.id)
                self.writes.append(Put(key, body, ABSENT))
            case OpenBreaker():
                until = self.now + timedelta(seconds=self.ctx.policy.breaker)
                self._put(records.breaker(self.incident), {"until": to_text(until)})
            case MarkActed():
                self._put(records.target(self.incident), {"at": to_text(self.now)})
            case Tell(what, text):
                self._tell(number, what, text)

    def _tell(self, number: int, what: str, text: str) -> None:
        if what in storm.HELD_BACK and (found := self._storm()):
            speaks = storm.speaks(found, self.incident.owner, self.incident.id, self.ctx.policy, self.now)
            if speaks is None:
                untold = {"note": storm.UNTOLD, "what": what, "text": text}
                self.writes.append(Audit(self.incident.id, self.now, "not told", self.ctx.name, untold))
                return
            self.writes += speaks.writes
            what, text = "needsperson", f"{speaks.sentence} This one: {text}"
        name = f"{self.incident.id}.{self.version + 1}.{number}"
        self.writes.append(Put(records.tell(name), {"what": what, "text": text}, ABSENT))
        self._say(name, tell_about(name, what, self.incident))

    def _storm(self) -> dict[str, Record]:
        """Give the records of a storm that lasts, or nothing."""
        owner, policy = self.incident.owner, self.ctx.policy
        found = self.ctx.store.get_many([*storm.keys(owner, policy), *storm.told_keys(owner)])
        return found if storm.lasts(found, owner, policy, self.now) else {}

    def _say(self, about: str, message: Message) -> None:
        self.messages.append(message)
        again, opened = self.now + self.tick, self.incident.opened_at
        self.writes.append(Due(records.talk(about), again, self.tick, message.to_json(), opened))

    def _put(self, key: str, body: dict[str, str]) -> None:
        before = self.ctx.store.get(key)
        self.writes.append(Put(key, dict(body), ABSENT if before is None else before.version))

    def _forward(self, rehearsal: Rehearsal) -> Intent:
        owner = rehearsal.owner
        edits = [edit.to_json() for edit in rehearsal.edits]
        what = [edits] if rehearsal.change is None else [edits, rehearsal.change.to_json()]
        known = digest(self.incident.id, rehearsal.id, rehearsal.remedy.to_json(), owner.uid, *what)
        return Intent(
            id="-".join(part for part in ("int", known, self.ctx.nonce()) if part),
            incident=self.incident.id,
            rehearsal=rehearsal.id,
            action=rehearsal.remedy.action,
            target=owner,
            generation=rehearsal.generation,
            edits=rehearsal.edits,
            change=rehearsal.change,
            created_at=self.now,
            expires_at=self.now + timedelta(seconds=self.ctx.policy.claim),
        )

    def _intent(self, intent: Intent) -> None:
        self.incident = self.incident.but(intent=intent.id)
        self._permit(intent, APPLY)

    def _undo(self, slots: tuple[str, ...]) -> None:
        undo = undo_of(forward_intent(self.incident, self.ctx), self.ctx, self.now).but(slots=slots)
        self.incident = self.incident.but(undo=undo.id)
        self._permit(undo, UNDO)

    def _permit(self, intent: Intent, kind: str) -> None:
        self.writes += [
            Put(records.intent(intent.id), intent.to_json(), ABSENT),
            Audit(
                self.incident.id, self.now, "intent", self.ctx.name,
                {"intent": intent.id, "action": intent.action, "target": str(intent.target),
                 "generation": intent.generation, "undo": intent.undoes is not None,
                 "edits": [edit.to_json() for edit in intent.edits],
                 "change": None if intent.change is None else intent.change.to_json()},
            ),
        ]  # fmt: skip
        self._say(intent.id, talk_about(intent, kind))


def _ask(rehearsal: Rehearsal) -> Message:
    return Message(
        id=f"{rehearsal.id}.rehearse",
        type=REHEARSE,
        subject=rehearsal.incident,
        attributes={"action": rehearsal.remedy.action},
        data={"rehearsal": rehearsal.id},
    )
