"""What the audit keeps of every guard, and what `policy explain` makes of it."""

from datetime import timedelta

import pytest

from quietpager.cli.exits import SaysNo
from quietpager.cli.policy import explain, explain_now
from quietpager.deciding.guard import Verdict
from quietpager.deciding.guards import GUARDS
from quietpager.incident import records
from quietpager.model.store import Put
from tests.acts import NOW, incident, rehearsal, tell
from tests.deciding import put, world


def test_every_verdict_is_audited_once_with_every_guards_figures() -> None:
    store, ctx, _ = world(1)
    tell(ctx, 0)
    tell(ctx, 0)
    kept = [entry for entry in store.audit("inc-0") if entry.kind == "guards"]
    assert len(kept) == 1
    said = [Verdict.from_json(one) for one in kept[0].body["guards"]]
    assert [one.number for one in said] == [one.number for one in GUARDS]
    assert kept[0].body["note"] == "all pass"
    figures = {one.number: dict(one.figures) for one in said}
    assert figures[8] == {"target/shop/u0": "0 of 1", "cluster": "0 of 4", "namespace/shop": "0 of 100"}
    assert figures[6] == {
        "here": 0, "here_allowed": 10, "everywhere": 0, "everywhere_allowed": 20, "namespaces": 0,
        "each_counts_for": 5, "window": 300.0, "unhealthy": 0, "nodes": 10, "part": 0.2,
    }  # fmt: skip
    assert figures[12] == {"lasted": 3600.0, "seconds": 60.0, "restarted": 0, "restarts": 2}


def test_explain_tells_from_the_audit_which_guard_decided_with_its_figures() -> None:
    store, ctx, _ = world(0)
    put(store, incident().but(since=NOW - timedelta(seconds=5)))
    tell(ctx, 0)
    text = explain(store, "inc-0")
    lines = text.splitlines()
    assert lines[0] == "2026-01-01T00:00:00Z  raise-memory (inc-0-r1): refused by plan, dry run or guard"
    assert [line.split()[0] for line in lines[1:-1]] == [
        "1",
        "2",
        "3",
        "4",
        "5",
        "6",
        "7",
        "8",
        "9",
        "10",
        "11",
        "12",
    ]
    assert [line for line in lines if "<- decides" in line] == [
        "  12 dwell               refused         lasted 5, seconds 60, restarted 0, restarts 2  <- decides"
    ]
    assert lines[-1].strip().startswith("Guard 12 (dwell): The symptom has lasted 5 s")
    assert "not applicable" in next(line for line in lines if line.startswith("   9 "))


def test_explain_now_judges_the_stored_plan_by_todays_records_and_writes_nothing() -> None:
    store, ctx, clock = world(0)
    put(store, incident().but(since=NOW - timedelta(seconds=5)))
    before = store.get_many([records.SWITCH, records.incident("inc-0")])
    clock.now += timedelta(seconds=300)
    first = explain_now(store, "inc-0", ctx.policy, clock)
    assert "<- decides" not in first
    assert "2026-01-01T00:05:00Z  raise-memory (inc-0-r1), were it judged now" in first
    assert store.get_many([records.SWITCH, records.incident("inc-0")]) == before
    switch = store.get(records.SWITCH)
    assert switch is not None
    store.transact([Put(records.SWITCH, {"stopped": True}, switch.version)])
    second = explain_now(store, "inc-0", ctx.policy, clock)
    assert next(line for line in second.splitlines() if "<- decides" in line).split()[:3] == [
        "1",
        "kill",
        "switch",
    ]
    assert store.scan("SLOT") == []
    assert store.audit("inc-0") == []


def test_explain_has_a_sentence_where_there_is_nothing_to_explain() -> None:
    store, ctx, clock = world(0)
    with pytest.raises(SaysNo, match=r"^There is no incident inc-0\.$"):
        explain(store, "inc-0")
    with pytest.raises(SaysNo, match=r"^There is no incident inc-0\.$"):
        explain_now(store, "inc-0", ctx.policy, clock)
    put(store, incident(), plan=rehearsal().but(state="refused", facts=None, refusal="It is gone."))
    tell(ctx, 0)
    assert "No guard has judged inc-0 yet" in explain(store, "inc-0")
    put(store, incident(1), plan=rehearsal(1).but(state="refused", facts=None, refusal="It is gone."))
    assert "It was refused: It is gone." in explain_now(store, "inc-1", ctx.policy, clock)
