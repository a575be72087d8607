"""The recorded cases of this family, judged by the code that runs in the functions."""

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from tests.cases import judged_as_expected

Json = dict[str, Any]
CASES = sorted((Path(__file__).parent / "cases").iterdir())

# By name, for a function may not depend on infra; only its test asks replay.
replay = import_module("quietpager.cli.replay").replay


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_case_is_judged_as_expected(case: Path) -> None:
    answer = judged_as_expected(case)
    assert answer["evidence"]


def edited(tmp_path: Path, message: str = "", nodes: Iterable[Json] = (), **pod: Json) -> Json:
    """Answer for the recorded case with another message of the scheduler, other nodes, another spec."""
    case = tmp_path / "case"
    copytree(CASES[0], case)
    path = case / "objects" / "00-pod.json"
    raw = json.loads(path.read_text())
    for condition in raw["status"]["conditions"]:
        condition["message"] = message or condition["message"]
        condition.update(pod.pop("condition", {}))
    raw["spec"] |= pod
    path.write_text(json.dumps(raw))
    plain = json.loads((case / "objects" / "03-node.json").read_text())
    for number, node in enumerate(nodes):
        one = plain | {"metadata": plain["metadata"] | {"name": f"n{number}"}, "spec": node.get("spec", {})}
        one["status"] = plain["status"] | {"allocatable": node["allocatable"]}
        (case / "objects" / f"03-node-{number}.json").write_text(json.dumps(one))
    [answer] = replay([case])
    return dict(answer)


LARGE = {"memory": "64Gi", "cpu": "8"}
SMALL = {"memory": "1Gi", "cpu": "1"}
DEDICATED = {"taints": [{"key": "dedicated", "effect": "NoSchedule"}]}
SICK = {"taints": [{"key": "node.kubernetes.io/not-ready", "effect": "NoExecute"}]}
TAIL = ". no new claims to deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful."


@pytest.mark.parametrize(
    ("reasons", "node", "failure_class"),
    [
        ("2 Insufficient memory", SMALL, "unschedulable_resources"),
        ("1 Insufficient cpu, 1 Too many pods", SMALL, "unschedulable_resources"),
        ("2 node(s) had untolerated taint(s)", LARGE | DEDICATED, "unschedulable_taint"),
        ("2 node(s) had untolerated taint {dedicated: gpu}", LARGE | DEDICATED, "unschedulable_taint"),
        ("2 node(s) had untolerated taint(s)", LARGE | SICK, "unschedulable_cordoned"),
        ("2 node(s) had untolerated taint {node.kubernetes.io/not-ready: }", LARGE, "unschedulable_cordoned"),
        ("2 node(s) were unschedulable", LARGE, "unschedulable_cordoned"),
        ("2 node(s) didn't match Pod's node affinity/selector", LARGE, "unschedulable_affinity"),
        ("2 node(s) didn't match pod topology spread constraints", LARGE, "unschedulable_affinity"),
        ("1 node(s) had volume node affinity conflict, 1 Insufficient memory", LARGE, "unschedulable_volume"),
        ("1 Insufficient memory, 1 node(s) had untolerated taint(s)", LARGE | DEDICATED,
         "unschedulable_taint"),
        ("1 Insufficient memory, 1 node(s) had untolerated taint(s)", SMALL | DEDICATED,
         "unschedulable_resources"),
        ("1 Insufficient memory, 1 node(s) were unschedulable", LARGE | {"unschedulable": True},
         "unschedulable_cordoned"),
    ],
)  # fmt: skip
def test_the_schedulers_reasons_make_the_class(
    tmp_path: Path, reasons: str, node: Json, failure_class: str
) -> None:
    allocatable = {name: node[name] for name in ("memory", "cpu")}
    spec = {name: value for name, value in node.items() if name not in allocatable}
    one = {"allocatable": allocatable, "spec": spec}
    answer = edited(tmp_path, f"0/2 nodes are available: {reasons}{TAIL}", [one])
    assert answer["failure_class"] == failure_class


def test_a_request_is_lowered_only_where_no_node_at_all_could_hold_it(tmp_path: Path) -> None:
    assert [r["action"] for r in edited(tmp_path / "a")["remedies"]] == ["set-requests"]
    room = edited(tmp_path / "b", nodes=[{"allocatable": LARGE}])
    assert (room["failure_class"], room["remedies"]) == ("unschedulable_resources", [])
    tainted = edited(tmp_path / "c", nodes=[{"allocatable": LARGE, "spec": DEDICATED}])
    assert tainted["remedies"] == []


def test_even_at_autonomy_auto_nothing_would_be_done_without_a_person(tmp_path: Path) -> None:
    pod = json.loads((CASES[0] / "objects" / "00-pod.json").read_text())
    case = tmp_path / "old"
    copytree(CASES[0], case)
    pod["metadata"]["creationTimestamp"] = "2026-11-22T17:00:00Z"
    (case / "objects" / "00-pod.json").write_text(json.dumps(pod))
    [answer] = replay([case])
    assert answer["remedies"] == [{"action": "set-requests", "params": {"share": 0.5}, "autonomy": "approve"}]
    assert answer["would_act"] == []


@pytest.mark.parametrize(
    ("condition", "spec", "failure_class"),
    [
        pytest.param({"status": "True", "reason": ""}, {}, "benign_no_action", id="scheduled meanwhile"),
        pytest.param({"reason": "SchedulingGated"}, {}, "benign_no_action", id="held back on purpose"),
        pytest.param({"reason": "SchedulerError"}, {}, "unknown", id="the scheduler itself failed"),
        pytest.param({"message": "0/1 nodes are available: 1 is haunted."}, {}, "unknown", id="a new reason"),
        pytest.param({}, {"nodeName": "tb-node"}, "benign_no_action", id="it has a node"),
    ],
)
def test_the_live_condition_counts_whatever_the_event_says(
    tmp_path: Path, condition: Json, spec: Json, failure_class: str
) -> None:
    assert edited(tmp_path, condition=condition, **spec)["failure_class"] == failure_class
