"""A fix is proven only if no sibling healed that nobody touched; and what a person is told of an undo."""

from typing import Any

import pytest

from quietpager.incident import control_group, records
from quietpager.learning.ledger import counts_of
from quietpager.model.finding import Diagnosis, Finding
from quietpager.model.incident import Autonomy, How, Incident, Intent, IntentState, State
from quietpager.model.message import FINDING, OUTCOME
from quietpager.model.store import Put
from quietpager.store.memory import MemoryStore
from tests.asked import POLICY, Asked

HELPED, UNDONE = How.HELPED.value, How.UNDONE.value
NOT_PROVEN = "not proven: it healed, but so did {} with the same failure"


class Ward(Asked):
    """What decide sees of several workloads that fail alike."""

    looks = 0

    def look(self, name: str, outcome: str, *, available: int = 2, restarts: int = 0) -> None:
        """Look at an open incident once, as its detector would."""
        one, self.looks = self.the(name), self.looks + 1
        diagnosis = None
        if outcome == "failing":
            diagnosis = Diagnosis(
                failure_class=one.failure_class, cause=one.cause, owner=one.owner, restarts=restarts,
                evidence=one.evidence, since=self.now, last_failure=self.now,
                time_to_failure=one.time_to_failure,
            )  # fmt: skip
        finding = Finding(
            id=f"look-{self.looks}", incident=name, serial=one.serial + 1, outcome=outcome,
            at=self.now, family="crash", target=one.owner, why="", available=available, diagnosis=diagnosis,
        )  # fmt: skip
        self.store.transact([Put(records.finding(finding.id), finding.to_json(), 0)])
        self.hear(FINDING, finding=finding.id)

    def settle(self, intent: str | None, **changes: Any) -> None:
        """Carry out an intent, as its remediator would."""
        found = self.store.get(records.intent(intent or ""))
        assert found is not None
        done = Intent.from_json(found.body).but(
            **{"state": IntentState.APPLIED, "generation_after": 4} | changes
        )
        self.store.transact([Put(found.key, done.to_json(), found.version)])
        self.hear(OUTCOME, intent=done.id)

    def acted(self, name: str = "web") -> str:
        """Fail, approve, write: the incident is VERIFYING."""
        incident = self.fail(name)
        self.plan(incident)
        assert self.the(incident).state is State.ACTING
        self.settle(self.the(incident).intent, applied_at=self.now)
        assert self.the(incident).state is State.VERIFYING
        return incident

    def heal(self, *names: str) -> None:
        """Let them be healthy over a whole window; the first named is looked at last."""
        for _ in range(4):
            self.wait(40)
            for name in reversed(names):
                self.look(name, "healthy")


@pytest.fixture
def ward() -> Ward:
    return Ward(MemoryStore(), POLICY.but(autonomy=Autonomy.AUTO, dials=()))


def tried(one: Incident) -> str:
    [last] = one.tried
    return last.result


def end(ward: Ward, name: str) -> tuple[State, str | None, str, int, int]:
    one = ward.the(name)
    [count] = counts_of(one)
    return one.state, one.reason, tried(one), count.helped, count.unproven


def test_a_fix_without_siblings_is_proven(ward: Ward) -> None:
    ours = ward.acted()
    ward.heal(ours)
    assert end(ward, ours) == (State.CLOSED, "fixed", HELPED, 1, 0)


@pytest.mark.parametrize(("count", "said"), [(1, "one untouched sibling"), (2, "2 untouched siblings")])
def test_a_fix_whose_untouched_siblings_healed_too_is_not_proven_and_not_undone(
    ward: Ward, count: int, said: str
) -> None:
    siblings = [ward.fail(f"api-{number}") for number in range(count)]
    ours = ward.acted()
    ward.heal(ours, *siblings)
    assert end(ward, ours) == (State.CLOSED, "fixed", NOT_PROVEN.format(said), 0, 1)
    assert [intent.undoes for intent in ward.intents()] == [None]
    told = [record.body["text"] for record in ward.store.scan("TELL") if record.body["what"] == "closed"]
    assert (
        f"Deployment shop/web has been healthy for 80 s since the change; {NOT_PROVEN.format(said)}." in told
    )


