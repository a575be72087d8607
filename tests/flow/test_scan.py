"""`quietpager scan` over HTTP on a sandbox cluster: one row a cause, no row for what is well, and rights."""

import json
import os
import subprocess
import sys
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner, Result

from quietpager.cli.main import main
from quietpager.cluster.client import connect
from quietpager.incident.policy import POLICY_FILE
from quietpager.model.time import system_clock
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.load import load_case, read_case
from quietpager.sandbox.server import running
from tests.flow.many import many_ooms

Json = dict[str, Any]

FAULTS = {
    "Deployment team-45/cache": ("oom_killed", "detect/crash/cases/30-oom-bounded"),
    "Deployment team-43/web": ("image_pull_not_found", "detect/image/cases/32-bad-tag-new-revision"),
    "Deployment team-22/app": ("image_pull_auth", "detect/image/cases/12-imagepull-private"),
    "Deployment team-13/app": ("crashloop_app_error", "detect/crash/cases/03-crashloop"),
    "Deployment team-30/app": ("container_start_error", "detect/crash/cases/20-run-error"),
}
CASES = sorted(
    p
    for family in ("crash", "image", "config", "scheduling", "storage")
    for p in (functions_folder() / "detect" / family).glob("cases/*")
)
HEALTHY = "ingest/intake/cases/25-healthy-pulled"


