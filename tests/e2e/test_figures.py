"""Figures of the function pods: memory while they serve, and cold start from process to first answer."""

import json
import os
import time
import urllib.request
from pathlib import Path

import pytest

from infra.testbed.addons import kubectl
from quietpager.render import function_folders
from quietpager.runtime.context import functions_folder
from tests.e2e.bed import NAMESPACE, Bed, pods, process_ids, until

MOST_MEMORY, LONGEST_START = 100.0, 2.5
"""MB and seconds that were promised for each function pod."""
NAMES = [folder.name for folder in function_folders(functions_folder())]

pytestmark = pytest.mark.timeout(300)


def resident(pid: int) -> float:
    """Read a process's proportional share of memory, in MB."""
    text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")) * 1.024 / 1000


def started(pid: int) -> float:
    """Tell when a process began, in seconds since the machine did."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def is_ready(address: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://{address}:8080/health/readiness", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def cold_start(name: str) -> float:
    """Replace a function's pod, and time its process's start to its first 200."""
    old = {pod["metadata"]["uid"] for pod in pods(name)}
    kubectl("-n", NAMESPACE, "rollout", "restart", f"deployment/{name}")

    def fresh() -> tuple[str, str] | None:
        new = [pod for pod in pods(name) if pod["metadata"]["uid"] not in old and "podIP" in pod["status"]]
        return (new[0]["metadata"]["uid"], new[0]["status"]["podIP"]) if new else None

    uid, address = until(f"a new pod of {name}", fresh, 30, every=0.02)
    until(f"{name} ready", lambda: is_ready(address), 30, every=0.01)
    at = time.clock_gettime(time.CLOCK_BOOTTIME)
    (process,) = until(f"the new process of {name}", lambda: process_ids(name, pod_uid=uid), 30)
    # Nothing is rolling when the next function is measured.
    kubectl("-n", NAMESPACE, "rollout", "status", f"deployment/{name}", "--timeout=60s")
    return at - started(process)


def test_memory_and_cold_start(bed: Bed, capsys: pytest.CaptureFixture[str]) -> None:
    assert bed.store.get("nothing") is None
    rows = {name: (resident(process_ids(name)[0]), cold_start(name)) for name in NAMES}
    with capsys.disabled():
        print("\nfunction pod                  memory MB (PSS)   cold start s")
        for name, (memory, seconds) in rows.items():
            print(f"{name:30}{memory:15.0f}{seconds:15.2f}")
    assert {n: m for n, (m, _) in rows.items() if m > MOST_MEMORY} == {}
    assert json.dumps(rows)
