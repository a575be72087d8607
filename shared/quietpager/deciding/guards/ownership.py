"""Guard 5, ownership: what somebody else's controller would put back is proposed to its owner."""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Figures, Guard, Said, facts_of


def _judge(ground: Ground) -> Said:
    facts = facts_of(ground)
    figures: Figures = {"owned_by": facts.owned_by, "mode": facts.owner_mode}
    if facts.owned_by is None or facts.owner_mode != "propose":
        return Said(None, figures)
    where = f"ownership is `propose` in namespace {facts.namespace}"
    no = f"{ground.rehearsal.owner} is owned by {facts.owned_by}; {where}, so the change is only proposed."
    return Said(no, figures)


GUARD = Guard(
    number=5, name="ownership",
    refuses=(
        "what GitOps, Helm, an operator or an autoscaler owns, unless the policy says `patch`; "
        "the plan is proposed to the owner"
    ),
    then="propose", on_undo=True, judge=_judge,
)  # fmt: skip
