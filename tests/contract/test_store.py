"""What every back end of `quietpager.model.store.Store` promises.

Another back end joins by one more entry in `tests.backends.BACK_ENDS`.
"""

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from threading import Barrier
from typing import Any

import pytest

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
    Write,
)
from quietpager.store.audit import verify, verify_all
from quietpager.store.dynamodb import DynamoStore
from quietpager.store.postgres import SIMILAR, PostgresStore
from quietpager.store.search_terms import words
from tests.backends import empty_store, on_every_back_end

NOW = datetime(2026, 3, 1, 12, 0, 0, 123456, tzinfo=UTC)
TICK = timedelta(seconds=5)


store = on_every_back_end(empty_store)


def everything(store: Store) -> tuple[Any, ...]:
    kinds = ("A", "B", "C", "CHAIN")
    return (
        [store.scan(kind) for kind in kinds],
        [store.audit(chain) for chain in store.audit_chains()],
        store.due_items(),
    )


def test_what_was_put_is_read(store: Store) -> None:
    assert store.get("A#1") is None
    store.transact([Put("A#1", {"n": 1}, ABSENT), Put("A#2", {"n": 2}, ABSENT)])
    assert store.get("A#1") == Record("A#1", 1, {"n": 1})
    store.transact([Put("A#1", {"n": 3}, 1)])
    assert store.get("A#1") == Record("A#1", 2, {"n": 3})
    assert store.get_many(["A#2", "A#9", "A#1"]) == {
        "A#1": Record("A#1", 2, {"n": 3}),
        "A#2": Record("A#2", 1, {"n": 2}),
    }
    assert store.get_many([]) == {}


def test_scan_reads_one_kind_in_key_order(store: Store) -> None:
    keys = ["A#b", "A#B", "A#ä", "A#10", "A#9", "AB#1", "A", "B#1", "A#"]
    store.transact([Put(key, {}, ABSENT) for key in keys])
    assert [record.key for record in store.scan("A")] == ["A#", "A#10", "A#9", "A#B", "A#b", "A#ä"]
    assert store.scan("nothing") == []


@pytest.mark.parametrize(
    ("failing", "found"),
    [
        (Put("A#1", {"new": 1}, ABSENT), 2),
        (Put("A#1", {"new": 1}, 1), 2),
        (Put("A#1", {"new": 1}, 3), 2),
        (Put("A#none", {"new": 1}, 1), None),
        (Delete("A#1", 1), 2),
        (Delete("A#none", 1), None),
        (Check("A#1", ABSENT), 2),
        (Check("A#1", 1), 2),
        (Check("A#none", 2), None),
    ],
)
def test_a_failing_condition_writes_nothing(
    store: Store, failing: Put | Delete | Check, found: int | None
) -> None:
    store.transact([Put("A#1", {"old": 0}, ABSENT), Due("d", NOW, TICK, {}), Audit("c", NOW, "k", "me")])
    store.transact([Put("A#1", {"old": 1}, 1)])
    before = everything(store)
    others: list[Write] = [
        Put("A#2", {}, ABSENT),
        Due("e", NOW, TICK, {}),
        DueDone("d"),
        Audit("c", NOW, "k", "me"),
        Audit("new", NOW, "k", "me"),
    ]
    for writes in ([failing, *others], [*others, failing]):
        with pytest.raises(Conflict) as caught:
            store.transact(writes)
        assert (caught.value.key, caught.value.expected) == (failing.key, failing.expect)
        assert caught.value.found == (Record("A#1", 2, {"old": 1}) if found else None)
        assert everything(store) == before
    assert everything(store) == before


def test_the_first_failing_condition_is_named(store: Store) -> None:
    store.transact([Put("A#1", {}, ABSENT), Put("A#2", {}, ABSENT)])
    with pytest.raises(Conflict) as caught:
        store.transact([Check("A#1", 1), Put("A#2", {}, ABSENT), Delete("A#1x", 4)])
    assert caught.value.key == "A#2"
    with pytest.raises(Conflict) as caught:
        store.transact([Delete("A#1x", 4), Put("A#2", {}, ABSENT)])
    assert caught.value.key == "A#1x"


def test_conditions_that_hold(store: Store) -> None:
    store.transact([Put("A#1", {}, ABSENT), Put("A#2", {}, ABSENT)])
    store.transact([Check("A#1", 1), Check("A#none", ABSENT), Delete("A#2", 1), Delete("A#zero", ABSENT)])
    assert store.get("A#1") == Record("A#1", 1, {})
    assert store.get("A#2") is None
    store.transact([Put("A#2", {"again": True}, ABSENT)])
    assert store.get("A#2") == Record("A#2", 1, {"again": True})
    store.transact([])


