"""Two clusters on one store, and a store that an older version filled: whose is what, how keys are moved."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quietpager.incident import records
from quietpager.incident.switch import set_switch
from quietpager.model import keys
from quietpager.model.store import ABSENT, Audit, Conflict, Delete, Due, Put, Store, StoreUnavailable, Write
from quietpager.store.memory import MemoryStore
from quietpager.store.of_cluster import OfCluster
from quietpager.store.opening import of_cluster
from quietpager.store.postgres import PostgresStore
from quietpager.store.rekey import move_by_port
from quietpager.store.roles import migrate_as_owner
from tests.asked import START, Asked
from tests.backends import empty_store, on_every_back_end

NOW = datetime(2026, 11, 29, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CLUSTER = "c"
"""The cluster that `tests.asked` finds its failures in."""


@on_every_back_end
def raw(request: pytest.FixtureRequest) -> Iterator[Store]:
    yield from empty_store(request)


def both(raw: Store) -> tuple[Store, Store]:
    return of_cluster(raw, "blue"), of_cluster(raw, "green")


# -- two clusters ------------------------------------------------------------


def test_the_same_key_is_another_record_in_each_cluster(raw: Store) -> None:
    blue, green = both(raw)
    blue.transact([Put("SLOT#shop#0", {"at": "x"}, ABSENT), Due("inc/recheck", NOW, MINUTE, {"data": {}})])
    assert green.get("SLOT#shop#0") is None
    assert green.scan("SLOT") == green.page("SLOT", "", 9) == []
    assert (green.due_item("inc/recheck"), green.due_items(), green.claim_due(NOW, 9)) == (None, [], [])
    green.transact([Put("SLOT#shop#0", {"at": "y"}, ABSENT)])
    assert [one.body for one in blue.scan("SLOT")] == [{"at": "x"}]
    assert [one.key for one in blue.page("SLOT", "", 9)] == ["SLOT#shop#0"]
    assert blue.page("SLOT", "SLOT#shop#0", 9) == []
    assert [one.id for one in blue.claim_due(NOW, 9)] == ["inc/recheck"]
    assert [one.id for one in blue.due_items()] == ["inc/recheck"]


def test_one_clusters_flood_does_not_keep_the_others_items_from_its_clock(raw: Store) -> None:
    blue, green = both(raw)
    blue.transact(Due(f"a{number}", NOW - MINUTE, MINUTE, {"data": {}}) for number in range(60))
    green.transact([Due("mine", NOW, MINUTE, {"data": {}}), Due("since", NOW, MINUTE, {"data": {}}, NOW)])
    assert {one.id for one in green.claim_due(NOW, 4)} == {"mine", "since"}


def test_a_lost_race_names_the_record_as_its_cluster_knows_it(raw: Store) -> None:
    blue, _ = both(raw)
    blue.transact([Put("SLOT#shop#0", {"at": "x"}, ABSENT)])
    with pytest.raises(Conflict) as lost:
        blue.transact([Put("SLOT#shop#0", {"at": "y"}, ABSENT)])
    assert (lost.value.key, lost.value.found and lost.value.found.key) == ("SLOT#shop#0", "SLOT#shop#0")


def test_incident_switch_and_storm_of_one_cluster_are_nothing_to_the_other(raw: Store) -> None:
    blue, green = (Asked(store) for store in both(raw))
    set_switch(green.store, stopped=True, by="ann", now=NOW)
    name = blue.ask()
    assert (len(blue.incidents()), green.incidents()) == (1, [])
    assert green.fail() == name, "the same workload in a cluster of the same name would have the same id"
    switch = blue.store.get(records.SWITCH), green.store.get(records.SWITCH)
    assert [one and one.body["stopped"] for one in switch] == [False, True]
    for kind in ("OPENING", "CAUSE", "REHEARSAL"):
        assert len(blue.store.scan(kind)) == len(green.store.scan(kind)) > 0
    [entry] = blue.store.audit("switch")
    assert entry.body == {"cluster": "green"}, "the audit is one for the store, and says whose an entry is"


def test_what_is_one_for_the_store_is_seen_by_both(raw: Store) -> None:
    blue, green = both(raw)
    for kind in sorted(set(keys.STORE_WIDE) - {"CHAIN", "KEYS"}):
        blue.transact([Put(f"{kind}#x", {"words": "ledger"}, ABSENT)])
        assert green.get(f"{kind}#x") == blue.get(f"{kind}#x") is not None
    assert [one.key for one in green.similar("ledger", 3)] == ["PAST#x"]


def test_every_kind_says_whose_it_is() -> None:
    named = [getattr(records, name) for name in vars(records) if name.isupper()]
    for one in named:
        assert one.partition("#")[0] in {*keys.STORE_WIDE, *keys.OF_CLUSTER}
    assert not {*keys.STORE_WIDE} & {*keys.OF_CLUSTER}


def test_with_no_cluster_in_the_keys_all_is_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the cluster in the key, one cluster's switch, slots and incidents are the other's."""
    monkeypatch.setattr(keys, "in_cluster", lambda key, _cluster: key)
    blue, green = (Asked(store) for store in both(MemoryStore()))
    blue.ask()
    assert len(green.incidents()) == 1
    set_switch(green.store, stopped=False, by="ann", now=NOW)
    found = blue.store.get(records.SWITCH)
    assert found is not None
    assert found.body["by"] == "ann"


