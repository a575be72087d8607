"""Counting: once for each incident, however often it is told of, and corrected when it is reopened."""

from datetime import UTC, datetime, timedelta
from importlib import import_module

import pytest

from quietpager.errors import BadMessage
from quietpager.functions.learn.codify.handler import handle
from quietpager.incident import records
from quietpager.learning.ledger import counts_of
from quietpager.model.incident import ClosedReason, How, Incident, State, Tried
from quietpager.model.message import INCIDENT, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Put
from quietpager.runtime.context import Context, Lazy, make_context
from quietpager.store.memory import MemoryStore

ledger = import_module("quietpager.cli.people").ledger

HELPED, NOT_HELPED, NOT_PROVEN = How.HELPED.value, How.NOT_HELPED.value, How.NOT_PROVEN.value
UNDONE, NOT_UNDONE, UNDO_LOST = How.UNDONE.value, How.NOT_UNDONE.value, How.UNDO_LOST.value
NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
OWNER = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web", uid="u")


def older(sentence: str) -> Tried:
    """Read an attempt as version 1 kept it, by its sentence alone."""
    return Tried.from_json({"action": "raise-memory", "params": {}, "result": sentence, "seen": ""})


def incident(
    *results: str, name: str = "inc-1", reason: ClosedReason = "fixed", state: State = State.CLOSED
) -> Incident:
    return Incident(
        id=name, cause="workload:u", episode=1, cluster="c", family="crash", failure_class="oom_killed",
        owner=OWNER, state=state, reason=reason, opened_at=NOW, state_since=NOW + timedelta(seconds=90),
        since=NOW, deadline_at=NOW, recheck_every=10,
        tried=tuple(older(one) for one in results),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("results", "reason", "expected"),
    [
        ([HELPED], "fixed", (1, 1, 0, 0)),
        ([HELPED], "fixed_by_person", (1, 0, 1, 0)),
        ([f"{NOT_HELPED} (unchanged)"], "fixed_by_person", (1, 0, 1, 0)),
        ([UNDONE], "fixed_by_person", (1, 0, 1, 1)),
        ([f"{NOT_UNDONE} a newer edit"], "gone", (1, 0, 1, 0)),
        ([UNDO_LOST], "gone", (1, 0, 1, 0)),
        (["could not be verified"], "gone", (1, 0, 0, 0)),
        (["the API server said no", HELPED], "fixed", (1, 1, 0, 0)),
        (["nobody claimed it in time"], "healed_by_itself", None),
        (["not needed: healed before the write"], "healed_by_itself", None),
        ([], "fixed_by_person", None),
    ],
)
def test_each_result_counts_as_what_it_was(
    results: list[str], reason: ClosedReason, expected: tuple[int, ...] | None
) -> None:
    counts = counts_of(incident(*results, reason=reason))
    if expected is None:
        assert counts == ()
    else:
        [one] = counts
        assert (one.tried, one.helped, one.not_helped, one.undone) == expected


@pytest.mark.parametrize("how", How)
def test_what_is_counted_depends_on_no_sentence(how: How) -> None:
    """The same whatever the detail says, and the same as for the sentence that version 1 kept."""
    one = Tried(action="raise-memory", params={}, how=how, detail="did not help, or was it sent and applied?")
    kept = Tried.from_json(one.to_json())
    assert (kept.how, kept.result) == (how, f"{how.value} {one.detail}".strip())
    now = counts_of(incident().but(tried=(one,)))
    assert now == counts_of(incident(how.value if how is not How.OTHER else "the API server said no"))


@pytest.mark.parametrize(("reason", "expected"), [("fixed", (0, 0, 1)), ("fixed_by_person", (0, 1, 0))])
def test_what_healed_with_its_untouched_siblings_is_not_proven(
    reason: ClosedReason, expected: tuple[int, ...]
) -> None:
    [one] = counts_of(incident(f"{NOT_PROVEN} so did others", reason=reason))
    assert (one.helped, one.not_helped, one.unproven) == expected
    assert one.plus(one).unproven == 2 * one.unproven


def context(store: MemoryStore) -> Context:
    def no_cluster() -> object:
        raise AssertionError("codify touches no cluster")

    return make_context("learn-codify", Lazy(lambda: store, no_cluster))  # type: ignore[arg-type]


def put(store: MemoryStore, one: Incident) -> None:
    found = store.get(records.incident(one.id))
    store.transact([Put(records.incident(one.id), one.to_json(), 0 if found is None else found.version)])


def closed(name: str = "inc-1") -> Message:
    return Message(id="m", type=f"{INCIDENT}closed", subject=name, data={"incident": name, "tell": "t"})


def test_an_incident_is_counted_once_however_often_it_is_told_of() -> None:
    store = MemoryStore()
    ctx = context(store)
    put(store, incident(HELPED))
    put(store, incident(UNDONE, name="inc-2", reason="fixed_by_person"))
    for message in [closed(), closed("inc-2"), closed(), closed("inc-2"), closed()]:
        assert handle(message, ctx) == []
    [row] = store.scan("LEDGER")
    assert (row.body["tried"], row.body["helped"], row.body["not_helped"], row.body["undone"]) == (2, 1, 1, 1)
    assert [record.key for record in store.scan("PAST")] == ["PAST#inc-1", "PAST#inc-2"]
    shown = ledger(store).splitlines()
    assert shown[1].split() == ["oom_killed", "raise-memory", "2", "1", "1", "1", "0"]


def test_a_fix_that_did_not_hold_is_taken_back() -> None:
    store = MemoryStore()
    ctx = context(store)
    put(store, incident(HELPED))
    handle(closed(), ctx)
    put(store, incident(HELPED, state=State.HANDOVER))
    handle(closed(), ctx)  # late: it is open again
    [row] = store.scan("LEDGER")
    assert (row.body["helped"], row.body["not_helped"]) == (1, 0)
    put(store, incident(HELPED, reason="fixed_by_person"))
    handle(closed(), ctx)
    [row] = store.scan("LEDGER")
    assert (row.body["tried"], row.body["helped"], row.body["not_helped"]) == (1, 0, 1)


def test_a_forged_or_wrong_message_changes_nothing() -> None:
    store = MemoryStore()
    ctx = context(store)
    assert handle(closed("nobody"), ctx) == []
    assert handle(Message(id="m", type=f"{INCIDENT}closed"), ctx) == []
    with pytest.raises(BadMessage):
        handle(Message(id="m", type=f"{INCIDENT}opened"), ctx)
    assert store.scan("LEDGER") == store.scan("PAST") == []
