"""Guard 1, kill switch: nothing is written while the switch is on."""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Guard, Said


def _judge(ground: Ground) -> Said:
    no = "Writing is stopped; `quietpager resume` starts it." if ground.stopped else None
    return Said(no, {"stopped": ground.stopped})


GUARD = Guard(
    number=1, name="kill switch",
    refuses="anything, while writing is stopped",
    then="hold", on_undo=True, judge=_judge,
)  # fmt: skip
