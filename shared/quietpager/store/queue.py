"""Orders due items, so that a flood of them cannot delay the work for open incidents.

Who calls it: the back ends, in `claim_due`; PostgreSQL says the same in SQL, and the contract suite compares.

    limit 200 ─┬─ at most 150: items of incidents, the oldest incident first
               └─ the rest: whatever has been due longest, of incidents or not

So however many items of signals are due, those of incidents are served as if there were none; and as the rest
goes to what has waited longest, neither a signal nor the youngest of very many incidents waits for ever.
"""

from collections.abc import Iterable
from datetime import datetime

from quietpager.model.store import Due


def first_share(limit: int) -> int:
    """Tell how many of a claim's items may go to the oldest incidents: all but a quarter."""
    most = max(limit, 0)
    return most - most // 4


def age(item: Due) -> tuple[datetime, str]:
    """Sort by how long an item has been due."""
    return item.at, item.id


def place(item: Due) -> tuple[bool, datetime, datetime, str]:
    """Sort what belongs to an incident first, the oldest incident before all."""
    return item.since is None, item.since or item.at, item.at, item.id


def chosen(ripe: Iterable[Due], limit: int) -> list[Due]:
    """Choose what one claim takes of the items that are due, in the order in which they are served."""
    every = list(ripe)
    first = sorted((item for item in every if item.since is not None), key=place)[: first_share(limit)]
    taken = {item.id for item in first}
    rest = sorted((item for item in every if item.id not in taken), key=age)
    return sorted([*first, *rest[: max(limit, 0) - len(first)]], key=place)
