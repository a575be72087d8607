"""The recorded cases of this family, judged by the code that runs in the functions."""

from importlib import import_module
from pathlib import Path

import pytest

from quietpager.model.yaml import read_yaml

CASES = sorted((Path(__file__).parent / "cases").iterdir())

# By name, for a function may not depend on infra; only its test asks replay.
replay = import_module("infra.cli.replay").replay


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_case_is_judged_as_expected(case: Path) -> None:
    expected = read_yaml(case / "expected.yaml")
    [answer] = replay([case])
    assert answer["failure_class"] in expected["acceptable_classes"]
    proposed = {remedy["action"] for remedy in answer["remedies"]} | set(answer["would_act"])
    assert not proposed & set(expected["forbidden"])
    assert set(expected["must_act"]) <= set(answer["would_act"])
    assert answer["evidence"]
