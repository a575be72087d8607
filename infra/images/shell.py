"""Starts the few programs this package needs, and says in a sentence what is missing or went wrong."""

import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

HINTS = {
    "apt-get": "Images are built from Debian packages: build on Debian or Ubuntu.",
    "dpkg-deb": "Install the Debian package dpkg.",
    "tar": "Install the Debian package tar.",
    "ctr": "Install the Debian package containerd.",
    "python3.11": "Functions run on Python 3.11, and its bytecode is made when the image is built.",
}
"""Program → what to do where it is missing."""


class Failed(SystemExit):
    """A program ended with an error; the text says which, and its last lines."""


def need(*programs: str) -> None:
    """End with a sentence for each program that is not there."""
    missing = [name for name in programs if shutil.which(name) is None]
    if missing:
        raise SystemExit("\n".join(f"There is no {name} here. {HINTS.get(name, '')}" for name in missing))


def output(
    command: Sequence[str],
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    given: bytes | None = None,
) -> str:
    """Run a program to its end and give its standard output.

    Args:
        command: program and arguments.
        cwd: folder to run it in.
        env: its whole environment; ours where None.
        given: its standard input; empty where None.

    Raises:
        Failed: it ended with anything but 0.
    """
    need(command[0])
    done = subprocess.run(command, cwd=cwd, env=env, input=given or b"", capture_output=True, check=False)
    if done.returncode:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().splitlines()
        last = "\n".join(said[-15:])
        raise Failed(f"`{' '.join(command)}` ended with {done.returncode}:\n{last}")
    return done.stdout.decode(errors="replace")
