"""The one place that writes to the cluster: claim, look again, send once, record.

    intent pins generation 7
    worker A   claim ─ look ─ (stalls past act_by) ............ send: test generation 7 fails, 422
    worker B              re-claim ─ look ─ send: generation 7 -> 8, mark = intent

Who calls it: every remediator, for `remedy.apply` and `remedy.undo`. It is the only caller of
`Cluster.json_patch` in the product (import-linter and a test hold that).
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from quietpager.actions.marks import MARK, WROTE, record_of
from quietpager.actions.promise import applied
from quietpager.cluster.port import Cluster, ClusterUnavailable, Rejected
from quietpager.model.data import Json
from quietpager.model.incident import Edit, Intent, IntentState
from quietpager.model.message import APPLY, OUTCOME, UNDO, Message
from quietpager.model.objects import ObjectRef
from quietpager.model.time import Clock, to_text
from quietpager.safety import records
from quietpager.safety.policy import Policy
from quietpager.store.port import Audit, Check, Conflict, Due, Put, Record, Store

_MARK_POINTER = "/metadata/annotations/" + MARK.replace("/", "~1")
_WROTE_POINTER = "/metadata/annotations/" + WROTE.replace("/", "~1")

StillFailing = Callable[[ObjectRef], bool]
"""Reads the symptom once more; False means it has healed."""


def patch_of(intent: Intent, live: Json) -> list[Json]:
    """Build the JSON Patch: pinned precondition, then the change, our mark and record in the same write.

    Generation moves on any change of spec or annotations and not on status churn (Kubernetes 1.35,
    measured), so pinning it refuses every foreign edit and no harmless one. What is kept as a digest only
    has no `test` of its own; the generation stands for it.

    Args:
        intent: what was permitted.
        live: the object as it was looked at last; for its annotations, and its containers' names.
    """
    tests: list[Json] = [
        {"op": "test", "path": "/metadata/uid", "value": intent.target.uid},
        {"op": "test", "path": "/metadata/generation", "value": intent.generation},
    ]
    if intent.undoes is not None:
        tests.append({"op": "test", "path": _MARK_POINTER, "value": intent.undoes})
    changes: list[Json] = []
    for edit in intent.edits:
        if edit.had is not None and not edit.hidden:
            tests.append({"op": "test", "path": edit.path, "value": edit.had})
        changes.append(_change(edit))
    return [*tests, *changes, *_marks(intent, live)]


def _marks(intent: Intent, live: Json) -> list[Json]:
    """Name the intent, and record what is changed; an undo removes the record of what it takes back."""
    mark: Json = {"op": "add", "path": _MARK_POINTER, "value": intent.id}
    if intent.undoes is not None:
        return [mark, {"op": "remove", "path": _WROTE_POINTER}]
    after = applied(live, intent.edits)
    record = record_of(intent.action, intent.target.uid or "", intent.generation + 1, live, after)
    if live["metadata"].get("annotations") is None:
        both = {MARK: intent.id, WROTE: record}
        return [{"op": "add", "path": "/metadata/annotations", "value": both}]
    return [mark, {"op": "add", "path": _WROTE_POINTER, "value": record}]


def _change(edit: Edit) -> Json:
    if edit.gets is None:
        return {"op": "remove", "path": edit.path}
    if edit.hidden:
        raise AssertionError(f"{edit.path} is kept as a digest only; guard 10 lets no such plan through")
    op = "add" if edit.had is None else "replace"
    return {"op": op, "path": edit.path, "value": edit.gets}


def reversed_edits(edits: Sequence[Edit]) -> tuple[Edit, ...]:
    """Give the inverse: the same fields back to what they had, last first."""
    return tuple(e.but(had=e.gets, gets=e.had) for e in reversed(edits))


def talk_about(intent: Intent, kind: str) -> Message:
    """Make the message about an intent; only its id travels."""
    return Message(
        id=f"{intent.id}.{kind.rpartition('.')[2]}",
        type=kind,
        subject=intent.incident,
        attributes={"action": intent.action},
        data={"intent": intent.id},
    )


def carry_out(
    intent_id: str,
    *,
    store: Store,
    cluster: Cluster,
    policy: Policy,
    clock: Clock,
    still_failing: StillFailing,
    actor: str,
) -> Message | None:
    """Carry out one intent at most once, and give the outcome message, or None if it is not ours to say.

    Raises:
        StoreUnavailable, ClusterUnavailable: nothing is lost; the due item at `act_by` speaks again.
    """
    record = store.get(records.intent(intent_id))
    if record is None:
        return None
    intent = Intent.from_json(record.body)
    if intent.state not in (IntentState.INTENT, IntentState.CLAIMED):
        return talk_about(intent, OUTCOME)
    now = clock()
    resumed = intent.state is IntentState.CLAIMED
    if resumed and intent.act_by is not None and now < intent.act_by:
        return None
    if not resumed and now >= intent.expires_at:
        return _record(store, record, intent, IntentState.EXPIRED, "nobody claimed it in time",
                       policy, now, actor)  # fmt: skip
    not_done = IntentState.UNKNOWN if resumed else IntentState.REFUSED
    seen = store.get_many([records.SWITCH, *intent.slots])
    switch = seen.get(records.SWITCH)
    if switch is None or switch.body.get("stopped", True):
        return _record(store, record, intent, not_done, "the kill switch is on", policy, now, actor)
    holders = {seen[key].body.get("holder") if key in seen else None for key in intent.slots}
    if holders - {intent.incident}:
        # So much time has passed that another act holds its place in the budget.
        return _record(store, record, intent, not_done, "its budget was spent by others", policy, now, actor)
    slots = [seen[key] for key in intent.slots]
    claimed = _claim(store, record, [switch, *slots], intent, policy, now, actor)
    if claimed is None:
        return None
    record, intent = claimed
    outcome, result, changes = _act(
        intent, resumed=resumed, cluster=cluster, clock=clock, still_failing=still_failing
    )
    if outcome is None:
        return None
    return _record(store, record, intent.but(**changes), outcome, result, policy, clock(), actor)


def _claim(
    store: Store,
    record: Record,
    seen: Sequence[Record],
    intent: Intent,
    policy: Policy,
    now: datetime,
    actor: str,
) -> tuple[Record, Intent] | None:
    """Claim, with everything it rests on as conditions; `seen` is the kill switch, then the budget slots.

    A slot counts from here on and not from the commit: the claim may come as late as the intent expires,
    and again after each interrupted attempt.
    """
    switch, *slots = seen
    act_by = now + timedelta(seconds=policy.act)
    stamp = {"at": to_text(now), "holder": intent.incident}
    claimed = intent.but(state=IntentState.CLAIMED, act_by=act_by)
    again = talk_about(intent, UNDO if intent.undoes else APPLY)
    try:
        store.transact(
            [
                Check(records.SWITCH, switch.version),
                *(Put(slot.key, stamp, slot.version) for slot in slots),
                Put(record.key, claimed.to_json(), record.version),
                Audit(intent.incident, now, "claimed", actor,
                      {"intent": intent.id, "act_by": to_text(act_by)}),
                Due(records.talk(intent.id), act_by, timedelta(seconds=policy.act), again.to_json()),
            ]
        )  # fmt: skip
    except Conflict:
        return None
    return Record(record.key, record.version + 1, claimed.to_json()), claimed


def _act(
    intent: Intent,
    *,
    resumed: bool,
    cluster: Cluster,
    clock: Clock,
    still_failing: StillFailing,
) -> tuple[IntentState | None, str, dict[str, object]]:
    """Look, then send the pinned patch. A state of None means: somebody will look again at `act_by`."""
    live = _look(intent, cluster)
    if live is None:
        return IntentState.REFUSED, f"{intent.target} is gone", {}
    seen = _judge(intent, live)
    if seen is not None:
        state, result, changes = seen
        if state is IntentState.REFUSED and resumed:
            return IntentState.UNKNOWN, f"{result}, after an interrupted attempt", {}
        return state, result, changes
    if intent.undoes is None and not still_failing(intent.target):
        if resumed:
            # The interrupted worker may still send, and its pinned patch would be taken.
            return IntentState.UNKNOWN, "it healed after an interrupted attempt", {}
        return IntentState.REFUSED, "it healed before the write", {"healed": True}
    if intent.act_by is not None and clock() >= intent.act_by:
        return None, "", {}
    patch = patch_of(intent, live)
    target = intent.target
    try:
        after = cluster.json_patch("Deployment", target.namespace, target.name, patch)
    except ClusterUnavailable:
        return None, "", {}
    except Rejected as no:
        live = _look(intent, cluster)
        seen = None if live is None else _judge(intent, live)
        if seen is not None and not (resumed and seen[0] is IntentState.REFUSED):
            return seen
        state = IntentState.UNKNOWN if resumed else IntentState.REFUSED
        return state, str(no), {}
    return IntentState.APPLIED, "applied", _applied(after, clock())


def _look(intent: Intent, cluster: Cluster) -> Json | None:
    target = intent.target
    live = cluster.get("Deployment", target.namespace, target.name)
    if live is None or live["metadata"].get("uid") != target.uid:
        return None
    return live


def _judge(intent: Intent, live: Json) -> tuple[IntentState, str, dict[str, object]] | None:
    """Tell what the object itself says of this intent; None means: as pinned, nothing sent yet."""
    meta = live["metadata"]
    if (meta.get("annotations") or {}).get(MARK) == intent.id:
        return IntentState.APPLIED, "applied", {"generation_after": meta.get("generation")}
    if meta.get("generation") != intent.generation:
        moved = f"generation {intent.generation} was planned on, it is {meta.get('generation')} now"
        return IntentState.REFUSED, f"somebody else changed {intent.target}: {moved}", {}
    return None


def _applied(after: Json, now: datetime) -> dict[str, object]:
    return {"generation_after": after["metadata"].get("generation"), "applied_at": now}


def _record(
    store: Store,
    record: Record,
    intent: Intent,
    state: IntentState,
    result: str,
    policy: Policy,
    now: datetime,
    actor: str,
) -> Message | None:
    """Write the outcome if nobody has; a worker that lost the race says nothing."""
    done = intent.but(state=state, result=result)
    if state is IntentState.APPLIED and done.applied_at is None:
        done = done.but(applied_at=now)
    message = talk_about(done, OUTCOME)
    try:
        store.transact(
            [
                Put(record.key, done.to_json(), record.version),
                Audit(intent.incident, now, state.value.lower(), actor,
                      {"intent": intent.id, "result": result, "undo": intent.undoes is not None}),
                Due(records.talk(intent.id), now + timedelta(seconds=policy.tick),
                    timedelta(seconds=policy.tick), message.to_json()),
            ]
        )  # fmt: skip
    except Conflict:
        return None
    return message
