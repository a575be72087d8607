"""A class that has no Event is found by sweep and scan alike, by what its rule's `sweep` says."""

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from quietpager.render import manifests
from quietpager.rules.looking import Look
from quietpager.runtime.checking import check
from quietpager.runtime.context import BUILT_IN, FUNCTIONS, function_roots, functions_folder

NOW = datetime(2026, 11, 22, 19, 0, 0, tzinfo=UTC)
CASE = functions_folder() / "ingest/intake/cases/25-healthy-pulled"
POD = {
    "metadata": {"name": "a", "deletionTimestamp": "2026-11-22T18:00:00Z", "labels": {"a": "1"}},
    "spec": {"priority": 5, "hostNetwork": True},
    "status": {
        "phase": "Running",
        "conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-22T18:59:50Z"},
            {"type": "Initialized", "status": "True", "lastTransitionTime": "2026-11-22T18:00:00Z"},
        ],
        "size": "2Gi",
    },
}
RULE = """\
family: stuck
sweep:
  - {kind: Pod, where: {metadata.deletionTimestamp: {older_than: 600}}}
classes:
  stuck_terminating: {autonomy: alert, dwell: {restarts: 0, seconds: 0}}
"""
DIAGNOSE = '''"""Which pod does not end?"""

from quietpager.model.finding import Diagnosis, Evidence, Healthy, Verdict
from quietpager.model.signal import Signal
from quietpager.objects.live import Live


def diagnose(_signal: Signal, live: Live) -> Verdict:
    """Judge whether the pod is on its way out."""
    if live.pod is None or live.owner is None or not live.pod.leaving:
        return Healthy(why="it is not on its way out")
    return Diagnosis(
        failure_class="stuck_terminating",
        cause=f"workload:{live.owner.identity}",
        owner=live.owner,
        evidence=(Evidence(text="it does not end", source="the pod"),),
        restarts=0,
        since=live.now,
    )
'''
SCRIPT = """
import json, sys
from datetime import datetime
from pathlib import Path
from quietpager.cli.catalogue import routes
from quietpager.cli.scan import scan
from quietpager.cluster.recorded import Recorded
from quietpager.runtime.sweeping import find
from quietpager.incident.policy import Policy
now = datetime.fromisoformat(sys.argv[2])
reader = Recorded(Path(sys.argv[1]))
swept = [(one.family, one.target.kind, one.target.name) for one in find(reader, routes(), now)]
scanned = [row.failure_class for row in scan(reader, None, Policy(), now).rows]
print(json.dumps([swept, scanned]))
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "mine/detect/stuck"
    folder.mkdir(parents=True)
    (folder / "rule.yaml").write_text(RULE, encoding="utf-8")
    (folder / "diagnose.py").write_text(DIAGNOSE, encoding="utf-8")
    spec = (functions_folder() / "detect/crash/func.yaml").read_text(encoding="utf-8")
    (folder / "func.yaml").write_text(spec.replace("crash", "stuck"), encoding="utf-8")
    monkeypatch.setenv(FUNCTIONS, f"{BUILT_IN}{os.pathsep}{tmp_path / 'mine'}")
    return folder


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A healthy workload of which one pod is told to end, and no Event says anything."""
    folder = tmp_path / "case"
    shutil.copytree(CASE, folder)
    [path] = (folder / "objects").glob("*-pod.json")
    pod = json.loads(path.read_text())
    pod["metadata"]["deletionTimestamp"] = "2026-11-22T18:00:00Z"
    path.write_text(json.dumps(pod))
    return folder