def test_a_sibling_that_we_healed_too_is_no_control(ward: Ward) -> None:
    ours, other = ward.acted(), ward.acted("api")
    ward.heal(ours, other)
    assert end(ward, ours) == end(ward, other) == (State.CLOSED, "fixed", HELPED, 1, 0)


def test_a_sibling_that_still_fails_proves_the_fix(ward: Ward) -> None:
    sibling, ours = ward.fail("api"), ward.acted()
    for _ in range(4):
        ward.wait(40)
        ward.look(sibling, "failing")
        ward.look(ours, "healthy")
    assert tried(ward.the(ours)) == HELPED


def test_a_sibling_that_had_healed_before_the_write_says_nothing(ward: Ward) -> None:
    sibling = ward.fail("api")
    ward.wait(POLICY.recheck + 1)
    ours = ward.acted()
    ward.heal(ours, sibling)
    assert tried(ward.the(ours)) == HELPED


@pytest.mark.parametrize(
    "change",
    [
        {"cluster": "another"}, {"failure_class": "another"}, {"cause": "workload:u-web"}, {"acted": True},
        {"decided_by": "alice"}, {"state": State.ACTING}, {"healthy_streak": 1},
        {"state": State.CLOSED, "reason": "gone"}, {"state": State.CLOSED, "reason": "merged"},
        {"failing_at": None},
    ],
    ids=str,
)  # fmt: skip
def test_who_is_no_sibling(ward: Ward, change: dict[str, Any]) -> None:
    ours = ward.the(ward.acted())
    well = ward.the(ward.fail("api")).but(healthy_streak=POLICY.healthy_rechecks)
    assert control_group.siblings(ours, [well], POLICY) == (well,)
    assert control_group.siblings(ours, [well.but(**change)], POLICY) == ()


def test_without_the_control_group_time_would_be_called_a_fix(
    ward: Ward, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(control_group, "siblings", lambda *_: ())
    sibling, ours = ward.fail("api"), ward.acted()
    ward.heal(ours, sibling)
    assert tried(ward.the(ours)) == HELPED


def test_a_person_is_told_what_was_undone_and_why_with_figures(ward: Ward) -> None:
    ours = ward.acted()
    ward.wait(POLICY.rollout + 1)
    for _ in range(2):
        ward.look(ours, "failing", available=0, restarts=3)
    assert ward.the(ours).state is State.UNDOING
    ward.settle(ward.the(ours).undo)
    one = ward.the(ours)
    assert (one.state, tried(one)) == (State.HANDOVER, UNDONE)
    seen = "It was worse: available pods 1 before the change, 0 after it; "
    seen += "restarts 7 before, 3 of the pods after it."
    told = [record.body["text"] for record in ward.store.scan("TELL") if record.body["what"] == "needsperson"]
    assert told[-1].endswith(f"raise-memory factor=2.0 ceiling=4Gi: {UNDONE} {seen}")


def test_an_undo_that_was_refused_says_why_and_the_same_figures(ward: Ward) -> None:
    ours = ward.acted()
    ward.wait(40)
    ward.look(ours, "failing", available=1, restarts=3)
    ward.wait(1000)
    ward.tick()
    assert ward.the(ours).state is State.UNDOING
    ward.settle(ward.the(ours).undo, state=IntentState.REFUSED, result="somebody else changed it")
    told = [record.body["text"] for record in ward.store.scan("TELL") if record.body["what"] == "needsperson"]
    assert (
        "It did not help and was not undone: somebody else changed it. It was unchanged: available"
        in told[-1]
    )
