"""Approvals by two people, an answer used once, and what happens when answer, expiry and healing race.

No action of the catalogue needs two people yet, so here raise-memory does: the same code, a synthetic limit.
"""

import random
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest

from quietpager.actions.schema import Action, load_actions
from quietpager.deciding import decisions
from quietpager.deciding.decisions import Answer, Decision, Question, Seen, needed, question_of
from quietpager.errors import Retry
from quietpager.functions.govern.decide.handler import handle
from quietpager.incident import records
from quietpager.model.finding import Finding, Remedy
from quietpager.model.incident import State
from quietpager.model.message import DECISION, DUE, FINDING, REHEARSED, Message
from quietpager.model.store import Put, Store
from quietpager.runtime.context import functions_folder
from quietpager.store.audit import verify_all
from quietpager.store.memory import MemoryStore
from quietpager.store.postgres import PostgresStore
from tests.asked import POLICY, Asked

ACTIONS = load_actions(functions_folder())
TWO: dict[str, Action] = {
    **ACTIONS, "raise-memory": ACTIONS["raise-memory"].model_copy(update={"approvals": 2}),
}  # fmt: skip
MORE = Remedy(action="raise-memory", params={"factor": 1.5, "ceiling": "1Gi"})


def asked_two(store: Store) -> Asked:
    made = Asked(store)
    made.ctx = replace(made.ctx, actions=TWO)
    return made


@pytest.fixture
def asked() -> Asked:
    return asked_two(MemoryStore())


def question(asked: Asked, name: str) -> Question:
    found = question_of(asked.store, asked.the(name))
    assert found is not None
    return found


def say(
    asked: Asked, name: str, by: str, decision: Decision = "approve", *, via: str = "console",
    remedy: Remedy | None = None, seen: Seen | None = None,
) -> Answer:  # fmt: skip
    return decisions.answer(
        asked.store, name, decision, by=by, via=via, now=asked.now, actions=TWO, remedy=remedy, seen=seen
    )


def carry_out(asked: Asked, name: str) -> int:
    """Let the clock tick and the remediator answer; gives the number of intents."""
    asked.tick()
    if asked.the(name).state is State.PLANNING:
        asked.plan(name)
    return len(asked.intents())


def put(asked: Asked, name: str, **new: object) -> None:
    """Change the question's record in the store, as whoever can write there."""
    record = asked.store.get(records.approval(question(asked, name).id))
    assert record is not None
    asked.store.transact([Put(record.key, record.body | new, record.version)])


# --- two persons


def test_two_people_are_needed_and_both_are_named(asked: Asked) -> None:
    name = asked.ask()
    assert question(asked, name).needs == 2
    first = say(asked, name, "alice")
    assert (first.used, "1 of 2" in first.sentence) == (True, True)
    assert question(asked, name).approved_by == ("alice",)
    assert carry_out(asked, name) == 0
    assert asked.the(name).state is State.APPROVAL
    assert say(asked, name, "bob").used
    assert carry_out(asked, name) == 1
    assert asked.the(name).decided_by == "alice and bob"
    kinds = [entry.kind for entry in asked.store.audit(name)]
    assert kinds.index("approve (1 of 2)") < kinds.index("approve") < kinds.index("intent")


@pytest.mark.parametrize("again", ["alice", "Alice", " alice "])
def test_nobody_is_two_people(asked: Asked, again: str) -> None:
    name = asked.ask()
    assert say(asked, name, "alice").used
    no = say(asked, name, again)
    assert (no.used, "must be another person" in no.sentence) == (False, True)
    assert carry_out(asked, name) == 0


def test_a_name_at_a_terminal_is_nobody_here(asked: Asked) -> None:
    name = asked.ask()
    no = say(asked, name, "alice", via="terminal")
    assert (no.used, "approve it in the console" in no.sentence) == (False, True)
    assert question(asked, name).approved_by == ()


