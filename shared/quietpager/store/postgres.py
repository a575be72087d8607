"""The store on PostgreSQL 14 or newer: four tables, one conditional transaction, two round trips.

Who calls it: `runtime.connect.open_store`, the local host and the commands. Importing this module
is cheap; psycopg (about 0.2 s of CPU) is imported by the first call.

How a transaction keeps the port's promises, under READ COMMITTED:

    first round trip   BEGIN · advisory locks for keys that must be absent · row locks, keys in
    sorted
                       order (a Check shares, a write excludes) and the versions found
    here               conditions in the order given; the first that fails -> ROLLBACK, Conflict
    second round trip  the writes, a statement for each kind · COMMIT

A key that must be absent has no row to lock; without the advisory lock another process could
insert it between our look and our commit ("the kill switch is off" would be a guess). Locks are
taken in one order everywhere, so two of our transactions do not deadlock but for a pair of crossed
Checks; a deadlock, a serialization failure and a lost first insert have written nothing and are
tried again.

JSON goes through `codec`, so NUL characters, lone surrogates, large integers and all floats come
back as they were.
"""

import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import cache
from itertools import groupby
from threading import Lock
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeVar

from quietpager.model.store import (
    ABSENT,
    AuditEntry,
    Check,
    Conflict,
    Delete,
    Due,
    Json,
    Put,
    Record,
    StoreUnavailable,
    Write,
)
from quietpager.store.batch import Batch
from quietpager.store.codec import dump, escape, load, unescape
from quietpager.store.queue import first_share, place
from quietpager.store.search_terms import words

if TYPE_CHECKING:
    from psycopg import Connection
    from psycopg_pool import ConnectionPool

T = TypeVar("T")

WAIT: Final = 5
"""Seconds to wait for a connection, and for a statement, before the store counts as unavailable."""

ANSWER: Final = WAIT + 3
"""Seconds to wait for any answer on a connection that stands. Longer than the server's own limit for a
statement, so that it is only ever reached where the server, or the way to it, is silently gone: without it
a call would wait until the kernel gives up, after two hours by default (tcp(7), `tcp_keepalive_time`)."""

MIGRATION: Final = 600
"""The same while the tables are brought up to date."""

TRIES: Final = 8
"""How often a transaction that lost a race, and wrote nothing, is tried."""

_SESSION: Final = (
    "SET timezone = 'UTC'",
    # A lock that is not given within this time means that its holder is stuck.
    f"SET statement_timeout = '{WAIT}s'",
    # A holder that stalls between its two round trips (stopped, swapped out) loses its locks.
    f"SET idle_in_transaction_session_timeout = '{WAIT}s'",
)


