"""remediate/propose_change: hands a plan to whoever owns the object, through Git or as a patch.

It has no right to change anything in the cluster. The plan is the one that guard 5 kept from it, or one
that no action may write, named by its rehearsal; without one there is only advice. Values of variables,
arguments and whatever else is kept as a digest only are never written anywhere, so such a plan is only
shown. Nothing is pushed where nothing might be written: the same switch, namespace labels, annotation and
autonomy count.
"""

from quietpager.errors import BadMessage, Refused, Retry
from quietpager.functions.remediate.propose_change.proposing import (
    Wanted,
    advice,
    patch_text,
    push,
    reading,
    wanted_of,
)
from quietpager.incident import records, storm
from quietpager.model.cluster import ClusterUnavailable, Rejected
from quietpager.model.incident import Autonomy, Incident, Proposal, Rehearsal
from quietpager.model.message import REHEARSE, Message
from quietpager.objects.live import Live
from quietpager.runtime.context import Context
from quietpager.runtime.remediating import keep_rehearsed, rehearsed_message

ACTION = "propose-change"


def handle(message: Message, ctx: Context) -> list[Message]:
    """Rehearse `propose-change`; the proposal is the rehearsal.

    Raises:
        BadMessage: another message; a proposal is never applied and never undone.
        Retry: the cluster cannot be read just now.
    """
    if message.type != REHEARSE:
        raise BadMessage(f"propose_change only rehearses; it does not read {message.type[:100]}.")
    record = ctx.store.get(records.rehearsal(str(message.data.get("rehearsal"))))
    if record is None:
        return []
    asked = Rehearsal.from_json(record.body)
    if asked.remedy.action != ACTION:
        return []
    if asked.state != "asked":
        return [rehearsed_message(asked)]
    try:
        done = propose(asked, ctx)
    except Refused as no:
        done = asked.but(state="refused", refusal=str(no))
    except (ClusterUnavailable, Rejected) as away:
        raise Retry(f"the cluster cannot be read: {away}") from away
    return keep_rehearsed(record, done, ctx)


def propose(asked: Rehearsal, ctx: Context) -> Rehearsal:
    """Make the proposal.

    Raises:
        Refused: there is nothing to propose, or nobody to propose it to.
    """
    ctx.actions[ACTION].check_params(asked.remedy.params)
    found = ctx.store.get(records.incident(asked.incident))
    if found is None:
        raise Refused(f"Incident {asked.incident} is not on record.")
    incident = Incident.from_json(found.body)
    of = asked.remedy.params.get("of")
    if of is None:
        return _done(asked, Proposal(kind="patch", text=advice(incident)), "advice is attached")
    record = ctx.store.get(records.rehearsal(str(of)))
    plan = None if record is None else Rehearsal.from_json(record.body)
    if plan is None or plan.incident != incident.id or not plan.edits:
        raise Refused(f"Rehearsal {of} is no plan of incident {incident.id}.")
    live = Live(ctx.cluster, plan.owner)
    raw = live.raw_owner
    if raw is None:
        raise Refused(f"{plan.owner} is gone.")
    if any(edit.hidden for edit in plan.edits):
        # Half a rollback could do harm, and the other half is in values that are kept nowhere.
        return _done(
            asked, Proposal(kind="patch", text=reading(plan)), f"{plan.summary}; to be read by a person"
        )
    wanted = wanted_of(plan, incident, raw)
    why = not_pushed(incident, live, ctx)
    if why is None:
        try:
            return _pushed(asked, wanted, ctx)
        except Refused as no:
            why = str(no)
    patch = Proposal(kind="patch", text=patch_text(wanted))
    return _done(asked, patch, f"{plan.summary}; a patch is attached. {why}")


def _pushed(asked: Rehearsal, wanted: Wanted, ctx: Context) -> Rehearsal:
    repository = ctx.policy.repository(wanted.plan.owner.namespace or "")
    if repository is None:
        raise Refused("The policy names no Git repository for this namespace.")
    shown = push(wanted, repository)
    word = "pull request" if shown.kind == "pull_request" else "branch"
    return _done(asked, shown, f"{wanted.plan.summary}: {word} {shown.where}")


def not_pushed(incident: Incident, live: Live, ctx: Context) -> str | None:
    """Say why nothing may leave for Git; None: it may."""
    switch, namespace, policy = ctx.store.get(records.SWITCH), live.target.namespace or "", ctx.policy
    if switch is None or switch.body.get("stopped", True):
        return "Nothing was pushed: writing is stopped."
    if incident.autonomy.rank < Autonomy.APPROVE.rank:
        return f"Nothing was pushed: autonomy is {incident.autonomy}."
    if policy.is_protected(namespace):
        return f"Nothing was pushed: namespace {namespace} belongs to the platform."
    if not policy.names(namespace):
        return f"Nothing was pushed: the policy does not name namespace {namespace}."
    count = storm.openings(
        ctx.store.get_many(storm.keys(live.target, policy)), live.target, policy, ctx.clock()
    )
    if count.own > policy.storm.namespace or count.acting > policy.storm.incidents:
        return "Nothing was pushed: a storm lasts, and nothing is done until it is over."
    labels = {} if live.namespace is None else live.namespace.metadata.labels
    if labels.get(policy.opt_in_label) != "true":
        return f"Nothing was pushed: namespace {namespace} has no label {policy.opt_in_label}=true."
    if live.object is None or policy.ignore_annotation in live.object.metadata.annotations:
        return f"Nothing was pushed: {live.target} is annotated {policy.ignore_annotation}."
    return None


def _done(asked: Rehearsal, proposal: Proposal, summary: str) -> Rehearsal:
    """Keep the proposal. It has no edits: whatever decide made of it, there is nothing to write."""
    return asked.but(state="rehearsed", proposal=proposal, summary=summary)