def test_who_proposed_it_is_neither_of_the_two(asked: Asked) -> None:
    name = asked.ask()
    assert say(asked, name, "alice", "modify", remedy=MORE).used
    asked.tick()
    asked.plan(name)
    assert asked.the(name).state is State.APPROVAL
    no = say(asked, name, "Alice")
    assert (no.used, "that was you" in no.sentence) == (False, True)
    assert say(asked, name, "bob").used
    assert not say(asked, name, "alice").used
    assert carry_out(asked, name) == 0
    assert say(asked, name, "carol").used
    assert carry_out(asked, name) == 1
    assert asked.the(name).decided_by == "bob and carol"


def test_one_person_is_enough_to_reject_what_another_has_approved(asked: Asked) -> None:
    name = asked.ask()
    assert say(asked, name, "alice").used
    assert say(asked, name, "bob", "reject").used
    assert carry_out(asked, name) == 0
    assert (asked.the(name).state, asked.the(name).decided_by) == (State.HANDOVER, "bob")


def test_the_first_approval_does_not_hold_for_another_diff_or_beyond_the_expiry(asked: Asked) -> None:
    name = asked.ask()
    shown = Seen(question(asked, name).id, question(asked, name).diff)
    assert say(asked, name, "alice", seen=shown).used
    assert not say(asked, name, "bob", seen=Seen(shown.question, "other")).used
    asked.wait(POLICY.approval + 1)
    assert "expired" in say(asked, name, "bob", seen=shown).sentence
    assert carry_out(asked, name) == 0


def test_another_diff_at_execution_asks_both_people_anew(asked: Asked) -> None:
    name = asked.ask()
    assert say(asked, name, "alice").used
    assert say(asked, name, "bob").used
    asked.tick()
    asked.plan(name, gets="256Mi")
    assert asked.the(name).state is State.APPROVAL
    assert question(asked, name).approved_by == ()
    assert asked.intents() == []


PEOPLE = [{"by": "alice", "via": "console"}, {"by": "bob", "via": "console"}]


@pytest.mark.parametrize(
    "forged",
    [
        {"approvals": PEOPLE[:1]},
        {"approvals": [PEOPLE[0], {"by": "ALICE", "via": "console"}]},
        {"approvals": [PEOPLE[0], {"by": "bob", "via": "terminal"}]},
        {"approvals": "alice, bob"},
        {"approvals": None, "needs": 1},
        {"approvals": ["alice", "bob"]},
    ],
)
def test_people_are_counted_again_at_execution_against_the_catalogue(
    asked: Asked, forged: dict[str, object]
) -> None:
    name = asked.ask()
    assert say(asked, name, "alice").used
    assert say(asked, name, "bob").used
    put(asked, name, **forged)
    assert carry_out(asked, name) == 0
    [entry] = [e for e in asked.store.audit(name) if e.kind == "answer refused"]
    assert "it needs 2 people" in str(entry.body["note"])


def test_what_the_catalogue_does_not_know_needs_two() -> None:
    assert needed("nobody-knows", ACTIONS) == 2
    assert needed("raise-memory", ACTIONS) == 1


def test_of_twenty_racing_people_two_count(new_database: Callable[[], str]) -> None:
    store = PostgresStore(new_database(), connections=20)
    asked = asked_two(store)
    name = asked.ask()

    def race(people: list[str]) -> int:
        start = Barrier(len(people))

        def click(who: str) -> bool:
            start.wait()
            return say(asked, name, who).used

        with ThreadPoolExecutor(len(people)) as pool:
            return sum(pool.map(click, people))

    assert race(["alice"] * 20) == 1  # a person who clicks twenty times is one
    assert race([f"p{number}" for number in range(20)]) == 1
    assert len(set(question(asked, name).approved_by)) == 2
    assert carry_out(asked, name) == 1
    assert verify_all(store) == []
    store.close()


# --- used once


def test_an_answer_that_was_used_is_used_no_more(asked: Asked) -> None:
    """The message of the decision, said again at every later moment of the incident."""
    name = asked.ask()
    spoken = Message(id="m", type=DECISION, data={"approval": question(asked, name).id})
    assert say(asked, name, "alice").used
    handle(spoken, asked.ctx)  # forged: it is no answer yet
    assert asked.the(name).state is State.APPROVAL
    assert say(asked, name, "bob").used
    handle(spoken, asked.ctx)
    assert asked.the(name).rehearsals == 2
    handle(spoken, asked.ctx)
    assert asked.the(name).rehearsals == 2
    asked.plan(name)
    before = asked.the(name)
    for _ in range(3):
        handle(spoken, asked.ctx)
        asked.tick()
    assert asked.the(name) == before
    assert len(asked.intents()) == 1


