"""A webhook injects a sidecar that fails, and the workload's new revision is blamed for it.

Whoever may register or edit a mutating webhook, or just its sidecar's image, changes what pods get and no
template. It shows first on the pods that start next, as a rule those of a rollout, while the old ones run on
without it. Taken for the revision's fault, the rollout would be undone: the new version is lost, and the pods
of the old one, which start next, get the same sidecar.
"""

import json
from pathlib import Path
from shutil import copytree
from typing import Any, Final

import pytest

from quietpager.cli.replay import replay
from quietpager.model.cluster import Json
from quietpager.objects.live import Live
from quietpager.runtime.context import functions_folder

CASES: Final = {
    "crash": functions_folder() / "detect/crash/cases/31-oom-new-revision",
    "image": functions_folder() / "detect/image/cases/32-bad-tag-new-revision",
}
FAILS: Final = {"crash": "oom_killed", "image": "image_pull_not_found"}


def containers(obj: Json) -> Any:
    spec = obj["spec"].get("template", obj)["spec"]
    return spec["containers"]


def with_injected(source: Path, folder: Path, *, native: bool = False, declared: bool = False) -> Path:
    """Copy a case whose new revision fails, so that a sidecar fails in its place.

    `declared`: the newest template has the sidecar, too, so the revision did bring it.
    """
    case = folder / source.name
    copytree(source, case)
    for path in sorted((case / "objects").glob("*.json")):
        obj = json.loads(path.read_text())
        statuses = obj.get("status", {}).get("containerStatuses", [])
        if obj["kind"] == "Pod" and any(not one["ready"] for one in statuses):
            _fails_in_a_sidecar(obj, native=native)
        elif obj["kind"] in {"ReplicaSet", "Deployment"} and declared and _is_newest(obj):
            obj["spec"]["template"]["spec"]["containers"].append({"name": "mesh", "image": "mesh:1"})
        path.write_text(json.dumps(obj))
    return case


def _is_newest(obj: Json) -> bool:
    return bool(obj["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "2")


def _fails_in_a_sidecar(pod: Json, *, native: bool) -> None:
    status, spec = pod["status"], pod["spec"]
    [failing] = status["containerStatuses"]
    well = {"name": failing["name"], "ready": True, "restartCount": 0, "image": "app",
            "state": {"running": {"startedAt": "2026-11-22T18:00:00Z"}}, "lastState": {}}  # fmt: skip
    sidecar = {"name": "mesh", "image": spec["containers"][0]["image"]}
    if native:
        spec["initContainers"] = [sidecar | {"restartPolicy": "Always"}]
        status["initContainerStatuses"] = [failing | {"name": "mesh"}]
        status["containerStatuses"] = [well]
    else:
        spec["containers"].append(sidecar)
        status["containerStatuses"] = [well, failing | {"name": "mesh"}]


def actions_of(case: Path) -> tuple[str, set[str]]:
    [answer] = replay([case])
    return answer["failure_class"], {one["action"] for one in answer["remedies"]} | set(answer["would_act"])


@pytest.mark.parametrize("native", [False, True])
@pytest.mark.parametrize("family", CASES)
def test_no_rollout_is_undone_for_an_injected_container(family: str, native: bool, tmp_path: Path) -> None:
    failure_class, actions = actions_of(with_injected(CASES[family], tmp_path, native=native))
    assert failure_class == FAILS[family]
    assert "rollout-undo" not in actions


@pytest.mark.parametrize("family", CASES)
def test_a_container_that_the_new_revision_brought_is_its_fault(family: str, tmp_path: Path) -> None:
    failure_class, actions = actions_of(with_injected(CASES[family], tmp_path, declared=True))
    assert failure_class == FAILS[family]
    assert "rollout-undo" in actions


@pytest.mark.parametrize("family", CASES)
def test_where_injected_containers_are_not_told_apart_the_rollout_is_undone(
    family: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant."""
    monkeypatch.setattr(Live, "injected_in", lambda _live, _pod: frozenset[str]())
    _, actions = actions_of(with_injected(CASES[family], tmp_path))
    assert "rollout-undo" in actions
