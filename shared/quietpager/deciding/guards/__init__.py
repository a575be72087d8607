"""The guards: what must hold before anything is written. Pure; they run in order and fail closed.

Each file here is one guard and declares it as `GUARD`: its number, its name, what it refuses, what follows
a refusal, and whether it is asked before an undo as well. A new guard is a new file; nothing else changes.
Guard 11, autonomy, refuses nothing: it says whether a person is asked (`deciding/dial.py`).

Who calls them: `deciding/pipeline.py`, for decide, replay and scan; once more, with fewer guards, before
an undo. `quietpager policy explain` prints what they said.
"""

import pkgutil
from typing import Final

from quietpager.deciding.dial import autonomy
from quietpager.deciding.ground import Ground
from quietpager.deciding.guard import Guard, Verdict

__all__ = ["GUARDS", "UNDO_GUARDS", "autonomy", "check", "declared_by", "refusal", "verdicts"]


def _declared() -> tuple[Guard, ...]:
    """Collect what the files of this folder declare, by number.

    Raises:
        ValueError: two guards have the same number or name, so one could hide the other.
    """
    files = (one.name for one in pkgutil.iter_modules(__path__))
    found: list[Guard] = [pkgutil.resolve_name(f"{__name__}.{name}:GUARD") for name in files]
    if len({one.number for one in found}) < len(found) or len({one.name for one in found}) < len(found):
        raise ValueError(f"Two guards in {__path__} have the same number or name.")
    return tuple(sorted(found, key=lambda one: one.number))


GUARDS: Final = _declared()
UNDO_GUARDS: Final = tuple(one for one in GUARDS if one.on_undo)
"""An undo takes back what was just done: waiting for calm would leave behind what did not help."""


def declared_by(verdict: Verdict) -> Guard:
    """Find the guard that gave an answer.

    Raises:
        LookupError: no guard has that number.
    """
    return next(one for one in GUARDS if one.number == verdict.number)


def verdicts(ground: Ground, guards: tuple[Guard, ...] = GUARDS) -> tuple[Verdict, ...]:
    """Ask every guard, in order; the first no counts, the others are for the person who reads it."""
    return tuple(guard.ask(ground) for guard in guards)


def refusal(said: tuple[Verdict, ...]) -> Verdict | None:
    """Find the first no."""
    return next((one for one in said if one.said == "refused"), None)


def check(ground: Ground, guards: tuple[Guard, ...] = GUARDS) -> Verdict | None:
    """Run the guards in order; gives the first no."""
    return refusal(verdicts(ground, guards))
