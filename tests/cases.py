"""What a recorded case promises, in one place. Who calls it: the tests of the detectors' folders."""

from pathlib import Path

from infra.cli.replay import replay
from quietpager.cluster.port import Json
from quietpager.model.yaml import read_yaml


def judged_as_expected(case: Path) -> Json:
    """Replay a case and hold the answer against its `expected.yaml`; gives the answer."""
    expected = read_yaml(case / "expected.yaml")
    [answer] = replay([case])
    assert answer["failure_class"] in expected["acceptable_classes"], answer
    proposed = {remedy["action"] for remedy in answer["remedies"]} | set(answer["would_act"])
    assert not proposed & set(expected["forbidden"]), answer
    assert set(expected["must_act"]) <= set(answer["would_act"]), answer
    return answer
