"""Wakes up at the very moment a record reaches a state: a trigger in the store's database says so.

What a test needs to stop a process between two of its steps. The trigger fires at commit, so whoever
listens learns of it about a millisecond after the writer itself knows.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import psycopg

CHANNEL = "e2e_state"

INSTALL = f"""
CREATE SCHEMA IF NOT EXISTS e2e;
CREATE OR REPLACE FUNCTION e2e.tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('{CHANNEL}', NEW.key || ' ' || coalesce(NEW.body->>'state', ''));
  RETURN NEW;
END $$;
CREATE OR REPLACE TRIGGER e2e_tell AFTER INSERT OR UPDATE ON quietpager.state
  FOR EACH ROW EXECUTE FUNCTION e2e.tell();
"""
REMOVE = "DROP TRIGGER IF EXISTS e2e_tell ON quietpager.state; DROP SCHEMA IF EXISTS e2e CASCADE"


@dataclass(frozen=True)
class Moments:
    """Listens to states."""

    connection: psycopg.Connection[Any]

    def wait(self, kind: str, state: str, seconds: float) -> str:
        """Wait until a record of this kind (`INTENT`) reaches this state; gives its id."""
        for notice in self.connection.notifies(timeout=seconds):
            key, _, reached = notice.payload.partition(" ")
            if key.startswith(f"{kind}#") and reached == state:
                return key.rpartition("#")[2]
        raise AssertionError(f"no {kind} became {state} within {seconds:.0f} s")


@contextmanager
def told(url: str) -> Iterator[None]:
    """Let the database tell for a while; once for all tests. The product's own statements are not touched."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(INSTALL)
    try:
        yield
    finally:
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(REMOVE)


@contextmanager
def moments(url: str) -> Iterator[Moments]:
    """Listen for a while."""
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(f"LISTEN {CHANNEL}")
        yield Moments(connection)
