"""From a step to one transaction: the incident, its due items, the effects, the audit."""

from dataclasses import dataclass
from datetime import datetime, timedelta

from quietpager.model.data import digest
from quietpager.model.incident import Autonomy, Incident, Intent, IntentState, Rehearsal, State
from quietpager.model.message import APPLY, DUE, INCIDENT, REHEARSE, UNDO, Message
from quietpager.model.time import to_text
from quietpager.runtime.context import Context
from quietpager.runtime.detecting import recheck_message
from quietpager.safety import records
from quietpager.safety.effect import UNDO_OF, reversed_edits, talk_about
from quietpager.safety.guards import Ground, slot_is_free
from quietpager.safety.machine import (
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
from quietpager.store.port import ABSENT, Audit, Check, Due, DueDone, Put, Record, Write


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the guards looked at, as conditions of the transaction that acts on their word."""

    writes: tuple[Write, ...]


def ground_of(
    rehearsal: Rehearsal, incident: Incident, ctx: Context, now: datetime
) -> tuple[Ground, Conditions]:
    """Read what the guards need, in one round trip, and turn each record into a condition."""
    scopes = _scopes(incident, ctx)
    slots = {scope: [records.slot(scope, n) for n in range(size)] for scope, size in scopes.items()}
    breaker, target = records.breaker(incident), records.target(incident)
    keys = [records.SWITCH, breaker, target, *(key for some in slots.values() for key in some)]
    found = ctx.store.get_many(keys)

    def version(key: str) -> int:
        return found[key].version if key in found else ABSENT

    conditions: list[Write] = [Check(key, version(key)) for key in (records.SWITCH, breaker, target)]
    spent: list[str] = []
    for scope, some in slots.items():
        # Each incident begins its search elsewhere, so that many at once do not race for one slot.
        first = int(digest(incident.id, scope, length=8), 16) % max(len(some), 1)
        around = some[first:] + some[:first]
        free = next((key for key in around if _may_take(found.get(key), incident, ctx, now)), None)
        if free is None:
            spent.append(scope)
        else:
            body = {"at": to_text(now), "holder": incident.id}
            conditions.append(Put(free, body, version(free)))
    switch = found.get(records.SWITCH)
    ground = Ground(
        incident=incident,
        rehearsal=rehearsal,
        policy=ctx.policy,
        now=now,
        stopped=switch is None or bool(switch.body.get("stopped", True)),
        breaker_until=_moment(found.get(breaker), "until"),
        last_act=_moment(found.get(target), "at"),
        spent=tuple(spent),
        at_most=_at_most(rehearsal, ctx),
    )
    return ground, Conditions(tuple(conditions))


def _at_most(rehearsal: Rehearsal, ctx: Context) -> Autonomy:
    """Read the action's limit from the catalogue; what the catalogue does not know is asked about."""
    action = ctx.actions.get(rehearsal.remedy.action)
    return Autonomy.APPROVE if action is None else action.autonomy_at_most


def _scopes(incident: Incident, ctx: Context) -> dict[str, int]:
    budget = ctx.policy.budget
    return {
        f"target/{incident.owner.uid}": budget.target,
        f"namespace/{incident.owner.namespace}": budget.namespace,
        "cluster": budget.cluster,
    }


def _may_take(record: Record | None, incident: Incident, ctx: Context, now: datetime) -> bool:
    """Free, or held by an earlier attempt of this incident that has ended without a write.

    An attempt that was refused or expired can never write later, so its slot may serve the next one;
    otherwise a budget of one act an hour would forbid the second attempt that the table promises.
    """
    at = _moment(record, "at")
    if record is None or at is None:
        return True
    if record.body.get("holder") == incident.id and not incident.acted:
        return True
    return slot_is_free(at, ctx.policy, now)


def _moment(record: Record | None, name: str) -> datetime | None:
    return None if record is None else datetime.fromisoformat(str(record.body[name]))


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
    if old is None or (old.state, old.recheck_every, old.state_since) != (
        incident.state, incident.recheck_every, incident.state_since,
    ):  # fmt: skip
        writes.append(Due(recheck, now + every, every, recheck_message(incident).to_json()))
    if old is None or old.deadline_at != incident.deadline_at:
        message = Message(
            id=deadline, type=DUE, subject=incident.id, attributes={"what": "deadline"},
            data={"incident": incident.id},
        )  # fmt: skip
        writes.append(Due(deadline, incident.deadline_at, every, message.to_json()))
    return writes


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
                self._intent(self._forward(rehearsal))
            case Undo():
                self._undo()
            case AskPerson(rehearsal):
                expires = self.now + timedelta(seconds=self.ctx.policy.approval)
                body = {
                    "incident": self.incident.id, "rehearsal": rehearsal.id,
                    "diff": rehearsal.diff_key, "expires": expires.isoformat(), "decision": None,
                }  # fmt: skip
                key = records.approval(self.incident.approval or rehearsal.id)
                self.writes.append(Put(key, body, ABSENT))
            case OpenBreaker():
                until = self.now + timedelta(seconds=self.ctx.policy.breaker)
                self._put(records.breaker(self.incident), {"until": to_text(until)})
            case MarkActed():
                self._put(records.target(self.incident), {"at": to_text(self.now)})
            case Tell(what, text):
                name = f"{self.incident.id}.{self.version + 1}.{number}"
                self.writes.append(Put(records.tell(name), {"what": what, "text": text}, ABSENT))
                message = Message(
                    id=name, type=f"{INCIDENT}{what}", subject=self.incident.id,
                    attributes={"namespace": self.incident.owner.namespace or "none"},
                    data={"incident": self.incident.id, "tell": name},
                )  # fmt: skip
                self._say(name, message)

    def _say(self, about: str, message: Message) -> None:
        self.messages.append(message)
        self.writes.append(Due(records.talk(about), self.now + self.tick, self.tick, message.to_json()))

    def _put(self, key: str, body: dict[str, str]) -> None:
        before = self.ctx.store.get(key)
        self.writes.append(Put(key, dict(body), ABSENT if before is None else before.version))

    def _forward(self, rehearsal: Rehearsal) -> Intent:
        owner = rehearsal.owner
        edits = [edit.to_json() for edit in rehearsal.edits]
        return Intent(
            id=f"int-{digest(self.incident.id, rehearsal.id, rehearsal.remedy.to_json(), owner.uid, edits)}",
            incident=self.incident.id,
            rehearsal=rehearsal.id,
            action=rehearsal.remedy.action,
            target=owner,
            generation=rehearsal.generation,
            edits=rehearsal.edits,
            created_at=self.now,
            expires_at=self.now + timedelta(seconds=self.ctx.policy.claim),
        )

    def _intent(self, intent: Intent) -> None:
        self.incident = self.incident.but(intent=intent.id)
        self._permit(intent, APPLY)

    def _undo(self) -> None:
        """Reserve nothing: the undo's slot was reserved with the forward intent."""
        record = self.ctx.store.get(records.intent(self.incident.intent or ""))
        if record is None:
            raise AssertionError(f"intent {self.incident.intent} of {self.incident.id} is missing")
        forward = Intent.from_json(record.body)
        undo = forward.but(
            id=f"{forward.id}{UNDO_OF}", state=IntentState.INTENT, undoes=forward.id, act_by=None, result="",
            edits=reversed_edits(forward.edits), generation=forward.generation_after or -1,
            created_at=self.now, applied_at=None, generation_after=None,
            expires_at=self.now + timedelta(seconds=self.ctx.policy.claim),
        )  # fmt: skip
        self.incident = self.incident.but(undo=undo.id)
        self._permit(undo, UNDO)

    def _permit(self, intent: Intent, kind: str) -> None:
        self.writes += [
            Put(records.intent(intent.id), intent.to_json(), ABSENT),
            Audit(
                self.incident.id, self.now, "intent", self.ctx.name,
                {"intent": intent.id, "action": intent.action, "target": str(intent.target),
                 "generation": intent.generation, "undo": intent.undoes is not None,
                 "edits": [edit.to_json() for edit in intent.edits]},
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
