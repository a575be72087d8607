"""From a remedy to a rehearsal: everything about a plan that all actions share.

An action's own `plan.py` gives the edits; here they are held against what the action promises, quota, the
largest node and, where writing is allowed, the server's dry run. Nothing is written. What the API server
would refuse (`change.promise`) is refused here, by its fields' names; it keeps its edits, to be proposed.
"""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal

from quietpager.actions.schema import Action
from quietpager.actions.surroundings import disruptions_of, fleet_of, other_rollout, scope_of
from quietpager.change.digests import kept
from quietpager.change.kinds import Change, change_of
from quietpager.change.mark_node import MarkNode
from quietpager.change.patch_fields import PatchFields
from quietpager.change.promise import applied, beyond
from quietpager.change.remove_pods import RemovePods
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


class Planned(Data):
    """What an action's `plan` returns: the change, a sentence, and what one pod then asks for and may use."""

    change: Change
    summary: Told
    pod_memory: str | None = None
    pod_memory_before: str | None = None
    pod_limit: str | None = None
    pod_limit_before: str | None = None

    @property
    def edits(self) -> tuple[Edit, ...]:
        """The fields that it sets; none, where it is no patch."""
        return self.change.edits if isinstance(self.change, PatchFields) else ()

    @property
    def removes(self) -> tuple[ObjectRef, ...]:
        """The pods that it takes away."""
        return self.change.pods if isinstance(self.change, RemovePods) else ()


Planner = Callable[[Live, dict[str, str | float]], Planned]


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
    raw = live.raw_owner
    try:
        if asked.owner.kind not in action.applies_to:
            raise Refused(f"{action.name} is not for a {asked.owner.kind}.")  # noqa: TRY301
        if raw is None:
            raise Refused(f"{asked.owner} is gone.")  # noqa: TRY301
        action.check_params(asked.remedy.params)
        planned = plan(live, asked.remedy.params)
        _is_permitted(action, planned.change, asked.owner, live)
    except Refused as no:
        return asked.but(state="refused", refusal=str(no))
    edits = kept(planned.edits)
    meta = raw["metadata"]
    done = asked.but(
        state="rehearsed",
        generation=meta.get("generation") or 0,
        edits=edits,
        change=None if isinstance(planned.change, PatchFields) else planned.change.stored(),
        summary=planned.summary,
    )
    if isinstance(planned.change, PatchFields) and (
        broken := beyond(action.cage, raw, applied(raw, planned.edits))
    ):
        why = "; ".join(map(str, broken))
        return done.but(
            state="refused",
            refusal=f"{action.name} may not do this, and the API server would refuse it: {why}.",
            beyond=tuple(dict.fromkeys(path for one in broken for path in one.where or (one.rule,))),
        )
    done = done.but(
        available=live.available,
        undo_when=action.undo_when,
        verify=action.verify,
    )
    refused = dry_run(done, raw) if dry_run is not None else None
    return done.but(
        facts=PlanFacts(
            namespace=asked.owner.namespace or "",
            opted_in=_labels(live, raw).get(opt_in_label) == "true",
            ignored=ignore_annotation in (meta.get("annotations") or {}),
            guards=action.guards,
            **scope_of(live, asked.owner, planned.removes),
            disruptions=disruptions_of(live, planned.removes) if planned.removes else None,
            fleet=fleet_of(live),
            other_rollout=other_rollout(live),
            outside_may_change=action.outside(tuple(e.path for e in edits)),
            does_not_fit=_does_not_fit(live, planned, live.wanted),
            dry_run="skipped" if dry_run is None else "refused" if refused else "admitted",
            dry_run_refused=refused,
        )
    )


def _is_permitted(action: Action, change: Change, owner: ObjectRef, live: Live) -> None:
    """Hold a plan to the kinds of change that its action has rights for, and to the owner it is about.

    Raises:
        Refused: it is another kind of change, or another object's.
    """
    if change.kind not in action.kinds and action.kinds:
        raise Refused(
            f"{action.name} plans a change of kind {change.kind}; its rights are for {action.kinds}."
        )
    if isinstance(change, RemovePods):
        own = {pod.metadata.uid for pod in live.pods}
        others = [str(pod) for pod in change.pods if pod.uid not in own]
        if others:
            raise Refused(f"{', '.join(others)} is no pod of {owner}; only its own pods may be removed.")
    elif isinstance(change, MarkNode) and change.node.uid != owner.uid:
        raise Refused(f"{change.node} is not {owner}, which the plan is about.")


def _labels(live: Live, raw: Json) -> dict[str, str]:
    """Give the labels that opt in: those of the namespace, or a node's own, for it is in none."""
    if live.target.namespace is None:
        return raw["metadata"].get("labels") or {}
    return {} if live.namespace is None else live.namespace.metadata.labels


def _does_not_fit(live: Live, change: Planned, replicas: int) -> str | None:
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


def server_dry_run(cluster: Cluster, now: datetime) -> DryRun:
    """Make the dry run that sends exactly what the sender would."""

    def run(planned: Rehearsal, raw: Json) -> str | None:
        draft = Intent(
            id="dry-run", incident=planned.incident, rehearsal=planned.id, action=planned.remedy.action,
            target=planned.owner, generation=planned.generation, edits=planned.edits, change=planned.change,
            created_at=now, expires_at=now,
        )  # fmt: skip
        change = change_of(draft)
        # A patch is tried on the object that it was planned on; the others read what else they write to.
        live = raw if isinstance(change, PatchFields) else change.look(draft, cluster)
        if live is None:
            return f"{planned.owner} is gone"
        try:
            change.try_out(draft, live, cluster)
        except Rejected as no:
            return str(no)
        return None

    return run
