"""What must hold in every state and at every step: the promises of docs/safety.md, as predicates.

Each takes the states before and after one move and gives None, or a sentence.
"""

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import lru_cache

from quietpager.incident import records
from quietpager.model.cluster import Json
from quietpager.model.incident import OPEN, Autonomy, Incident, Intent, IntentState, Rehearsal, State
from tests.model.moves import BY, PERSON, POLICY
from tests.model.world import START, Mutation, World

Invariant = Callable[[World, World], str | None]


@lru_cache(maxsize=1 << 16)
def _intent(text: str) -> Intent:
    return Intent.from_json(json.loads(text))


@lru_cache(maxsize=1 << 16)
def _incident(text: str) -> Incident:
    return Incident.from_json(json.loads(text))


def intents(world: World) -> list[Intent]:
    """Read all intents."""
    return [_intent(kept[1]) for key, kept in world.store.items() if key.startswith("INTENT#")]


def incidents(world: World) -> list[Incident]:
    """Read all incidents."""
    return [_incident(kept[1]) for key, kept in world.store.items() if key.startswith("INCIDENT#")]


def _written(before: World, after: World) -> tuple[Mutation, Intent | None] | None:
    """Give what this move wrote to the cluster, and its intent as it stood before."""
    if len(after.history) == len(before.history):
        return None
    mutation = after.history[-1]
    record = before.record(records.intent(mutation.intent))
    return mutation, None if record is None else Intent.from_json(record.body)


def written_once(_before: World, after: World) -> str | None:
    """1: at most one write for one intent."""
    for intent, times in Counter(one.intent for one in after.history).items():
        if times > 1:
            return f"{intent} was written {times} times"
    return None


def one_incident(_before: World, after: World) -> str | None:
    """2: at most one open incident for one cause."""
    for cause, n in Counter(one.cause for one in incidents(after) if one.state in OPEN).items():
        if n > 1:
            return f"{n} open incidents for {cause}"
    return None


def within_budget(_before: World, after: World) -> str | None:
    """3: in any window at most B acts on one target. An undo uses its act's slot."""
    acts = [one.at for one in after.history if not one.undo]
    for first in acts:
        inside = [at for at in acts if first <= at < first + POLICY.budget.window]
        if len(inside) > POLICY.budget.target:
            return f"acts at {inside} s: more than {POLICY.budget.target} in {POLICY.budget.window:.0f} s"
    return None


def written_ahead(before: World, after: World) -> str | None:
    """4: every write finds its intent committed and claimed."""
    wrote = _written(before, after)
    if wrote is None:
        return None
    mutation, intent = wrote
    if intent is None:
        return f"{mutation.intent} was written before it was committed"
    if intent.state is IntentState.INTENT:
        return f"{mutation.intent} was written before it was claimed"
    return None


def outcome_is_true(_before: World, after: World) -> str | None:
    """4: the recorded outcome is the real one."""
    written = {one.intent for one in after.history}
    for intent in intents(after):
        if intent.state in (IntentState.REFUSED, IntentState.EXPIRED) and intent.id in written:
            return f"{intent.id} is recorded {intent.state}, but it was written"
        if intent.state in (IntentState.APPLIED, IntentState.UNDONE) and intent.id not in written:
            return f"{intent.id} is recorded {intent.state}, but it was never written"
    return None


def outcome_stays(before: World, after: World) -> str | None:
    """4: a recorded outcome is never overwritten, but for APPLIED that was UNDONE."""
    now = {intent.id: intent.state for intent in intents(after)}
    open_ = (IntentState.INTENT, IntentState.CLAIMED)
    for intent in intents(before):
        here = now.get(intent.id)
        undone = intent.state is IntentState.APPLIED and here is IntentState.UNDONE
        if intent.state not in open_ and here is not intent.state and not undone:
            return f"{intent.id} was {intent.state} and is now {here}"
    return None


def before_deadline(before: World, after: World) -> str | None:
    """4: a worker that was not stopped between look and write keeps its deadline."""
    wrote = _written(before, after)
    if wrote is None or wrote[0].late or wrote[1] is None or wrote[1].act_by is None:
        return None
    at = START + timedelta(seconds=wrote[0].at)
    return None if at < wrote[1].act_by else f"{wrote[0].intent} was written after its act deadline"


