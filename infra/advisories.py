"""Holds what is pinned against the advisory list of PyPI, with pip-audit: `make audit-pins`.

A weakness that is known fails; a list that cannot be reached does not, but it is said so that nobody takes it
for a clean bill. pip-audit itself says "no known vulnerabilities" there: it skips what it knows nothing of.
"""

import json
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

TOOL: Final = "pip-audit==2.10.1"
ROOT: Final = Path(__file__).parents[1]
HOME: Final = ROOT / "build" / "pip-audit"
"""An environment of its own: the tool brings some twenty packages that nothing else here needs."""
PINS: Final = ROOT / "requirements" / "dev.txt"
NOT_CHECKED: Final = "THE PINS WERE NOT CHECKED FOR KNOWN WEAKNESSES"
Run = Callable[[Sequence[str]], "subprocess.CompletedProcess[str]"]


def _run(command: Sequence[str]) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)  # noqa: S603 (our own words)


def main(say: Callable[[str], object] = print, run: Run = _run) -> int:
    """Check, say what was found, and give the exit code: 1 where a pin has a known weakness."""
    try:
        report = json.loads(_ask(run))
    except (OSError, ValueError, subprocess.TimeoutExpired) as no:
        say(f"{NOT_CHECKED}: {no}")
        return 0
    return judge(report, say)


def _ask(run: Run) -> str:
    python = HOME / "bin" / "python"
    if not python.exists():
        venv.create(HOME, with_pip=True)
    said = ""
    for command in (
        ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", TOOL),
        ("-m", "pip_audit", "--format=json", "--progress-spinner=off", "--require-hashes", "--disable-pip",
         "--requirement", str(PINS)),
    ):  # fmt: skip
        done = run([str(python), *command])
        # pip-audit ends with 1 where it has found something, and its report is whole all the same.
        if not done.stdout and done.returncode:
            raise ValueError(f"{' '.join(command[:3])} failed: {' '.join(done.stderr.split())[-300:]}")
        said = done.stdout
    return said


def judge(report: Any, say: Callable[[str], object]) -> int:
    """Read pip-audit's report; gives the exit code."""
    packages = report["dependencies"]
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    weak = [(one, known) for one in packages for known in one.get("vulns") or ()]
    for one, known in weak:
        fixed = ", ".join(known.get("fix_versions") or ()) or "no release yet"
        say(f"{one['name']} {one['version']}: {known['id']}; fixed in {fixed}.")
    checked = len(packages) - len(skipped)
    if skipped:
        which = "all of them" if len(skipped) == len(packages) else ", ".join(skipped)
        say(f"{NOT_CHECKED}: the list of advisories could not be had for {len(skipped)} ({which}).")
    say(f"{checked} of {len(packages)} pins were checked, {len(weak)} weaknesses are known.")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