@pytest.mark.parametrize(
    "writes",
    [
        [Put("A#1", {}, 0), Check("A#1", 0)],
        [Put("A#1", {}, 0), Put("A#1", {}, 0)],
        [Due("d", NOW, TICK, {}), DueDone("d")],
        [Put("CHAIN#c", {}, 0)],
        [Check("CHAIN#c", 0), Audit("c", NOW, "k", "me")],
        [Audit("c", NOW.replace(tzinfo=None), "k", "me")],
        [Due("d", NOW.replace(tzinfo=None), TICK, {})],
        [Put("A#1", {"x": float("nan")}, 0)],
        [Put("A#1", {}, -1)],
        [Put("A#2", {}, 0), Audit("c", NOW, "k", "me", {"x": float("inf")})],
        [Put("A#2", {}, 0), Due("d", NOW, TICK, {"x": float("inf")})],
    ],
)
def test_mistakes_are_refused_before_anything_is_written(store: Store, writes: list[Write]) -> None:
    before = everything(store)
    with pytest.raises(ValueError, match=r"."):
        store.transact(writes)
    assert everything(store) == before


def test_of_many_conditional_inserts_one_wins(store: Store) -> None:
    turns = 3 if isinstance(store, DynamoStore) else 20  # moto takes one request at a time
    with ThreadPoolExecutor(50) as threads:
        for turn in range(turns):

            def insert(who: int, turn: int = turn) -> str:
                try:
                    store.transact([Put(f"A#{turn}", {"who": who}, ABSENT), Audit("c", NOW, "won", str(who))])
                except Conflict as conflict:
                    return f"lost to {conflict.found.body['who'] if conflict.found else None}"
                return f"won {who}"

            said = Counter(threads.map(insert, range(50)))
            record = store.get(f"A#{turn}")
            assert record is not None
            who = record.body["who"]
            assert said == {f"won {who}": 1, f"lost to {who}": 49}
    assert len(store.audit("c")) == turns
    assert verify_all(store) == []


def test_no_update_is_lost(store: Store) -> None:
    store.transact([Put("A#n", {"n": 0}, ABSENT)])

    def add(_: int) -> None:
        while True:
            record = store.get("A#n")
            assert record is not None
            try:
                store.transact([Put("A#n", {"n": record.body["n"] + 1}, record.version)])
            except Conflict:
                continue
            return

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(add, range(80)))
    assert store.get("A#n") == Record("A#n", 81, {"n": 80})


def test_a_check_of_absence_and_the_insert_exclude_each_other(store: Store) -> None:
    """The kill switch: who acts checks that it is absent, while somebody throws it."""
    with ThreadPoolExecutor(2) as threads:
        for turn in range(60):
            gate = Barrier(2)

            def write(mine: str, other: str, turn: int = turn, gate: Barrier = gate) -> bool:
                gate.wait()
                try:
                    store.transact([Put(f"A#{mine}{turn}", {}, ABSENT), Check(f"A#{other}{turn}", ABSENT)])
                except Conflict:
                    return False
                return True

            won = list(threads.map(write, ("left", "right"), ("right", "left")))
            assert sum(won) == 1


def test_crossed_writes_and_checks_always_come_to_an_end(store: Store) -> None:
    store.transact([Put(f"A#{n}", {}, ABSENT) for n in range(6)])

    def write(turn: int) -> None:
        keys = [f"A#{(turn * 5 + n) % 6}" for n in range(4)]
        while True:
            at = {key: record.version for key, record in store.get_many(keys).items()}
            try:
                store.transact([Put(key, {}, at[key]) for key in keys[:3]] + [Audit(keys[3], NOW, "k", "me")])
            except Conflict:
                continue
            return

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(60)))
    assert sum(record.version for record in store.scan("A")) == 6 + 180
    assert verify_all(store) == []


def test_an_audit_chain_is_one_line_under_many_writers(store: Store) -> None:
    def append(turn: int) -> None:
        chains = ("x", "y") if turn % 2 else ("y", "x")
        store.transact([Audit(chain, NOW, "k", f"t{turn}", {"turn": turn}) for chain in chains])

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(append, range(80)))
    for chain in ("x", "y"):
        entries = store.audit(chain)
        assert [entry.seq for entry in entries] == list(range(1, 81))
        assert sorted(entry.body["turn"] for entry in entries) == list(range(80))
        assert verify(entries, store.get(f"CHAIN#{chain}")) == []
    assert store.audit_chains() == ["x", "y"]
    head = store.get("CHAIN#x")
    assert head is not None
    assert head.body == {"seq": 80, "hash": store.audit("x")[-1].hash}
    assert store.audit("nobody's") == []


