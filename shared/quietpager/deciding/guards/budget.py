"""Guard 8, budget: at most B acts in any window, for each scope."""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Figures, Guard, Said
from quietpager.errors import Refused


def _judge(ground: Ground) -> Said:
    levels = ground.levels
    if not levels:
        raise Refused("nobody has looked at the budgets")
    spent = [str(level) for level in levels if level.spent]
    figures: Figures = {level.scope: f"{level.taken} of {level.limit.acts}" for level in levels}
    return Said(f"The budget of {', '.join(spent)} is spent." if spent else None, figures)


GUARD = Guard(
    number=8, name="budget",
    refuses="more acts than the policy allows in any window, for each scope",
    then="hold", on_undo=True, judge=_judge,
)  # fmt: skip