def stop_is_kept(before: World, after: World) -> str | None:
    """5: after `stop` nothing is claimed, and no running worker writes for longer than an act."""
    if after.stopped_at is None:
        return None
    was = {intent.id: intent for intent in intents(before)}
    for intent in intents(after):
        old = was.get(intent.id)
        claimed = intent.state is IntentState.CLAIMED and old is not None and intent.act_by != old.act_by
        if before.stopped_at is not None and claimed:
            return f"{intent.id} was claimed although writing was stopped"
    wrote = _written(before, after)
    if wrote is not None and not wrote[0].late and wrote[0].at - after.stopped_at > POLICY.act:
        return f"{wrote[0].intent} was written {wrote[0].at - after.stopped_at} s after the stop"
    return None


def claimed_in_time(before: World, after: World) -> str | None:
    """4: an intent that nobody claimed in time is never claimed."""
    was = {intent.id: intent for intent in intents(before)}
    for intent in intents(after):
        old = was.get(intent.id)
        fresh = old is not None and old.state is IntentState.INTENT and intent.state is IntentState.CLAIMED
        # The worker's look at the clock came just before; it may have waited for its transaction since.
        if fresh and intent.act_by is not None:
            claimed = intent.act_by - timedelta(seconds=POLICY.act)
            if old is not None and claimed >= old.expires_at:
                return f"{intent.id} was claimed after it had expired"
    return None


def nothing_foreign_is_overwritten(before: World, after: World) -> str | None:
    """11 and the fence: every write finds the object as it was planned on."""
    wrote = _written(before, after)
    if wrote is None:
        return None
    mutation, intent = wrote
    if intent is None:
        return None
    if mutation.before.generation != intent.generation:
        return (
            f"{intent.id} was planned on generation {intent.generation} and written on "
            f"{mutation.before.generation}"
        )
    return None


def undo_restores(_before: World, after: World) -> str | None:
    """11: an undo restores what was there, once, and only over our own change."""
    undos = [one for one in after.history if one.undo]
    if len(undos) > 1:
        return f"undone {len(undos)} times"
    for undo in undos:
        forward = next((one for one in after.history if undo.intent == f"{one.intent}-undo"), None)
        if forward is None:
            return f"{undo.intent} undoes what was never written"
        if (undo.after.limit, undo.after.request) != (forward.before.limit, forward.before.request):
            return f"{undo.intent} does not restore what was there"
        if undo.before.mark != forward.intent:
            return f"{undo.intent} undoes a change that is not ours"
    return None


def undo_needs_proof(before: World, after: World) -> str | None:
    """11: nothing that helped is undone."""
    wrote = _written(before, after)
    if wrote is None or not wrote[0].undo:
        return None
    helps = wrote[0].before.enough is not None
    return f"{wrote[0].intent} took back a change that helped" if helps and not before.count("heal") else None


def fixed_means_written(_before: World, after: World) -> str | None:
    """Closed as fixed: there was an act, and the workload is well."""
    for incident in incidents(after):
        if incident.state is State.CLOSED and incident.reason == "fixed" and not after.history:
            return f"{incident.id} is closed as fixed, and nothing was ever written"
    return None


def owns_its_dues(_before: World, after: World) -> str | None:
    """10: every open incident will be looked at again, and has a deadline."""
    for incident in incidents(after):
        wanted = {records.recheck(incident.id), records.deadline(incident.id)}
        missing = wanted - set(after.due) if incident.state in OPEN else None
        if missing:
            return f"{incident.id} in {incident.state} has no due item {', '.join(sorted(missing))}"
    return None


def _committed(before: World, after: World) -> list[tuple[Intent, Incident]]:
    """Give the intents that this move committed at autonomy `approve`, each with its incident; no undos."""
    if after.store is before.store:
        return []
    known = {incident.id: incident for incident in incidents(after)}
    fresh = (one for one in intents(after) if records.intent(one.id) not in before.store)
    found = [(one, known[one.incident]) for one in fresh if one.undoes is None]
    return [(intent, incident) for intent, incident in found if incident.autonomy is Autonomy.APPROVE]


def asked_before(before: World, after: World) -> str | None:
    """9: what is committed was asked, approved by as many as it needs, and is just what was shown."""
    for intent, incident in _committed(before, after):
        record = before.record(records.approval(incident.approved or ""))
        if record is None:
            return f"{intent.id} was committed, and nobody was asked"
        if (said := record.body["decision"]) != "approve":
            return f"{intent.id} was committed, and the answer to {incident.approved} is {said}"
        people = {str(one["by"]).casefold().strip() for one in record.body["approvals"]}
        if len(people) < record.body["needs"]:
            return f"{intent.id} was committed, and only {', '.join(people)} approved {incident.approved}"
        shown = before.record(records.rehearsal(str(record.body["rehearsal"])))
        plan = None if shown is None else Rehearsal.from_json(shown.body)
        if plan is None or (plan.owner, plan.edits) != (intent.target, intent.edits):
            return f"{intent.id} was committed, and is not the change that {incident.approved} showed"
    return None


