"""Guard 3, scope: explicit targets, each with its uid; of pods a fraction only, in one failure domain."""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Figures, Guard, Said, facts_of, removed_by


def _judge(ground: Ground) -> Said:
    facts, policy = facts_of(ground), ground.policy
    targets, siblings, healthy = facts.targets, facts.siblings, facts.healthy
    figures: Figures = {"targets": len(targets)}
    unknown = [str(target) for target in targets if not target.uid]
    if not targets:
        return Said("The plan names no target.", figures)
    if unknown:
        return Said(f"{', '.join(unknown)} has no uid; a name alone may be another object by now.", figures)
    if len({target.uid for target in targets}) < len(targets):
        return Said("The plan names a target twice.", figures)
    removed = removed_by(ground)
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


GUARD = Guard(
    number=3, name="scope",
    refuses=(
        "a plan without explicit targets; of pods more than a fraction, or fewer healthy ones "
        "than the floor left, or more than one failure domain"
    ),
    then="hold", on_undo=False, judge=_judge,
)  # fmt: skip
