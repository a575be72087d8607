"""The recorded cases of this family, judged by the code that runs in the functions."""

import json
from importlib import import_module
from pathlib import Path
from shutil import copytree

import pytest

from tests.cases import judged_as_expected

CASES = sorted((Path(__file__).parent / "cases").iterdir())

# By name, for a function may not depend on infra; only its test asks replay.
replay = import_module("quietpager.cli.replay").replay


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_case_is_judged_as_expected(case: Path) -> None:
    answer = judged_as_expected(case)
    assert answer["evidence"]


def said_only_137(case: Path, pods: int, restarts: int) -> None:
    """Make the first pods of a case look as when the runtime told of the exit, but not of the OOM kill."""
    for path in sorted((case / "objects").glob("*-pod.json"))[:pods]:
        pod = json.loads(path.read_text())
        for container in pod["status"]["containerStatuses"]:
            container["restartCount"] = restarts
            for state in (container["state"], container["lastState"]):
                if "terminated" in state:
                    state["terminated"]["reason"] = "Error"
        path.write_text(json.dumps(pod))


@pytest.mark.parametrize(
    ("pods", "restarts", "expected"),
    [
        pytest.param(1, 2, "oom_killed", id="a sibling was killed for memory"),
        pytest.param(2, 1, "unknown", id="nobody knows yet"),
        pytest.param(2, 3, "crashloop_app_error", id="it would be known by now"),
    ],
)
def test_a_kill_that_is_not_yet_known_to_be_for_memory(
    tmp_path: Path, pods: int, restarts: int, expected: str
) -> None:
    bounded = next(case for case in CASES if "oom-bounded" in case.name)
    case = tmp_path / bounded.name
    copytree(bounded, case)
    event = json.loads((case / "event.json").read_text())
    first = json.loads((case / "objects" / "00-pod.json").read_text())
    event["involvedObject"]["name"] = first["metadata"]["name"]
    event["involvedObject"].pop("uid")
    (case / "event.json").write_text(json.dumps(event))
    said_only_137(case, pods, restarts)
    [answer] = replay([case])
    assert answer["failure_class"] == expected
    assert answer["would_act"] == (["raise-memory"] if expected == "oom_killed" else [])
