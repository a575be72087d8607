"""`rule new` and `action new`: what they write loads and renders at once, and its test says what to write."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quietpager.cli.main import main
from quietpager.model.yaml import read_yaml
from quietpager.render import manifests
from quietpager.runtime.checking import check
from quietpager.runtime.context import BUILT_IN, FUNCTIONS, function_roots

FILLED = '''"""Is the disk full?"""

from quietpager.model.finding import Diagnosis, Evidence, Healthy, Verdict
from quietpager.model.signal import Signal
from quietpager.objects.live import Live


def diagnose(_signal: Signal, live: Live) -> Verdict:
    """Say that it is."""
    if live.pod is None or live.owner is None:
        return Healthy(why="there is no pod")
    return Diagnosis(
        failure_class="out_of_disk_failing",
        cause=f"workload:{live.owner.identity}",
        owner=live.owner,
        evidence=(Evidence(text="the disk is full", source="a test"),),
        restarts=3,
        since=live.now,
    )
'''


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FUNCTIONS, f"{BUILT_IN}{os.pathsep}{tmp_path / 'mine'}")
    return tmp_path / "mine"


def written(sort: str, name: str, into: Path, *more: str) -> Result:
    return CliRunner().invoke(main, [sort, "new", name, "--into", str(into), *more])


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command], capture_output=True, text=True, timeout=50, check=False
    )


def test_a_new_rule_and_a_new_action_are_loaded_and_rendered_as_they_are(mine: Path) -> None:
    assert written("rule", "out-of-disk", mine).exit_code == 0
    assert written("action", "trim-logs", mine).exit_code == 0
    check(function_roots())
    names = {one["metadata"]["name"] for one in manifests(function_roots())}
    assert {"detect-out-of-disk", "remediate-trim-logs"} <= names


@pytest.mark.parametrize(
    ("sort", "name", "sentence"),
    [
        ("rule", "out-of-disk", "detect/out_of_disk/diagnose.py finds nothing in cases/03-crashloop"),
        ("action", "trim-logs", "remediate/trim_logs/plan.py has no plan for cases/30-oom-bounded"),
    ],
)
def test_its_test_fails_and_says_what_to_write(sort: str, name: str, sentence: str, mine: Path) -> None:
    written(sort, name, mine)
    done = run("pytest", "-q", "-p", "no:cacheprovider", str(mine))
    assert done.returncode == 1
    assert sentence in done.stdout
    assert "Write there" in done.stdout


def test_once_it_is_written_its_test_and_replay_find_the_class(mine: Path) -> None:
    written("rule", "out-of-disk", mine)
    folder = mine / "detect/out_of_disk"
    (folder / "diagnose.py").write_text(FILLED, encoding="utf-8")
    assert run("pytest", "-q", "-p", "no:cacheprovider", str(mine)).returncode == 0
    said = run("quietpager.cli.main", "replay", str(folder / "cases/03-crashloop")).stdout
    assert "out_of_disk_failing" in said


def test_a_class_and_a_reason_are_taken_from_the_case_that_is_given(mine: Path) -> None:
    case = Path(__file__).parents[1] / "docs/14-liveness"
    written("rule", "probe", mine, "--case", str(case))
    rule = read_yaml(mine / "detect/probe/rule.yaml")
    assert list(rule["classes"]) == ["liveness_probe_failing"]
    assert rule["routes"][0] | {"priority": 0} == {
        "kind": "Pod", "reason": ["Killing"], "type": "Normal", "priority": 0,
    }  # fmt: skip


def test_a_folder_outside_the_list_is_said_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(FUNCTIONS, raising=False)
    said = written("rule", "out-of-disk", tmp_path / "x").output
    assert f"export {FUNCTIONS}={BUILT_IN}:{tmp_path / 'x'}" in said


@pytest.mark.parametrize("name", ["", "Disk", "a_b", "a-", "a--b", "../x", "1a", "a" * 41, "ä"])
def test_what_is_no_name_is_refused(name: str, mine: Path) -> None:
    done = written("rule", name, mine)
    assert done.exit_code == 1
    assert "is no name for a rule" in done.output
    assert not mine.exists()


def test_what_is_there_is_not_written_over(mine: Path) -> None:
    assert "There is a function detect/crash already" in written("rule", "crash", mine).output
    written("rule", "out-of-disk", mine)
    assert "There is a function detect/out_of_disk already" in written("rule", "out-of-disk", mine).output


def test_what_is_no_case_and_no_checkout_is_said(
    mine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "is no recorded case" in written("rule", "out-of-disk", mine, "--case", str(tmp_path)).output
    monkeypatch.chdir(tmp_path)
    assert "--into" in CliRunner().invoke(main, ["rule", "new", "out-of-disk"]).output
