"""A second look at a target: a due item that is bounded by target and by origin, whoever asks for it.

    origin event   AGAIN#event#0 [Pod shop/a] … #255 [absent]      one place for each target, 256 for an origin
                          └── due item again/event/0, in the same transaction

Who calls it: a detector that cannot tell yet. A look that finds no place is not written, only counted: the
sweep finds what still fails. Nobody who invents signals can fill the clock's queue by that.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from quietpager.model.data import digest
from quietpager.model.message import Message
from quietpager.model.time import to_text
from quietpager.runtime.context import Context
from quietpager.runtime.metrics import CROWDED
from quietpager.safety import records
from quietpager.store.port import ABSENT, Delete, Due, DueDone, Put, Record, Write

PLACES: Final = 256
"""Targets of one origin that can be waiting for a second look."""

TRIED: Final = 8
"""Places of one target, spread by a hash of its name; it takes the first that is free."""


def look_again(ctx: Context, origin: str, target: str, message: Message, wait: timedelta) -> bool:
    """Have a message said again after `wait`; False where that origin has too many under way.

    Args:
        ctx: whose store and clock.
        origin: one of the closed set of a signal's origins.
        target: names the target and who looks; there is at most one due item for it.
        message: what is said then, and again each tick until `seen` takes it away.
        wait: from now on.

    Raises:
        Conflict: somebody else took the place just now; the message is to be delivered again.
        StoreUnavailable: nothing is known.
    """
    places = _places(origin, target)
    found = ctx.store.get_many(places)
    key = _mine(places, found, target) or next((one for one in places if one not in found), None)
    if key is None:
        ctx.metrics.add(CROWDED, origin=origin)
        return False
    now = ctx.clock()
    version = found[key].version if key in found else ABSENT
    due = Due(records.look_again(key), now + wait, timedelta(seconds=ctx.policy.tick), message.to_json())
    ctx.store.transact([Put(key, {"target": target, "at": to_text(now)}, version), due])
    return True


def seen(ctx: Context, origin: str, target: str) -> list[Write]:
    """Give the writes that end a target's second look, for the transaction that makes them needless."""
    places = _places(origin, target)
    found = ctx.store.get_many(places)
    key = _mine(places, found, target)
    return [] if key is None else [Delete(key, found[key].version), DueDone(records.look_again(key))]


def _places(origin: str, target: str) -> list[str]:
    first = int(digest(target, length=8), 16)
    return [records.again(origin, (first + n * 31) % PLACES) for n in range(TRIED)]


def _mine(places: list[str], found: Mapping[str, Record], target: str) -> str | None:
    return next((key for key in places if key in found and found[key].body.get("target") == target), None)