def test_several_entries_of_one_transaction_stand_in_their_order(store: Store) -> None:
    store.transact([Audit("c", NOW, f"k{n}", "me", {"n": n}) for n in range(5)])
    assert [entry.kind for entry in store.audit("c")] == ["k0", "k1", "k2", "k3", "k4"]
    assert verify_all(store) == []


def test_due_items_are_claimed_in_order_and_moved_on(store: Store) -> None:
    times = {"late": NOW + TICK, "b": NOW, "a": NOW, "old": NOW - TICK}
    store.transact([Due(name, at, TICK, {"for": name}) for name, at in times.items()])
    assert [item.id for item in store.due_items()] == ["old", "a", "b", "late"]
    claimed = store.claim_due(NOW, 2)
    assert claimed == [
        Due("old", NOW - TICK, TICK, {"for": "old"}),
        Due("a", NOW, TICK, {"for": "a"}),
    ]
    assert [item.id for item in store.claim_due(NOW, 10)] == ["b"]
    assert store.claim_due(NOW, 10) == []
    assert {item.id: item.at for item in store.due_items()} == dict.fromkeys(times, NOW + TICK)
    assert len(store.claim_due(NOW + TICK, 10)) == 4
    assert store.claim_due(NOW + TICK, 0) == []


def test_what_belongs_to_an_incident_comes_first_and_the_oldest_incident_before_all(store: Store) -> None:
    day = timedelta(days=1)
    items = [Due(f"signal{n:03}", NOW - day + n * TICK, TICK, {}) for n in range(40)]
    items += [Due(f"old{n}", NOW - TICK, TICK, {}, NOW - 9 * day) for n in range(3)]
    items += [Due(f"new{n}", NOW - 2 * TICK, TICK, {}, NOW - day) for n in range(3)]
    store.transact([*items, Due("later", NOW + TICK, TICK, {}, NOW - 30 * day)])
    first = store.claim_due(NOW, 8)
    assert [item.id for item in first] == [*(f"old{n}" for n in range(3)), *(f"new{n}" for n in range(3)),
                                           "signal000", "signal001"]  # fmt: skip
    assert first == [*items[40:], *items[:2]]
    assert [item.id for item in store.claim_due(NOW, 4)] == [f"signal{n:03}" for n in range(2, 6)]


def test_neither_signals_nor_the_youngest_incident_wait_for_ever(store: Store) -> None:
    """A quarter of each claim goes to what has been due longest, whoever wrote it."""
    due = {f"inc{n:02}": NOW - timedelta(hours=n) for n in range(20)}
    store.transact([Due(name, NOW, TICK, {}, since) for name, since in due.items()])
    store.transact([Due(f"signal{n:02}", NOW, TICK, {}) for n in range(20)])
    served = Counter[str]()
    for tick in range(40):
        claimed = [item.id for item in store.claim_due(NOW + tick * TICK, 8)]
        assert len(claimed) == 8
        assert [name for name in claimed if name.startswith("inc")][:6] == [
            f"inc{n}" for n in range(19, 13, -1)
        ]
        served.update(claimed)
    assert set(served) == {*due, *(f"signal{n:02}" for n in range(20))}


def test_a_due_item_keeps_its_incident_until_it_is_replaced(store: Store) -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    store.transact([Due("d", NOW, TICK, {}, east)])
    assert store.due_items() == [Due("d", NOW, TICK, {}, NOW)]
    assert store.claim_due(NOW, 4) == [Due("d", NOW, TICK, {}, NOW)]
    assert store.due_items() == [Due("d", NOW + TICK, TICK, {}, NOW)]
    store.transact([Due("d", NOW, TICK, {})])
    assert store.due_items() == [Due("d", NOW, TICK, {})]
    with pytest.raises(ValueError, match="time zone"):
        store.transact([Due("d", NOW, TICK, {}, NOW.replace(tzinfo=None))])


