"""A person's answer: used once, in time, for exactly the diff that was shown; checked twice."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from quietpager.actions.schema import load_actions
from quietpager.deciding import decisions
from quietpager.deciding.decisions import Answer, Decision, Question, Seen, question_of, read_remedy
from quietpager.errors import Refused
from quietpager.functions.people.console.app import make_app
from quietpager.functions.people.console.sessions import Sessions
from quietpager.incident import records
from quietpager.model.finding import Remedy
from quietpager.model.incident import Autonomy, IntentState, Rehearsal, State
from quietpager.model.message import OUTCOME
from quietpager.model.store import Put
from quietpager.people.roles import Role
from quietpager.people.users import Users
from quietpager.runtime.context import functions_folder
from quietpager.store.audit import verify_all
from quietpager.store.memory import MemoryStore
from quietpager.store.postgres import PostgresStore
from tests.asked import POLICY, Asked

ACTIONS = load_actions(functions_folder())
MORE = Remedy(action="raise-memory", params={"factor": 1.5, "ceiling": "1Gi"})


@pytest.fixture
def asked() -> Asked:
    return Asked(MemoryStore())


def question(asked: Asked, name: str) -> Question:
    found = question_of(asked.store, asked.the(name))
    assert found is not None
    return found


def seen(asked: Asked, name: str) -> Seen:
    found = question(asked, name)
    return Seen(found.id, found.diff)


def say(asked: Asked, name: str, decision: Decision, by: str = "alice", **more: Any) -> Answer:
    return decisions.answer(
        asked.store, name, decision, by=by, via="test", now=asked.now, actions=ACTIONS, **more
    )


def test_an_approval_does_not_outlive_the_healing_of_what_was_approved(asked: Asked) -> None:
    name = asked.ask()
    assert say(asked, name, "approve", seen=seen(asked, name)).used
    asked.tick()
    asked.plan(name)
    [intent] = asked.intents()
    healed = intent.but(state=IntentState.REFUSED, result="it healed before the write", healed=True)
    record = asked.store.get(records.intent(intent.id))
    assert record is not None
    asked.store.transact([Put(record.key, healed.to_json(), record.version)])
    asked.hear(OUTCOME, intent=intent.id)
    assert (asked.the(name).state, asked.the(name).approved) == (State.WAITING, None)
    asked.wait(7200)
    assert asked.fail() == name
    asked.plan(name)
    assert asked.the(name).state is State.APPROVAL
    assert len(asked.intents()) == 1


def test_an_approval_is_carried_out_once_for_the_diff_that_was_shown(asked: Asked) -> None:
    name = asked.ask()
    assert say(asked, name, "approve", seen=seen(asked, name)).used
    asked.tick()
    assert asked.the(name).state is State.PLANNING
    assert asked.intents() == []  # the silent rehearsal comes first
    asked.plan(name)
    assert asked.the(name).state is State.ACTING
    assert len(asked.intents()) == 1
    asked.wait(6)
    asked.tick()
    assert len(asked.intents()) == 1
    assert asked.the(name).decided_by == "alice"


def test_what_turns_out_another_diff_is_asked_anew(asked: Asked) -> None:
    name = asked.ask()
    old = seen(asked, name)
    assert say(asked, name, "approve", seen=old).used
    asked.tick()
    asked.plan(name, gets="256Mi")
    assert asked.the(name).state is State.APPROVAL
    assert asked.intents() == []
    stale = say(asked, name, "approve", seen=old)
    assert (stale.used, "stale" in stale.sentence) == (False, True)
    swapped = say(asked, name, "approve", seen=Seen(question(asked, name).id, old.diff))
    assert (swapped.used, "not the one you were shown" in swapped.sentence) == (False, True)


def test_the_second_answer_is_told_who_was_first(asked: Asked) -> None:
    name = asked.ask()
    assert say(asked, name, "approve").used
    assert say(asked, name, "reject", by="bob").sentence.startswith("alice has answered already: approve")
    assert say(asked, name, "approve").sentence.startswith("You have answered already")
    asked.tick()
    asked.plan(name)
    assert "asks nothing" in say(asked, name, "approve").sentence
    assert len(asked.intents()) == 1


def test_an_expired_question_takes_no_answer(asked: Asked) -> None:
    name = asked.ask()
    before = seen(asked, name)
    asked.wait(POLICY.approval + 1)
    late = say(asked, name, "approve", seen=before)
    assert (late.used, "expired at 02:30:00" in late.sentence) == (False, True)
    asked.tick()  # the reminder is late as well
    asked.wait(POLICY.approval)
    asked.tick()
    assert asked.the(name).state is State.HANDOVER
    assert "asks nothing that you could approve" in say(asked, name, "approve").sentence


def test_an_answer_that_is_carried_out_too_late_is_not(asked: Asked) -> None:
    name = asked.ask()
    assert say(asked, name, "approve").used
    asked.wait(POLICY.approval + 1)
    asked.tick()
    assert asked.intents() == []
    assert asked.the(name).rehearsals == 1
    [entry] = [e for e in asked.store.audit(name) if e.kind == "answer refused"]
    assert "expired" in str(entry.body["note"])


def test_a_diff_that_was_swapped_after_the_answer_is_not_carried_out(asked: Asked) -> None:
    name = asked.ask()
    assert say(asked, name, "approve").used
    record = asked.store.get(records.approval(question(asked, name).id))
    assert record is not None
    asked.store.transact([Put(record.key, record.body | {"diff": "forged"}, record.version)])
    asked.tick()
    assert asked.the(name).state is State.APPROVAL
    assert any(e.kind == "answer refused" for e in asked.store.audit(name))


@pytest.mark.parametrize("make", ["ask", "blocked"])
def test_another_remedy_is_planned_and_asked_for_and_may_be_approved_by_who_modified(
    asked: Asked, make: str
) -> None:
    name = getattr(asked, make)()
    assert say(asked, name, "modify", remedy=MORE, seen=seen(asked, name)).used
    asked.tick()
    found = asked.store.get(records.rehearsal(asked.the(name).rehearsal or ""))
    assert found is not None
    assert Rehearsal.from_json(found.body).remedy == MORE
    asked.plan(name, gets="96Mi")
    assert asked.the(name).state is State.APPROVAL
    assert say(asked, name, "approve", seen=seen(asked, name)).used
    asked.tick()
    asked.plan(name, gets="96Mi")
    [intent] = asked.intents()
    assert [(e.had, e.gets) for e in intent.edits] == [("64Mi", "96Mi")]


def test_a_person_goes_beyond_the_rule_but_not_beyond_the_policy() -> None:
    asked = Asked(MemoryStore(), policy=POLICY.but(autonomy=Autonomy.ANALYZE, dials=()))
    name = asked.blocked()
    assert say(asked, name, "modify", remedy=MORE).used
    asked.tick()
    asked.plan(name)
    assert asked.the(name).state is State.HANDOVER
    assert asked.intents() == []


@pytest.mark.parametrize(
    ("remedy", "sentence"),
    [
        (Remedy(action="raise-memory", params={"factor": 5, "ceiling": "1Gi"}), "factor is 5"),
        (Remedy(action="raise-memory", params={"factor": 1.5}), "needs parameter ceiling"),
        (Remedy(action="raise-memory", params={**MORE.params, "x": 1}), "no parameter x"),
        (Remedy(action="delete-everything"), "no action 'delete-everything'"),
        (None, "Say what to do instead"),
    ],
)
def test_a_remedy_outside_its_bounds_is_refused_at_once(
    asked: Asked, remedy: Remedy | None, sentence: str
) -> None:
    name = asked.ask()
    no = say(asked, name, "modify", remedy=remedy)
    assert (no.used, sentence in no.sentence) == (False, True), no.sentence
    assert question(asked, name).decision == ""
    assert say(asked, name, "approve").used  # the question was not used up


def test_a_remedy_that_was_swapped_in_the_store_is_checked_again(asked: Asked) -> None:
    name = asked.ask()
    assert say(asked, name, "modify", remedy=MORE).used
    record = asked.store.get(records.approval(question(asked, name).id))
    assert record is not None
    wild = Remedy(action="raise-memory", params={"factor": 50, "ceiling": "900Gi"}).to_json()
    asked.store.transact([Put(record.key, record.body | {"remedy": wild}, record.version)])
    asked.tick()
    assert asked.the(name).state is State.APPROVAL
    assert asked.the(name).rehearsals == 1


@pytest.mark.parametrize("decision", ["reject", "take over"])
@pytest.mark.parametrize("make", ["ask", "blocked", "handover"])
def test_it_is_a_persons_from_any_question_and_asks_no_more(
    asked: Asked, decision: Decision, make: str
) -> None:
    name = asked.fail(remedies=()) if make == "handover" else getattr(asked, make)()
    choices = question(asked, name).choices
    given = say(asked, name, decision, seen=seen(asked, name))
    assert given.used == (decision in choices)
    if not given.used:
        assert "You may: take over" in given.sentence
        return
    asked.tick()
    after = asked.the(name)
    assert (after.state, after.taken_over, after.decided_by) == (State.HANDOVER, True, "alice")
    assert question_of(asked.store, after) is None
    assert "alice has taken it over" in say(asked, name, "take over", by="bob").sentence
    assert asked.intents() == []


def test_an_answer_to_a_question_that_is_over_changes_nothing(asked: Asked) -> None:
    name = asked.blocked()
    old = seen(asked, name)
    assert say(asked, name, "modify", remedy=MORE).used
    asked.tick()
    asked.wait(1)
    asked.plan(name, refusal="no")
    assert asked.the(name).state is State.BLOCKED
    assert "stale" in say(asked, name, "reject", seen=old).sentence
    assert say(asked, name, "reject", seen=seen(asked, name)).used


def test_an_answer_that_is_overtaken_before_it_is_carried_out_is_not(asked: Asked) -> None:
    name = asked.blocked()
    assert say(asked, name, "take over").used
    asked.wait(3)
    record = asked.store.get(records.incident(name))
    assert record is not None
    later = asked.the(name).but(state=State.HANDOVER, state_since=asked.now)  # it went on meanwhile
    asked.store.transact([Put(record.key, later.to_json(), record.version)])
    asked.tick()
    assert not asked.the(name).taken_over
    [entry] = [e for e in asked.store.audit(name) if e.kind == "answer refused"]
    assert "nothing of this kind is asked any more" in str(entry.body["note"])


@pytest.mark.parametrize("text", ["abc", "1,5", "0x2", ""])
def test_what_is_no_number_is_said_in_words(text: str) -> None:
    with pytest.raises(Refused, match="factor"):
        read_remedy(ACTIONS["raise-memory"], {"factor": text, "ceiling": "1Gi"})


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e400", "2.1"])
def test_a_number_outside_its_bounds_is_refused(text: str) -> None:
    with pytest.raises(Refused, match="allowed is"):
        read_remedy(ACTIONS["raise-memory"], {"factor": text, "ceiling": "1Gi"})


@pytest.mark.parametrize("make", ["ask", "blocked"])
def test_of_twenty_racing_answers_exactly_one_counts(new_database: Callable[[], str], make: str) -> None:
    store = PostgresStore(new_database(), connections=20)
    asked = Asked(store)
    name = getattr(asked, make)()
    shown, start = seen(asked, name), Barrier(20)

    def click(number: int) -> Answer:
        start.wait()
        return say(asked, name, "reject" if make == "blocked" else "approve", by=f"p{number}", seen=shown)

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(click, range(20)))
    assert sum(one.used for one in answers) == 1
    [winner] = [number for number, one in enumerate(answers) if one.used]
    assert all(f"p{winner} has answered already" in one.sentence for one in answers if not one.used)
    asked.tick()
    if make == "ask":
        asked.plan(name)
    assert len(asked.intents()) == (1 if make == "ask" else 0)
    assert asked.the(name).decided_by == f"p{winner}"
    assert verify_all(store) == []
    store.close()


def test_of_twenty_racing_clicks_in_twenty_browsers_exactly_one_counts(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    store, users = PostgresStore(new_database(), connections=20), Users(tmp_path / "users.json")
    asked = Asked(store)
    name = asked.ask()
    for who in ("alice", "bob"):  # an account has ten sessions at a time
        users.put(who, "correct horse battery", Role.APPROVER)
    app, start = make_app(asked.ctx, users, secure=False), Barrier(20)
    sessions = Sessions(lambda: store, lambda: asked.now, users)
    signed_in = [sessions.begin("alice" if number % 2 else "bob") for number in range(20)]
    shown = seen(asked, name)

    def click(number: int) -> int:
        client = app.test_client()
        client.set_cookie("quietpager", signed_in[number].id)
        start.wait()
        fields = {"csrf": signed_in[number].csrf, "question": shown.question, "diff": shown.diff}
        return client.post(f"/incident/{name}/approve", data=fields).status_code

    with ThreadPoolExecutor(20) as pool:
        codes = list(pool.map(click, range(20)))
    assert sorted(codes) == [303, *[409] * 19]
    asked.tick()
    asked.plan(name)
    assert len(asked.intents()) == 1
    assert [e.kind for e in store.audit(name)].count("approve") == 1
    store.close()