@pytest.mark.parametrize("name", ["", "a#b", "a/b", "-a", "x" * 64, "a\n"])
def test_what_cannot_be_part_of_a_key_is_no_clusters_name(name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a cluster's name"):
        OfCluster(MemoryStore(), name)


# -- the move ------------------------------------------------------------------------------------------


def filled(raw: Store) -> dict[str, Any]:
    """Let a version without clusters in its keys work: incidents, their locks, a slot, a breaker."""
    if (mark := raw.get(keys.FORM)) is not None:
        raw.transact([Delete(keys.FORM, mark.version)])  # which an older version does not make
    old = Asked(raw)
    old.ask()
    old.fail("api")
    raw.transact(
        [
            Put("SLOT#shop#0", {"at": "2026-01-01T01:59:00Z", "holder": "inc-1"}, ABSENT),
            Put("BREAKER#oom_killed#shop/u", {"until": "2027-01-01T00:00:00Z"}, ABSENT),
            Put("TARGET#shop/u", {"at": "2026-01-01T01:59:00Z"}, ABSENT),
            Put("LEDGER#oom_killed#raise-memory", {"tried": 1}, ABSENT),
        ]
    )
    raw.transact([Put("SLOT#shop#0", {"at": "2026-01-01T02:00:00Z", "holder": "inc-1"}, 1)])
    return {one.key: one.body for kind in keys.OF_CLUSTER for one in raw.scan(kind)}


def move(raw: Store, request: pytest.FixtureRequest, cluster: str = CLUSTER) -> None:
    """Do what `quietpager migrate` does on this back end."""
    if isinstance(raw, PostgresStore):
        migrate_as_owner(request.getfixturevalue("owner_of")(raw), None, cluster)
    else:
        move_by_port(raw, cluster)


@pytest.fixture
def owner_of(pg_url: str) -> Callable[[PostgresStore], str]:
    """Give the address of a store's database as its owner."""

    def find(store: PostgresStore) -> str:
        row = store._db.run(lambda at: at.execute("SELECT current_database()").fetchone())
        assert row is not None
        head, _, query = pg_url.partition("?")
        return f"{head.rpartition('/')[0]}/{row[0]}" + (f"?{query}" if query else "")

    return find


def test_a_store_that_was_not_moved_is_a_sentence_and_nothing_else(raw: Store) -> None:
    before = filled(raw)
    new = of_cluster(raw, CLUSTER)
    for ask in (
        lambda: new.get(records.SWITCH), lambda: new.claim_due(NOW, 9), lambda: new.scan("INCIDENT"),
        lambda: new.transact([Audit("x", NOW, "k", "a")]),
    ):  # fmt: skip
        with pytest.raises(StoreUnavailable, match="quietpager migrate"):
            ask()
    assert {one.key: one.body for kind in keys.OF_CLUSTER for one in raw.scan(kind)} == before


def test_the_move_allows_no_second_incident_and_no_fresh_budget(
    raw: Store, request: pytest.FixtureRequest
) -> None:
    before, waiting = filled(raw), {one.id: one for one in raw.due_items()}
    move(raw, request)
    new = of_cluster(raw, CLUSTER)
    assert {one.key: one.body for kind in keys.OF_CLUSTER for one in new.scan(kind)} == before
    assert {one.id: one.at for one in new.due_items()} == {id_: one.at for id_, one in waiting.items()}
    assert new.get("LEDGER#oom_killed#raise-memory") is not None
    asked = Asked(new, now=START + MINUTE, seen=9)
    names = [one.id for one in asked.incidents()]
    assert len(names) == 2
    assert asked.fail() in names, "the cause is still locked by its incident"
    assert len(asked.incidents()) == 2
    move(raw, request)
    assert len(of_cluster(raw, CLUSTER).scan("SLOT")) == 1, "the second time there is nothing to move"


def test_an_empty_store_needs_no_move(raw: Store, request: pytest.FixtureRequest) -> None:
    new = of_cluster(raw, "blue")
    new.transact([Put("SLOT#shop#0", {}, ABSENT)])
    move(raw, request, "blue")
    assert [one.key for one in raw.scan("SLOT")] == ["SLOT#blue#shop#0"]


def test_incidents_of_another_cluster_are_not_taken_for_ours(
    raw: Store, request: pytest.FixtureRequest
) -> None:
    before = filled(raw)
    raw.transact([Put("INCIDENT#x", {"cluster": "elsewhere", "state": "CLOSED"}, ABSENT)])
    with pytest.raises(StoreUnavailable, match="elsewhere"):
        move(raw, request)
    assert before.items() <= {one.key: one.body for kind in keys.OF_CLUSTER for one in raw.scan(kind)}.items()


class Killed(Exception):  # noqa: N818
    """The process ended here."""


@pytest.mark.parametrize("calls", range(1, 30, 4))
def test_a_move_that_is_killed_goes_on_and_no_function_works_meanwhile(calls: int) -> None:
    class Dies(MemoryStore):
        left = 10**9

        def transact(self, writes: Any) -> None:
            self.left -= 1
            if self.left < 0:
                raise Killed
            super().transact(writes)

    raw = Dies()
    before = filled(raw)
    raw.left = calls
    try:
        move_by_port(raw, CLUSTER)
    except Killed:
        with pytest.raises(StoreUnavailable, match="migrate"):
            of_cluster(raw, CLUSTER).get(records.SWITCH)
        assert raw.get(records.SWITCH) is None, "an older version that still runs is stopped"
    raw.left = 10**9
    move_by_port(raw, CLUSTER)
    new = of_cluster(raw, CLUSTER)
    assert {one.key: one.body for kind in keys.OF_CLUSTER for one in new.scan(kind)} == before


def test_an_older_version_that_still_writes_is_found() -> None:
    raw = MemoryStore()
    filled(raw)
    [lock, *_] = raw.scan("CAUSE")

    class Writes(MemoryStore):
        """As soon as a lock was moved, somebody opens a second incident under the old key."""

        def transact(self, writes: Any) -> None:
            done: list[Write] = list(writes)
            raw.transact(done)
            if any(isinstance(one, Delete) and one.key == lock.key for one in done):
                raw.transact([Put(lock.key, {"incident": "inc-second", "episode": 1}, ABSENT)])

        def __getattribute__(self, name: str) -> Any:
            return super().__getattribute__(name) if name == "transact" else getattr(raw, name)

    with pytest.raises(StoreUnavailable, match="older version still writes"):
        move_by_port(Writes(), CLUSTER)
    with pytest.raises(StoreUnavailable, match="migrate"):
        of_cluster(raw, CLUSTER).get(lock.key)


def test_whoever_writes_while_postgres_moves_the_keys_finds_his_condition_failing(
    new_database: Callable[[], str],
) -> None:
    url = new_database()
    store = PostgresStore(url, connections=4)
    filled(store)
    seen = store.get("SLOT#shop#0")
    assert seen is not None
    lost: list[Conflict] = []
    go = threading.Event()

    def older() -> None:
        go.wait()
        try:
            while True:
                found = store.get("SLOT#shop#0")
                version = seen.version if found is None else found.version
                store.transact([Put("SLOT#shop#0", seen.body, version)])
        except Conflict as no:
            lost.append(no)

    writer = threading.Thread(target=older)
    writer.start()
    go.set()
    migrate_as_owner(url, cluster=CLUSTER)
    writer.join()
    assert lost
    assert len(store.scan("SLOT")) == 1
    store.close()