def test_the_records_of_a_kind_are_read_page_by_page(store: Store) -> None:
    keys = ["A#b", "A#B", "A#ä", "A#10", "A#9", "AB#1", "A", "B#1", "A#"]
    store.transact([Put(key, {"k": key}, ABSENT) for key in keys])
    for limit in (1, 2, 6, 7):
        seen: list[Record] = []
        while page := store.page("A", seen[-1].key if seen else "", limit):
            assert len(page) <= limit
            seen += page
        assert sorted(record.key for record in seen) == ["A#", "A#10", "A#9", "A#B", "A#b", "A#ä"]
        assert all(record.body == {"k": record.key} for record in seen)
    assert store.page("A", "", 0) == store.page("nothing", "", 5) == store.page("A", "B#", 5) == []


def test_a_due_item_is_replaced_and_taken_away(store: Store) -> None:
    store.transact([Due("d", NOW, TICK, {"n": 1})])
    later = Due("d", NOW + 3 * TICK, timedelta(days=40, microseconds=7), {"n": 2})
    store.transact([later])
    assert store.due_items() == [later]
    store.transact([DueDone("d"), DueDone("was never there")])
    assert store.due_items() == []


def test_one_due_item_is_read_by_its_id_and_a_claim_moves_it(store: Store) -> None:
    item = Due("inc-1/recheck", NOW, TICK, {"n": 1})
    assert store.due_item(item.id) is None
    store.transact([item, Due("other", NOW, TICK, {})])
    assert store.due_item(item.id) == item
    store.claim_due(NOW, 10)
    assert store.due_item(item.id) == replace(item, at=NOW + TICK)
    store.transact([DueDone(item.id)])
    assert store.due_item(item.id) is None


def test_each_due_item_is_claimed_by_one_of_many(store: Store) -> None:
    for start in range(0, 400, 50):
        store.transact([Due(f"d{n:03}", NOW, timedelta(hours=1), {"n": n}) for n in range(start, start + 50)])

    def claim(_: int) -> list[str]:
        mine = []
        while got := store.claim_due(NOW, 7):
            mine += [item.id for item in got]
        return mine

    with ThreadPoolExecutor(8) as threads:
        claimed = [item for part in threads.map(claim, range(8)) for item in part]
    # A claim that skips what others hold may come back empty-handed early; nothing comes twice.
    rest = [item.id for item in store.claim_due(NOW, 1000)]
    assert sorted(claimed + rest) == [f"d{n:03}" for n in range(400)]


AWKWARD = {
    "nul": "a\x00b\\u0000\\\x00",
    "nul\x00key": {"\ue000": "\ue0000 \ue000f1.5 \ue0001", "": None},
    "surrogate": "\ud800 and \udfff\ud83d",
    "unicode": "ä € 漢字 🙂 \u202e \u2028 \x7f \x1f",
    "numbers": [
        0,
        -1,
        2**53 + 1,
        10**40,
        -(10**25),
        0.1,
        1e-300,
        5e-324,
        1.0,
        1e16,
        1.7976931348623157e308,
    ],
    "nothing": [[], {}, None, True, False, ""],
    "looks like an escape": ["\ue000f1e+16", "\ue0000", "\ue000d800", "1e+16", "-0.0"],
}


@pytest.mark.parametrize("name", sorted(AWKWARD))
def test_awkward_json_comes_back_as_it_was(store: Store, name: str) -> None:
    body = {name: AWKWARD[name]}
    store.transact(
        [
            Put(f"A#{name}", body, ABSENT),
            Due(name, NOW, TICK, body),
            Audit(name, NOW, name, name, body),
        ]
    )
    record = store.get(f"A#{name}")
    assert record is not None
    for got in (record.body, store.due_items()[0].message, store.audit(name)[0].body):
        assert got == body
        assert json.dumps(got, sort_keys=True) == json.dumps(body, sort_keys=True), (
            "types are kept too: 1.0 is not 1"
        )
    assert (store.audit(name)[0].kind, store.due_items()[0].id) == (name, name)
    assert [r.key for r in store.scan("A")] == [f"A#{name}"]
    with pytest.raises(Conflict) as caught:
        store.transact([Put(f"A#{name}", {}, ABSENT)])
    assert caught.value.found == record
    assert verify_all(store) == []


def test_negative_zero_and_odd_keys(store: Store) -> None:
    store.transact([Audit("c", NOW, "k", "me", {"zero": -0.0, 2: "two", 10: ("tuple",)})])  # type: ignore[dict-item]
    assert (
        json.dumps(store.audit("c")[0].body, sort_keys=True) == '{"10": ["tuple"], "2": "two", "zero": -0.0}'
    )
    assert verify_all(store) == []


