"""Guard 9, disruption budgets: the PodDisruptionBudgets of whatever would be removed."""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Figures, Guard, Said, facts_of, removed_by, some


def _judge(ground: Ground) -> Said:
    facts = facts_of(ground)
    if not facts.guards.pdb and removed_by(ground) is None:
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
        no = f"More than one PodDisruptionBudget selects {some(tuple(twice))}; it cannot be evicted."
    else:
        return Said(None, figures)
    return Said(no, figures)


GUARD = Guard(
    number=9, name="disruption budgets",
    refuses="removing more pods than a PodDisruptionBudget allows",
    then="hold", on_undo=False, judge=_judge,
)  # fmt: skip
