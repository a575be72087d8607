"""A pin with a known weakness goes unnoticed, because a list that is away looks like a clean one."""

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from infra import advisories

CLEAN = {"name": "a", "version": "1", "vulns": []}
WEAK = {"name": "b", "version": "2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["3"]}]}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on PyPI"}


@pytest.mark.parametrize(
    ("packages", "code", "words"),
    [
        ([CLEAN], 0, "1 of 1 pins were checked, 0 weaknesses"),
        ([CLEAN, WEAK], 1, "b 2: PYSEC-1; fixed in 3."),
        (
            [SKIPPED, SKIPPED],
            0,
            f"{advisories.NOT_CHECKED}: the list of advisories could not be had for 2 (all",
        ),
        ([SKIPPED, WEAK], 1, f"{advisories.NOT_CHECKED}: the list of advisories could not be had for 1 (c)"),
    ],
)
def test_a_weakness_fails_and_a_list_that_is_away_is_said(
    packages: list[dict[str, Any]], code: int, words: str
) -> None:
    said: list[str] = []
    assert advisories.judge({"dependencies": packages}, said.append) == code
    assert any(words in one for one in said)


@pytest.mark.parametrize("answer", ["", "no JSON", "[]x"])
def test_where_the_tool_says_nothing_useful_the_pins_count_as_unchecked(
    answer: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    monkeypatch.setattr(advisories, "HOME", tmp_path)

    def run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
        return subprocess.CompletedProcess(command, 1 if not answer else 0, answer, "no route to host")

    said: list[str] = []
    assert advisories.main(said.append, run) == 0
    assert [one.partition(":")[0] for one in said] == [advisories.NOT_CHECKED]


def test_pip_audits_own_word_would_pass_for_a_clean_list() -> None:
    """The mutant: what was skipped is left out, as pip-audit's own sentence does."""
    said: list[str] = []
    report = json.loads(json.dumps({"dependencies": [CLEAN]}))
    assert advisories.judge(report, said.append) == 0
    assert not any(advisories.NOT_CHECKED in one for one in said)