def post(url: str, path: str, body: object) -> None:
    request = urllib.request.Request(
        f"{url}/sandbox/{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    urllib.request.urlopen(request, timeout=20).close()


@pytest.fixture
def url() -> Iterator[str]:
    """A sandbox whose kubelet is too slow to change anything meanwhile."""
    with running(speed=0.001) as address:
        yield address


@pytest.fixture
def kubeconfig(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where it is, and a policy that names every namespace."""
    policy = tmp_path / "policy.yaml"
    policy.write_text('namespaces: {allow: ["*"]}\n', encoding="utf-8")
    monkeypatch.setenv(POLICY_FILE, str(policy))
    return write_kubeconfig(tmp_path / "config", url)


def write_kubeconfig(path: Path, url: str) -> Path:
    body = {
        "clusters": [{"name": "c", "cluster": {"server": url}}],
        "contexts": [
            {"name": "x", "context": {"cluster": "c", "user": "u"}},
            {"name": "away", "context": {"cluster": "nowhere", "user": "u"}},
        ],
        "users": [{"name": "u", "user": {"token": "t"}}],
        "current-context": "x",
    }
    path.write_text(json.dumps(body), encoding="utf-8")
    return path


def scan(kubeconfig: Path, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["scan", "--kubeconfig", str(kubeconfig), *arguments])


def report(kubeconfig: Path, *arguments: str) -> Json:
    done = scan(kubeconfig, "--json", *arguments)
    assert done.exit_code == 0, done.output
    found: Json = json.loads(done.output)
    return found


def load(url: str, *cases: str) -> None:
    for case in cases:
        load_case(url, functions_folder() / case, system_clock())


def writes(url: str) -> list[Json]:
    with urllib.request.urlopen(f"{url}/sandbox/audit", timeout=5) as answer:
        found: list[Json] = json.load(answer)
    return found


def test_one_row_for_each_fault_and_none_for_what_is_well(url: str, kubeconfig: Path) -> None:
    load(url, HEALTHY, *(case for _, case in FAULTS.values()))
    found = report(kubeconfig)
    assert {row["owners"][0]: row["failure_class"] for row in found["rows"]} == {
        owner: name for owner, (name, _) in FAULTS.items()
    }
    assert len(found["rows"]) == len(FAULTS)
    assert (found["unknown"], found["undecided"], found["missing"]) == ([], [], [])
    assert writes(url) == []


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_recorded_case_is_one_row_of_its_class(url: str, kubeconfig: Path, case: Path) -> None:
    load_case(url, case, system_clock())
    classes = yaml.safe_load((case / "expected.yaml").read_text(encoding="utf-8"))["acceptable_classes"]
    found = [row["failure_class"] for row in report(kubeconfig)["rows"]]
    if "benign_no_action" in classes:
        assert found == []
    else:
        assert len(found) == 1
        assert set(found) <= set(classes)


def test_a_row_says_how_many_pods_what_it_would_do_and_why(url: str, kubeconfig: Path) -> None:
    load(url, FAULTS["Deployment team-45/cache"][1])
    [row] = report(kubeconfig)["rows"]
    assert len(row["pods"]) == 2
    assert row["remedy"] == {"action": "raise-memory", "params": {"factor": 2, "ceiling": "4Gi"}}
    assert {edit["gets"] for edit in row["edits"]} == {"64Mi", "32Mi"}
    assert row["held"] is None
    assert "killed for memory under a limit of 32Mi" in row["why"]
    text = scan(kubeconfig).output
    assert "raise memory of Deployment team-45/cache: cache 32Mi -> 64Mi" in text
    assert "why   cache in cache-" in text
    assert "1 causes, 2 pods" in text


def test_what_holds_it_back_is_said(url: str, kubeconfig: Path) -> None:
    case = read_case(functions_folder() / FAULTS["Deployment team-45/cache"][1], system_clock())
    post(url, "load", {"objects": case.objects, "enabled": False})
    [row] = report(kubeconfig)["rows"]
    no_label = "Namespace team-45 has no label quietpager.dev/enabled=true; the policy names it."
    assert row["held"] == f"Guard 2 (protected): {no_label}"


def test_without_a_policy_every_row_says_that_the_namespace_is_not_named(
    url: str, kubeconfig: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(url, FAULTS["Deployment team-45/cache"][1])
    monkeypatch.delenv(POLICY_FILE)
    [row] = report(kubeconfig)["rows"]
    assert str(row["held"]).startswith(
        "Guard 2 (protected): The policy's `namespaces` does not let team-45 be"
    )


def test_a_healthy_cluster_says_how_much_was_looked_at(url: str, kubeconfig: Path) -> None:
    load(url, HEALTHY)
    done = scan(kubeconfig)
    assert done.exit_code == 0
    assert done.output.startswith("Nothing found; looked at ")
    assert report(kubeconfig)["looked_at"]["Pod"] > 0


def test_a_namespace_is_kept_to(url: str, kubeconfig: Path) -> None:
    load(url, HEALTHY, *(case for _, case in FAULTS.values()))
    found = report(kubeconfig, "--namespace", "team-43")
    assert [row["owners"] for row in found["rows"]] == [["Deployment team-43/web"]]
    assert found["rows"][0]["remedy"]["action"] == "rollout-undo"
    for more in ((), ("--json",)):
        done = scan(kubeconfig, "-n", "nowhere", *more)
        assert (done.exit_code, "There is no namespace nowhere." in done.output) == (2, True)


def test_unhealthy_pods_of_no_family_are_counted(url: str, kubeconfig: Path) -> None:
    load(url, HEALTHY)
    pods = connect(url, manager="t").list("Pod")
    odd = pods[0] | {"metadata": {**pods[0]["metadata"], "name": "odd", "uid": "odd", "ownerReferences": []}}
    waiting = {"waiting": {"reason": "CreateContainerConfigError", "message": "configmap not found"}}
    status = {
        "name": pods[0]["spec"]["containers"][0]["name"],
        "image": "i",
        "imageID": "",
        "restartCount": 0,
    }
    odd["status"] = {"phase": "Pending", "containerStatuses": [status | {"ready": False, "state": waiting}]}
    post(url, "load", {"objects": [odd], "enabled": True})
    found = report(kubeconfig)
    assert (found["rows"], found["unknown"]) == ([], [f"Pod {odd['metadata']['namespace']}/odd"])
    assert "1 pod is (" in scan(kubeconfig).output
    assert "no family knows why" in scan(kubeconfig).output


@pytest.mark.parametrize(
    ("resource", "kind", "name"),
    [("replicasets", "ReplicaSet", "replicasets.apps"), ("deployments", "Deployment", "deployments.apps")],
)
def test_without_a_right_the_rest_is_looked_at(
    url: str, kubeconfig: Path, resource: str, kind: str, name: str
) -> None:
    load(url, HEALTHY, FAULTS["Deployment team-45/cache"][1])
    post(url, "forbid", [{"verb": "list", "resource": resource}])
    found = report(kubeconfig)
    assert [row["failure_class"] for row in found["rows"]] == ["oom_killed"]
    assert found["rows"][0]["remedy"] is None
    assert [one["kind"] for one in found["missing"]] == [kind]
    sentence = (
        f"These credentials may not list {name} in the whole cluster (403); the ClusterRole `view` has it."
    )
    assert sentence in scan(kubeconfig).output


def test_a_plan_that_may_not_be_made_is_not_made_up(url: str, kubeconfig: Path) -> None:
    """Without the nodes nobody knows whether it fits: not "the largest node has 0"."""
    load(url, FAULTS["Deployment team-45/cache"][1])
    post(url, "forbid", [{"verb": "list", "resource": "nodes"}])
    found = report(kubeconfig)
    [row] = found["rows"]
    assert row["would"] == "raise-memory factor=2.0 ceiling=4Gi; its plan cannot be made, see below"
    assert row["edits"] == []
    assert "--resource=nodes" in found["missing"][0]["sentence"]


@pytest.mark.parametrize("more", [(), ("--json",)])
def test_where_nothing_may_be_read_that_is_no_success(
    url: str, kubeconfig: Path, more: tuple[str, ...]
) -> None:
    resources = ("pods", "deployments", "replicasets")
    post(url, "forbid", [{"verb": "list", "resource": one} for one in resources])
    done = scan(kubeconfig, *more)
    assert (done.exit_code, "Nothing could be read" in done.output) == (2, True)


def test_without_pods_nothing_is_said_to_be_well(url: str, kubeconfig: Path) -> None:
    post(url, "forbid", [{"verb": "list", "resource": "pods"}])
    done = scan(kubeconfig, "--namespace", "default")
    assert done.exit_code == 0
    assert "may not list pods in namespace default (403)" in done.output
    assert "Nothing could be looked at" in done.output
    assert "Nothing found" not in done.output


def test_a_cluster_that_cannot_be_read_is_one_sentence_and_2(tmp_path: Path, url: str) -> None:
    broken = tmp_path / "broken"
    broken.write_text("users: [", encoding="utf-8")
    good = write_kubeconfig(tmp_path / "good", url)
    nowhere = write_kubeconfig(tmp_path / "nowhere", "http://127.0.0.1:9")
    wrong = [
        (scan(tmp_path / "none"), "there is no such file"),
        (scan(broken), "is no kubeconfig"),
        (scan(nowhere), "http://127.0.0.1:9 cannot be read: the API server gave no answer"),
        (scan(good, "--context", "other"), "other"),
        (scan(good, "--context", "away"), "nowhere"),
    ]
    for done, words in wrong:
        assert done.exit_code == 2, done.output
        assert words in done.output
        assert len(done.output.splitlines()) == 1, done.output
    post(url, "forbid", [{"verb": "authenticate", "resource": "users"}])
    done = scan(good)
    assert (done.exit_code, len(done.output.splitlines())) == (2, 1)
    assert "has expired" in done.output


def test_without_rules_nothing_is_said_to_be_well(kubeconfig: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "quietpager.cli.main", "scan", "--kubeconfig", str(kubeconfig)]
    env = os.environ | {"QUIETPAGER_FUNCTIONS": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=50, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == f"There is no rule in {tmp_path}, so nothing could be found.\n"


def test_500_failing_pods_take_no_request_each(url: str, kubeconfig: Path) -> None:
    """Every GET of what is listed anyway is forbidden here. How long it takes, `make bench` says."""
    post(url, "load", {"objects": many_ooms(500), "enabled": True})
    post(url, "forbid", [{"verb": "get", "resource": one} for one in ("pods", "deployments", "replicasets")])
    rows = report(kubeconfig)["rows"]
    assert Counter(row["failure_class"] for row in rows) == {"oom_killed": 250}
    assert sum(len(row["pods"]) for row in rows) == 500
    assert all(row["edits"] for row in rows)
