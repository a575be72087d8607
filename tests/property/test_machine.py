"""The state machine under any order of news: total, and it never does what it must not."""

import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietpager.incident import acting, findings, machine, planning
from quietpager.incident.machine import TABLE, keep, reopened, step
from quietpager.incident.moves import rehearse
from quietpager.incident.news import Commit, Input, News, Step, Undo
from quietpager.incident.policy import Places, Policy
from quietpager.model.finding import Diagnosis, Evidence, Finding, Outcome, Remedy
from quietpager.model.incident import (
    OPEN,
    Autonomy,
    Edit,
    Incident,
    Intent,
    IntentState,
    PlanFacts,
    Rehearsal,
    State,
)
from quietpager.model.reference import ObjectRef

START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(autonomy=Autonomy.AUTO, namespaces=Places(allow=("*",)))
OWNER = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web", uid="u1")
POD = ObjectRef(api_version="v1", kind="Pod", namespace="shop", name="web-1", uid="p1")
REMEDIES = (
    Remedy(action="raise-memory", params={"factor": 2, "ceiling": "4Gi"}),
    Remedy(action="rollout-undo"),
)
LOOKS = {
    News.FAILING: "failing", News.HEALTHY: "healthy", News.GONE: "gone", News.UNREADABLE: "unreadable",
}  # fmt: skip
OUTCOMES = {
    News.APPLIED: IntentState.APPLIED, News.UNKNOWN: IntentState.UNKNOWN,
    News.NOT_DONE: IntentState.REFUSED, News.HEALED: IntentState.REFUSED,
}  # fmt: skip
OWNED = PlanFacts(namespace="shop", opted_in=True, ignored=False, owned_by="Helm", owner_mode="patch+propose")
PLANS = {News.ALLOWED, News.ASK, News.SHOW, News.PROPOSED, News.REFUSED, News.BEYOND}
ANSWERS = {News.APPROVE, News.MODIFY, News.REJECT}


def diagnosis(now: datetime, *, old: bool) -> Diagnosis:
    return Diagnosis(
        failure_class="oom_killed", cause="workload:u1", owner=OWNER,
        evidence=(Evidence(text="killed", source="status"),), restarts=5 if old else 0,
        since=now - timedelta(hours=1) if old else now, last_failure=now, time_to_failure=4.0,
    )  # fmt: skip


def symptom(now: datetime, *, old: bool) -> Finding:
    return Finding(
        id="f", outcome="failing", at=now, family="crash", target=POD, why="killed", cluster="c",
        diagnosis=diagnosis(now, old=old), remedies=REMEDIES, autonomy="auto",
    )  # fmt: skip


@dataclass(frozen=True)
class Move:
    """One piece of news: which, whether it is about the current plan, and the seconds before it."""

    pick: int
    fitting: bool
    current: bool
    number: int
    wait: float


