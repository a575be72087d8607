"""Processes of the cluster: started in the namespace and the cgroup, remembered by a file, ended by it.

Who calls it: `start` and `stop`. Each process leads a session of its own, so that it outlives whoever
started it; its process id lies in the run folder.
"""

import os
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from infra.testbed import layout, machine

POLL: Final = 0.05
"""Seconds between two looks at something that is awaited."""


@dataclass(frozen=True, slots=True)
class Process:
    """One process of the cluster, and how long it may take to end before it is killed (seconds)."""

    name: str
    command: tuple[str, ...]
    patience: float = 5.0
    env: Mapping[str, str] = field(default_factory=dict)

    @property
    def pid_file(self) -> Path:
        """Where its process id lies."""
        return layout.RUN / f"{self.name}.pid"

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return layout.LOGS / f"{self.name}.log"


def start(process: Process) -> bool:
    """Start it, unless it runs; tells whether it had to be started."""
    if alive(process.name) is not None:
        return False
    joins = [f"echo $$ > {folder / machine.SYSTEM}/cgroup.procs" for folder in machine.cgroup_folders()]
    # The shell joins the cgroup and becomes the process: same id, and no instant outside the cgroup.
    script = "; ".join([*joins, 'exec "$@"'])
    with process.log.open("ab") as log:
        child = subprocess.Popen(
            ("sh", "-c", script, "sh", *machine.inside(*process.command)),
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            env={**os.environ, "PATH": machine.search_path(), **process.env},
        )  # fmt: skip
    process.pid_file.write_text(str(child.pid), encoding="ascii")
    return True


def alive(name: str) -> int | None:
    """Give the process id of a started process that still lives in our cgroup."""
    try:
        pid = int((layout.RUN / f"{name}.pid").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if pid in machine.members() and not _is_zombie(pid) else None


def stop(name: str, patience: float) -> None:
    """Ask it to end, then kill it; nothing happens where it does not run."""
    pid = alive(name)
    if pid is not None:
        _signal(pid, signal.SIGTERM)
        end = monotonic() + patience
        while alive(name) is not None and monotonic() < end:
            sleep(POLL)
        if alive(name) is not None:
            _signal(pid, signal.SIGKILL)
    (layout.RUN / f"{name}.pid").unlink(missing_ok=True)


def wait(what: str, ready: Callable[[], bool], seconds: float) -> None:
    """Wait until it is true.

    Raises:
        SystemExit: it did not become true; the text says what, and where to look.
    """
    end = monotonic() + seconds
    while not ready():
        if monotonic() > end:
            raise SystemExit(f"{what} was not there within {seconds:.0f} s. Look into {layout.LOGS}.")
        sleep(POLL)


def _is_zombie(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def _signal(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)