def test_strange_keys(store: Store) -> None:
    keys = ["A#\x00", "A#\ud800", "A#%_\\'\"", "A#" + "k" * 1000, "A#🙂"]
    store.transact([Put(key, {"k": n}, ABSENT) for n, key in enumerate(keys)])
    assert set(store.get_many(keys)) == set(keys)
    assert {record.key for record in store.scan("A")} == set(keys)


def test_a_big_body(store: Store) -> None:
    body = {"text": "xä" * (1 << 19), "list": list(range(1000))}
    store.transact([Put("A#1", body, ABSENT), Audit("c", NOW, "k", "me", body)])
    record = store.get("A#1")
    assert record is not None
    assert record.body == body
    assert verify_all(store) == []


def test_times_come_back_to_the_microsecond_in_utc(store: Store) -> None:
    east = NOW.astimezone(timezone(timedelta(hours=5, minutes=30)))
    store.transact([Due("d", east, TICK, {}), Audit("c", east, "k", "me")])
    for at in (store.due_items()[0].at, store.audit("c")[0].at):
        assert at == NOW
        assert at.utcoffset() == timedelta(0)
    assert verify_all(store) == []


def test_what_is_read_is_the_readers_own(store: Store) -> None:
    body = {"list": [1]}
    store.transact([Put("A#1", body, ABSENT)])
    body["list"].append(2)
    first = store.get("A#1")
    assert first is not None
    first.body["list"].append(3)
    assert store.get("A#1") == Record("A#1", 1, {"list": [1]})


PASTS = {
    "PAST#1": {"words": "ledger snapshot epoch peer"},
    "PAST#2": {"words": "Snapshot, of the LEDGER: late"},
    "PAST#3": {"words": "image registry"},
    "PAST#4": {"words": "snapshot"},
    "PAST#5": {"words": ""},
    "PAST#6": {"other": "ledger snapshot epoch"},
    "PASTE#1": {"words": "ledger snapshot epoch"},
    "A#1": {"words": "ledger snapshot epoch"},
}


@pytest.mark.parametrize(
    ("text", "limit", "expected"),
    [
        ("peer refuses snapshot of ledger: epoch 7 & 9", 9, ["PAST#1", "PAST#2", "PAST#4"]),
        ("snapshot", 9, ["PAST#1", "PAST#2", "PAST#4"]),
        ("snapshot ledger", 2, ["PAST#1", "PAST#2"]),
        ("the pod has failed", 9, []),
        ("", 9, []),
        ("snapshot", 0, []),
        ("'; DROP TABLE x; -- ) | & ! <-> : * \x00 \ud800 registry", 9, ["PAST#3"]),
        ("a1b2c3 x86 registry2 http://registry/v2 imagé", 9, ["PAST#3"]),
    ],
)
def test_past_records_are_found_by_their_words(
    store: Store, text: str, limit: int, expected: list[str]
) -> None:
    store.transact([Put(key, body, ABSENT) for key, body in PASTS.items()])
    assert [record.key for record in store.similar(text, limit)] == expected
    assert store.similar("registry", 1) == [Record("PAST#3", 1, PASTS["PAST#3"])]


def test_what_is_no_longer_there_is_not_similar(store: Store) -> None:
    store.transact([Put("PAST#1", {"words": "ledger"}, ABSENT), Put("PAST#2", {"words": "ledger"}, ABSENT)])
    store.transact([Put("PAST#1", {"words": "image"}, 1), Delete("PAST#2", 1)])
    assert store.similar("ledger", 9) == []
    assert [record.version for record in store.similar("image", 9)] == [2]


def test_a_past_record_with_very_many_words_can_be_written(store: Store) -> None:
    text = " ".join(f"word{n}" for n in range(5000)) + " " + "x" * 5000
    store.transact([Put("PAST#1", {"words": " ".join(words(text))}, ABSENT)])
    assert [record.key for record in store.similar("word7", 9)] == ["PAST#1"]


def test_past_records_are_found_by_an_index_of_their_words(new_database: Callable[[], str]) -> None:
    store = PostgresStore(new_database())
    store.transact([Put(f"PAST#{n}", {"words": f"ledger word{n}"}, ABSENT) for n in range(3000)])
    with store._db.connection() as connection:
        connection.execute("ANALYZE quietpager.state")
        plan = connection.execute(f"EXPLAIN {SIMILAR}", ("word7", ["word7"], 3)).fetchall()
    store.close()
    assert any("Index Scan on past_words" in row[0] for row in plan), plan
