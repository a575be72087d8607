"""The guards: what must hold before anything is written. Pure; they run in order and fail closed.

Who calls it: `govern/decide`, once on `rehearsed`; the records they looked at are then checked again,
by version, inside the transaction that writes the intent. Once more, with fewer guards, before an undo.
Replay calls it with assumed facts, `quietpager policy explain` prints what they said.
Numbers are those of the safety design: 1 kill switch, 2 protected, 3 scope, 4 change in progress,
5 ownership, 6 storm brake, 7 cool-down and breaker, 8 budget, 9 disruption budgets, 10 rehearsal,
11 autonomy, 12 dwell.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from quietpager.change.kinds import change_of
from quietpager.change.patch_fields import PatchFields
from quietpager.change.remove_pods import RemovePods
from quietpager.errors import Refused
from quietpager.incident.policy import Limit, Policy
from quietpager.incident.storm import Openings
from quietpager.masking.told import Told
from quietpager.model.data import Data
from quietpager.model.incident import Autonomy, Fleet, Incident, PlanFacts, Rehearsal, lowest
from quietpager.model.time import to_text

AUDITED = "guards"
"""Kind of the audit entry that keeps what the guards said, as `{"guards": [Verdict, …], …}`."""

Figure = str | int | float | bool | None
Figures = dict[str, Figure]
"""What a guard looked at, by name."""


@dataclass(frozen=True, slots=True)
class Level:
    """How far one scope's budget is used: `taken` of its slots cannot be had now."""

    scope: str
    limit: Limit
    taken: int

    @property
    def spent(self) -> bool:
        """No slot is left."""
        return self.taken >= self.limit.acts

    def __str__(self) -> str:
        """Write it with its figures."""
        return f"{self.scope} ({self.taken} of {self.limit.acts} in {self.limit.window:.0f} s)"


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything the guards look at; nothing has a default, so that nothing is permitted by silence.

    `openings` counts new incidents in the storm brake's window; `levels` are the budgets; `at_most` is the
    action's own `autonomy_at_most`.
    """

    incident: Incident
    rehearsal: Rehearsal
    policy: Policy
    now: datetime
    stopped: bool
    breaker_until: datetime | None
    last_act: datetime | None
    levels: tuple[Level, ...]
    openings: Openings
    at_most: Autonomy


@dataclass(frozen=True, slots=True)
class Said:
    """A guard's answer: its no, if it has one, and the figures. Without `applies` it had nothing to judge."""

    no: str | None = None
    figures: Figures = field(default_factory=dict)
    applies: bool = True


class Verdict(Data):
    """One guard's answer, as the audit keeps it; `sentence` is there where it refused.

    The figures are pairs, for a store may keep a map's names in an order of its own.
    """

    number: int
    guard: str
    said: Literal["pass", "refused", "not applicable"]
    sentence: Told = ""
    figures: tuple[tuple[str, Figure], ...] = ()


Guard = Callable[[Ground], Said]
Guards = tuple[tuple[int, str, Guard], ...]


def _facts(ground: Ground) -> PlanFacts:
    if ground.rehearsal.facts is None:
        raise Refused("the plan came without its facts")
    return ground.rehearsal.facts


def _fleet(ground: Ground) -> Fleet:
    fleet = _facts(ground).fleet
    if fleet is None:
        raise Refused("the plan does not say how the nodes are")
    return fleet


def _removed(ground: Ground) -> set[str] | None:
    """Give the uids of the pods that the plan itself takes away; None where it takes none.

    Facts come from a remediator, and it may be wrong: what removes pods is judged as such whatever they say.
    """
    change = change_of(ground.rehearsal)
    return {str(pod.uid) for pod in change.pods} if isinstance(change, RemovePods) else None


def kill_switch(ground: Ground) -> Said:
    """1: nothing is written while the switch is on."""
    no = "Writing is stopped; `quietpager resume` starts it." if ground.stopped else None
    return Said(no, {"stopped": ground.stopped})


