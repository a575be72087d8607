"""The table of docs/safety.md: every test and every mutant that it names exists."""

import re
from functools import cache
from pathlib import Path

import pytest

from tests.model.mutants import MUTANTS

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "safety.md").read_text(encoding="utf-8")
ROWS = [line for line in TEXT.splitlines() if re.match(r"\| (\d+|\u2013) \|", line)]


@cache
def known() -> frozenset[str]:
    """Name every test function of the project."""
    places = ("tests", "functions", "infra", "shared")
    files = (path for place in places for path in (ROOT / place).rglob("test_*.py"))
    return frozenset(
        name for path in files for name in re.findall(r"def (test_\w+)", path.read_text(encoding="utf-8"))
    )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: str(row)[2:60])
def test_what_a_row_names_exists(row: str) -> None:
    _, _number, _promise, shown, without, _ = row.split("|")
    named = re.findall(r"`(test_\w+)`", shown + without)
    assert re.findall(r"`(test_\w+)`", shown), "a promise without a test"
    assert set(named) <= known()
    mutants = re.findall(r"`([^`]+)`", without) if "mutant" in without else []
    assert set(mutants) <= {mutant.mechanism for mutant in MUTANTS}


def test_every_mutant_stands_in_the_table() -> None:
    assert {mutant.mechanism for mutant in MUTANTS} <= set(re.findall(r"`([^`]+)`", "\n".join(ROWS)))
    assert len(ROWS) > 12
