"""Exactly one effect, whoever is killed or stopped at whichever call: real processes, real back ends.

`QUIETPAGER_SCHEDULES` says how many schedules (`make crash`: 10,000). A DynamoDB that takes one request at a
time (see `tests.dynamodb`) gets a tenth of them.
"""

import os
import sys
from collections.abc import Callable

import pytest

from tests.crash.points.controller import Figures
from tests.crash.points.judge import DOUBLE, FOREIGN, STOPPED, UNANNOUNCED, WRONG
from tests.crash.points.run import Plan, run, words
from tests.crash.points.schedules import CALLS, Outside, chosen, pairs, singles, stalls
from tests.dynamodb import KEYS, MANY_AT_ONCE, NAME, fresh

SCHEDULES = int(os.environ.get("QUIETPAGER_SCHEDULES", "200"))
ON_DYNAMODB = SCHEDULES if MANY_AT_ONCE else max(SCHEDULES // 10, 1)
LARGE = SCHEDULES > 200

MUTANTS: tuple[tuple[str, str, Outside], ...] = (
    ("the pinned precondition", DOUBLE, ""),
    ("a precondition never read again", FOREIGN, "edit"),
    ("claim before the write", UNANNOUNCED, ""),
    ("compare-and-set on the outcome", WRONG, ""),
    ("an interrupted attempt is UNKNOWN", WRONG, "heal"),
    ("the kill switch in the claim's transaction", STOPPED, "stop"),
)
"""Mechanisms of `tests.model.mutants`, what is seen without them, and what others do then."""


def held(name: str, figures: Figures, number: int, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        sys.stdout.write(f"\n{words(name, figures)}\n")
    assert figures.wrong == []
    assert figures.schedules == number
    assert figures.kills > number // 5
    assert figures.stops > number // 5
    struck = {where.split()[2] for where in figures.where}
    assert {"get", "transact"} < struck, "no fault came where it matters"


@pytest.mark.slow
@pytest.mark.timeout(120 + SCHEDULES)
def test_one_effect_on_postgresql(
    new_database: Callable[[], str], capsys: pytest.CaptureFixture[str]
) -> None:
    figures = run(Plan(new_database(), chosen(SCHEDULES)))
    held("PostgreSQL", figures, SCHEDULES, capsys)
    assert {"kill before json_patch", "kill after json_patch"} & set(figures.where)


@pytest.mark.slow
@pytest.mark.timeout(120 + (1 if MANY_AT_ONCE else 10) * ON_DYNAMODB)
def test_one_effect_on_dynamodb(
    dynamodb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name.upper(), value)
    figures = run(Plan(fresh(dynamodb), chosen(ON_DYNAMODB), act=0.25 if MANY_AT_ONCE else 1))
    held(f"DynamoDB ({NAME})", figures, ON_DYNAMODB, capsys)


@pytest.mark.skipif(not LARGE, reason="`make crash` hunts mutants: when one is found is a matter of races")
@pytest.mark.timeout(240)  # it stops at the first find; how soon that comes is a matter of races
@pytest.mark.parametrize(("mechanism", "kind", "outside"), MUTANTS)
def test_without_a_mechanism_it_is_seen(
    new_database: Callable[[], str], mechanism: str, kind: str, outside: Outside
) -> None:
    figures = run(Plan(new_database(), stalls(outside), mutant=mechanism, until_wrong=True))
    assert kind in {found for found, _ in figures.wrong}, words(mechanism, figures)


def test_every_point_and_every_pair_is_among_ten_thousand() -> None:
    every = set(chosen(10_000))
    assert set(singles()) | set(pairs()) <= every
    once = {
        (fault.call, fault.moment, fault.kind) for s in singles() for fault in s.faults if fault.worker == 2
    }
    for call in range(1, CALLS[2] + 1):
        assert {(call, "before", "kill"), (call, "before", "sleep"), (call, "after", "kill")} <= once
    assert len(chosen(200)) == 200
