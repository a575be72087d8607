"""Guard 10, rehearsal: the plan stays inside `may_change`, has room, and the dry run admits it."""

from quietpager.change.kinds import change_of
from quietpager.change.patch_fields import PatchFields
from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Figures, Guard, Said, facts_of


def _judge(ground: Ground) -> Said:
    facts, plan = facts_of(ground), ground.rehearsal
    change, no = change_of(plan), None
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


GUARD = Guard(
    number=10, name="rehearsal",
    refuses=(
        "a plan that changes nothing, goes outside `may_change`, has no room, or that the API "
        "server's dry run refuses"
    ),
    then="next", on_undo=True, judge=_judge,
)  # fmt: skip