def protected(ground: Ground) -> Said:
    """2: platform namespaces, those that policy or label do not opt in, objects to be ignored.

    Both must hold: the policy is the cluster admin's word, and the label is what the cage can see.
    """
    facts, policy = _facts(ground), ground.policy
    # The incident's own namespace is looked at too: facts come from a remediator, and it may be wrong.
    places = {facts.namespace, ground.rehearsal.owner.namespace or ""}
    places |= {target.namespace or "" for target in facts.targets}
    platform = sorted(place for place in places if policy.is_protected(place))
    no = None
    if platform:
        no = f"Namespace {platform[0] or '(none)'} belongs to the platform."
    elif len(places) > 1:
        no = f"The plan reaches into several namespaces: {', '.join(sorted(places))}."
    elif not policy.names(facts.namespace):
        label = "and the label alone is not enough" if facts.opted_in else "and it has no opt-in label either"
        no = f"The policy's `namespaces` does not let {facts.namespace} be written to, {label}."
    elif not facts.opted_in:
        no = f"Namespace {facts.namespace} has no label {policy.opt_in_label}=true; the policy names it."
    elif facts.ignored:
        no = f"{ground.rehearsal.owner} is annotated {policy.ignore_annotation}."
    figures: Figures = {
        "namespace": facts.namespace, "in_policy": policy.names(facts.namespace), "labelled": facts.opted_in,
        "ignored": facts.ignored,
    }  # fmt: skip
    return Said(no, figures)


def scope(ground: Ground) -> Said:
    """3: explicit uids, never empty; of pods at most a fraction, a floor kept, one failure domain."""
    facts, policy = _facts(ground), ground.policy
    targets, siblings, healthy = facts.targets, facts.siblings, facts.healthy
    figures: Figures = {"targets": len(targets)}
    unknown = [str(target) for target in targets if not target.uid]
    if not targets:
        return Said("The plan names no target.", figures)
    if unknown:
        return Said(f"{', '.join(unknown)} has no uid; a name alone may be another object by now.", figures)
    if len({target.uid for target in targets}) < len(targets):
        return Said("The plan names a target twice.", figures)
    removed = _removed(ground)
    if removed is not None and removed != {target.uid for target in targets}:
        return Said("The plan would remove other pods than those that were counted.", figures)
    if not facts.guards.fraction and removed is None:
        return Said(None, figures)
    if siblings is None or healthy is None:
        return Said("The plan does not say how many pods the workload has, or keeps.", figures)
    figures |= {
        "siblings": siblings, "fraction": policy.fraction, "healthy_kept": healthy,
        "floor": policy.floor, "domains": ", ".join(facts.domains),
    }  # fmt: skip
    no = None
    if len(targets) > policy.fraction * siblings:
        no = (
            f"{len(targets)} of {siblings} pods would go; the limit is {policy.fraction:.0%} of them, "
            f"{int(policy.fraction * siblings)}."
        )
    elif healthy < policy.floor:
        no = f"{healthy} healthy pod(s) would stay; the floor is {policy.floor}."
    elif len(facts.domains) != 1:
        where = ", ".join(facts.domains) or "nobody knows where"
        no = f"The targets are in {len(facts.domains)} failure domains ({where}); one at a time is allowed."
    return Said(no, figures)


def change_in_progress(ground: Ground) -> Said:
    """4: a freeze window, a drain, a cluster upgrade, somebody else's rollout."""
    facts, policy = _facts(ground), ground.policy
    fleet, limits = _fleet(ground), policy.change
    frozen = policy.frozen(ground.now, facts.namespace)
    figures: Figures = {
        "frozen_until": None if frozen is None else to_text(frozen[1]),
        "cordoned": len(fleet.cordoned), "cordoned_allowed": limits.cordoned,
        "kubelets": len(fleet.kubelets), "kubelets_allowed": limits.kubelets,
        "other_rollout": facts.other_rollout,
    }  # fmt: skip
    no = None
    if frozen is not None:
        window, end = frozen
        no = f"A freeze window is open until {to_text(end)}{f': {window.why}' if window.why else ''}."
    elif len(fleet.cordoned) > limits.cordoned:
        no = (
            f"{len(fleet.cordoned)} node(s) are cordoned, as in a drain ({_some(fleet.cordoned)}); "
            f"the limit is {limits.cordoned}."
        )
    elif len(fleet.kubelets) > limits.kubelets:
        no = (
            f"The kubelets are of {len(fleet.kubelets)} versions, as in an upgrade "
            f"({_some(fleet.kubelets)}); the limit is {limits.kubelets}."
        )
    elif facts.guards.rollout_of_others == "refuse" and facts.other_rollout is not None:
        no = f"Somebody else's rollout of {ground.rehearsal.owner} is under way: {facts.other_rollout}."
    return Said(no, figures)


