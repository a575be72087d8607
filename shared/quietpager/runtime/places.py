"""Bounds second looks: one place for each target, and a limited number for each origin of signals.

    origin event   AGAIN#event#0 [Pod shop/a] · #1 [absent] · … · #255      with each taken one, one due item

Who calls it: a detector that cannot tell yet, before it writes down that it looks again. A look that finds no
place is not written, only counted: the sweep finds what still fails. So whoever invents signals fills his own
origin's places, and not the clock's queue. Who takes a place writes its record and its due item in one
transaction, on the version found here; both are taken away together, at last by `retention`.
"""

from collections.abc import Mapping
from typing import Final

from quietpager.incident import records
from quietpager.model.data import digest
from quietpager.model.store import ABSENT, Record
from quietpager.runtime.context import Context
from quietpager.runtime.metrics import CROWDED

PLACES: Final = 256
"""Targets of one origin that can be waiting for a second look."""

TRIED: Final = 8
"""Places that a target may have, spread by a hash of its name; it takes the first that is free."""


def place_for(ctx: Context, origin: str, target: str) -> Record | None:
    """Find a target's place: its own record, or a free one at version `ABSENT`; None where all are taken.

    Args:
        ctx: whose store is asked; a look that finds no place is counted in its metrics.
        origin: one of the closed set of a signal's origins.
        target: names the target and who looks; who takes the place keeps it as the body's `target`.

    Raises:
        StoreUnavailable: nothing is known.
    """
    keys = _keys(origin, target)
    found = ctx.store.get_many(keys)
    mine = _of(target, found)
    if mine is not None:
        return mine
    for key in keys:
        if key not in found:
            return Record(key, ABSENT, {"target": target})
    ctx.metrics.add(CROWDED, origin=origin)
    return None


def taken_place(ctx: Context, origin: str, target: str) -> Record | None:
    """Find the place that a target has taken; None where no second look at it is planned.

    Raises:
        StoreUnavailable: nothing is known.
    """
    return _of(target, ctx.store.get_many(_keys(origin, target)))


def _keys(origin: str, target: str) -> list[str]:
    first = int(digest(target, length=8), 16)
    return [records.place(origin, (first + 31 * n) % PLACES) for n in range(TRIED)]


def _of(target: str, found: Mapping[str, Record]) -> Record | None:
    return next((one for one in found.values() if one.body.get("target") == target), None)
