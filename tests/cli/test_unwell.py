"""A rollout that is merely slow is no trouble; the same one a little later is."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quietpager.cli.replay import replay
from quietpager.runtime.context import functions_folder

Json = dict[str, Any]
SLOW = functions_folder() / "ingest/intake/cases/36-slow-rollout"


def later(event: Json) -> None:
    """Its container started at 10:28:57; 20 s of delay and three periods of 10 s end at 10:29:47."""
    event["lastTimestamp"] = event["lastTimestamp"].replace(":29:", ":32:")


def overdue(deployment: Json) -> None:
    """As its controller would say."""
    [progress] = [c for c in deployment["status"]["conditions"] if c["type"] == "Progressing"]
    progress |= {"status": "False", "reason": "ProgressDeadlineExceeded"}


def crashed(pod: Json) -> None:
    """As its kubelet would say."""
    ended = {"exitCode": 1, "reason": "Error"}
    pod["status"]["containerStatuses"][0]["lastState"] = {"terminated": ended}


def without_probe(pod: Json) -> None:
    """Nothing says how long it may take."""
    del pod["spec"]["containers"][0]["readinessProbe"]


def of_another(event: Json) -> None:
    """Somebody else complains about it."""
    event["message"] = "the ledger cannot be balanced"


def unready(folder: Path) -> Path:
    """Find the pod that is not ready."""
    paths = (folder / "objects").glob("*-pod.json")
    return next(p for p in paths if not json.loads(p.read_bytes())["status"]["containerStatuses"][0]["ready"])


@pytest.mark.parametrize(
    ("which", "change"),
    [
        (lambda folder: folder / "event.json", later),
        (lambda folder: folder / "event.json", of_another),
        (lambda folder: folder / "objects/05-deployment.json", overdue),
        (unready, crashed),
        (unready, without_probe),
    ],
)
def test_slowness_excuses_nothing_else(
    tmp_path: Path, which: Callable[[Path], Path], change: Callable[[Json], None]
) -> None:
    """Each change makes of the benign case one that a person has to see."""
    folder = tmp_path / "case"
    shutil.copytree(SLOW, folder)
    path = which(folder)
    obj = json.loads(path.read_bytes())
    change(obj)
    path.write_text(json.dumps(obj), encoding="utf-8")
    [before, after] = replay([SLOW, folder])
    assert before["failure_class"] == "benign_no_action"
    assert after["failure_class"] == "unknown"
    assert after["would_act"] == []
