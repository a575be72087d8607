"""What all remediators share: rehearse a remedy, carry an intent out. Each brings only its `plan`.

Who calls it: `runtime.loading`, with the `plan` of an action's folder.
"""

from datetime import timedelta

from quietpager.actions.plan import Planner, server_dry_run
from quietpager.change.send import carry_out
from quietpager.deciding.planning import planned
from quietpager.errors import Retry
from quietpager.incident import records
from quietpager.model.cluster import ClusterUnavailable, Rejected
from quietpager.model.incident import Rehearsal
from quietpager.model.message import REHEARSE, REHEARSED, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Audit, Conflict, Due, Put, Record
from quietpager.objects.health import health_of
from quietpager.objects.live import Live
from quietpager.runtime.context import Context


def remediate(message: Message, ctx: Context, action: str, plan: Planner) -> list[Message]:
    """Handle `remedy.rehearse`, `remedy.apply` and `remedy.undo` of one action.

    Raises:
        Retry: the cluster cannot be read just now.
    """
    try:
        if message.type == REHEARSE:
            return _rehearse(message, ctx, action, plan)
        if ctx.policy_fault:
            raise Retry(ctx.policy_fault)
        return _apply(message, ctx, action)
    except (ClusterUnavailable, Rejected) as away:
        raise Retry(f"the cluster cannot be read: {away}") from away


def rehearsed_message(rehearsal: Rehearsal) -> Message:
    """Say that a plan is there; only its id travels."""
    return Message(
        id=f"{rehearsal.id}.rehearsed",
        type=REHEARSED,
        subject=rehearsal.incident,
        attributes={"action": rehearsal.remedy.action},
        data={"rehearsal": rehearsal.id},
    )


def _rehearse(message: Message, ctx: Context, action: str, plan: Planner) -> list[Message]:
    record = ctx.store.get(records.rehearsal(str(message.data.get("rehearsal"))))
    if record is None:
        return []
    asked = Rehearsal.from_json(record.body)
    if asked.remedy.action != action:
        return []
    if asked.state != "asked":
        return [rehearsed_message(asked)]
    switch = ctx.store.get(records.SWITCH)
    writing = switch is not None and not switch.body.get("stopped", True)
    now = ctx.clock()
    live = Live(ctx.cluster, asked.owner)
    dry_run = server_dry_run(ctx.cluster, now) if writing else None
    done = planned(asked, ctx.actions[action], plan, live, ctx.policy, dry_run=dry_run)
    return keep_rehearsed(record, done, ctx)


def keep_rehearsed(record: Record, done: Rehearsal, ctx: Context) -> list[Message]:
    """Write a plan down, and say so; a worker that lost the race says nothing."""
    now, tick = ctx.clock(), timedelta(seconds=ctx.policy.tick)
    answer = rehearsed_message(done)
    try:
        ctx.store.transact(
            [
                Put(record.key, done.to_json(), record.version),
                Audit(done.incident, now, done.state, ctx.name,
                      {"rehearsal": done.id, "summary": done.summary, "refusal": done.refusal,
                       "edits": [e.to_json() for e in done.edits],
                       "change": None if done.change is None else done.change.to_json()}),
                Due(records.talk(done.id), now + tick, tick, answer.to_json(), done.asked_at),
            ]
        )  # fmt: skip
    except Conflict:
        return []
    return [answer]


def _apply(message: Message, ctx: Context, action: str) -> list[Message]:
    def still_failing(target: ObjectRef) -> bool:
        quiet = ctx.clock() - timedelta(seconds=ctx.policy.window)
        return not health_of(Live(ctx.cluster, target), quiet).healthy

    outcome = carry_out(
        str(message.data.get("intent")),
        cage=ctx.actions[action].cage,
        store=ctx.store,
        cluster=ctx.cluster,
        policy=ctx.policy,
        clock=ctx.clock,
        still_failing=still_failing,
        actor=ctx.name,
    )
    return [] if outcome is None else [outcome]