@dataclass
class Run:
    """One incident on a virtual clock; `take` checks every promise after every step."""

    now: datetime = START
    incident: Incident | None = None
    commits: dict[Any, int] = field(default_factory=dict)
    undos: int = 0
    handed_over: bool = False
    visited: set[State] = field(default_factory=set)

    def kind(self, move: Move) -> News:
        state = State.NONE if self.incident is None else self.incident.state
        some = [n for n in News if TABLE[state, n] is not keep] if move.fitting else []
        among = some or list(News)
        return News.SYMPTOM if self.incident is None else among[move.pick % len(among)]

    def news(self, kind: News, move: Move) -> Input:
        one = self.incident
        if one is None or kind is News.SYMPTOM:
            return Input(kind, finding=symptom(self.now, old=move.number % 3 > 0))
        mine = move.current
        if kind in LOOKS:
            outcome: Outcome = LOOKS[kind]  # type: ignore[assignment]
            failing = kind is News.FAILING and move.number % 4 > 0
            finding = Finding(
                id="look", incident=one.id, serial=one.serial + 1 if mine else one.serial - move.number % 2,
                outcome=outcome, at=self.now, family="crash", target=OWNER, why="", available=move.number % 3,
                diagnosis=diagnosis(self.now, old=True) if failing else None,
            )  # fmt: skip
            return Input(kind, finding=finding)
        if kind in PLANS:
            plan = Rehearsal(
                id=(one.rehearsal or "none") if mine else "foreign", incident=one.id,
                remedy=one.remedy or REMEDIES[0], owner=OWNER, state="rehearsed", asked_at=self.now,
                edits=(Edit(path="/spec/x", had=1, gets=2 + move.number % 2),), available=2,
                undo_when=("unchanged", "worse", "never")[move.number % 3],
            )  # fmt: skip
            if move.number % 7 == 5:
                plan = plan.but(facts=OWNED)
            return Input(kind, rehearsal=plan, sentence="no", propose=move.number % 5 == 4)
        if kind in OUTCOMES:
            undoing = one.state is State.UNDOING or move.number % 5 == 0
            name = (one.undo if undoing else one.intent) or "none"
            return Input(kind, intent=self.intent(name if mine else "foreign", OUTCOMES[kind]))
        if kind in ANSWERS:
            remedy = REMEDIES[1] if kind is News.MODIFY else None
            approval = (one.approval or "none") if mine else "foreign"
            return Input(kind, approval=approval, remedy=remedy, by="alice")
        return Input(kind)

    def intent(self, name: str, state: IntentState) -> Intent:
        return Intent(
            id=name, incident="i", rehearsal="r", action="raise-memory", target=OWNER, generation=1,
            edits=(), state=state, created_at=self.now, expires_at=self.now, result="moved",
            applied_at=self.now if state is IntentState.APPLIED else None,
        )  # fmt: skip

    def play(self, move: Move) -> Step:
        self.now += timedelta(seconds=move.wait)
        kind = self.kind(move)
        return self.take(kind, self.news(kind, move), current=move.current)

    def take(self, kind: News, news: Input, *, current: bool = True) -> Step:
        before = self.incident
        if before is not None and before.state is State.CLOSED and kind is News.SYMPTOM:
            cooling = (self.now - before.state_since).total_seconds() < POLICY.cool_down
            taken = reopened(before, news, POLICY, self.now, inside_cool_down=cooling)
        else:
            taken = step(before, news, POLICY, self.now)
        after = taken.incident
        assert after is not None
        if before is not None and not current and kind not in {News.SYMPTOM, News.DEADLINE, News.SUPERSEDED}:
            foreign_answer = kind in ANSWERS
            assert after == before or foreign_answer
            assert taken.effects == () or kind is News.REJECT
        self._promises(before, kind, taken, after)
        # What govern/decide does with the effects that have an identity of their own.
        if any(isinstance(e, Commit) for e in taken.effects):
            after = after.but(intent=f"int-{after.rehearsal}")
        if any(isinstance(e, Undo) for e in taken.effects):
            after = after.but(undo=f"{after.intent}-undo")
        self.incident = after
        self.visited.add(after.state)
        return taken

    def _promises(self, before: Incident | None, kind: News, taken: Step, after: Incident) -> None:
        if before is None or after.episode != before.episode or after.id != before.id:
            self.commits, self.undos, self.handed_over = {}, 0, False
        if before is not None and before.state is State.CLOSED and after.state is not State.CLOSED:
            assert kind is News.SYMPTOM
            self.handed_over = False
        if after.state in OPEN:
            assert after.deadline_at > after.state_since
            assert after.recheck_every > 0
        if after.state is State.CLOSED:
            assert after.reason is not None
        writes = [e for e in taken.effects if isinstance(e, Commit | Undo)]
        assert len(writes) <= 1
        assert not (writes and self.handed_over)
        for effect in writes:
            assert before is not None
            assert not before.verified
            if isinstance(effect, Commit):
                assert (before.state, kind) == (State.PLANNING, News.ALLOWED)
                assert effect.rehearsal.id == before.rehearsal
                assert after.state is State.ACTING
                key = (before.by_person, before.candidate)
                self.commits[key] = self.commits.get(key, 0) + 1
                assert self.commits[key] <= POLICY.attempts
            else:
                assert before.state is State.VERIFYING
                assert before.undo_when != "never"
                self.undos += 1
                assert self.undos <= 1
        if (
            before is not None
            and before.state is State.ACTING
            and kind is News.HEALED
            and after is not before
        ):
            # It was healthy before the write: no attempt is spent.
            key = (before.by_person, before.candidate)
            if after.state is State.WAITING:
                self.commits[key] -= 1
        if kind is News.MODIFY and after.state is State.PLANNING:
            self.commits = {}
        self.handed_over = self.handed_over or after.state is State.HANDOVER


