"""The recorded cases that belong to no detector: benign ones, and ones nobody knows yet."""

from importlib import import_module
from pathlib import Path

import pytest

from quietpager.model.yaml import read_yaml

CASES = sorted((Path(__file__).parent / "cases").iterdir())

# By name, for a function may not depend on infra; only its test asks replay.
replay = import_module("infra.cli.replay").replay


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_case_is_benign_or_unknown_and_nothing_is_done(case: Path) -> None:
    expected = read_yaml(case / "expected.yaml")
    [answer] = replay([case])
    benign = "benign_no_action" in expected["acceptable_classes"]
    assert answer["failure_class"] == ("benign_no_action" if benign else "unknown")
    proposed = {remedy["action"] for remedy in answer["remedies"]} | set(answer["would_act"])
    assert not proposed & set(expected["forbidden"])
    assert set(expected["must_act"]) <= set(answer["would_act"])
