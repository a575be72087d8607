"""The local broker's mailbox on PostgreSQL.

Who calls it: `shared/quietpager/local/broker.py`, which is the only owner of the table. Importing is cheap.

Its connections run with `synchronous_commit = off`: a commit returns when PostgreSQL has it, not
when the disk has it. So a kill of the broker's process loses nothing; a crash of the machine or of
PostgreSQL itself may lose about the last half second of messages (three times `wal_writer_delay`,
PostgreSQL documentation, "Asynchronous Commit"), never consistency. That is acceptable because a
message is a hint: what follows a committed write is also a due item of the store, whose commits do
wait for the disk, and what an Event told is found again by the sweep. It saves one wait for the
disk per message and per delivery.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quietpager.store.codec import dump, escape, load, unescape
from quietpager.store.mailbox import Delivery
from quietpager.store.postgres import Database

if TYPE_CHECKING:
    from psycopg import Connection


class PostgresMailbox:
    """`mailbox.Mailbox` in the store's database."""

    def __init__(self, url: str, *, connections: int = 4) -> None:
        """Remember the URL; the first call connects and brings the tables up to date."""
        self._db = Database(url, connections=connections, session=("SET synchronous_commit = off",))

    def accept(self, deliveries: Sequence[Delivery]) -> None:
        """Keep them, in one statement; one that is kept already stays as it is."""
        if deliveries:
            columns = _columns(deliveries)
            self._db.run(lambda at: at.execute(_INSERT, columns))

    def complete(self, delivery_id: str, follow_ups: Sequence[Delivery]) -> None:
        """Drop one that is done and keep what became of it, in one statement."""
        done = escape(delivery_id)
        if not follow_ups:
            self._db.run(lambda at: at.execute(_DELETE, ([done],)))
            return
        columns = _columns(follow_ups)
        self._db.run(lambda at: at.execute(f"WITH gone AS ({_DELETE}) {_INSERT}", ([done], *columns)))

    def pending(self) -> list[Delivery]:
        """Read what is not done, oldest first."""
        rows = self._db.run(_pending)
        return [
            Delivery(unescape(name), unescape(trigger), load(event), attempt)
            for name, trigger, event, attempt in rows
        ]

    def close(self) -> None:
        """Give back connections."""
        self._db.close()


_DELETE = "DELETE FROM quietpager.delivery WHERE id = ANY(%s)"
_INSERT = (
    "INSERT INTO quietpager.delivery (id, trigger, event, attempt)"
    " SELECT id, trigger, event::jsonb, attempt"
    " FROM unnest(%s::text[], %s::text[], %s::text[], %s::integer[])"
    " AS new (id, trigger, event, attempt)"
    " ON CONFLICT (id) DO NOTHING"
)


def _columns(deliveries: Sequence[Delivery]) -> tuple[list[str], list[str], list[str], list[int]]:
    return (
        [escape(delivery.id) for delivery in deliveries],
        [escape(delivery.trigger) for delivery in deliveries],
        [dump(delivery.event) for delivery in deliveries],
        [delivery.attempt for delivery in deliveries],
    )


def _pending(connection: "Connection[Any]") -> list[Any]:
    return connection.execute(
        "SELECT id, trigger, event::text, attempt FROM quietpager.delivery ORDER BY place"
    ).fetchall()