def _some(names: tuple[str, ...], most: int = 5) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def ownership(ground: Ground) -> Said:
    """5: what GitOps, Helm, an operator or an autoscaler owns is proposed, unless the policy says patch."""
    facts = _facts(ground)
    figures: Figures = {"owned_by": facts.owned_by, "mode": facts.owner_mode}
    if facts.owned_by is None or facts.owner_mode != "propose":
        return Said(None, figures)
    where = f"ownership is `propose` in namespace {facts.namespace}"
    no = f"{ground.rehearsal.owner} is owned by {facts.owned_by}; {where}, so the change is only proposed."
    return Said(no, figures)


def storm(ground: Ground) -> Said:
    """6: so much at once is the observer's fault, or a person's case; a namespace stops itself only."""
    limits, fleet, count = ground.policy.storm, _fleet(ground), ground.openings
    where = ground.incident.owner.namespace or "(none)"
    figures: Figures = {
        "here": count.own, "here_allowed": limits.namespace,
        "everywhere": count.acting, "everywhere_allowed": limits.incidents, "namespaces": count.namespaces,
        "each_counts_for": limits.each, "window": limits.window,
        "unhealthy": fleet.unhealthy, "nodes": fleet.nodes, "part": limits.nodes,
    }  # fmt: skip
    no = None
    if count.own > limits.namespace:
        no = (
            f"More than {limits.namespace} incidents opened in namespace {where} in {limits.window:.0f} s. "
            "Acting has stopped there, and only there; a person looks first."
        )
    elif count.acting > limits.incidents:
        no = (
            f"More than {limits.incidents} incidents opened in {limits.window:.0f} s in {count.namespaces} "
            f"namespaces, of which each counts for {limits.each} at most: suspect the observer. All acting "
            "has stopped; a person looks first."
        )
    elif fleet.unhealthy > 1 and fleet.unhealthy > limits.nodes * fleet.nodes:
        no = (
            f"{fleet.unhealthy} of {fleet.nodes} nodes are unhealthy, the limit is {limits.nodes:.0%}: "
            "suspect the observer, or the cluster itself. All acting has stopped; a person looks first."
        )
    return Said(no, figures)


def cool_down(ground: Ground) -> Said:
    """7: no second act on the same target inside the window, none after one that did not help."""
    limit, last, until = ground.policy.cool_down, ground.last_act, ground.breaker_until
    age = None if last is None else (ground.now - last).total_seconds()
    left = None if until is None else max((until - ground.now).total_seconds(), 0.0)
    no = None
    if left is not None and left > 0:
        no = f"An earlier act on this target did not help; the breaker is open for {left:.0f} s more."
    elif age is not None and age < limit:
        no = f"The last act on {ground.incident.owner} was {age:.0f} s ago; the limit is {limit:.0f} s."
    return Said(no, {"last_act_ago": age, "cool_down": limit, "breaker_left": left})


def budget(ground: Ground) -> Said:
    """8: at most B acts in any window, for each scope."""
    levels = ground.levels
    if not levels:
        raise Refused("nobody has looked at the budgets")
    spent = [str(level) for level in levels if level.spent]
    figures: Figures = {level.scope: f"{level.taken} of {level.limit.acts}" for level in levels}
    return Said(f"The budget of {', '.join(spent)} is spent." if spent else None, figures)


def disruption(ground: Ground) -> Said:
    """9: the PodDisruptionBudgets of whatever would be removed."""
    facts = _facts(ground)
    if not facts.guards.pdb and _removed(ground) is None:
        return Said(applies=False)
    if facts.disruptions is None:
        return Said("The plan does not say which PodDisruptionBudgets select its targets.")
    figures: Figures = {one.name: f"{len(one.targets)} of {one.allowed}" for one in facts.disruptions}
    many = [one for one in facts.disruptions if len(one.targets) > one.allowed]
    every = [target for one in facts.disruptions for target in one.targets]
    twice = sorted({target for target in every if every.count(target) > 1})
    if many:
        one = many[0]
        no = f"PodDisruptionBudget {one.name} allows {one.allowed} now; {len(one.targets)} would go."
    elif twice:
        # The API server answers such an eviction with 500 (Kubernetes 1.35, measured).
        no = f"More than one PodDisruptionBudget selects {_some(tuple(twice))}; it cannot be evicted."
    else:
        return Said(None, figures)
    return Said(no, figures)


