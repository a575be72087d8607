"""Guard 4, change in progress: a freeze window, a drain, a cluster upgrade, somebody else's rollout."""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Figures, Guard, Said, facts_of, fleet_of, some
from quietpager.model.time import to_text


def _judge(ground: Ground) -> Said:
    facts, policy = facts_of(ground), ground.policy
    fleet, limits = fleet_of(ground), policy.change
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
            f"{len(fleet.cordoned)} node(s) are cordoned, as in a drain ({some(fleet.cordoned)}); "
            f"the limit is {limits.cordoned}."
        )
    elif len(fleet.kubelets) > limits.kubelets:
        no = (
            f"The kubelets are of {len(fleet.kubelets)} versions, as in an upgrade "
            f"({some(fleet.kubelets)}); the limit is {limits.kubelets}."
        )
    elif facts.guards.rollout_of_others == "refuse" and facts.other_rollout is not None:
        no = f"Somebody else's rollout of {ground.rehearsal.owner} is under way: {facts.other_rollout}."
    return Said(no, figures)


GUARD = Guard(
    number=4, name="change in progress",
    refuses="a plan in a freeze window, a drain, a cluster upgrade, or somebody else's rollout",
    then="hold", on_undo=False, judge=_judge,
)  # fmt: skip
