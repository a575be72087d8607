"""Guard 7, cool-down: no second act on a target inside the window, none after one that did not help."""

from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Guard, Said


def _judge(ground: Ground) -> Said:
    limit, last, until = ground.policy.cool_down, ground.last_act, ground.breaker_until
    age = None if last is None else (ground.now - last).total_seconds()
    left = None if until is None else max((until - ground.now).total_seconds(), 0.0)
    no = None
    if left is not None and left > 0:
        no = f"An earlier act on this target did not help; the breaker is open for {left:.0f} s more."
    elif age is not None and age < limit:
        no = f"The last act on {ground.incident.owner} was {age:.0f} s ago; the limit is {limit:.0f} s."
    return Said(no, {"last_act_ago": age, "cool_down": limit, "breaker_left": left})


GUARD = Guard(
    number=7, name="cool-down",
    refuses="a second act on the same target inside the window, or after one that did not help",
    then="hold", on_undo=False, judge=_judge,
)  # fmt: skip
