"""The one place that writes to the cluster: claim, look again, send once, record.

    intent pins what it was planned on
    worker A   claim ─ look ─ (stalls past act_by) ............ send: the pinned precondition fails
    worker B              re-claim ─ look ─ send: taken, once

What is sent, and what it is pinned to, each kind of change says in its own file (`change.kinds`). Who calls
it: every remediator, for `remedy.apply` and `remedy.undo`. Nothing else in the product sends a write (a test
holds that).
"""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from quietpager.change.cage import Cage
from quietpager.change.kinds import change_of
from quietpager.change.marks import MARK
from quietpager.change.write import Found
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.incident.slots import stamp
from quietpager.model.cluster import Cluster, ClusterUnavailable, Rejected
from quietpager.model.incident import Incident, Intent, IntentState
from quietpager.model.message import APPLY, INCIDENT, OUTCOME, UNDO, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Audit, Check, Conflict, Due, Put, Record, Store
from quietpager.model.time import Clock, to_text

StillFailing = Callable[[ObjectRef], bool]
"""Reads the symptom once more; False means it has healed."""


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
    cage: Cage,
    store: Store,
    cluster: Cluster,
    policy: Policy,
    clock: Clock,
    still_failing: StillFailing,
    actor: str,
) -> Message | None:
    """Carry out one intent at most once, and give the outcome message, or None if it is not ours to say.

    `cage` is that of the action that the caller has rights for. Of an intent of another action, for a kind of
    object that the action is not for, or of a kind of change that it does not make, nothing is claimed and
    nothing recorded, whoever says that it is due: it waits for its own remediator until it expires.

    Raises:
        StoreUnavailable, ClusterUnavailable: nothing is lost; the due item at `act_by` speaks again.
    """
    record = store.get(records.intent(intent_id))
    if record is None:
        return None
    intent = Intent.from_json(record.body)
    if not is_for(cage, intent):
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


def is_for(cage: Cage, intent: Intent) -> bool:
    """Tell whether an intent is this action's, for an object that it is for, and a change that it makes."""
    if intent.action != cage.action or intent.target.kind not in cage.applies_to:
        return False
    try:
        return change_of(intent).kind in cage.kinds
    except ValueError:
        # Nobody of ours writes such an intent; whoever did, nothing is claimed for it.
        return False


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
    """Look, then send what is pinned. A state of None means: somebody will look again at `act_by`."""
    change = change_of(intent)
    live = change.look(intent, cluster)
    if live is None:
        return IntentState.REFUSED, f"{intent.target} is gone", {}
    seen = change.judge(intent, live)
    if seen is not None:
        return _first_look(seen, resumed=resumed)
    if intent.undoes is None and not still_failing(intent.target):
        if resumed:
            # The interrupted worker may still send, and its pinned write would be taken.
            return IntentState.UNKNOWN, "it healed after an interrupted attempt", {}
        return IntentState.REFUSED, "it healed before the write", {"healed": True}

    def in_time() -> bool:
        return intent.act_by is None or clock() < intent.act_by

    if not in_time():
        return None, "", {}
    try:
        result, known = change.send(intent, live, cluster, in_time)
    except ClusterUnavailable:
        return None, "", {}
    except Rejected as no:
        live = change.look(intent, cluster)
        seen = None if live is None else change.judge(intent, live)
        if seen is not None and not (resumed and seen[0] is IntentState.REFUSED):
            return seen
        state = IntentState.UNKNOWN if resumed else IntentState.REFUSED
        return state, str(no), {}
    return IntentState.APPLIED, result, known


def _first_look(seen: Found, *, resumed: bool) -> Found:
    """Weigh what the object says before anything is sent: by us, or by whoever was interrupted."""
    state, result, changes = seen
    if resumed and state is IntentState.REFUSED:
        return IntentState.UNKNOWN, f"{result}, after an interrupted attempt", {}
    if not resumed and state is not IntentState.REFUSED:
        # Nobody can have sent it: whoever claims first finds it unclaimed.
        return IntentState.REFUSED, f"somebody else wrote {MARK} of this intent", {}
    return state, result, changes


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
