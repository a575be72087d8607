"""Counting new incidents for the storm brake, cheaply.

The brake asks one thing: were there more than `limit` new incidents in the window? So `limit + 1` records
are enough, whatever the number of incidents. Opening an incident writes the moment into one of them, in the
transaction that opens it; a verdict reads them together with the budget's slots, in one round trip. Nothing
is ever scanned, nothing grows, and any key-value table can do it (a scan would read all incidents there ever
were, a counter would need a window of its own and be one record that everybody races for).

    5 records (limit 4), window 300 s, at 10:07
    [10:06] [10:03] [10:05] [09:12] [10:04]      4 in the window: no storm; the next opening takes [09:12]

The count is exact up to `limit + 1`. While a storm lasts, an opening renews one of the oldest quarter of the
records, unless that one is younger than a quarter of the window: so the brake holds until the storm is over,
and yet hundreds of openings at once do not all race for one record, nor write one each.

While it lasts, people are told of the storm, once, and not of each incident: fifty pages at a time hide the
one that matters. The incidents are all there, in the console and at the terminal; whatever is still with a
person when the storm is over speaks with its next reminder.

A verdict does not make these records conditions of the intent's transaction, as it does with the slots: an
incident that opens in the same instant is one more, and the next verdict sees it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from quietpager.model.data import digest
from quietpager.model.time import to_text
from quietpager.safety import records
from quietpager.safety.policy import Policy
from quietpager.store.port import ABSENT, Put, Record


def keys(policy: Policy) -> list[str]:
    """Name the records."""
    return [records.opening(number) for number in range(policy.storm.incidents + 1)]


def recent(found: Mapping[str, Record], policy: Policy, now: datetime) -> int:
    """Count new incidents in the window that ends now; from the limit on it only says "more"."""
    return sum(_age(found.get(key), now) < timedelta(seconds=policy.storm.window) for key in keys(policy))


def lasts(found: Mapping[str, Record], policy: Policy, now: datetime) -> bool:
    """Tell whether more incidents opened in the window than are everyday life."""
    return recent(found, policy, now) > policy.storm.incidents


def mark(found: Mapping[str, Record], incident: str, policy: Policy, now: datetime) -> Put | None:
    """Give the write that counts an incident just opened; None where the count is full and fresh."""
    window = timedelta(seconds=policy.storm.window)
    every = sorted(keys(policy), key=lambda key: _age(found.get(key), now), reverse=True)
    free = [key for key in every if _age(found.get(key), now) >= window]
    among = free or every[: max(1, len(every) // 4)]
    # Each incident picks by its own name, so that many at once pick differently.
    key = among[int(digest(incident, length=8), 16) % len(among)]
    if _age(found.get(key), now) < window / 4:
        return None
    version = found[key].version if key in found else ABSENT
    return Put(key, {"at": to_text(now), "incident": incident}, version)


HELD_BACK: Final = frozenset({"opened", "needsperson"})
"""What is not told of a single incident while a storm lasts."""
UNTOLD: Final = "Not told by itself: the message about the storm stands for it."


def to_tell(found: Mapping[str, Record], policy: Policy, incident: str, now: datetime) -> Put | None:
    """Give the write that lets an incident speak for the whole storm; None where another one has.

    `found` has `records.STORM`, where it exists. Said again after each `reminder`, as long as it lasts.
    """
    before = found.get(records.STORM)
    if before is not None and _age(before, now) < timedelta(seconds=policy.reminder):
        return None
    version = ABSENT if before is None else before.version
    return Put(records.STORM, {"at": to_text(now), "incident": incident}, version)


def sentence(policy: Policy) -> str:
    """Say it to people."""
    limits = policy.storm
    return (
        f"A storm: more than {limits.incidents} incidents opened in {limits.window:.0f} s. Suspect the "
        "observer first: API server, clock, a rule that just changed. All acting has stopped. The others are "
        "in the queue and are not told one by one while it lasts."
    )


def _age(record: Record | None, now: datetime) -> timedelta:
    return timedelta.max if record is None else now - datetime.fromisoformat(str(record.body["at"]))
