"""A store and a mailbox in memory: for `quietpager replay`, backtests and unit tests.

It keeps the port's promises, conditions and the audit chain included, but of course nothing
survives the process. Thread-safe: one lock around every call.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from threading import Lock

from quietpager.model.store import (
    AuditEntry,
    Check,
    Conflict,
    Delete,
    Due,
    Json,
    Put,
    Record,
    Write,
)
from quietpager.store.audit import plain
from quietpager.store.batch import Batch
from quietpager.store.mailbox import Delivery
from quietpager.store.queue import age, chosen
from quietpager.store.search_terms import PAST, most_similar


class MemoryStore:
    """`port.Store` over dictionaries; passes the same contract suite as PostgreSQL."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = Lock()
        self._state: dict[str, Record] = {}
        self._audit: dict[str, list[AuditEntry]] = {}
        self._due: dict[str, Due] = {}

    def get(self, key: str) -> Record | None:
        """Read one record."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """Read several records."""
        with self._lock:
            return {key: _copy(self._state[key]) for key in keys if key in self._state}

    def scan(self, kind: str) -> list[Record]:
        """Read all records of one kind, in key order."""
        with self._lock:
            return [_copy(self._state[key]) for key in sorted(self._state) if key.startswith(f"{kind}#")]

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        """Read up to `limit` records of one kind after a key."""
        return [record for record in self.scan(kind) if record.key > after][: max(limit, 0)]

    def similar(self, text: str, limit: int) -> list[Record]:
        """Find records `PAST#…` that share words with a text, the most shared first."""
        return most_similar(self.scan(PAST), text, limit)

    def transact(self, writes: Iterable[Write]) -> None:
        """Do all or nothing; raises `Conflict`, ValueError, TypeError as the port says."""
        batch = Batch.of(writes)
        # Everything that can raise comes before the first assignment, so that half is never
        # written.
        bodies = {write.key: plain(write.body) for write in batch.conditions if isinstance(write, Put)}
        due = [
            replace(
                item, at=item.at.astimezone(UTC), message=plain(item.message),
                since=None if item.since is None else item.since.astimezone(UTC),
            )
            for item in batch.due
        ]  # fmt: skip
        with self._lock:
            failing = batch.first_failing({w.key: self._version(w.key) for w in batch.conditions})
            if failing is not None:
                found = self._state.get(failing.key)
                raise Conflict(failing.key, failing.expect, _copy(found) if found else None)
            heads = {key: self._state[key].body for key in batch.heads() if key in self._state}
            entries, moved = batch.chain(heads)
            for write in batch.conditions:
                match write:
                    case Put():
                        self._write(write.key, bodies[write.key])
                    case Delete():
                        self._state.pop(write.key, None)
                    case Check():
                        pass
            for entry in entries:
                kept = replace(entry, at=entry.at.astimezone(UTC))
                self._audit.setdefault(entry.chain, []).append(kept)
            for key, body in moved.items():
                self._write(key, body)
            for item in due:
                self._due[item.id] = item
            for done in batch.done:
                self._due.pop(done, None)

    def claim_due(self, now: datetime, limit: int, within: str = "") -> list[Due]:
        """Take up to `limit` due items, as `queue` chooses, and move each on to `now + every`."""
        with self._lock:
            ripe = (item for id_, item in self._due.items() if item.at <= now and id_.startswith(within))
            taken = chosen(ripe, limit)
            for item in taken:
                self._due[item.id] = replace(item, at=now.astimezone(UTC) + item.every)
            return [replace(item, message=plain(item.message)) for item in taken]

    def due_item(self, id_: str) -> Due | None:
        """Read one due item."""
        with self._lock:
            item = self._due.get(id_)
            return None if item is None else replace(item, message=plain(item.message))

    def due_items(self) -> list[Due]:
        """Read all due items, oldest first."""
        with self._lock:
            items = sorted(self._due.values(), key=age)
            return [replace(item, message=plain(item.message)) for item in items]

    def audit(self, chain: str) -> list[AuditEntry]:
        """Read one chain in order."""
        with self._lock:
            return [replace(entry, body=plain(entry.body)) for entry in self._audit.get(chain, ())]

    def audit_chains(self) -> list[str]:
        """Name all chains."""
        with self._lock:
            return sorted(self._audit)

    def close(self) -> None:
        """Do nothing; there is nothing to give back."""

    def _version(self, key: str) -> int:
        return self._state[key].version if key in self._state else 0

    def _write(self, key: str, body: Json) -> None:
        self._state[key] = Record(key, self._version(key) + 1, body)


class MemoryMailbox:
    """`mailbox.Mailbox` over a dictionary, for tests of the local broker."""

    def __init__(self) -> None:
        """Start empty."""
        self._lock = Lock()
        self._kept: dict[str, Delivery] = {}

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """Keep them."""
        with self._lock:
            self._kept.update({delivery.id: delivery for delivery in deliveries})

    def complete(self, delivery_id: str, follow_ups: Sequence[Delivery]) -> None:
        """Drop one and keep its follow-ups."""
        with self._lock:
            self._kept.pop(delivery_id, None)
            self._kept.update({delivery.id: delivery for delivery in follow_ups})

    def pending(self) -> list[Delivery]:
        """Read what is not done, oldest first."""
        with self._lock:
            return list(self._kept.values())

    def close(self) -> None:
        """Do nothing; there is nothing to give back."""


def _copy(record: Record) -> Record:
    return replace(record, body=plain(record.body))