moves = st.builds(
    Move, pick=st.integers(0, 200), fitting=st.integers(0, 3).map(bool), current=st.integers(0, 4).map(bool),
    number=st.integers(0, 60), wait=st.sampled_from([0.0, 1.0, 10.0, 70.0, 700.0]),
)  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(moves, max_size=60))
def test_no_order_of_news_breaks_a_promise(played: list[Move]) -> None:
    run = Run()
    for move in played:
        run.play(move)


def test_every_pair_of_state_and_news_is_in_the_table() -> None:
    assert set(TABLE) == {(state, news) for state in State for news in News}


@pytest.mark.parametrize("state", list(State))
@pytest.mark.parametrize("news", list(News))
def test_bare_news_in_any_state_never_raises_and_writes_nothing(state: State, news: News) -> None:
    run = Run()
    run.take(News.SYMPTOM, Input(News.SYMPTOM, finding=symptom(START, old=True)))
    assert run.incident is not None
    taken = step(run.incident.but(state=state), Input(news), POLICY, START)
    allowed = (Undo,) if (state, news) == (State.VERIFYING, News.DEADLINE) else ()
    assert not any(isinstance(e, Commit | Undo) and not isinstance(e, allowed) for e in taken.effects)


@pytest.mark.parametrize("news", [n for n in News if n is not News.SYMPTOM])
def test_closed_stays_closed_whatever_comes_but_a_symptom(news: News) -> None:
    run = verified()
    closed = run.incident
    assert closed is not None
    for number in range(6):
        run.take(news, run.news(news, Move(0, fitting=True, current=True, number=number, wait=0)))
        assert run.incident is not None
        assert run.incident.but(serial=0) == closed.but(serial=0)


def say(run: Run, kind: News, number: int = 1, wait: float = 1.0) -> State:
    run.now += timedelta(seconds=wait)
    run.take(kind, run.news(kind, Move(0, fitting=True, current=True, number=number, wait=0)))
    assert run.incident is not None
    return run.incident.state


def verified() -> Run:
    run = Run()
    assert say(run, News.SYMPTOM) is State.PLANNING
    assert say(run, News.ALLOWED) is State.ACTING
    assert say(run, News.APPLIED) is State.VERIFYING
    for _ in range(3):
        say(run, News.HEALTHY, wait=40)
    assert run.incident is not None
    assert (run.incident.state, run.incident.reason) == (State.CLOSED, "fixed")
    return run


def undone() -> Run:
    run = Run()
    say(run, News.SYMPTOM)
    say(run, News.ALLOWED, number=3)
    say(run, News.APPLIED)
    say(run, News.FAILING)
    assert say(run, News.DEADLINE, wait=200) is State.UNDOING
    return run


def test_a_fix_that_does_not_hold_goes_to_a_person() -> None:
    run = verified()
    assert say(run, News.SYMPTOM, wait=60) is State.HANDOVER


def test_what_did_not_help_is_undone_once_and_handed_over() -> None:
    run = undone()
    assert run.undos == 1
    assert say(run, News.APPLIED) is State.HANDOVER
    for news in News:
        if news in {News.GONE, News.SUPERSEDED}:
            continue
        assert say(run, news, wait=0) is State.HANDOVER


def test_two_attempts_of_a_candidate_then_the_next_then_a_person() -> None:
    run = Run()
    last = say(run, News.SYMPTOM)
    for _ in range(len(REMEDIES) * POLICY.attempts):
        assert say(run, News.ALLOWED, number=2) is State.ACTING
        last = say(run, News.NOT_DONE)
    assert last is State.BLOCKED
    assert list(run.commits.values()) == [POLICY.attempts] * len(REMEDIES)


def test_what_its_owner_must_change_is_proposed_next_and_only_then_the_rest() -> None:
    run = Run()
    say(run, News.SYMPTOM)
    assert say(run, News.REFUSED, number=4) is State.PLANNING
    assert run.incident is not None
    assert run.incident.remedy == Remedy(action="propose-change", params={"of": f"{run.incident.id}-r1"})
    assert run.incident.remedies[2:] == REMEDIES[1:]
    assert say(run, News.REFUSED, number=4) is State.PLANNING
    assert run.incident.remedy == REMEDIES[1]
    assert say(run, News.PROPOSED) is State.PROPOSED


