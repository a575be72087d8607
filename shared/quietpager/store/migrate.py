"""Bring a database to the schema this version needs: numbered SQL files, each applied once.

Who calls it: `PostgresStore` and `PostgresMailbox` before their first statement. Any number of
processes may start at the same time: they queue at an advisory lock, and only the first finds work.
A file is applied in one transaction together with the note that it was; so a process that is killed
half-way leaves nothing behind. Files are never edited after a release; a change is a new file.
"""

from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from psycopg import Connection

LOCK = 7_110_312_055_118_093_000
"""Any number that nobody else in the database uses for an advisory lock."""

OWN_NAMES: Final = "SET LOCAL search_path = pg_catalog, pg_temp"
"""Names without a schema mean PostgreSQL's own, whatever else is in the database. Up to PostgreSQL 14 every
role may create functions in `public`, and one that fits the arguments better than the built-in one would run
with the owner's rights (CVE-2018-1058)."""


def migrations() -> list[tuple[int, str, str]]:
    """Give number, name and SQL of every migration, in order."""
    folder = files("quietpager.store") / "migrations"
    found = [(file.name, file.read_text(encoding="utf-8")) for file in folder.iterdir()]
    return sorted((int(name.partition("_")[0]), name, sql) for name, sql in found if name.endswith(".sql"))


def applied(connection: "Connection[Any]") -> set[int]:
    """Tell which migrations the database has; one round trip when it has any."""
    known = connection.execute("SELECT to_regclass('quietpager.migration') IS NOT NULL").fetchone()
    if known is None or not known[0]:
        return set()
    return {row[0] for row in connection.execute("SELECT number FROM quietpager.migration").fetchall()}


def is_current(connection: "Connection[Any]") -> bool:
    """Tell whether nothing is missing, in one round trip; else `migrate` may take its time."""
    return applied(connection) >= {number for number, _, _ in migrations()}


def migrate(connection: "Connection[Any]") -> list[str]:
    """Apply what is missing and name it; the connection must be in autocommit mode.

    Raises psycopg.Error; the store turns it into `StoreUnavailable`.
    """
    if is_current(connection):
        return []
    wanted, done = migrations(), []
    with connection.transaction():
        # Held until the transaction ends, also when this process is killed.
        connection.execute(OWN_NAMES)
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (LOCK,))
        connection.execute("CREATE SCHEMA IF NOT EXISTS quietpager")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS quietpager.migration (number integer PRIMARY KEY,"
            " name text NOT NULL, at timestamptz NOT NULL DEFAULT now())"
        )
        have = applied(connection)
        for number, name, sql in wanted:
            if number not in have:
                connection.execute(sql)  # our own file, not a person's input
                connection.execute(
                    "INSERT INTO quietpager.migration (number, name) VALUES (%s, %s)",
                    (number, name),
                )
                done.append(name)
    return done
