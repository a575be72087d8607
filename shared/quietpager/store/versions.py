"""A store that says which version wrote a record or scheduled message, and loses nothing of a newer one.

    Put {at, holder}            ──▶ {at, holder, v: 2}                 see `model.data`
    get ◀── {…, v: 2}            {…}; what this version wrote looks as it was written
    get ◀── {…, new, v: 3}       {…, new, v: 3}; a Put of that record that leaves fields out keeps them
    get ◀── {…, v: 4}            TooNew
    claim_due ◀── … v: 4         that item is left out; it comes again, when this function may be upgraded

Who calls it: `store.opening`, for every function and command.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from threading import Lock
from typing import Final

import structlog

from quietpager.errors import TooNew
from quietpager.model.data import MARK, Json, readable, stamped
from quietpager.model.store import Due, Put, Record, Store, Write
from quietpager.store.delegate import Wrapped

MOST_KEPT: Final = 2000
"""Records of the next version that are remembered between a read and its write; the oldest goes first."""

log = structlog.get_logger()


class Versioned(Wrapped):
    """Marks what is written, and reads what the next version wrote. Thread-safe."""

    def __init__(self, store: Store) -> None:
        """Nothing is opened; the store is the caller's."""
        super().__init__(store)
        self._lock = Lock()
        self._newer: dict[tuple[str, int], Json] = {}

    def get(self, key: str) -> Record | None:
        """See `Store.get`; raises TooNew."""
        found = self._store.get(key)
        return None if found is None else self._read(found)

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """See `Store.get_many`; raises TooNew."""
        return {key: self._read(one) for key, one in self._store.get_many(keys).items()}

    def scan(self, kind: str) -> list[Record]:
        """See `Store.scan`; raises TooNew."""
        return [self._read(one) for one in self._store.scan(kind)]

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        """See `Store.page`; raises TooNew."""
        return [self._read(one) for one in self._store.page(kind, after, limit)]

    def similar(self, text: str, limit: int) -> list[Record]:
        """See `Store.similar`; raises TooNew."""
        return [self._read(one) for one in self._store.similar(text, limit)]

    def transact(self, writes: Iterable[Write]) -> None:
        """See `Store.transact`."""
        self._store.transact([self._marked(one) for one in writes])

    def claim_due(self, now: datetime, limit: int, within: str = "") -> list[Due]:
        """See `Store.claim_due`; what is too new is left for a later tick."""
        return self._readable(self._store.claim_due(now, limit, within))

    def due_item(self, id_: str) -> Due | None:
        """See `Store.due_item`; raises TooNew."""
        found = self._store.due_item(id_)
        return None if found is None else _opened(found)

    def due_items(self) -> list[Due]:
        """See `Store.due_items`; without what is too new."""
        return self._readable(self._store.due_items())

    def _readable(self, found: Iterable[Due]) -> list[Due]:
        read: list[Due] = []
        for item in found:
            try:
                read.append(_opened(item))
            except TooNew as no:
                log.warning("a scheduled message is left for a newer version", id=item.id, why=str(no))
        return read

    def _read(self, record: Record) -> Record:
        body = readable(record.body)
        if MARK in body:
            with self._lock:
                self._newer[record.key, record.version] = body
                while len(self._newer) > MOST_KEPT:
                    del self._newer[next(iter(self._newer))]
        return replace(record, body=body)

    def _marked(self, write: Write) -> Write:
        match write:
            case Put(key, body, expect):
                with self._lock:
                    newer = self._newer.get((key, expect), {})
                return replace(write, body=stamped(body if MARK in body else {**newer, **body}))
            case Due(message=message):
                return replace(write, message={**message, "data": stamped(message.get("data") or {})})
            case _:
                return write


def _opened(item: Due) -> Due:
    return replace(item, message={**item.message, "data": readable(item.message.get("data") or {})})
