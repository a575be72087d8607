"""The recorded cases of this family, judged by the code that runs in the functions."""

import json
from collections.abc import Callable
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


def edited(name: str, tmp_path: Path, change: Callable[[Json, Json], None]) -> Json:
    """Answer for a recorded case whose pod and Event a test has changed."""
    case = tmp_path / "case"
    copytree(next(one for one in CASES if name in one.name), case)
    paths = case / "objects" / "00-pod.json", case / "event.json"
    pod, event = (json.loads(path.read_text()) for path in paths)
    change(pod, event)
    for path, obj in zip(paths, (pod, event), strict=True):
        path.write_text(json.dumps(obj))
    [answer] = replay([case])
    return dict(answer)


def says(message: str) -> Callable[[Json, Json], None]:
    """Let the kubelet's status and its Event say this of the container."""

    def change(pod: Json, event: Json) -> None:
        waiting = {"reason": "CreateContainerConfigError", "message": message}
        pod["status"]["containerStatuses"][0]["state"] = {"waiting": waiting}
        event["message"] = f"Error: {message}"

    return change


@pytest.mark.parametrize(
    ("message", "failure_class"),
    [
        ('configmap "a.b" not found', "config_missing_configmap"),
        ('secret "a" not found', "config_missing_secret"),
        ("couldn't find key x.y in ConfigMap team-12/a", "config_missing_configmap"),
        ("couldn't find key x in Secret team-12/a", "config_missing_secret"),
        ("container has runAsNonRoot and image will run as root", "security_context_rejected"),
        ("container's runAsUser breaks non-root policy", "security_context_rejected"),
        ("secret service is on fire", "unknown"),
    ],
)
def test_the_kubelets_words_make_the_class(tmp_path: Path, message: str, failure_class: str) -> None:
    assert edited("02-", tmp_path, says(message))["failure_class"] == failure_class


def test_the_status_counts_whatever_the_event_says(tmp_path: Path) -> None:
    def contradict(_pod: Json, event: Json) -> None:
        event["message"] = 'Error: secret "other" not found'

    answer = edited("02-", tmp_path, contradict)
    assert answer["failure_class"] == "config_missing_configmap"


def runs(pod: Json, _event: Json) -> None:
    [status] = pod["status"]["containerStatuses"]
    status |= {"state": {"running": {}}, "ready": True, "started": True}
    for condition in pod["status"]["conditions"]:
        condition["status"] = "True"


def refers_to_nothing(pod: Json, _event: Json) -> None:
    pod["spec"]["volumes"] = []


def is_optional(pod: Json, _event: Json) -> None:
    pod["spec"]["volumes"][0]["secret"]["optional"] = True


def has_its_volumes(pod: Json, _event: Json) -> None:
    for condition in pod["status"]["conditions"]:
        if condition["type"] == "PodReadyToStartContainers":
            condition["status"] = "True"


@pytest.mark.parametrize(
    ("change", "failure_class"),
    [
        (runs, "benign_no_action"),
        (refers_to_nothing, "unknown"),
        (is_optional, "unknown"),
        (has_its_volumes, "unknown"),
    ],
)
def test_an_event_about_a_volume_must_be_borne_out_by_spec_and_status(
    tmp_path: Path, change: Callable[[Json, Json], None], failure_class: str
) -> None:
    assert edited("21-", tmp_path, change)["failure_class"] == failure_class


def test_a_missing_key_names_the_volume_and_the_spec_names_the_secret(tmp_path: Path) -> None:
    def lacks_a_key(_pod: Json, event: Json) -> None:
        event["message"] = (
            'MountVolume.SetUp failed for volume "s" : references non-existent secret key: tls.crt'
        )

    answer = edited("21-", tmp_path, lacks_a_key)
    assert answer["failure_class"] == "config_missing_secret"
    assert "secret app-tls" in answer["evidence"][0]["text"]
