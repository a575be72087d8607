"""What a rule or an action names has to be there: each fault is a sentence with file and line."""

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietpager.cli import catalogue
from quietpager.cli.main import main
from quietpager.incident.policy import Policy
from quietpager.local import host
from quietpager.render import manifests
from quietpager.rules.schema import Route, Rule, load_rules
from quietpager.runtime import checking, loading
from quietpager.runtime.checking import check, owners_of
from quietpager.runtime.context import FUNCTIONS, functions_folder

CRASH = "detect/crash/rule.yaml"
RAISE = "remediate/raise_memory/action.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A copy of the product's folders that a test may spoil."""
    shutil.copytree(functions_folder(), tmp_path / "functions", ignore=shutil.ignore_patterns("cases"))
    return tmp_path / "functions"


def edit(name: str, old: str, new: str) -> Callable[[Path], tuple[Path, int]]:
    """Change a line; gives the file and the line's number."""

    def change(root: Path) -> tuple[Path, int]:
        path = root / name
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), encoding="utf-8")
        return path, text[: text.index(old)].count("\n") + 1

    return change


WRONG: dict[str, tuple[Callable[[Path], tuple[Path, int]], str]] = {
    "an action": (
        edit(CRASH, "action: raise-memory", "action: raise-memry"),
        "class oom_killed names the action raise-memry, which there is not. Did you mean raise-memory?",
    ),
    "a fact": (
        edit(CRASH, "started_with_new_revision", "started_with_a_new_revision"),
        "nothing finds the fact started_with_a_new_revision",
    ),
    "a parameter": (
        edit(CRASH, "factor: 2", "factr: 2"), "class oom_killed: raise-memory has no parameter factr."
    ),
    "a parameter out of bounds": (
        edit(CRASH, "factor: 2", "factor: 20"), "raise-memory: factor is 20.0, allowed is 1.1 to 2.0."
    ),
    "a parameter that is no amount": (
        edit(CRASH, "ceiling: 4Gi", "ceiling: much"), "class oom_killed: raise-memory: ceiling is 'much'"
    ),
    "a parameter that is missing": (
        edit(CRASH, "factor: 2, ", ""), "class oom_killed: raise-memory needs parameter factor."
    ),
    "a class": (
        edit(CRASH, "  oom_killed:", "  oom_kiled:"), "no code beside it finds the class oom_kiled."
    ),
    "a family": (edit(CRASH, "family: crash", "family: crush"), "after its folder it must be crash."),
    "an action's name": (
        edit(RAISE, "name: raise-memory", "name: more-memory"), "after its folder it must be raise-memory."
    ),
    "a kind": (
        edit(RAISE, "[Deployment]", "[Deploymnet]"),
        "Deploymnet is no kind that an action can be for. Did you mean Deployment?",
    ),
}  # fmt: skip


@pytest.mark.parametrize("what", WRONG)
def test_what_is_not_there_is_said_with_file_and_line(what: str, root: Path) -> None:
    change, sentence = WRONG[what]
    path, line = change(root)
    with pytest.raises(ValueError, match=re.escape(f"{path}, line {line}: ")) as caught:
        check(root)
    assert sentence in str(caught.value)


def test_an_action_that_can_fit_nothing_that_the_rule_finds_is_refused(root: Path) -> None:
    path, line = edit(RAISE, "[Deployment]", "[Node]")(root)
    with pytest.raises(ValueError, match="is for Node, and what this rule finds belongs to") as no:
        check(root)
    assert f"{root / CRASH}, line " in str(no.value)
    assert (path.name, line) == ("action.yaml", 3)


def test_a_rule_about_nodes_cannot_name_an_action_for_workloads() -> None:
    assert owners_of(Rule(family="x", routes=(Route(kind="Node"),))) == {"Node"}
    assert "Deployment" in owners_of(Rule(family="x", routes=(Route(kind="Pod"),)))
    assert owners_of(Rule(family="x", routes=(Route(kind="Pod"), Route(kind="Gadget")))) == frozenset()
    assert owners_of(Rule(family="x")) == frozenset()


def test_a_class_that_the_rule_lacks_is_said(root: Path) -> None:
    path = root / "detect/storage/diagnose.py"
    path.write_text(path.read_text(encoding="utf-8") + '\n_X = dict(failure_class="disk_gone")\n')
    with pytest.raises(ValueError, match="finds the class disk_gone, which `classes` does not have"):
        check(root)


def test_all_faults_are_said_at_once(root: Path) -> None:
    edit(CRASH, "factor: 2", "factor: 20")(root)
    edit(CRASH, "started_with_new_revision", "started_anew")(root)
    with pytest.raises(ValueError, match="factor is 20") as caught:
        check(root)
    assert str(caught.value).count("\n") == 1


def test_a_field_that_there_is_not_is_said_with_its_line(root: Path) -> None:
    path, line = edit(CRASH, "    autonomy: auto", "    autonmy: auto")(root)
    with pytest.raises(ValueError, match=re.escape(f"{path} is not a rule: line {line}: classes.oom_killed")):
        check(root)


def test_rules_without_code_beside_them_are_judged_by_what_is_there(root: Path) -> None:
    """In a pod only rule.yaml and action.yaml are mounted."""
    for path in root.glob("*/*/*.py"):
        path.unlink()
    check(root)
    edit(CRASH, "factor: 2", "factor: 20")(root)
    with pytest.raises(ValueError, match="factor is 20"):
        check(root)


def test_a_build_with_one_rule_and_no_action_starts(root: Path) -> None:
    for path in root.glob("*/*/*.yaml"):
        if path != root / CRASH:
            path.unlink()
    check(root)


# --- who asks -----------------------------------------------------------------------------------


@pytest.fixture
def wrong(root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    edit(CRASH, "action: raise-memory", "action: raise-memry")(root)
    monkeypatch.setenv(FUNCTIONS, str(root))
    for kept in (catalogue.rules, catalogue.routes):
        kept.cache_clear()
    yield root
    for kept in (catalogue.rules, catalogue.routes):
        kept.cache_clear()


def test_nothing_is_rendered(wrong: Path) -> None:
    with pytest.raises(ValueError, match="raise-memry"):
        manifests(wrong)


def test_no_function_starts(wrong: Path) -> None:
    with pytest.raises(ValueError, match="raise-memry"):
        loading.new("govern/clock")
    assert wrong.exists()


def test_the_local_host_does_not_start(wrong: Path) -> None:
    with pytest.raises(ValueError, match="raise-memry"):
        host.Host("postgresql://nobody@127.0.0.1:1/nothing", lambda _: None, Policy())  # type: ignore[arg-type,return-value]
    assert wrong.exists()


@pytest.mark.parametrize("command", [["scan"], ["replay", "detect/crash"]])
def test_scan_and_replay_say_it_and_exit_2(command: list[str], wrong: Path) -> None:
    done = CliRunner().invoke(main, [command[0], *(str(wrong / one) for one in command[1:])])
    assert done.exit_code == 2
    assert "names the action raise-memry, which there is not." in done.output


def test_without_the_check_a_wrong_rule_is_read(wrong: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: each file alone is in order."""
    monkeypatch.setattr(checking, "_faults_of_rule", lambda *_: iter(()))
    check(wrong)
    assert len(load_rules(wrong)) == len(load_rules(functions_folder()))
