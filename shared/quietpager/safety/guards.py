"""The guards: what must hold before anything is written. Pure; they run in order and fail closed.

Who calls it: `govern/decide`, once on `rehearsed`; the records they looked at are then checked again,
by version, inside the transaction that writes the intent. Replay calls it with assumed facts.
Numbers are those of the safety design: 1 kill switch, 2 protected, 5 ownership, 7 cool-down and breaker,
8 budget, 10 rehearsal, 11 autonomy, 12 dwell.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from quietpager.errors import Refused
from quietpager.model.incident import Autonomy, Incident, PlanFacts, Rehearsal, lowest
from quietpager.safety.policy import Policy


@dataclass(frozen=True, slots=True)
class Ground:
    """Everything the guards look at. `spent` lists budget scopes that have no free slot.

    `at_most` is the action's own `autonomy_at_most`.
    """

    incident: Incident
    rehearsal: Rehearsal
    policy: Policy
    now: datetime
    stopped: bool
    breaker_until: datetime | None = None
    last_act: datetime | None = None
    spent: tuple[str, ...] = ()
    dwell_met: bool = True
    at_most: Autonomy = Autonomy.AUTO


@dataclass(frozen=True, slots=True)
class Refusal:
    """A guard's no: its number, its name, and the sentence with limit and figures."""

    number: int
    guard: str
    sentence: str


Guard = Callable[[Ground], str | None]


def _facts(ground: Ground) -> PlanFacts:
    if ground.rehearsal.facts is None:
        raise Refused("the plan came without its facts")
    return ground.rehearsal.facts


def kill_switch(ground: Ground) -> str | None:
    """1: nothing is written while the switch is on."""
    return "Writing is stopped; `quietpager resume` starts it." if ground.stopped else None


def protected(ground: Ground) -> str | None:
    """2: platform namespaces, namespaces without the opt-in label, objects to be ignored."""
    facts, policy = _facts(ground), ground.policy
    if policy.is_protected(facts.namespace):
        return f"Namespace {facts.namespace or '(none)'} belongs to the platform."
    if not facts.opted_in:
        return f"Namespace {facts.namespace} has no label {policy.opt_in_label}=true."
    if facts.ignored:
        return f"{ground.rehearsal.owner} is annotated {policy.ignore_annotation}."
    return None


def ownership(ground: Ground) -> str | None:
    """5: what GitOps, Helm, an operator or an autoscaler owns is proposed, unless the policy says patch."""
    facts = _facts(ground)
    if facts.owned_by is None or facts.owner_mode != "propose":
        return None
    where = f"ownership is `propose` in namespace {facts.namespace}"
    return f"{ground.rehearsal.owner} is owned by {facts.owned_by}; {where}, so the change is only proposed."


def cool_down(ground: Ground) -> str | None:
    """7: no second act on the same target inside the window, none after one that did not help."""
    if ground.breaker_until is not None and ground.now < ground.breaker_until:
        left = (ground.breaker_until - ground.now).total_seconds()
        return f"An earlier act on this target did not help; the breaker is open for {left:.0f} s more."
    if ground.last_act is not None:
        age = (ground.now - ground.last_act).total_seconds()
        if age < ground.policy.cool_down:
            limit = ground.policy.cool_down
            return f"The last act on {ground.incident.owner} was {age:.0f} s ago; the limit is {limit:.0f} s."
    return None


def budget(ground: Ground) -> str | None:
    """8: at most B acts in any window, for each scope."""
    if not ground.spent:
        return None
    limits = ground.policy.budget
    return (
        f"The budget of {', '.join(ground.spent)} is spent: at most {limits.target} act(s) a target, "
        f"{limits.namespace} a namespace, {limits.cluster} a cluster in {limits.window:.0f} s."
    )


def rehearsed(ground: Ground) -> str | None:
    """10: inside `may_change`, the result fits, and the server's dry run admits it."""
    facts = _facts(ground)
    if not ground.rehearsal.edits:
        return "The plan changes nothing."
    if facts.outside_may_change:
        return f"The plan would change {', '.join(facts.outside_may_change)}, outside may_change."
    if facts.does_not_fit is not None:
        return facts.does_not_fit
    if facts.dry_run_refused is not None:
        return f"The API server refuses the change in a dry run: {facts.dry_run_refused}"
    return None


def dwell(ground: Ground) -> str | None:
    """12: the symptom has lasted longer than a transient."""
    return None if ground.dwell_met else "The symptom has not lasted long enough yet."


GUARDS: tuple[tuple[int, str, Guard], ...] = (
    (1, "kill switch", kill_switch),
    (2, "protected", protected),
    (5, "ownership", ownership),
    (7, "cool-down", cool_down),
    (8, "budget", budget),
    (10, "rehearsal", rehearsed),
    (12, "dwell", dwell),
)


def check(ground: Ground, guards: tuple[tuple[int, str, Guard], ...] = GUARDS) -> Refusal | None:
    """Run the guards in order; the first no counts. A guard that raises, refuses."""
    for number, name, guard in guards:
        try:
            sentence = guard(ground)
        except Exception as broken:  # noqa: BLE001 (fail closed, whatever it is)
            sentence = f"The guard itself failed ({type(broken).__name__}: {broken}), so it refuses."
        if sentence is not None:
            return Refusal(number, name, f"Guard {number} ({name}): {sentence}")
    return None


def autonomy(ground: Ground) -> Autonomy:
    """11: what may be done without asking; an approval raises it for this one rehearsal.

    The incident's dial is the rule's and the policy's; the action's own limit lowers it once more.
    """
    if ground.incident.approved is not None:
        return Autonomy.AUTO
    return lowest(ground.incident.autonomy, ground.at_most)


def slot_is_free(last_used: datetime, policy: Policy, now: datetime) -> bool:
    """Tell whether a budget slot may be taken again: window + act deadline + twice the clock skew.

    The padding is what keeps any window at B acts: the act of a slot may come as late as its deadline,
    and two clocks may differ.
    """
    padding = policy.budget.window + policy.act + 2 * policy.skew
    return now - last_used > timedelta(seconds=padding)
