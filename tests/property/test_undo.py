"""The undo, through decide: in its own slots, by its own guards, else a person."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from quietpager.deciding.guards import UNDO_GUARDS
from quietpager.functions.govern.decide.handler import handle
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.incident import Incident, IntentState, Rehearsal, State
from quietpager.model.message import DUE, UNDO, Message
from quietpager.model.store import Put
from quietpager.model.time import to_text
from quietpager.runtime.context import Context, make_context
from quietpager.store.memory import MemoryStore
from tests.acts import NOW, incident, intents, rehearsal, tell
from tests.deciding import POLICY, Clock, change, put, world


def acted(policy: Policy = POLICY) -> tuple[MemoryStore, Context, Clock]:
    """Let incident 0 act; its window has just ended with nothing better."""
    store, ctx, clock = world(0, policy)
    put(store, incident(), plan=rehearsal().but(undo_when="unchanged"))
    tell(ctx, 0)
    (forward,) = intents(store)
    done = forward.but(state=IntentState.APPLIED, applied_at=NOW, generation_after=2)
    one = Incident.from_json(store.scan("INCIDENT")[0].body).but(
        state=State.VERIFYING,
        acted=True,
        acted_at=NOW,
        failing_at=NOW,
        undo_when="unchanged",
        deadline_at=NOW,
    )
    for key, body in ((records.intent(forward.id), done), (records.incident(one.id), one)):
        record = store.get(key)
        assert record is not None
        store.transact([Put(key, body.to_json(), record.version)])
    clock.now += timedelta(seconds=100)
    return store, ctx, clock


def end(store: MemoryStore, ctx: Context) -> tuple[Incident, list[Message]]:
    said = handle(Message(id="m", type=DUE, data={"incident": "inc-0"}), ctx)
    record = store.get(records.incident("inc-0"))
    assert record is not None
    return Incident.from_json(record.body), said


def test_an_undo_is_written_in_its_own_slots_which_then_count_from_the_undo_on() -> None:
    store, ctx, clock = acted()
    slots = {record.key: record.body for record in store.scan("SLOT")}
    assert len(slots) == 3
    one, said = end(store, ctx)
    assert one.state is State.UNDOING
    assert UNDO in [message.type for message in said]
    assert {record.key for record in store.scan("SLOT")} == slots.keys()
    assert {record.body["at"] for record in store.scan("SLOT")} == {"2026-01-01T00:01:40Z"}
    kept = [entry.body for entry in store.audit("inc-0") if entry.kind == "guards"]
    assert [one["decided"] for one in kept] == ["rehearsed, guards pass, may act", "undo"]
    assert [one["number"] for one in kept[1]["guards"]] == [one.number for one in UNDO_GUARDS]
    assert clock.now > NOW


def test_neither_freeze_nor_storm_nor_cool_down_nor_dwell_keeps_a_failed_act_in_place() -> None:
    store, ctx, clock = acted()
    always = Policy.model_validate({"freeze": [{"cron": "* * * * *", "duration": 3600}]}).freeze
    policy = POLICY.but(freeze=always, dwell_seconds=1e9, storm=POLICY.storm.but(incidents=1), cool_down=1e9)
    for number in range(2):
        change(
            store,
            records.opening("named", number),
            at=to_text(clock.now),
            incident="x",
            namespace=f"n{number}",
        )
    change(store, records.target(incident()), at=to_text(NOW))
    ctx = make_context("govern-decide", ctx.lazy, policy=policy, clock=clock)
    assert end(store, ctx)[0].state is State.UNDOING


@pytest.mark.parametrize(
    ("guard", "spoil"),
    [
        ("1 (kill switch)", lambda store: change(store, records.SWITCH, stopped=True)),
        ("2 (protected)", lambda store: spoil_facts(store, opted_in=False)),
        ("2 (protected)", lambda store: spoil_facts(store, ignored=True)),
        ("8 (budget)", lambda store: change(store, records.slot("target/shop/u0", 0), holder="inc-9")),
        ("10 (rehearsal)", lambda store: spoil_facts(store, outside_may_change=("/spec/replicas",))),
    ],
)
def test_an_undo_that_its_guards_refuse_goes_to_a_person_with_the_sentence(
    guard: str, spoil: Callable[[MemoryStore], None]
) -> None:
    store, ctx, _ = acted()
    spoil(store)
    one, said = end(store, ctx)
    assert one.state is State.HANDOVER
    assert UNDO not in [message.type for message in said]
    assert len(intents(store)) == 1
    assert f"It did not help and was not undone: Guard {guard}: " in one.tried[-1].result
    assert len(store.scan("BREAKER")) == 1
    kept = [entry.body for entry in store.audit("inc-0") if entry.kind == "guards"]
    assert kept[-1]["decided"] == "undo refused"


def spoil_facts(store: MemoryStore, **changes: Any) -> None:
    record = store.get(records.rehearsal("inc-0-r1"))
    assert record is not None
    plan = Rehearsal.from_json(record.body)
    assert plan.facts is not None
    changed = plan.but(facts=plan.facts.but(**changes))
    store.transact([Put(record.key, changed.to_json(), record.version)])


def test_without_the_undos_guards_it_would_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    store, ctx, _ = acted()
    monkeypatch.setattr("quietpager.deciding.guards.UNDO_GUARDS", ())
    spoil_facts(store, opted_in=False)
    assert end(store, ctx)[0].state is State.UNDOING
