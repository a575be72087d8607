"""The one place that writes to the cluster: claim, look again, send once, record.

    intent pins generation 7
    worker A   claim ─ look ─ (stalls past act_by) ............ send: test generation 7 fails, 422
    worker B              re-claim ─ look ─ send: generation 7 -> 8, mark = intent

Who calls it: every remediator, for `remedy.apply` and `remedy.undo`. It is the only caller of
`Cluster.json_patch` in the product (import-linter and a test hold that).
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any

from quietpager.actions.marks import MARK, ROLLED, WROTE, is_rolled_back, record_of, shape_of
from quietpager.actions.promise import applied
from quietpager.actions.schema import Action
from quietpager.deciding.ground import stamp
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.cluster import Cluster, ClusterUnavailable, Rejected
from quietpager.model.data import Json
from quietpager.model.incident import Edit, Incident, Intent, IntentState
from quietpager.model.message import APPLY, INCIDENT, OUTCOME, UNDO, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Audit, Check, Conflict, Due, Put, Record, Store
from quietpager.model.time import Clock, to_text

_MARK_POINTER = "/metadata/annotations/" + MARK.replace("/", "~1")
_ROLLED_POINTER = "/metadata/annotations/" + ROLLED.replace("/", "~1")
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
    """Name the intent, record what is changed, and how a rollback left it; an undo removes its record."""
    mark: Json = {"op": "add", "path": _MARK_POINTER, "value": intent.id}
    after = applied(live, intent.edits)
    rolled = intent.action == "rollout-undo" or is_rolled_back(live)
    shape = {ROLLED: shape_of(after)} if rolled else {}
    shaped: list[Json] = [{"op": "add", "path": _ROLLED_POINTER, "value": one} for one in shape.values()]
    if intent.undoes is not None:
        return [mark, *shaped, {"op": "remove", "path": _WROTE_POINTER}]
    record = record_of(intent.action, intent.target.uid or "", intent.generation + 1, live, after)
    if live["metadata"].get("annotations") is None:
        notes = {MARK: intent.id, WROTE: record, **shape}
        return [{"op": "add", "path": "/metadata/annotations", "value": notes}]
    return [mark, *shaped, {"op": "add", "path": _WROTE_POINTER, "value": record}]


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


def tell_about(name: str, what: str, incident: Incident) -> Message:
    """Make the message that has people told something of an incident; the text is in record `tell(name)`."""
    return Message(
        id=name,
        type=f"{INCIDENT}{what}",
        subject=incident.id,
        attributes={"namespace": incident.owner.namespace or "none"},
        data={"incident": incident.id, "tell": name},
    )


def carry_out(
    intent_id: str,
    *,
    action: Action,
    store: Store,
    cluster: Cluster,
    policy: Policy,
    clock: Clock,
    still_failing: StillFailing,
    actor: str,
) -> Message | None:
    """Carry out one intent at most once, and give the outcome message, or None if it is not ours to say.

    `action` is the one that the caller has rights for. Of an intent of another action, or for a kind of
    object that the action is not for, nothing is claimed and nothing recorded, whoever says that it is due:
    it waits for its own remediator until it expires.

    Raises:
        StoreUnavailable, ClusterUnavailable: nothing is lost; the due item at `act_by` speaks again.
    """
    record = store.get(records.intent(intent_id))
    if record is None:
        return None
    intent = Intent.from_json(record.body)
    if not is_for(action, intent):
        return None
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


def is_for(action: Action, intent: Intent) -> bool:
    """Tell whether an intent is this action's, for an object that it is for."""
    return intent.action == action.name and intent.target.kind in action.applies_to


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
    claimed = intent.but(state=IntentState.CLAIMED, act_by=act_by)
    again = talk_about(intent, UNDO if intent.undoes else APPLY)
    try:
        store.transact(
            [
                Check(records.SWITCH, switch.version),
                *(
                    Put(slot.key, {"at": to_text(stamp(slot, now)), "holder": intent.incident}, slot.version)
                    for slot in slots
                ),
                Put(record.key, claimed.to_json(), record.version),
                Audit(intent.incident, now, "claimed", actor,
                      {"intent": intent.id, "act_by": to_text(act_by)}),
                Due(records.talk(intent.id), act_by, timedelta(seconds=policy.act), again.to_json(),
                    intent.created_at),
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
        return _first_look(seen, resumed=resumed)
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
        after = cluster.json_patch(target.kind, target.namespace, target.name, patch)
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


def _first_look(
    seen: tuple[IntentState, str, dict[str, object]], *, resumed: bool
) -> tuple[IntentState, str, dict[str, object]]:
    """Weigh what the object says before anything is sent: by us, or by whoever was interrupted."""
    state, result, changes = seen
    if resumed and state is IntentState.REFUSED:
        return IntentState.UNKNOWN, f"{result}, after an interrupted attempt", {}
    if not resumed and state is not IntentState.REFUSED:
        # Nobody can have sent it: whoever claims first finds it unclaimed.
        return IntentState.REFUSED, f"somebody else wrote {MARK} of this intent", {}
    return state, result, changes


def _look(intent: Intent, cluster: Cluster) -> Json | None:
    target = intent.target
    live = cluster.get(target.kind, target.namespace, target.name)
    if live is None or live["metadata"].get("uid") != target.uid:
        return None
    return live


def _judge(intent: Intent, live: Json) -> tuple[IntentState, str, dict[str, object]] | None:
    """Tell what the object itself says of this intent; None means: as pinned, nothing sent yet.

    The mark alone proves nothing, for whoever may edit the object may write it. It counts with the fields as
    the patch leaves them, on an object that has changed since the plan. The generation after it is the one
    that the patch makes, the next one: what came later is somebody else's, and no undo goes over it.
    """
    meta = live["metadata"]
    moved_on = meta.get("generation") != intent.generation
    if (meta.get("annotations") or {}).get(MARK) == intent.id and moved_on:
        if all(_has(live, edit) for edit in intent.edits):
            known = _applied(live, None) | {"generation_after": intent.generation + 1}
            return IntentState.APPLIED, "applied", known
        what = f"{intent.target} has the mark of this intent, and not what it changes"
        return IntentState.UNKNOWN, f"{what}: somebody else changed it", {}
    if moved_on:
        moved = f"generation {intent.generation} was planned on, it is {meta.get('generation')} now"
        return IntentState.REFUSED, f"somebody else changed {intent.target}: {moved}", {}
    return None


def _has(live: Json, edit: Edit) -> bool:
    """Tell whether a field is as an edit leaves it; a JSON pointer (RFC 6901) leads to it."""
    at: Any = live
    for part in edit.path.removeprefix("/").split("/"):
        key = part.replace("~1", "/").replace("~0", "~")
        if isinstance(at, list):
            at = at[int(key)] if key.isdecimal() and int(key) < len(at) else None
        else:
            at = at.get(key) if isinstance(at, dict) else None
    return bool(at == edit.gets)


def _applied(after: Json, now: datetime | None) -> dict[str, object]:
    """Give what is known of a write that was taken; when it was, the API server's own clock says, or ours.

    The moment is compared with what kubelets write, so ours would count crashes of before the change for
    ones after it wherever it is slow. Each write leaves its time in `managedFields`
    (https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management).
    """
    meta = after["metadata"]
    at = max(_edited(meta), default=now)
    return {"generation_after": meta.get("generation"), **({} if at is None else {"applied_at": at})}


def _edited(meta: Json) -> Iterator[datetime]:
    for one in meta.get("managedFields") or ():
        try:
            if not one.get("subresource"):
                yield datetime.fromisoformat(one["time"])
        except (AttributeError, KeyError, TypeError, ValueError):
            continue


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
                    timedelta(seconds=policy.tick), message.to_json(), intent.created_at),
            ]
        )  # fmt: skip
    except Conflict:
        return None
    return message
