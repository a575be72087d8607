"""The model, within bounds that fit a test run; `make model` walks further."""

import pytest

from quietpager.deciding.decisions import Decision
from quietpager.incident.machine import TABLE
from quietpager.incident.news import News
from quietpager.model.incident import State
from tests.model.__main__ import hunt, walk
from tests.model.invariants import incidents
from tests.model.moves import ASKING, Bounds, Moves
from tests.model.mutants import MUTANTS, Mutant
from tests.model.scenarios import HELPS, HOPELESS, SCENARIOS, Scenario
from tests.model.world import Workload

MOST = 4_000
"""States for each scenario."""


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_every_promise_holds_in_every_state(scenario: Scenario) -> None:
    found = walk(scenario, MOST)
    assert found.broken is None, str(found.broken)
    assert found.complete or found.states >= MOST
    assert found.ends > found.states // 100, "hardly any state was run to its end"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mechanism)
def test_no_mechanism_can_be_missed(mutant: Mutant) -> None:
    found = hunt(mutant)
    assert found.broken is not None, f"without {mutant.mechanism} nothing breaks: an invariant is missing"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.mechanism)
def test_the_product_passes_where_its_mutant_fails(mutant: Mutant) -> None:
    """Else the invariant would find fault with anything."""
    found = walk(mutant.scenario, 2_000)
    assert found.broken is None, str(found.broken)


@pytest.mark.parametrize(
    ("workload", "end"), [(HELPS, ("CLOSED", "fixed")), (HOPELESS, ("WITH_PERSON(handover)", None))]
)
def test_the_undisturbed_story_ends_as_in_production(workload: Workload, end: tuple[str, str | None]) -> None:
    moves = Moves.of(Bounds())
    last = moves.fair(moves.first(workload))
    [incident] = incidents(last)
    assert (incident.state, incident.reason) == end
    assert [one.undo for one in last.history] == ([False] if workload is HELPS else [False, True])


@pytest.mark.parametrize(
    ("decision", "end", "writes"),
    [("approve", ("CLOSED", "fixed"), 1), ("reject", ("WITH_PERSON(handover)", None), 0)],
)
def test_the_undisturbed_answer_ends_as_in_production(
    decision: Decision, end: tuple[str, str | None], writes: int
) -> None:
    moves = Moves.of(Bounds(), ASKING)
    asked = moves.fair(moves.first(HELPS))
    assert [incident.state for incident in incidents(asked)] == [State.APPROVAL]
    last = moves.fair(moves.answered(asked, "ann", decision))
    [incident] = incidents(last)
    assert (incident.state, incident.reason, len(last.history)) == (*end, writes)


def test_no_pair_of_state_and_news_is_undefined() -> None:
    assert {(state, news) for state in State for news in News} == set(TABLE)
