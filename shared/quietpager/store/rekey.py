"""Move a store's keys to the form that names the cluster (`model.keys`): once, and never half for a function.

    PostgreSQL   one transaction, with both tables locked: all keys, or none
    DynamoDB     the mark `moving` first, together with the kill switch; then record by record, each from its
                 old key to its new one in one transaction; at last the mark `moved`. Killed half-way it goes
                 on where it stood, and until it is done every function answers 503

Nothing but the key changes: a lock, a slot or an open breaker holds after it what it held before. An older
version that still runs meets a store without kill switch, which means stopped, so it writes to no cluster.

Who calls it: `quietpager migrate`, through `store.roles` and the command itself.
"""

from typing import TYPE_CHECKING, Any, Final

from quietpager.model import keys
from quietpager.model.store import (
    ABSENT,
    Conflict,
    Delete,
    Due,
    DueDone,
    Put,
    Record,
    Store,
    StoreUnavailable,
)

if TYPE_CHECKING:
    from psycopg import Connection

_MOVE_STATE: Final = (
    "UPDATE quietpager.state SET key = split_part(key, '#', 1) || '#' || %s || substr(key, strpos(key, '#'))"
    " WHERE split_part(key, '#', 1) = ANY(%s)"
)
_MOVE_DUE: Final = "UPDATE quietpager.due SET id = %s || id"
_OTHERS: Final = (
    "SELECT DISTINCT body->>'cluster' FROM quietpager.state WHERE key >= 'INCIDENT#' AND key < 'INCIDENT$'"
    " AND coalesce(body->>'cluster', '') NOT IN ('', %s)"
)
_MARK: Final = (
    "INSERT INTO quietpager.state (key, version, body) VALUES (%s, 1, jsonb_build_object('form', %s::int))"
)
_MOVING: Final = 1


def move_postgres(connection: "Connection[Any]", cluster: str) -> int | None:
    """Move all keys in one transaction; gives how many records, or None where that was done before.

    Raises:
        StoreUnavailable: the store holds incidents of another cluster, too.
        psycopg.Error: nothing was moved.
        ValueError: no cluster can have that name.
    """
    name = keys.cluster_name(cluster)
    with connection.transaction():
        # Who reads or writes now waits, and finds the new keys or his condition failing.
        connection.execute("LOCK TABLE quietpager.state, quietpager.due IN ACCESS EXCLUSIVE MODE")
        if connection.execute("SELECT 1 FROM quietpager.state WHERE key = %s", (keys.FORM,)).fetchone():
            return None
        _one_cluster([str(row[0]) for row in connection.execute(_OTHERS, (name,)).fetchall()], name)
        moved = connection.execute(_MOVE_STATE, (name, list(keys.OF_CLUSTER))).rowcount
        connection.execute(_MOVE_DUE, (keys.due_in_cluster("", name),))
        connection.execute(_MARK, (keys.FORM, keys.WITH_CLUSTER))
        return moved


def move_by_port(store: Store, cluster: str) -> int | None:
    """Move all keys of a back end that has no transaction for so many; gives and raises as `move_postgres`.

    StoreUnavailable also where an older version still writes.
    """
    name = keys.cluster_name(cluster)
    mark = store.get(keys.FORM)
    if mark is None:
        mark = _begin(store, name)
    if mark.body.get("form") == keys.WITH_CLUSTER:
        return None
    if mark.body.get("cluster") != name:
        raise StoreUnavailable(
            f"The keys are being moved to cluster {mark.body.get('cluster')}; name that one."
        )
    count = 0
    while left := [one for kind in keys.OF_CLUSTER for one in _old(store, kind, name)]:
        for record in left:
            count += _move(store, record, name)
    mine = keys.due_in_cluster("", name)
    while waiting := [one for one in store.due_items() if not one.id.startswith(mine)]:
        for item in waiting:
            moved = Due(f"{mine}{item.id}", item.at, item.every, item.message, item.since)
            store.transact([moved, DueDone(item.id)])
    store.transact([Put(keys.FORM, {"form": keys.WITH_CLUSTER}, mark.version)])
    return count


def _begin(store: Store, name: str) -> Record:
    """Take the kill switch out of the older version's reach, and say that the keys are being moved."""
    found = store.scan("INCIDENT")
    _one_cluster(sorted({str(one.body.get("cluster") or name) for one in found} - {name}), name)
    for kind in keys.OF_CLUSTER:
        if store.page(f"{kind}#{name}", "", 1):
            raise StoreUnavailable(
                f"Records {kind}#{name}#… are there already, so {name} cannot be told apart."
            )
    switch = store.get("SWITCH#writes")
    body = {"form": _MOVING, "cluster": name}
    moved = [] if switch is None else _moves(switch, name)
    store.transact([Put(keys.FORM, body, ABSENT), *moved])
    return Record(keys.FORM, 1, body)


def _old(store: Store, kind: str, name: str) -> list[Record]:
    begin = f"{kind}#{name}#"
    return [one for one in store.scan(kind) if not one.key.startswith(begin)]


def _moves(record: Record, name: str) -> list[Put | Delete]:
    new = keys.in_cluster(record.key, name)
    return [Put(new, record.body, ABSENT), Delete(record.key, record.version)]


def _move(store: Store, record: Record, name: str) -> int:
    try:
        store.transact(_moves(record, name))
    except Conflict as lost:
        if store.get(keys.in_cluster(record.key, name)) is None or store.get(record.key) is None:
            return 0  # another `migrate` did it, or it was just changed: the next look has it
        raise StoreUnavailable(
            f"{record.key} is there under both keys, so an older version still writes to this store. "
            "Stop it, delete that record, and run `quietpager migrate` again."
        ) from lost
    return 1


def _one_cluster(others: list[str], name: str) -> None:
    if others:
        raise StoreUnavailable(
            f"The store holds incidents of {', '.join(others)}, not only of {name}. Name the cluster that it "
            "belongs to by --cluster, or close the others' incidents first. Nothing was moved."
        )