class Database:
    """A small pool of connections, opened by the first use; what store and mailbox share."""

    def __init__(self, url: str, *, connections: int, session: Sequence[LiteralString] = ()) -> None:
        """Remember the URL; nothing is connected yet. `session`: SQL for each new connection."""
        self._url = url
        self._connections = connections
        self._session = (*_SESSION, *session)
        self._lock = Lock()
        self._pool: ConnectionPool[Connection[Any]] | None = None

    @contextmanager
    def connection(self) -> "Iterator[Connection[Any]]":
        """Lend a connection in autocommit mode; raises psycopg.Error."""
        with self._open().connection() as connection:
            yield connection

    def run(self, work: "Callable[[Connection[Any]], T]") -> T:
        """Run statements that may be run twice, on a new connection if the first turns out dead.

        Raises `StoreUnavailable` for any error of PostgreSQL.
        """
        import psycopg  # noqa: PLC0415 (see the module's docstring)

        with speaking():
            dead = False
            try:
                with self.connection() as connection:
                    try:
                        return work(connection)
                    finally:
                        dead = connection.broken
            except psycopg.OperationalError:
                if not dead:
                    raise
            self.check()
            with self.connection() as connection:
                return work(connection)

    def check(self) -> None:
        """Throw away connections that turn out dead."""
        self._open().check()

    def close(self) -> None:
        """Close all connections; a later use opens new ones."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def _open(self) -> "ConnectionPool[Connection[Any]]":
        with self._lock:
            if self._pool is None:
                from psycopg_pool import ConnectionPool  # noqa: PLC0415 (see the module's docstring)

                pool: ConnectionPool[Connection[Any]] = ConnectionPool(
                    self._url,
                    connection_class=_impatient(),
                    min_size=1,
                    max_size=self._connections,
                    timeout=WAIT,
                    reconnect_timeout=WAIT,
                    num_workers=1,
                    kwargs={
                        "autocommit": True,
                        "connect_timeout": WAIT,
                        "application_name": "quietpager",
                        # After a fail-over the old writer may still answer, read-only.
                        "target_session_attrs": "read-write",
                    },
                    configure=self._configure,
                    open=False,
                )
                self._migrate()
                pool.open()
                self._pool = pool
            return self._pool

    def _migrate(self) -> None:
        import psycopg  # noqa: PLC0415 (see the module's docstring)

        from quietpager.store.migrate import is_current, migrate  # noqa: PLC0415 (only needed once)

        # Also the place where a wrong URL is found with its own message rather than the pool's.
        with _impatient().connect(self._url, autocommit=True, connect_timeout=WAIT) as connection:
            if is_current(connection):
                return
            # Others may be at it, and these wait for them; an index of a large table takes long.
            connection.patience = MIGRATION
            try:
                migrate(connection)
            except psycopg.errors.InsufficientPrivilege as no:
                # The functions' own role (`roles`): it makes no tables, and must not be able to.
                raise StoreUnavailable(
                    "The database lacks tables that this version needs, and this role may not make them. "
                    f"Run `quietpager migrate` as the owner. PostgreSQL says: {str(no).splitlines()[0]}"
                ) from no

    def _configure(self, connection: "Connection[Any]") -> None:
        connection.execute("; ".join(self._session))


@cache
def _impatient() -> Any:
    """Make the kind of connection that gives up on a server which answers nothing for `ANSWER` seconds."""
    import psycopg  # noqa: PLC0415 (see the module's docstring)

    class Impatient(psycopg.Connection[Any]):
        patience: float | None = None

        def wait(self, gen: Any, interval: float = 0.1, timeout: float | None = None) -> Any:
            most = timeout or self.patience or ANSWER
            try:
                return super().wait(gen, interval, most)
            except psycopg.errors._WaitTimeout as silent:  # noqa: SLF001 (has no other name)
                # What it was doing may yet be done; nobody may go on in the middle of that answer.
                self.close()
                raise psycopg.OperationalError(f"no answer within {most:.0f} s") from silent

    return Impatient


@contextmanager
def speaking() -> Iterator[None]:
    """Turn any error of PostgreSQL into `StoreUnavailable` with a sentence."""
    import psycopg  # noqa: PLC0415 (see the module's docstring)

    try:
        yield
    except psycopg.Error as wrong:
        said = " ".join(str(wrong).split()) or type(wrong).__name__
        raise StoreUnavailable(f"PostgreSQL does not do it: {said}") from wrong


class PostgresStore:
    """`port.Store` on PostgreSQL."""

    def __init__(self, url: str, *, connections: int = 4) -> None:
        """Remember the URL (`postgresql://…`, the writer's endpoint); the first call connects.

        The first call also brings the tables up to date, where the role may. `connections` bounds the pool.
        """
        self.url = url
        self._db = Database(url, connections=connections)

    def get(self, key: str) -> Record | None:
        """Read one record."""
        return self.get_many([key]).get(key)

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """Read several records in one round trip."""
        if not keys:
            return {}
        wanted = [escape(key) for key in keys]
        return {record.key: record for record in self._db.run(lambda at: _records(at, wanted))}

    def scan(self, kind: str) -> list[Record]:
        """Read all records of one kind, in key order."""
        low, high = escape(f"{kind}#"), escape(f"{kind}$")  # "$" is the character after "#"
        rows = self._db.run(
            lambda at: at.execute(
                "SELECT key, version, body::text FROM quietpager.state"
                " WHERE key >= %s AND key < %s ORDER BY key",
                (low, high),
            ).fetchall()
        )
        return [Record(unescape(key), version, load(body)) for key, version, body in rows]

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        """Read up to `limit` records of one kind after a key, by the primary key."""
        low, high = max(escape(f"{kind}#"), escape(after)), escape(f"{kind}$")
        rows = self._db.run(
            lambda at: at.execute(
                "SELECT key, version, body::text FROM quietpager.state"
                " WHERE key >= %s AND key < %s AND key <> %s ORDER BY key LIMIT %s",
                (low, high, escape(after), max(limit, 0)),
            ).fetchall()
        )
        return [Record(unescape(key), version, load(body)) for key, version, body in rows]

    def similar(self, text: str, limit: int) -> list[Record]:
        """Find records `PAST#…` that share words with a text, by the index of their words."""
        wanted = words(text)
        if not wanted:
            return []
        rows = self._db.run(
            lambda at: at.execute(
                SIMILAR,
                (" | ".join(wanted), list(wanted), max(limit, 0)),
            ).fetchall()
        )
        return [Record(unescape(key), version, load(body)) for key, version, body in rows]

    def transact(self, writes: Iterable[Write]) -> None:
        """Do all or nothing.

        Raises:
            Conflict: the first condition that does not hold; nothing was written.
            StoreUnavailable: nothing is known, the transaction may have been written.
            ValueError, TypeError: the writes are no valid batch, or a body is not JSON.
        """
        batch = Batch.of(writes)
        if not (batch.conditions or batch.audits or batch.due or batch.done):
            return
        import psycopg  # noqa: PLC0415 (see the module's docstring)

        prepared = _Prepared(batch)
        with speaking():
            for attempt in range(1, TRIES + 1):
                dead = False
                try:
                    with self._db.connection() as connection:
                        try:
                            _transact(connection, prepared)
                        finally:
                            dead = connection.broken
                except (
                    psycopg.errors.DeadlockDetected,
                    psycopg.errors.SerializationFailure,
                    psycopg.errors.UniqueViolation,
                ):
                    # PostgreSQL rolled it back, so nothing is written: look at the conditions
                    # again.
                    if attempt == TRIES:
                        raise
                    time.sleep(random.uniform(0, 0.005 * 2**attempt))  # noqa: S311 (no secret)
                except psycopg.OperationalError:
                    # A connection that was dead before it could commit has written nothing either.
                    if prepared.sent or not dead or attempt > 1:
                        raise
                    self._db.check()
                else:
                    return

    def claim_due(self, now: datetime, limit: int, within: str = "") -> list[Due]:
        """Take up to `limit` due items, as `queue` chooses, and move each on to `now + every`."""
        most = max(limit, 0)
        with speaking(), self._db.connection() as connection:
            # Not `run`: an answer that was lost is a claim that was made; the item comes again.
            begins = escape(within)
            rows = connection.execute(
                _CLAIM, (now, begins, first_share(limit), now, begins, most, now)
            ).fetchall()
        return sorted((_due(row) for row in rows), key=place)

    def due_item(self, id_: str) -> Due | None:
        """Read one due item."""
        row = self._db.run(
            lambda at: at.execute(
                "SELECT id, at, every, message::text, since FROM quietpager.due WHERE id = %s", (escape(id_),)
            ).fetchone()
        )
        return None if row is None else _due(row)

    def due_items(self) -> list[Due]:
        """Read all due items, oldest first."""
        rows = self._db.run(
            lambda at: at.execute(
                "SELECT id, at, every, message::text, since FROM quietpager.due ORDER BY at, id"
            ).fetchall()
        )
        return [_due(row) for row in rows]

    def audit(self, chain: str) -> list[AuditEntry]:
        """Read one chain in order."""
        rows = self._db.run(
            lambda at: at.execute(
                "SELECT seq, at, kind, actor, body::text, previous, hash FROM quietpager.audit"
                " WHERE chain = %s ORDER BY seq",
                (escape(chain),),
            ).fetchall()
        )
        return [
            AuditEntry(
                chain,
                seq,
                at.astimezone(UTC),
                unescape(kind),
                unescape(actor),
                load(body),
                previous,
                digest,
            )
            for seq, at, kind, actor, body, previous, digest in rows
        ]

    def audit_chains(self) -> list[str]:
        """Name all chains."""
        rows = self._db.run(
            lambda at: at.execute("SELECT DISTINCT chain FROM quietpager.audit ORDER BY chain").fetchall()
        )
        return [unescape(row[0]) for row in rows]

    def close(self) -> None:
        """Give back connections."""
        self._db.close()


class _Prepared:
    """A batch with its keys escaped and its bodies written; made once, sent as often as needed."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.sent = False  # from here on the commit may have happened, whatever we hear
        self.puts = {w.key: dump(w.body) for w in batch.conditions if isinstance(w, Put)}
        self.due = [
            (escape(d.id), d.at, d.every, dump(d.message), d.since)
            for d in sorted(batch.due, key=lambda due: escape(due.id))
        ]
        self.done = sorted(escape(item) for item in batch.done)
        # True: shared. A Check only keeps others from writing; two Checks do not wait for each
        # other.
        modes = {escape(w.key): isinstance(w, Check) for w in batch.conditions}
        modes |= {escape(head): False for head in batch.heads()}
        self.locks = [
            (shared, [key for key, _ in run])
            for shared, run in groupby(sorted(modes.items()), key=lambda item: item[1])
        ]
        absent = {escape(w.key): isinstance(w, Check) for w in batch.conditions if w.expect == ABSENT}
        self.absent = [
            (shared, [key for key, _ in run])
            for shared, run in groupby(sorted(absent.items()), key=lambda item: item[1])
        ]


# By "shared". Within an array the order is that of the keys, which were sorted.
_LOCK_ABSENT: Final[dict[bool, LiteralString]] = {
    True: ("SELECT pg_advisory_xact_lock_shared(hashtextextended(key, 0)) FROM unnest(%s::text[]) AS key"),
    False: "SELECT pg_advisory_xact_lock(hashtextextended(key, 0)) FROM unnest(%s::text[]) AS key",
}
_LOCK_ROWS: Final[dict[bool, LiteralString]] = {
    True: ("SELECT key, version, NULL FROM quietpager.state WHERE key = ANY(%s) ORDER BY key FOR SHARE"),
    # Only a chain's head is needed with its body.
    False: (
        "SELECT key, version, CASE WHEN starts_with(key, 'CHAIN#') THEN body::text END"
        " FROM quietpager.state WHERE key = ANY(%s) ORDER BY key FOR UPDATE"
    ),
}


# The two parts lock different rows: a row that this statement has locked itself is not skipped.
_CLAIM: Final = (
    "WITH first AS MATERIALIZED (SELECT id, at FROM quietpager.due WHERE at <= %s AND since IS NOT NULL"
    " AND starts_with(id, %s)"
    " ORDER BY since, at, id LIMIT %s FOR UPDATE SKIP LOCKED),"
    " rest AS MATERIALIZED (SELECT id, at FROM quietpager.due WHERE at <= %s"
    " AND starts_with(id, %s) AND id NOT IN (SELECT id FROM first)"
    " ORDER BY at, id LIMIT %s - (SELECT count(*) FROM first) FOR UPDATE SKIP LOCKED),"
    " taken AS (SELECT id, at FROM first UNION ALL SELECT id, at FROM rest)"
    " UPDATE quietpager.due AS d SET at = %s::timestamptz + d.every FROM taken"
    " WHERE d.id = taken.id RETURNING d.id, taken.at, d.every, d.message::text, d.since"
)

# Its first three conditions are the index's own, word for word; without them all records are read.
SIMILAR: Final = (
    "SELECT key, version, body::text FROM quietpager.state WHERE key >= 'PAST#' AND key < 'PAST$'"
    " AND to_tsvector('simple', body->>'words') @@ to_tsquery('simple', %s)"
    " ORDER BY cardinality(ARRAY("
    "SELECT unnest(tsvector_to_array(to_tsvector('simple', body->>'words')))"
    " INTERSECT SELECT unnest(%s::text[]))) DESC, key LIMIT %s"
)
_INSERT_STATE: Final = (
    "INSERT INTO quietpager.state (key, version, body) SELECT key, 1, body::jsonb"
    " FROM unnest(%s::text[], %s::text[]) AS new (key, body)"
)
_UPDATE_STATE: Final = (
    "UPDATE quietpager.state AS s SET version = s.version + 1, body = new.body::jsonb"
    " FROM unnest(%s::text[], %s::text[]) AS new (key, body) WHERE s.key = new.key"
)


def _transact(connection: "Connection[Any]", prepared: _Prepared) -> None:
    batch = prepared.batch
    conflict: Conflict | None = None
    try:
        with connection.pipeline():
            connection.execute("BEGIN ISOLATION LEVEL READ COMMITTED")
            for shared, keys in prepared.absent:
                connection.execute(_LOCK_ABSENT[shared], (keys,))
            found = [connection.execute(_LOCK_ROWS[shared], (keys,)) for shared, keys in prepared.locks]
            rows = [row for cursor in found for row in cursor.fetchall()]
            versions = {unescape(key): version for key, version, _ in rows}
            heads = {unescape(key): load(body) for key, _, body in rows if body is not None}
            failing = batch.first_failing(versions)
            if failing is None:
                entries, moved = batch.chain(heads)
                _write(connection, prepared, versions, entries, moved)
                prepared.sent = True
                connection.execute("COMMIT")
        if failing is not None:
            # Still locked, so this is the very record that the condition failed on.
            there = _records(connection, [escape(failing.key)])
            connection.execute("ROLLBACK")
            conflict = Conflict(failing.key, failing.expect, there[0] if there else None)
    except BaseException:
        # Not left to the pool, which would warn about the state the connection comes back in.
        if not connection.closed and connection.info.transaction_status:
            connection.rollback()
        raise
    if conflict is not None:
        raise conflict


def _write(
    connection: "Connection[Any]",
    prepared: _Prepared,
    versions: dict[str, int],
    entries: list[AuditEntry],
    moved: dict[str, Json],
) -> None:
    bodies = prepared.puts | {head: dump(body) for head, body in moved.items()}
    keys = sorted(bodies)
    for sql, some in (
        (_INSERT_STATE, [key for key in keys if key not in versions]),
        (_UPDATE_STATE, [key for key in keys if key in versions]),
    ):
        if some:
            connection.execute(sql, ([escape(key) for key in some], [bodies[key] for key in some]))
    gone = [escape(w.key) for w in prepared.batch.conditions if isinstance(w, Delete)]
    if gone:
        connection.execute("DELETE FROM quietpager.state WHERE key = ANY(%s)", (gone,))
    if entries:
        connection.execute(
            "INSERT INTO quietpager.audit (chain, seq, at, kind, actor, body, previous, hash)"
            " SELECT chain, seq, at, kind, actor, body::jsonb, previous, hash"
            " FROM unnest(%s::text[],"
            " %s::bigint[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[],"
            " %s::text[])"
            " AS new (chain, seq, at, kind, actor, body, previous, hash)",
            (
                [escape(entry.chain) for entry in entries],
                [entry.seq for entry in entries],
                [entry.at for entry in entries],
                [escape(entry.kind) for entry in entries],
                [escape(entry.actor) for entry in entries],
                [dump(entry.body) for entry in entries],
                [entry.previous for entry in entries],
                [entry.hash for entry in entries],
            ),
        )
    if prepared.due:
        connection.execute(
            "INSERT INTO quietpager.due (id, at, every, message, since)"
            " SELECT id, at, every, message::jsonb, since FROM unnest(%s::text[], %s::timestamptz[],"
            " %s::interval[], %s::text[], %s::timestamptz[]) AS new (id, at, every, message, since)"
            " ORDER BY id ON CONFLICT (id) DO UPDATE SET at = EXCLUDED.at, every = EXCLUDED.every,"
            " message = EXCLUDED.message, since = EXCLUDED.since",
            tuple(list(column) for column in zip(*prepared.due, strict=True)),
        )
    if prepared.done:
        connection.execute("DELETE FROM quietpager.due WHERE id = ANY(%s)", (prepared.done,))


def _records(connection: "Connection[Any]", keys: list[str]) -> list[Record]:
    rows = connection.execute(
        "SELECT key, version, body::text FROM quietpager.state WHERE key = ANY(%s)", (keys,)
    ).fetchall()
    return [Record(unescape(key), version, load(body)) for key, version, body in rows]


def _due(row: tuple[Any, ...]) -> Due:
    item, at, every, message, since = row
    opened = None if since is None else since.astimezone(UTC)
    return Due(unescape(item), at.astimezone(UTC), every, load(message), opened)
