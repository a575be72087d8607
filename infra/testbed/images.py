"""The images the cluster itself needs: made of the binaries, imported into containerd, ended at stop.

Who calls it: `start` and `stop`. Images of functions are `infra.images`' business.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from subprocess import CompletedProcess, TimeoutExpired, run

from infra.images import oci
from infra.testbed import layout, machine
from infra.testbed.addons import knative_image
from infra.testbed.build import Say, commands
from infra.testbed.layout import BIN, IMAGES
from infra.testbed.processes import wait

DNS_IMAGE = "localhost/coredns:1"


def make(*, knative: bool, say: Say) -> None:
    """Write the archives that are missing or older than what they are made of."""
    made = [path.name for path, source, write in _recipes(knative=knative) if _make(path, source, write)]
    if made:
        say(f"images made: {', '.join(made)}")


def _recipes(*, knative: bool) -> list[tuple[Path, Path, Callable[[], None]]]:
    busybox, pause, coredns = IMAGES / "busybox.tar", IMAGES / "pause.tar", IMAGES / "coredns.tar"
    return [
        (busybox, Path("/bin/busybox"), lambda: oci.busybox(busybox)),
        (pause, BIN / "pause", lambda: oci.pause(pause)),
        # Port 53 needs root, or a capability that a test bed can do without explaining.
        (
            coredns,
            BIN / "coredns",
            lambda: oci.one_file("localhost/coredns:1", BIN / "coredns", coredns, "0:0"),
        ),
        *(_knative_recipe(command) for command in (_knative_commands() if knative else ())),
    ]


def _knative_recipe(command: str) -> tuple[Path, Path, Callable[[], None]]:
    archive = IMAGES / f"knative-{command}.tar"
    return archive, BIN / command, lambda: oci.one_file(knative_image(command), BIN / command, archive)


def _knative_commands() -> list[str]:
    return [command.name for command in commands(knative=True) if command.module == "knative"]


def _make(archive: Path, source: Path, write: Callable[[], None]) -> bool:
    if archive.exists() and archive.stat().st_mtime > source.stat().st_mtime:
        return False
    archive.parent.mkdir(parents=True, exist_ok=True)
    write()
    return True


def load(*, knative: bool) -> None:
    """Import what containerd has not got yet, or has an older version of."""
    wait("containerd", lambda: not _ctr("version", check=False).returncode, 30)
    for archive, _, _ in _recipes(knative=knative):
        stamp = layout.CLUSTER / "imported" / archive.name
        if stamp.exists() and stamp.stat().st_mtime >= archive.stat().st_mtime:
            continue
        _ctr("images", "import", str(archive))
        stamp.parent.mkdir(parents=True, exist_ok=True)
        stamp.touch()


def end_all_containers(patience: float = 3.0) -> None:
    """Kill every container, so that their mounts can go; without containerd there is nothing to ask."""
    if _ctr("version", check=False).returncode:
        return
    for task in _names("tasks"):
        _ctr("tasks", "kill", "--signal", "SIGKILL", "--all", task, check=False)
    end = time.monotonic() + patience
    while _names("tasks") and time.monotonic() < end:
        for task in _names("tasks"):
            _ctr("tasks", "delete", "--force", task, check=False)
    for container in _names("containers"):
        _ctr("containers", "delete", container, check=False)


def _names(what: str) -> list[str]:
    return _ctr(what, "list", "--quiet", check=False).stdout.split()


def _ctr(*arguments: str, check: bool = True) -> CompletedProcess[str]:
    command = ("ctr", "--address", str(layout.CONTAINERD_SOCKET), "--namespace", "k8s.io", *arguments)
    if check:
        return machine.run(*command)
    with suppress(TimeoutExpired):
        return run(command, check=False, capture_output=True, text=True, timeout=10)
    return CompletedProcess(command, 1, "", "")