def approved_once(before: World, after: World) -> str | None:
    """9: an approval backs one act. Another try follows only one that was certainly not written: refused
    while it still failed, or never claimed.
    """
    for intent, incident in _committed(before, after):
        record = before.record(records.approval(incident.approved or ""))
        if record is None or record.body["decision"] is None:
            continue
        at = datetime.fromisoformat(str(record.body["at"]))
        for other in intents(before):
            # In one incident questions follow one another: what came after the answer was by this approval.
            if other.incident != incident.id or other.undoes is not None or other.created_at < at:
                continue
            if other.healed or other.state not in (IntentState.REFUSED, IntentState.EXPIRED):
                what = "healed before the write" if other.healed else f"is {other.state}"
                return f"{intent.id} rests on {incident.approved} as did {other.id}, which {what}"
    return None


def answered_once(before: World, after: World) -> str | None:
    """9: one answer counts, the first, and only one that was given in time; used is used."""
    if after.store is before.store:
        return None
    for old in before.records("APPROVAL"):
        record = after.record(old.key)
        was, now = old.body, {} if record is None else record.body
        given = {key: was.get(key) for key in ("decision", "by", "at")}
        if was["decision"] is not None and given != {key: now.get(key) for key in given}:
            return f"{old.key}: {was['by']} answered {was['decision']}, and then the answer was another one"
        if was.get("used") and not now.get("used"):
            return f"{old.key} was used, and is there to be used again"
        if now.get("decision") and _late(str(now["at"]), now):
            return f"{old.key} was answered after it had expired"
    return None


def answered_as_shown(before: World, after: World) -> str | None:
    """9: an answer is kept for the question, and the diff, that the person had before their eyes."""
    if after.store is before.store:
        return None
    for record in after.records("APPROVAL"):
        was, body = before.record(record.key), record.body
        if body["decision"] is None or (was is not None and was.body["decision"] is not None):
            continue
        pages = [
            worker.message.data
            for worker in before.workers
            if worker.name == PERSON and worker.message.attributes[BY] == body["by"]
        ]
        here = (record.key, body["diff"])
        if here not in [(records.approval(str(page["question"])), page["diff"]) for page in pages]:
            return f"{record.key} was answered by {body['by']}, whose page showed something else"
    return None


def taken_up_in_time(before: World, after: World) -> str | None:
    """9: an answer is taken up once, in time, while its own question is what the incident asks."""
    if after.store is before.store:
        return None
    was = {incident.id: incident for incident in incidents(before)}
    for incident in incidents(after):
        old, name = was.get(incident.id), incident.approved
        if name is None or old is None or old.approved == name:
            continue
        record = before.record(records.approval(name))
        if old.state is not State.APPROVAL or old.approval != name or record is None:
            return f"{name} was taken up, and {incident.id} asks something else"
        if record.body["decision"] != "approve" or record.body.get("used"):
            return f"{name} was taken up as approved, and nobody has approved it, or it was used before"
        # Decide's look at the clock came just before; it may have waited for its transaction since.
        if _late(incident.state_since.isoformat(), record.body):
            return f"{name} was taken up after it had expired"
    return None


def _late(moment: str, question: Json) -> bool:
    return datetime.fromisoformat(moment) > datetime.fromisoformat(str(question["expires"]))


def rejected_stays(_before: World, after: World) -> str | None:
    """9: what a person has rejected or taken over stays theirs: nothing is planned or written any more."""
    for incident in incidents(after):
        if incident.taken_over and incident.state not in (State.HANDOVER, State.CLOSED):
            return f"{incident.id} was rejected, and is in {incident.state}"
    return None


INVARIANTS: tuple[Invariant, ...] = (
    written_once, one_incident, within_budget, written_ahead, outcome_is_true, outcome_stays, before_deadline,
    stop_is_kept, claimed_in_time, nothing_foreign_is_overwritten, undo_restores, undo_needs_proof,
    fixed_means_written, owns_its_dues, asked_before, approved_once, answered_once, answered_as_shown,
    taken_up_in_time, rejected_stays,
)  # fmt: skip


def comes_to_an_end(end: World) -> str | None:
    """10: when nothing more goes wrong, every incident is closed or with a person."""
    for incident in incidents(end):
        if incident.state in OPEN and not incident.state.startswith("WITH_PERSON"):
            return f"{incident.id} stays in {incident.state}"
    for name in end.unused:
        return f"{name} was answered, and nothing came of it"
    return None
