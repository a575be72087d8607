"""govern/decide: turns news into one step of an incident, in one transaction. Touches no cluster."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from quietpager.change.kinds import inverse_of
from quietpager.deciding import decisions, guards
from quietpager.deciding.ground import Conditions
from quietpager.deciding.verdict import judge, judge_undo, stored
from quietpager.errors import BadMessage, Retry
from quietpager.functions.govern.decide.writes import forward_intent, undo_of, verdict_audit, write_out
from quietpager.incident import control_group, records, storm
from quietpager.incident.machine import opened, reopened, step
from quietpager.incident.news import Input, News, Step, Undo
from quietpager.model.finding import Finding, Remedy
from quietpager.model.incident import Incident, Intent, IntentState, Rehearsal, State
from quietpager.model.message import DECISION, DUE, FINDING, OUTCOME, REHEARSED, Message
from quietpager.model.store import ABSENT, Audit, Check, Conflict, DueDone, Put, Record, Write
from quietpager.runtime.context import Context
from quietpager.runtime.metrics import REFUSALS

TRIES = 6
"""How often a lost race is tried again at once, before the broker is asked to deliver again."""

_FINDING = {
    "failing": News.FAILING, "healthy": News.HEALTHY, "gone": News.GONE, "unreadable": News.UNREADABLE,
}  # fmt: skip
_OUTCOME = {
    IntentState.APPLIED: News.APPLIED, IntentState.UNKNOWN: News.UNKNOWN,
    IntentState.REFUSED: News.NOT_DONE, IntentState.EXPIRED: News.NOT_DONE,
}  # fmt: skip
_DECISION = {
    "approve": News.APPROVE, "modify": News.MODIFY, "reject": News.REJECT, "take over": News.REJECT,
}  # fmt: skip


def handle(message: Message, ctx: Context) -> list[Message]:
    """Take one step.

    Raises:
        BadMessage: a message type that decide does not read.
        Retry: other writers were faster, again and again.
    """
    readers = {
        FINDING: _finding, REHEARSED: _rehearsed, OUTCOME: _outcome, DUE: _due, DECISION: _decision,
    }  # fmt: skip
    reader = readers.get(message.type)
    if reader is None:
        raise BadMessage(f"decide does not read {message.type[:100]}.")
    last: Conflict | None = None
    for _ in range(TRIES):
        try:
            return reader(message, ctx)
        except Conflict as lost:
            last = lost
    raise Retry(f"other writers were faster {TRIES} times: {last}")


def _incident(ctx: Context, name: str) -> tuple[Record, Incident] | None:
    record = ctx.store.get(records.incident(name))
    return None if record is None else (record, Incident.from_json(record.body))


def _finding(message: Message, ctx: Context) -> list[Message]:
    name = str(message.data.get("finding"))
    record = ctx.store.get(records.finding(name))
    if record is None:
        return []
    finding = Finding.from_json(record.body)
    if finding.incident is not None:
        return _look(finding, ctx)
    if finding.diagnosis is None:
        return []
    news, now = Input(News.SYMPTOM, finding=finding), ctx.clock()
    # A newer look at the same target has another version, and a due item of its own that must stay.
    done: list[Write] = [DueDone(records.talk(name)), Check(record.key, record.version)]
    key = records.cause(finding.diagnosis.cause)
    seen = ctx.store.get_many([key, records.EPISODES])
    lock = seen.get(key)
    if lock is None:
        # Purged episodes count: an incident's id, and with it its intents' marks, is never used twice.
        purged = seen.get(records.EPISODES)
        after, version = (0, ABSENT) if purged is None else (int(purged.body["episode"]), purged.version)
        taken = opened(news, ctx.policy, now, after=after)
        done.append(Check(records.EPISODES, version))
        return _commit(ctx, None, taken, news, now, [*done, *_opening(key, taken, 0, ctx, now)])
    found = _incident(ctx, str(lock.body["incident"]))
    if found is None:
        return []
    before, incident = found
    if incident.state is not State.CLOSED:
        return _commit(ctx, before, step(incident, news, ctx.policy, now), news, now, done)
    cooling = (now - incident.state_since).total_seconds() < ctx.policy.cool_down
    taken = reopened(incident, news, ctx.policy, now, inside_cool_down=cooling)
    fresh = taken.incident is not None and taken.incident.id != incident.id
    if fresh:
        return _commit(ctx, None, taken, news, now, [*done, *_opening(key, taken, lock.version, ctx, now)])
    return _commit(ctx, before, taken, news, now, done)


def _opening(key: str, taken: Step, version: int, ctx: Context, now: datetime) -> list[Write]:
    """Lock the cause, and count the incident for the storm brake."""
    if taken.incident is None:
        return []
    body = {"incident": taken.incident.id, "episode": taken.incident.episode}
    owner = taken.incident.owner
    found = ctx.store.get_many(storm.keys(owner, ctx.policy))
    return [Put(key, body, version), *storm.marks(found, owner, taken.incident.id, ctx.policy, now)]


def _look(finding: Finding, ctx: Context) -> list[Message]:
    found = _incident(ctx, finding.incident or "")
    if found is None:
        return []
    before, incident = found
    news, now = Input(_FINDING[finding.outcome], finding=finding, sentence=finding.why), ctx.clock()
    taken = step(incident, news, ctx.policy, now)
    if control_group.is_claimed(incident, taken.incident):
        news = replace(news, untouched=_untouched(incident, ctx))
        taken = step(incident, news, ctx.policy, now)
    return _commit(ctx, before, taken, news, now, [])


def _untouched(incident: Incident, ctx: Context) -> int:
    """Count the siblings that healed as well, among the incidents opened last: those of the storm brake."""
    opened = ctx.store.get_many(storm.keys(incident.owner, ctx.policy))
    names = sorted(storm.incidents(opened) - {incident.id})
    found = ctx.store.get_many([records.incident(name) for name in names]).values()
    others = [Incident.from_json(one.body) for one in found]
    return len(control_group.siblings(incident, others, ctx.policy))


def _rehearsed(message: Message, ctx: Context) -> list[Message]:
    record = ctx.store.get(records.rehearsal(str(message.data.get("rehearsal"))))
    if record is None:
        return []
    rehearsal = Rehearsal.from_json(record.body)
    found = _incident(ctx, rehearsal.incident)
    if found is None or rehearsal.state == "asked":
        return []
    before, incident = found
    now = ctx.clock()
    done: list[Write] = [DueDone(records.talk(rehearsal.id))]
    if incident.state is not State.PLANNING or incident.rehearsal != rehearsal.id:
        # Of a plan that is not the current one nothing is decided, and nothing audited.
        ctx.store.transact(done)
        return []
    look = stored(ctx.store, ctx.policy, now, ctx.actions)
    judged = judge(rehearsal, incident, look, fault=ctx.policy_fault)
    if judged.dial is not None:
        done.append(verdict_audit(rehearsal, judged.said, judged.dial, judged.news.kind.value, ctx, now))
    taken = step(incident, judged.news, ctx.policy, now)
    messages = _commit(ctx, before, taken, judged.news, now, done, judged.conditions)
    if judged.refusal is not None:
        ctx.metrics.add(REFUSALS, guard=judged.refusal.guard)
    return messages


def _outcome(message: Message, ctx: Context) -> list[Message]:
    record = ctx.store.get(records.intent(str(message.data.get("intent"))))
    if record is None:
        return []
    return _settle(Intent.from_json(record.body), ctx)


def _settle(intent: Intent, ctx: Context, extra: Sequence[Write] = ()) -> list[Message]:
    kind = News.HEALED if intent.healed else _OUTCOME.get(intent.state)
    found = _incident(ctx, intent.incident)
    if kind is None or found is None:
        return []
    before, incident = found
    now = ctx.clock()
    writes: list[Write] = [DueDone(records.talk(intent.id)), *extra]
    if intent.undoes is not None and kind is News.APPLIED and incident.state is State.UNDOING:
        forward = ctx.store.get(records.intent(intent.undoes))
        if forward is not None:
            undone = Intent.from_json(forward.body).but(state=IntentState.UNDONE)
            writes.append(Put(forward.key, undone.to_json(), forward.version))
    news = Input(kind, intent=intent)
    return _commit(ctx, before, step(incident, news, ctx.policy, now), news, now, writes)


def _due(message: Message, ctx: Context) -> list[Message]:
    found = _incident(ctx, str(message.data.get("incident")))
    if found is None:
        return []
    before, incident = found
    now = ctx.clock()
    if incident.state is State.CLOSED or now < incident.deadline_at:
        return []
    current = {State.ACTING: incident.intent, State.UNDOING: incident.undo}.get(incident.state)
    record = None if current is None else ctx.store.get(records.intent(current))
    if record is not None:
        intent = Intent.from_json(record.body)
        if intent.state is IntentState.INTENT and now >= intent.expires_at:
            # Nobody claimed it: from here on nobody can, for a claim needs this version.
            gone = intent.but(state=IntentState.EXPIRED, result="nobody claimed it in time")
            return _settle(gone, ctx, [Put(record.key, gone.to_json(), record.version)])
        if intent.state not in (IntentState.INTENT, IntentState.CLAIMED):
            return _settle(intent, ctx)
    news = Input(News.DEADLINE)
    return _commit(ctx, before, step(incident, news, ctx.policy, now), news, now, [])


def _decision(message: Message, ctx: Context) -> list[Message]:
    name = str(message.data.get("approval"))
    record = ctx.store.get(records.approval(name))
    if record is None or record.body.get("decision") is None or record.body.get("used"):
        return []
    now = ctx.clock()
    used: list[Write] = [
        Put(record.key, record.body | {"used": True}, record.version),
        DueDone(records.talk(name)),
    ]
    chain = str(record.body["incident"])
    found = _incident(ctx, chain)
    no = (
        "There is no such incident."
        if found is None
        else decisions.refusal(record, found[1], ctx.actions, now, name=name)
    )
    if found is None or no:
        ctx.store.transact([*used, Audit(chain, now, "answer refused", ctx.name, {"note": no})])
        return []
    before, incident = found
    given = record.body.get("remedy")
    news = Input(
        _DECISION[str(record.body["decision"])],
        # Of the question itself the check above made sure; the states without an approval have none.
        approval=incident.approval,
        remedy=None if given is None else Remedy.from_json(given),
        by=decisions.answered_by(record),
        sentence="Rejected" if record.body["decision"] == "reject" else "Taken over",
    )
    return _commit(ctx, before, step(incident, news, ctx.policy, now), news, now, used)


def _undo_verdict(taken: Step, ctx: Context, now: datetime) -> tuple[Step, Conditions, Write]:
    """Let the guards of an undo judge it; refused, it goes to a person at once, with their sentence.

    They look at the facts of the forward plan: the namespace as it was then, today's policy, switch and
    slots. Whether the object is still as we left it, the pinned patch finds out.
    """
    incident = taken.incident
    if incident is None:
        raise AssertionError("only an incident undoes")
    forward = forward_intent(incident, ctx)
    record = ctx.store.get(records.rehearsal(forward.rehearsal))
    if record is None:
        raise AssertionError(f"rehearsal {forward.rehearsal} of {incident.id} is missing")
    back = inverse_of(forward)
    plan = Rehearsal.from_json(record.body).but(edits=back.edits, change=back.change)
    said, on = judge_undo(plan, incident, stored(ctx.store, ctx.policy, now, ctx.actions, undo=True))
    no = guards.refusal(said)
    audit = verdict_audit(plan, said, None, "undo" if no is None else "undo refused", ctx, now)
    if no is None:
        return taken, on, audit
    undo = undo_of(forward, ctx, now).but(state=IntentState.REFUSED, result=no.sentence)
    refused = step(incident.but(undo=undo.id), Input(News.NOT_DONE, intent=undo), ctx.policy, now)
    kept = tuple(effect for effect in taken.effects if not isinstance(effect, Undo))
    return Step(refused.incident, (*kept, *refused.effects), refused.note), on, audit


def _commit(
    ctx: Context,
    before: Record | None,
    taken: Step,
    news: Input,
    now: datetime,
    writes: list[Write],
    on: Conditions | None = None,
) -> list[Message]:
    if any(isinstance(effect, Undo) for effect in taken.effects):
        taken, on, audit = _undo_verdict(taken, ctx, now)
        writes = [*writes, audit]
    more, messages = write_out(before, taken, news, ctx, now, on)
    if writes or more:
        ctx.store.transact([*writes, *more])
    return messages
