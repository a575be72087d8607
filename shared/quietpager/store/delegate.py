"""The base of stores that wrap another store: every call goes through unless a wrapper changes it.

Who calls it: `runtime.trace` and `runtime.metrics`, each for the one call that it looks at.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime

from quietpager.model.store import AuditEntry, Due, Record, Store, Write


class Wrapped:
    """Passes every call of the port on."""

    def __init__(self, store: Store) -> None:
        """Nothing is opened; the store is the caller's."""
        self._store = store

    def get(self, key: str) -> Record | None:
        """See `Store.get`."""
        return self._store.get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """See `Store.get_many`."""
        return self._store.get_many(keys)

    def scan(self, kind: str) -> list[Record]:
        """See `Store.scan`."""
        return self._store.scan(kind)

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        """See `Store.page`."""
        return self._store.page(kind, after, limit)

    def similar(self, text: str, limit: int) -> list[Record]:
        """See `Store.similar`."""
        return self._store.similar(text, limit)

    def transact(self, writes: Iterable[Write]) -> None:
        """See `Store.transact`."""
        self._store.transact(writes)

    def claim_due(self, now: datetime, limit: int, within: str = "") -> list[Due]:
        """See `Store.claim_due`."""
        return self._store.claim_due(now, limit, within)

    def due_item(self, id_: str) -> Due | None:
        """See `Store.due_item`."""
        return self._store.due_item(id_)

    def due_items(self) -> list[Due]:
        """See `Store.due_items`."""
        return self._store.due_items()

    def audit(self, chain: str) -> list[AuditEntry]:
        """See `Store.audit`."""
        return self._store.audit(chain)

    def audit_chains(self) -> list[str]:
        """See `Store.audit_chains`."""
        return self._store.audit_chains()

    def close(self) -> None:
        """See `Store.close`."""
        self._store.close()