def rehearsed(ground: Ground) -> Said:
    """10: inside `may_change`, the result fits, and the server's dry run admits it."""
    facts, plan = _facts(ground), ground.rehearsal
    change = change_of(plan)
    no = None
    digests = [edit.path for edit in plan.edits if edit.hidden and edit.gets is not None]
    if change.empty:
        no = "The plan changes nothing."
    elif plan.edits and not isinstance(change, PatchFields):
        no = f"The plan has edits beside its change of kind {change.kind}; it must be one write."
    elif plan.beyond or digests:
        fields = ", ".join(plan.beyond or digests)
        no = f"The plan would change {fields}, which no action may write; a person has to."
    elif facts.outside_may_change:
        no = f"The plan would change {', '.join(facts.outside_may_change)}, outside may_change."
    elif facts.does_not_fit is not None:
        no = facts.does_not_fit
    elif facts.dry_run_refused is not None:
        no = f"The API server refuses the change in a dry run: {facts.dry_run_refused}"
    figures: Figures = {"edits": len(plan.edits), "dry_run": facts.dry_run}
    if not isinstance(change, PatchFields):
        figures |= {"change": change.kind}
    return Said(no, figures)


def dwell(ground: Ground) -> Said:
    """12: the symptom has lasted longer than a transient."""
    incident, limit = ground.incident, ground.policy.dwell(ground.incident.dwell)
    lasted = (ground.now - incident.since).total_seconds()
    figures: Figures = {
        "lasted": lasted, "seconds": limit.seconds,
        "restarted": incident.restarts, "restarts": limit.restarts,
    }  # fmt: skip
    if ground.policy.lasted(incident.dwell, lasted, incident.restarts):
        return Said(None, figures)
    return Said(
        f"The symptom has lasted {lasted:.0f} s and {incident.restarts} restart(s); the limit is "
        f"{limit.seconds:.0f} s or {limit.restarts} restart(s).",
        figures,
    )


GUARDS: Guards = (
    (1, "kill switch", kill_switch),
    (2, "protected", protected),
    (3, "scope", scope),
    (4, "change in progress", change_in_progress),
    (5, "ownership", ownership),
    (6, "storm brake", storm),
    (7, "cool-down", cool_down),
    (8, "budget", budget),
    (9, "disruption budgets", disruption),
    (10, "rehearsal", rehearsed),
    (12, "dwell", dwell),
)

UNDO_PASSES = frozenset({1, 2, 5, 8, 10})
"""An undo takes back what was just done: waiting for calm would leave behind what did not help."""
UNDO_GUARDS: Guards = tuple(guard for guard in GUARDS if guard[0] in UNDO_PASSES)


def verdicts(ground: Ground, guards: Guards = GUARDS) -> tuple[Verdict, ...]:
    """Ask every guard, in order; the first no counts, the others are for the person who reads it.

    A guard that raises, refuses.
    """
    return tuple(_ask(ground, number, name, guard) for number, name, guard in guards)


def _ask(ground: Ground, number: int, name: str, guard: Guard) -> Verdict:
    try:
        said = guard(ground)
    except Exception as broken:  # noqa: BLE001 (fail closed, whatever it is)
        failed = type(broken).__name__
        said = Said(f"The guard itself failed ({failed}: {broken}), so it refuses.", {"failed": failed})
    figures = tuple(said.figures.items())
    if said.no is not None:
        sentence = f"Guard {number} ({name}): {said.no}"
        return Verdict(number=number, guard=name, said="refused", sentence=sentence, figures=figures)
    answer: Literal["pass", "not applicable"] = "pass" if said.applies else "not applicable"
    return Verdict(number=number, guard=name, said=answer, figures=figures)


def refusal(said: tuple[Verdict, ...]) -> Verdict | None:
    """Find the first no."""
    return next((one for one in said if one.said == "refused"), None)


def check(ground: Ground, guards: Guards = GUARDS) -> Verdict | None:
    """Run the guards in order; gives the first no."""
    return refusal(verdicts(ground, guards))


def autonomy(ground: Ground) -> Autonomy:
    """11: what may be done without asking; an approval raises it for this one rehearsal.

    The incident's dial is the rule's and the policy's when it opened; the action's limit and the policy of
    now lower it once more.
    """
    if ground.incident.approved is not None:
        return Autonomy.AUTO
    incident = ground.incident
    today = ground.policy.dial(incident.autonomy, incident.owner.namespace, incident.failure_class)
    return lowest(today, ground.at_most)