def test_what_was_written_to_an_owned_object_is_proposed_once_it_has_helped() -> None:
    run = Run()
    say(run, News.SYMPTOM)
    say(run, News.ALLOWED, number=5)
    say(run, News.APPLIED)
    assert [say(run, News.HEALTHY, wait=40) for _ in range(3)][-1] is State.PLANNING
    assert run.incident is not None
    assert run.incident.remedies == (planning.proposal_of(f"{run.incident.id}-r1"),)
    assert say(run, News.ALLOWED) is State.PLANNING
    assert say(run, News.PROPOSED) is State.PROPOSED
    assert [say(run, News.HEALTHY, wait=40) for _ in range(3)][-1] is State.CLOSED
    assert run.incident.reason == "fixed"


def test_what_does_not_help_is_not_proposed() -> None:
    run = Run()
    say(run, News.SYMPTOM)
    say(run, News.ALLOWED, number=12)
    say(run, News.APPLIED)
    say(run, News.FAILING)
    assert say(run, News.DEADLINE, wait=200) is State.UNDOING


def test_foreign_ids_and_old_serials_change_nothing() -> None:
    for start in (verified, undone):
        run = start()
        before = run.incident
        assert before is not None
        for news in (*LOOKS, *PLANS, *OUTCOMES):
            for number in range(6):
                said = run.news(news, Move(0, fitting=True, current=False, number=number, wait=0))
                assert step(before, said, POLICY, run.now) == Step(before)


def test_a_shared_cause_remembers_every_workload_even_where_symptoms_are_only_counted() -> None:
    now = START
    first = symptom(now, old=False)
    assert first.diagnosis is not None
    shared = first.but(diagnosis=first.diagnosis.but(cause="configmap:shop/settings"))
    taken = step(None, Input(News.SYMPTOM, finding=shared), POLICY, now)
    assert taken.incident is not None
    one = taken.incident.but(
        symptoms=tuple(POD.but(name=f"p{n}", uid=f"p{n}") for n in range(findings.MOST_SYMPTOMS))
    )
    for number in range(2):
        other = OWNER.but(name="api", uid="u2")
        more = shared.but(
            target=POD.but(name=f"api-{number}", uid=f"a{number}"),
            diagnosis=first.diagnosis.but(cause=one.cause, owner=other),
        )
        one = step(one, Input(News.SYMPTOM, finding=more), POLICY, now).incident or one
    assert [owner.name for owner in one.owners] == ["web", "api"]
    assert len(one.symptoms) == findings.MOST_SYMPTOMS
    assert one.about == "configmap:shop/settings (Deployment shop/web and 1 more)"


def mutant_without_attempts(one: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    return rehearse(one, policy, now)


def mutant_undo_again(one: Incident, _news: Input, policy: Policy, now: datetime) -> Step:
    return acting._not_helped(one.but(state=State.VERIFYING), policy, now, "unchanged")


def mutant_act_anywhere(one: Incident, news: Input, policy: Policy, now: datetime) -> Step:
    return planning.commit(one, news, policy, now)


def test_the_promises_catch_machines_that_break_them(monkeypatch: pytest.MonkeyPatch) -> None:
    mutants: list[tuple[State, News, Any]] = [
        (State.ACTING, News.NOT_DONE, mutant_without_attempts),
        (State.HANDOVER, News.ALLOWED, mutant_act_anywhere),
        (State.APPROVAL, News.ASK, mutant_act_anywhere),
    ]
    for state, news, mutant in mutants:
        monkeypatch.setattr(machine, "TABLE", {**TABLE, (state, news): mutant})
        with pytest.raises(AssertionError):
            trigger(state, news)
    monkeypatch.setattr(machine, "TABLE", {**TABLE, (State.UNDOING, News.DEADLINE): mutant_undo_again})
    run = undone()
    with pytest.raises(AssertionError):
        say(run, News.DEADLINE)


def trigger(state: State, news: News) -> None:
    run = Run()
    say(run, News.SYMPTOM)
    if state is State.ACTING:
        for _ in range(POLICY.attempts + 1):
            say(run, News.ALLOWED)
            say(run, news)
    else:
        say(run, News.SHOW if state is State.HANDOVER else News.ASK)
        say(run, news)


def test_random_play_reaches_every_state() -> None:
    """The property above would be empty if it never came far."""
    seen: set[State] = set()
    chance = random.Random(1)  # noqa: S311 (no secret)
    for _ in range(600):
        run = Run()
        for _ in range(30):
            number, wait = chance.randrange(61), chance.choice([1.0, 10.0, 70.0])
            run.play(Move(chance.randrange(201), fitting=True, current=True, number=number, wait=wait))
        seen |= run.visited
    assert seen == OPEN | {State.CLOSED}