# --- answer, expiry and healing at once


def heal(asked: Asked, name: str, serial: int) -> Message:
    """Keep a recheck's healthy finding, and give its message."""
    incident = asked.the(name)
    number = incident.serial + serial
    found = Finding(
        id=f"h-{name}-{number}", outcome="healthy", at=asked.now, family="crash", target=incident.owner,
        why="ready", incident=name, serial=number,
    )  # fmt: skip
    asked.store.transact([Put(records.finding(found.id), found.to_json(), 0)])
    return Message(id="m", type=FINDING, data={"finding": found.id})


OVER = ("-> CLOSED", "-> WITH_PERSON(handover)")


@pytest.mark.parametrize("seed", range(8))
def test_of_answer_expiry_and_healing_one_wins_and_nothing_is_written_after_the_others(
    new_database: Callable[[], str], seed: int
) -> None:
    """The last look that closes it, the deadline, two people's clicks and a plan, all at one moment."""
    store = PostgresStore(new_database(), connections=8)
    asked, dice = Asked(store), random.Random(seed)  # noqa: S311 (an order, no secret)
    name = asked.ask()
    asked.wait(POLICY.approval / 2)
    handle(due := Message(id="m", type=DUE, data={"incident": name}), asked.ctx)  # the reminder
    for serial in range(1, POLICY.healthy_rechecks):
        handle(heal(asked, name, 1), asked.ctx)
        assert serial == asked.the(name).healthy_streak
    # The question's last moment: its deadline has come, and an answer is just in time.
    asked.now = asked.the(name).deadline_at
    expires = question(asked, name).expires
    assert expires is not None
    assert asked.now - expires <= timedelta(0)
    shown, last = Seen(question(asked, name).id, question(asked, name).diff), heal(asked, name, 1)

    def approve() -> None:
        if say_one(asked, name, shown).used:
            carry(asked, Message(id="m", type=DECISION, data={"approval": shown.question}))
            planned(asked, name)

    moves = [approve, approve, lambda: carry(asked, due), lambda: carry(asked, last)]
    dice.shuffle(moves)
    start = Barrier(len(moves))

    def go(move: Callable[[], None]) -> None:
        start.wait()
        move()

    with ThreadPoolExecutor(len(moves)) as pool:
        list(pool.map(go, moves))
    after, intents = asked.the(name), asked.intents()
    kinds = [entry.kind for entry in store.audit(name)]
    over = [at for at, kind in enumerate(kinds) if kind.endswith(OVER)]
    written = [at for at, kind in enumerate(kinds) if kind == "intent"]
    assert len(written) == len(intents) <= 1
    assert not over or not written or max(written) < min(over), kinds
    assert kinds.count("approve") <= 1
    assert (after.state is State.ACTING) == bool(intents)
    # Whatever comes late changes nothing about it: the answer, its message, the plan.
    say_one(asked, name, shown)
    carry(asked, Message(id="m", type=DECISION, data={"approval": shown.question}))
    for record in store.scan("REHEARSAL"):
        carry(asked, Message(id="m", type=REHEARSED, data={"rehearsal": record.body["id"]}))
    if over:
        assert asked.the(name).state is after.state
        assert asked.intents() == []
    assert verify_all(store) == []
    store.close()


def say_one(asked: Asked, name: str, shown: Seen) -> Answer:
    return decisions.answer(
        asked.store, name, "approve", by="alice", via="console", now=asked.now, actions=ACTIONS, seen=shown
    )


def carry(asked: Asked, message: Message) -> None:
    """Deliver as the broker does, again where it is asked to."""
    for _ in range(20):
        try:
            handle(message, asked.ctx)
        except Retry:
            continue
        return
    raise AssertionError("twenty deliveries were not enough")


def planned(asked: Asked, name: str) -> None:
    """Answer the silent rehearsal, if there is one by now."""
    if asked.the(name).state is State.PLANNING:
        asked.plan(name)
