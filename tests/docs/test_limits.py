"""The README's limits are true: each has a check, and a limit that is gone makes its check fail."""

import re
from collections.abc import Callable, Mapping
from typing import Final, get_args

import pytest

from infra.docs import ROOT
from quietpager.actions.schema import load_actions
from quietpager.cli.main import main
from quietpager.people.channels import Setting
from quietpager.runtime.context import functions_folder
from tests.docs.test_readme import README

NUMBERS: Final = [
    "No",
    "One",
    "Two",
    "Three",
    "Four",
    "Five",
    "Six",
    "Seven",
    "Eight",
    "Nine",
    "Ten",
    "Eleven",
    "Twelve",
    "Thirteen",
    "Fourteen",
]
REQUIREMENTS: Final = (ROOT / "requirements/dev.txt").read_text(encoding="utf-8")
ACTIONS: Final = load_actions(functions_folder())


def families() -> list[str]:
    return sorted(path.parent.name for path in ROOT.glob("functions/detect/*/rule.yaml"))


def only_deployments() -> bool:
    owners = {kind for one in ACTIONS.values() if one.write for kind in one.applies_to}
    return owners == {"Deployment"}


def named(sentence: str, names: list[str]) -> Callable[[], bool]:
    """Give the check that a sentence counts and names exactly these."""
    return lambda: f"**{NUMBERS[len(names)]} {sentence}:** {', '.join(names)}." in flat(README)


def flat(text: str) -> str:
    return " ".join(text.split())


def writes() -> set[tuple[str, str]]:
    rules = [rule for one in ACTIONS.values() for rule in one.write]
    return {(verb, resource) for rule in rules for verb in rule.verbs for resource in rule.resources}


def channels() -> list[str]:
    kinds = get_args(Setting)[0]
    return sorted(get_args(one.model_fields["kind"].annotation)[0] for one in get_args(kinds))


def no(*paths: str) -> bool:
    return not any((ROOT / path).exists() for path in paths)


BY_HAND: Final = {
    "No production cluster yet.",
    "A proposal edits plain manifests only.",
    "The API server limits what an action may write, not how often.",
    "The database does not tell the functions apart yet.",
}
"""What code cannot tell; whoever changes it, changes the sentence."""

CHECKS: Final[Mapping[str, Callable[[], bool]]] = {
    "Only Deployments are changed.": only_deployments,
    "Five families of failures are detected:": named("families of failures are detected", families()),
    "Four actions exist:": named("actions exist", sorted(ACTIONS)),
    "No action removes pods or marks nodes yet.": lambda: writes() == {("patch", "deployments")},
    "No language model is used.": lambda: (
        not re.search(r"^(openai|anthropic|litellm|ollama)", REQUIREMENTS, re.MULTILINE)
    ),
    "No rule is drafted from incidents yet.": lambda: (
        no("shared/quietpager/learning/drafting.py") and "draft" not in main.commands
    ),
    "People are reached on three channels:": lambda: (
        f"three channels:** {', '.join(channels())}." in flat(README)
    ),
    "Nothing is published:": lambda: no("infra/helm", "charts", "infra/charts"),
}


def limits() -> list[str]:
    section = README.split("## Limits\n")[1].split("\n## ")[0]
    return re.findall(r"^- \*\*(.+?)\*\*", section, re.MULTILINE)


def test_every_limit_has_a_check_or_is_kept_by_hand() -> None:
    assert sorted(limits()) == sorted({*CHECKS, *BY_HAND})


@pytest.mark.parametrize("limit", CHECKS)
def test_the_limit_is_still_there(limit: str) -> None:
    assert CHECKS[limit](), f"The README says {limit!r}, and that is not so any more."


def test_a_limit_that_is_gone_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    one = ACTIONS["raise-memory"]
    monkeypatch.setitem(
        ACTIONS, "raise-memory", one.model_copy(update={"applies_to": ("Deployment", "StatefulSet")})
    )
    assert not CHECKS["Only Deployments are changed."]()
    assert not named("families of failures are detected", [*families(), "probe"])()
