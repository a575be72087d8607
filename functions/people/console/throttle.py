"""Limits wrong passwords in fixed memory, so that a stranger cannot lock other people out.

Every attempt counts in a few *buckets* before the password is looked at, and what was right is taken back. A
bucket fills with each attempt and empties by itself, at its own pace; one that is full says how long to wait.

- Somebody who has signed in to this account with this browser before has a signed device cookie. Those
  attempts count in the bucket of that device and nowhere else: strangers never make that person wait.
- All others count by account *and* address, by address, and all together.

There is a fixed number of buckets, kept in the store for all replicas. Which one counts is a keyed hash of
name and address: an invented name takes no memory, no counter is ever thrown away, and nobody can choose
whose bucket to fill.
docs/console.md has the figures and the reasoning.
"""

import hashlib
import hmac
import ipaddress
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from quietpager.incident import records
from quietpager.model.store import ABSENT, Conflict, Put, Record, Store
from quietpager.model.time import Clock, to_text


@dataclass(frozen=True, slots=True)
class Limit:
    """One kind of bucket: how many there are, how many attempts fill one, and how fast it empties."""

    kind: str
    buckets: int
    burst: int
    every: timedelta

    def wait(self, record: Record | None, now: datetime) -> timedelta:
        """Say how long one more attempt has to wait; zero or less: not at all."""
        return self._empty(record, now) - now - (self.burst - 1) * self.every

    def more(self, record: Record | None, now: datetime, attempts: int = 1) -> dict[str, str]:
        """Give the record's body after so many attempts more (or, negative, fewer)."""
        return {"empty": to_text(self._empty(record, now) + attempts * self.every)}

    def _empty(self, record: Record | None, now: datetime) -> datetime:
        """Say when the bucket will be empty; one that has been empty for long is empty now."""
        known = now if record is None else datetime.fromisoformat(str(record.body["empty"]))
        return max(known.astimezone(UTC), now)


PAIR: Final = Limit("pair", 4096, 10, timedelta(seconds=30))
"""One account from one address."""
ADDRESS: Final = Limit("address", 1024, 30, timedelta(seconds=10))
"""One address, whatever names it tries."""
ALL: Final = Limit("all", 1, 300, timedelta(seconds=0.5))
"""All attempts of browsers that never signed in to the account that they try."""
DEVICE: Final = Limit("device", 1024, 10, timedelta(seconds=30))
"""One browser that has signed in to this account before."""

RACES: Final = 5
"""How often an attempt that was counted by another replica at the same moment is counted anew."""


class Wait(Exception):  # noqa: N818 (what the person has to do)
    """Not now. `seconds`: how long."""

    def __init__(self, seconds: float) -> None:
        """Say how long, at least a second."""
        self.seconds = max(1, round(seconds + 0.5))
        super().__init__(f"wait {self.seconds} s")


Bucket = tuple[Limit, str]
"""A limit, and the key of the bucket's record."""


class Throttle:
    """Counts attempts in the store. Any call: `StoreUnavailable`."""

    def __init__(self, store: Callable[[], Store], clock: Clock, key: Callable[[], str]) -> None:
        """Nothing is opened yet. `key` gives the secret that spreads names over buckets."""
        self._store, self._clock, self._key = store, clock, key

    def of_stranger(self, name: str, address: str) -> list[Bucket]:
        """Name the buckets of an attempt by a browser that nothing is known of."""
        place = network(address)
        return [self._bucket(PAIR, name, place), self._bucket(ADDRESS, place), self._bucket(ALL)]

    def of_device(self, name: str, device: str) -> list[Bucket]:
        """Name the bucket of an attempt by a browser that signed in to this account before."""
        return [self._bucket(DEVICE, name, device)]

    def _bucket(self, limit: Limit, *what: str) -> Bucket:
        text = "\0".join((limit.kind, *what)).encode()
        number = int.from_bytes(hmac.new(self._key().encode(), text, hashlib.sha256).digest()[:8], "big")
        return limit, records.tries(limit.kind, number % limit.buckets)

    def look(self, buckets: Sequence[Bucket]) -> None:
        """Make sure that none of them is full; counts nothing. Raises `Wait`."""
        self._fullest(buckets, self._read(buckets))

    def count(self, buckets: Sequence[Bucket]) -> None:
        """Count one attempt in all of them, or in none. Raises `Wait`."""
        for _ in range(RACES):
            found, now = self._read(buckets), self._clock()
            self._fullest(buckets, found)
            try:
                self._store().transact(
                    Put(key, limit.more(found.get(key), now), _version(found.get(key)))
                    for limit, key in buckets
                )
            except Conflict:
                continue
            return
        raise Wait(1)

    def forgive(self, buckets: Sequence[Bucket]) -> None:
        """Take one attempt back: it was no wrong one. What races with another stays; it empties by itself."""
        found, now = self._read(buckets), self._clock()
        for limit, key in buckets:
            if key in found:
                with suppress(Conflict):
                    body = limit.more(found[key], now, -1)
                    self._store().transact([Put(key, body, found[key].version)])

    def _read(self, buckets: Sequence[Bucket]) -> dict[str, Record]:
        return self._store().get_many([key for _, key in buckets])

    def _fullest(self, buckets: Sequence[Bucket], found: dict[str, Record]) -> None:
        now = self._clock()
        longest = max(limit.wait(found.get(key), now) for limit, key in buckets)
        if longest > timedelta():
            raise Wait(longest.total_seconds())


def _version(record: Record | None) -> int:
    return ABSENT if record is None else record.version


def network(address: str) -> str:
    """Give what counts as one address: IPv4 as it is, of IPv6 the /64, which one customer has whole."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address[:64]
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.ip_network((found, 64), strict=False))
