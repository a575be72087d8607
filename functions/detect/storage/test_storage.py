"""The recorded cases of this family, judged by the code that runs in the functions."""

import json
from importlib import import_module
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from tests.cases import judged_as_expected

CASES = sorted((Path(__file__).parent / "cases").iterdir())

# By name, for a function may not depend on infra; only its test asks replay.
replay = import_module("quietpager.cli.replay").replay


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_case_is_judged_as_expected(case: Path) -> None:
    answer = judged_as_expected(case)
    assert answer["evidence"]


def edited(tmp_path: Path, phase: str | None, **event: Any) -> dict[str, Any]:
    """Answer for the recorded case with its claim in another phase (None: gone), and another Event."""
    case = tmp_path / "case"
    copytree(CASES[0], case)
    claim = case / "objects" / "03-persistentvolumeclaim.json"
    if phase is None:
        claim.unlink()
    else:
        claim.write_text(json.dumps(json.loads(claim.read_text()) | {"status": {"phase": phase}}))
    path = case / "event.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | event))
    [answer] = replay([case])
    return dict(answer)


def of_the_pod() -> dict[str, Any]:
    """Make the scheduler's Event about the recorded pod, as it was recorded."""
    related = json.loads((CASES[0] / "related_events.json").read_text())
    found = related if isinstance(related, list) else related["items"]
    return next(dict(event) for event in found if event["reason"] == "FailedScheduling")


def test_the_schedulers_event_leads_here_and_not_to_a_request(tmp_path: Path) -> None:
    answer = edited(tmp_path, "Pending", **of_the_pod())
    assert (answer["family"], answer["failure_class"]) == ("storage", "pvc_unbound")
    assert answer["remedies"] == []


def test_a_claim_that_does_not_exist(tmp_path: Path) -> None:
    answer = edited(tmp_path, None, **of_the_pod())
    assert answer["failure_class"] == "pvc_unbound"
    assert "does not exist" in answer["evidence"][0]["text"]


def test_what_is_bound_meanwhile_is_no_fault_whatever_the_event_says(tmp_path: Path) -> None:
    assert edited(tmp_path, "Bound")["failure_class"] == "benign_no_action"


def test_a_pending_claim_that_no_pod_waits_for_is_no_fault(tmp_path: Path) -> None:
    case = tmp_path / "alone"
    copytree(CASES[0], case)
    (case / "objects" / "00-pod.json").unlink()
    [answer] = replay([case])
    assert answer["failure_class"] == "benign_no_action"
