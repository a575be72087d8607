"""The recorded cases that belong to no detector: benign ones, and ones nobody knows yet."""

import json
from importlib import import_module
from pathlib import Path

import pytest

from quietpager.model.yaml import read_yaml
from quietpager.objects.types import Pod

CASES = sorted((Path(__file__).parent / "cases").iterdir())

# By name, for a function may not depend on infra or on another function; only its test asks them.
replay = import_module("quietpager.cli.replay").replay
reason_of = import_module("quietpager.runtime.sweeping").reason_of


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_case_is_benign_or_unknown_and_nothing_is_done(case: Path) -> None:
    expected = read_yaml(case / "expected.yaml")
    [answer] = replay([case])
    benign = "benign_no_action" in expected["acceptable_classes"]
    assert answer["failure_class"] == ("benign_no_action" if benign else "unknown")
    proposed = {remedy["action"] for remedy in answer["remedies"]} | set(answer["would_act"])
    assert not proposed & set(expected["forbidden"])
    assert set(expected["must_act"]) <= set(answer["would_act"])


BENIGN = [
    case for case in CASES if "benign_no_action" in read_yaml(case / "expected.yaml")["acceptable_classes"]
]


@pytest.mark.parametrize("case", BENIGN, ids=lambda case: case.name)
def test_the_sweep_finds_nothing_in_what_is_benign(case: Path) -> None:
    raw = (json.loads(path.read_bytes()) for path in (case / "objects").glob("*-pod.json"))
    for pod in map(Pod.read, raw):
        assert [reason_of(pod, one) for one in pod.containers] == [None] * len(pod.containers)
