"""Attack: whoever can write due items on behalf of signals keeps the clock from the open incidents' rechecks.

Forged signals that are never done with left 600 due items that spoke with every tick: rechecks fell from 3.0
to 0.4 a second, and stayed there.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from quietpager.functions.govern.clock.handler import MOST, handle
from quietpager.incident import records
from quietpager.incident.retention import purge
from quietpager.model.message import PING, SIGNAL, Message
from quietpager.model.store import Due, Put, Store, Write
from quietpager.model.time import to_text
from quietpager.runtime.context import Context
from quietpager.runtime.metrics import Exposition
from quietpager.runtime.places import PLACES, place_for
from quietpager.store.delegate import Wrapped
from quietpager.store.embedded import Embedded
from quietpager.store.memory import MemoryStore
from quietpager.store.migrate import migrate, migrations
from quietpager.store.postgres import PostgresStore
from tests.asked import Asked
from tests.backends import empty_store, on_every_back_end

HOSTILE = 600
INCIDENTS = 8
TICKS = 8
TICK = timedelta(seconds=5)


store = on_every_back_end(empty_store)


class Unranked(Wrapped):
    """The mutant: no due item says that it belongs to an incident."""

    def transact(self, writes: Iterable[Write]) -> None:
        self._store.transact([replace(w, since=None) if isinstance(w, Due) else w for w in writes])


def flood(store: Store, now: datetime) -> None:
    """Write what speaks with every tick and is never done with, due for longer than anything else."""
    long_ago = now - timedelta(days=1)
    for start in range(0, HOSTILE, 50):
        message = Message(id="forged", type=SIGNAL).to_json()
        items = [Due(f"again/x{n}", long_ago, TICK, message) for n in range(start, start + 50)]
        store.transact(items)


def rechecks_left(store: Store, *, hostile: bool) -> tuple[int, int]:
    """Let the clock tick over open incidents; gives the rechecks said, and those left lying."""
    asked = Asked(store)
    incidents = {asked.fail(f"web{n}") for n in range(INCIDENTS)}
    if hostile:
        flood(store, asked.now)
    said = left = 0
    for _ in range(TICKS):
        asked.wait(TICK.total_seconds())
        answers = handle(Message(id="t", type=PING), asked.ctx)
        said += sum(one.subject in incidents and ".recheck" in str(one.id) for one in answers)
        said += sum("/recheck" in one.id for one in answers)
        left += sum(item.id.endswith("/recheck") and item.at <= asked.now for item in store.due_items())
    return said, left


def test_600_hostile_due_items_do_not_hold_up_one_recheck(store: Store) -> None:
    said, left = rechecks_left(store, hostile=True)
    assert left == 0, "every recheck that is due is said in that tick"
    assert said == INCIDENTS * TICKS // 2, "each incident is looked at every 10 s, that is every second tick"


def test_without_the_incidents_age_the_flood_holds_rechecks_up(store: Store) -> None:
    said, left = rechecks_left(Unranked(store), hostile=True)
    assert left > 0
    assert said < INCIDENTS * TICKS // 2


def test_the_flood_itself_is_served_with_what_is_left() -> None:
    """It may be true signals: a quarter of each tick is theirs however many incidents there are."""
    store, now = MemoryStore(), datetime.fromisoformat("2026-01-01T00:00:00+00:00")
    store.transact([Due(f"i{n}", now, TICK, {}, now - timedelta(hours=n)) for n in range(500)])
    flood(store, now)
    assert sum(item.since is None for item in store.claim_due(now, MOST)) == MOST // 4


def test_due_items_of_an_older_version_come_with_their_incidents(pg_server: Embedded, pg_url: str) -> None:
    import psycopg  # noqa: PLC0415 (what the older version wrote)

    del pg_server
    with psycopg.connect(pg_url, autocommit=True) as connection:
        connection.execute(
            "CREATE SCHEMA quietpager; CREATE TABLE quietpager.migration (number integer PRIMARY KEY,"
            " name text NOT NULL, at timestamptz NOT NULL DEFAULT now())"
        )
        for number, name, sql in migrations():
            if number < 6:
                connection.execute(sql.encode())
                connection.execute("INSERT INTO quietpager.migration VALUES (%s, %s)", (number, name))
        connection.execute(
            """INSERT INTO quietpager.state VALUES
            ('INCIDENT#inc-1', 1, '{"opened_at": "2026-01-01T00:00:00Z"}');
            INSERT INTO quietpager.due VALUES
            ('inc-1/recheck', '2026-01-02T00:00:00Z', '5 s', '{"subject": "inc-1"}'),
            ('talk/f', '2026-01-02T00:00:00Z', '5 s', '{"subject": null}'),
            ('talk/g', '2026-01-02T00:00:00Z', '5 s', '{}')"""
        )
        assert migrate(connection) == ["0006_due_since.sql"]
    store = PostgresStore(pg_url)
    since = {
        item.id: item.since for item in store.claim_due(datetime.fromisoformat("2026-01-03T00:00:00Z"), 9)
    }
    assert since == {
        "inc-1/recheck": datetime.fromisoformat("2026-01-01T00:00:00Z"), "talk/f": None, "talk/g": None,
    }  # fmt: skip
    store.close()


def look_again(ctx: Context, origin: str, target: str) -> bool:
    """Write a second look down, as a detector does; False where there is no place."""
    place = place_for(ctx, origin, target)
    if place is None:
        return False
    due = Due(records.look_again(place.key), ctx.clock(), TICK, Message(id="s", type=SIGNAL).to_json())
    body = place.body | {"at": to_text(ctx.clock())}
    ctx.store.transact([Put(place.key, body, place.version), due])
    return True


def asks(store: Store, invented: int, *, origin: str = "event") -> int:
    """Ask for a second look at so many targets, each twice; gives how many were written down."""
    ctx = Asked(store).ctx
    return sum(look_again(ctx, origin, f"Pod shop/invented-{n // 2}") for n in range(2 * invented))


def test_second_looks_are_one_for_each_target(store: Store) -> None:
    assert asks(store, 4) == 8
    assert len(store.due_items()) == len(store.scan("AGAIN")) == 4, "however often it is asked for"
    asked = Asked(store)
    asked.wait(2 * 3600)
    purge(store, asked.policy, asked.now)
    assert (store.due_items(), store.scan("AGAIN")) == ([], []), "one that nobody ends is ended"


def test_invented_targets_fill_one_origins_places_and_no_more() -> None:
    store, shown = MemoryStore(), Exposition()
    assert asks(store, 2000) < 4000
    assert len(store.due_items()) == len(store.scan("AGAIN")) <= PLACES
    assert asks(store, 1, origin="sweep") == 2, "the sweep's own looks have places of their own"
    counting = replace(Asked(store).ctx, metrics=shown.metrics)
    assert not look_again(counting, "event", "Pod shop/one-more")
    assert b'quietpager_looks_refused_total{origin="event"} 1.0' in shown.text()
    shown.close()


def test_without_bounded_places_each_invented_target_is_a_due_item(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quietpager.runtime.places.PLACES", 10**9)
    store = MemoryStore()
    assert asks(store, 2000) == 4000
    assert len(store.due_items()) == 2000
