"""From a remedy to a rehearsal: everything about a plan that all actions share.

An action's own `plan.py` gives the edits; here they are held against what the action promises, quota, the
largest node and, where writing is allowed, the server's dry run. Nothing is written. What the API server
would refuse (`actions.promise`) is refused here, by its fields' names; it keeps its edits, to be proposed.
"""

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal

from quietpager.actions.digests import kept
from quietpager.actions.promise import applied, beyond
from quietpager.actions.schema import Action
from quietpager.actions.surroundings import fleet_of, other_rollout, scope_of
from quietpager.errors import Refused
from quietpager.masking.told import Told
from quietpager.model.cluster import Cluster, Json, Rejected
from quietpager.model.data import Data
from quietpager.model.incident import Edit, Intent, PlanFacts, Rehearsal
from quietpager.model.quantity import memory_text, quantity
from quietpager.model.reference import ObjectRef
from quietpager.objects.live import Live

DryRun = Callable[[Rehearsal, Json], str | None]
"""Sends the exact patch with dryRun=All; gives the API server's refusal, or None."""


class Change(Data):
    """What an action's `plan` returns: the edits, a sentence, and what one pod then asks for and may use.

    `removes` are the pods that it takes away; what changes the owner alone leaves it empty.
    """

    edits: tuple[Edit, ...]
    summary: Told
    removes: tuple[ObjectRef, ...] = ()
    pod_memory: str | None = None
    pod_memory_before: str | None = None
    pod_limit: str | None = None
    pod_limit_before: str | None = None


Planner = Callable[[Live, dict[str, str | float]], Change]


def rehearse(
    asked: Rehearsal,
    action: Action,
    plan: Planner,
    live: Live,
    *,
    opt_in_label: str,
    ignore_annotation: str,
    dry_run: DryRun | None,
) -> Rehearsal:
    """Plan one remedy on the live object; a refusal is a rehearsal too, with its sentence.

    Only what cannot be a secret keeps its value in the rehearsal; of the rest there are names and digests.

    Raises whatever the reader raises; then nothing is known and the message is delivered again.
    """
    raw, owner = live.raw_owner, live.object
    try:
        if asked.owner.kind not in action.applies_to:
            raise Refused(f"{action.name} is not for a {asked.owner.kind}.")  # noqa: TRY301
        if raw is None or owner is None:
            raise Refused(f"{asked.owner} is gone.")  # noqa: TRY301
        action.check_params(asked.remedy.params)
        change = plan(live, asked.remedy.params)
    except Refused as no:
        return asked.but(state="refused", refusal=str(no))
    edits = kept(change.edits)
    if broken := beyond(action, raw, applied(raw, change.edits)):
        why = "; ".join(map(str, broken))
        return asked.but(
            state="refused",
            generation=owner.metadata.generation,
            edits=edits,
            summary=change.summary,
            refusal=f"{action.name} may not do this, and the API server would refuse it: {why}.",
            beyond=tuple(dict.fromkeys(path for one in broken for path in one.where or (one.rule,))),
        )
    namespace = live.namespace
    labels = {} if namespace is None else namespace.metadata.labels
    planned = asked.but(
        state="rehearsed",
        generation=owner.metadata.generation,
        edits=edits,
        summary=change.summary,
        available=live.available,
        undo_when=action.undo_when,
    )
    refused = dry_run(planned, raw) if dry_run is not None else None
    return planned.but(
        facts=PlanFacts(
            namespace=asked.owner.namespace or "",
            opted_in=labels.get(opt_in_label) == "true",
            ignored=ignore_annotation in owner.metadata.annotations,
            guards=action.guards,
            **scope_of(live, asked.owner, change.removes),
            fleet=fleet_of(live),
            other_rollout=other_rollout(live),
            outside_may_change=action.outside(tuple(e.path for e in edits)),
            does_not_fit=_does_not_fit(live, change, live.wanted),
            dry_run="skipped" if dry_run is None else "refused" if refused else "admitted",
            dry_run_refused=refused,
        )
    )


def _does_not_fit(live: Live, change: Change, replicas: int) -> str | None:
    """Say why the result has no room: the dry run admits the owner, never its pods."""
    if change.pod_memory is None:
        return None
    after, before = quantity(change.pod_memory), quantity(change.pod_memory_before or "0")
    largest = max(
        (quantity(n.status.allocatable.get("memory", "0")) for n in live.nodes if not n.spec.unschedulable),
        default=Decimal(0),
    )
    if after > largest:
        return f"A pod would ask for {memory_text(after)}; the largest node has {memory_text(largest)}."
    asked = (after - before) * replicas
    allowed = (quantity(change.pod_limit or "0") - quantity(change.pod_limit_before or "0")) * replicas
    growth = {"requests.memory": asked, "memory": asked, "limits.memory": allowed}
    for quota in live.quotas:
        for name, more in growth.items():
            hard = quota.status.hard.get(name)
            if hard is None or more <= 0:
                continue
            used = quantity(quota.status.used.get(name, "0"))
            if used + more > quantity(hard):
                return (
                    f"Quota {quota.metadata.name} allows {hard} of {name}; {memory_text(used)} is used and "
                    f"{memory_text(more)} more would be needed."
                )
    return None


def server_dry_run(
    cluster: Cluster, patch: Callable[[Intent, Json], Sequence[Json]], now: datetime
) -> DryRun:
    """Make the dry run that sends the exact patch, as the effect would."""

    def run(planned: Rehearsal, raw: Json) -> str | None:
        draft = Intent(
            id="dry-run", incident=planned.incident, rehearsal=planned.id, action=planned.remedy.action,
            target=planned.owner, generation=planned.generation, edits=planned.edits,
            created_at=now, expires_at=now,
        )  # fmt: skip
        operations = patch(draft, raw)
        owner = planned.owner
        try:
            cluster.json_patch(owner.kind, owner.namespace, owner.name, operations, dry_run=True)
        except Rejected as no:
            return str(no)
        return None

    return run
