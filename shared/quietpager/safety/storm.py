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

A verdict does not make these records conditions of the intent's transaction, as it does with the slots: an
incident that opens in the same instant is one more, and the next verdict sees it.
"""

from collections.abc import Mapping
from datetime import datetime, timedelta

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


def _age(record: Record | None, now: datetime) -> timedelta:
    return timedelta.max if record is None else now - datetime.fromisoformat(str(record.body["at"]))
