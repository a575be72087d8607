"""One cluster's part of a store: its name is in every key, so that two clusters share nothing by accident.

    get(SLOT#shop#0)              ──▶ SLOT#prod#shop#0
    scan(INCIDENT)                ──▶ INCIDENT#prod#…      the answers' keys are without the cluster again
    Due(inc-1/recheck)            ──▶ prod/inc-1/recheck   and this cluster's clock claims no other's
    Audit(switch, {…})            ──▶ chain switch, with the cluster in the entry

`model.keys` lists what is one for the whole store. Who calls it: `store.opening`, for every function and
command; nothing else knows that there is more than one cluster.

A store whose keys are of the form without cluster is not used: every call is `StoreUnavailable`, with the
sentence that says what to do, until `quietpager migrate` has moved them (`store.rekey`).
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime

from quietpager.model import keys
from quietpager.model.store import (
    ABSENT,
    Audit,
    Check,
    Conflict,
    Delete,
    Due,
    DueDone,
    Put,
    Record,
    Store,
    StoreUnavailable,
    Write,
)
from quietpager.store.delegate import Wrapped


class OfCluster(Wrapped):
    """The port, for one cluster. Thread-safe."""

    def __init__(self, store: Store, cluster: str) -> None:
        """Nothing is opened; the store is the caller's.

        Raises:
            ValueError: no cluster can have that name.
        """
        super().__init__(store)
        self.cluster = keys.cluster_name(cluster)
        self._moved = False

    def get(self, key: str) -> Record | None:
        """See `Store.get`."""
        found = self._ready().get(self._key(key))
        return None if found is None else replace(found, key=key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """See `Store.get_many`."""
        found = self._ready().get_many([self._key(key) for key in keys])
        return {key: replace(found[kept], key=key) for key in keys if (kept := self._key(key)) in found}

    def scan(self, kind: str) -> list[Record]:
        """See `Store.scan`."""
        return [self._ours(one) for one in self._ready().scan(self._kind(kind))]

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        """See `Store.page`."""
        found = self._ready().page(self._kind(kind), self._key(after) if after else "", limit)
        return [self._ours(one) for one in found]

    def similar(self, text: str, limit: int) -> list[Record]:
        """See `Store.similar`: what is remembered of all clusters."""
        return self._ready().similar(text, limit)

    def transact(self, writes: Iterable[Write]) -> None:
        """See `Store.transact`."""
        store = self._ready()
        try:
            store.transact([self._named(one) for one in writes])
        except Conflict as lost:
            found = None if lost.found is None else self._ours(lost.found)
            raise Conflict(keys.without_cluster(lost.key, self.cluster), lost.expected, found) from None

    def claim_due(self, now: datetime, limit: int, within: str = "") -> list[Due]:
        """See `Store.claim_due`."""
        return [self._said(one) for one in self._ready().claim_due(now, limit, self._due(within))]

    def due_item(self, id_: str) -> Due | None:
        """See `Store.due_item`."""
        found = self._ready().due_item(self._due(id_))
        return None if found is None else self._said(found)

    def due_items(self) -> list[Due]:
        """See `Store.due_items`."""
        mine = self._due("")
        return [self._said(one) for one in self._ready().due_items() if one.id.startswith(mine)]

    def _ready(self) -> Store:
        """Give the store, once it is known that its keys name their cluster."""
        if not self._moved:
            require_moved(self._store)
            self._moved = True
        return self._store

    def _key(self, key: str) -> str:
        return keys.in_cluster(key, self.cluster)

    def _kind(self, kind: str) -> str:
        return self._key(f"{kind}#").removesuffix("#")

    def _due(self, id_: str) -> str:
        return keys.due_in_cluster(id_, self.cluster)

    def _ours(self, record: Record) -> Record:
        return replace(record, key=keys.without_cluster(record.key, self.cluster))

    def _said(self, item: Due) -> Due:
        return replace(item, id=item.id.removeprefix(self._due("")))

    def _named(self, write: Write) -> Write:
        match write:
            case Put() | Delete() | Check():
                return replace(write, key=self._key(write.key))
            case Due() | DueDone():
                return replace(write, id=self._due(write.id))
            case Audit():
                return replace(write, body={**write.body, "cluster": self.cluster})


def require_moved(store: Store) -> None:
    """Make sure that the keys of a store name their cluster; an empty store is marked as such.

    Raises:
        StoreUnavailable: it holds records of the older form, or is being moved.
    """
    mark = store.get(keys.FORM)
    if mark is None and not any(store.page(kind, "", 1) for kind in keys.OF_CLUSTER):
        try:
            store.transact([Put(keys.FORM, {"form": keys.WITH_CLUSTER}, ABSENT)])
        except Conflict:
            mark = store.get(keys.FORM)
        else:
            return
    if mark is None or mark.body.get("form") != keys.WITH_CLUSTER:
        raise StoreUnavailable(
            "The store's keys do not name their cluster yet: an older version wrote them. Stop the older "
            "version, run `quietpager migrate --cluster NAME` once as the store's owner, and try again. "
            "Nothing was done."
        )