def looked(case: Path, now: datetime = NOW) -> tuple[list[Any], list[str]]:
    command = [sys.executable, "-c", SCRIPT, str(case), now.isoformat()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    swept, scanned = json.loads(done.stdout)
    return swept, scanned


def test_a_class_without_an_event_is_found_by_sweep_and_scan(own: Path, case: Path) -> None:
    swept, scanned = looked(case)
    [(family, kind, _name)] = swept
    assert (family, kind, scanned) == ("stuck", "Pod", ["stuck_terminating"])
    assert own.exists()


def test_what_does_not_meet_the_conditions_is_not_looked_at(own: Path, case: Path) -> None:
    assert looked(case, datetime(2026, 11, 22, 18, 5, tzinfo=UTC)) == ([], [])
    assert looked(CASE) == ([], [])
    assert own.exists()


def test_without_the_rules_sweep_nothing_finds_it(own: Path, case: Path) -> None:
    """The mutant: the same rule and the same detector."""
    text = RULE.replace(RULE.partition("sweep:")[2].partition("classes:")[0], " []\n")
    (own / "rule.yaml").write_text(text, encoding="utf-8")
    assert looked(case) == ([], [])


def test_the_sweep_may_list_what_a_rule_looks_at(own: Path) -> None:
    def lists() -> set[str]:
        rendered = {(one["kind"], one["metadata"]["name"]): one for one in manifests(function_roots())}
        role = rendered["ClusterRole", "quietpager-ingest-sweep-read"]
        return {name for rule in role["rules"] if "list" in rule["verbs"] for name in rule["resources"]}

    before = lists()
    (own / "rule.yaml").write_text(RULE.replace("kind: Pod", "kind: ReplicaSet"), encoding="utf-8")
    assert lists() - before == {"replicasets"}


def test_the_sweep_looks_at_no_other_kind(own: Path) -> None:
    (own / "rule.yaml").write_text(RULE.replace("kind: Pod", "kind: ConfigMap"), encoding="utf-8")
    with pytest.raises(ValueError, match=r"line 3: the sweep looks at .*, and not at ConfigMap"):
        check(function_roots())


READY = {"type": "Ready", "status": ["False", "Unknown"]}


@pytest.mark.parametrize(
    ("look", "found"),
    [
        ({"where": {"status.phase": "Running"}}, True),
        ({"where": {"status.phase": ["Failed", "Running"]}}, True),
        ({"where": {"status.phase": "Failed"}}, False),
        ({"where": {"status.phase": "Running", "metadata.name": "b"}}, False),
        ({"where": {"status.nothing": {"exists": False}}}, True),
        ({"where": {"status.phase": {"exists": False}}}, False),
        ({"where": {"status.phase.deeper": "Running"}}, False),
        ({"where": {"spec.priority": {"at_least": 5, "at_most": 5}}}, True),
        ({"where": {"spec.priority": {"at_least": 6}}}, False),
        ({"where": {"status.size": {"at_least": "1Gi"}}}, True),
        ({"where": {"status.phase": {"at_least": 1}}}, False),
        ({"where": {"spec.hostNetwork": True}}, True),
        ({"where": {"spec.hostNetwork": 1}}, False),
        ({"each": "status.conditions", "where": READY}, True),
        ({"each": "status.conditions", "where": READY | {"lastTransitionTime": {"older_than": 30}}}, False),
        ({"each": "status.phase", "where": {"type": "Ready"}}, False),
        ({"each": "status.nothing", "where": {"type": {"exists": False}}}, False),
    ],
)
def test_a_condition_means_what_it_says(look: dict[str, Any], found: bool) -> None:
    assert Look.model_validate({"kind": "Pod"} | look).found_in(POD, NOW) is found


@pytest.mark.parametrize(
    "look",
    [
        {"where": {}}, {"where": {"a..b": 1}}, {"where": {"": 1}}, {"where": {"a": []}}, {"where": {"a": {}}},
        {"where": {"a": {"older_than": -1}}}, {"where": {"a": {"at_least": "much"}}},
        {"where": {"a": {"newer_than": 1}}}, {"where": {"a": 1}, "which": "b"},
    ],
)  # fmt: skip
def test_what_is_no_condition_is_refused(look: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Look.model_validate({"kind": "Pod"} | look)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2),
)


@given(VALUES)
def test_any_object_is_judged(value: Any) -> None:
    for wanted in ("x", ["x", 1], {"at_least": 1}, {"older_than": 1}, {"exists": True}):
        for each in ("", "a"):
            look = Look.model_validate({"kind": "Pod", "each": each, "where": {"a.b": wanted, "a": wanted}})
            assert look.found_in({"a": value}, NOW + timedelta(0)) in (True, False)
