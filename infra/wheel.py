"""`python -m infra.wheel`: build the wheel, install it into an empty environment, and use it there.

A stranger does not have the checkout: a file that is missing in the wheel, or a package that only developers
have, is found here. Who calls it: `make wheel`, which CI runs. It ends with 1 and names what failed.
"""

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from threading import Timer
from time import monotonic
from typing import Final
from zipfile import ZipFile

from infra.progress import Progress

ROOT: Final = Path(__file__).resolve().parents[1]
FAULT: Final = """
import sys, quietpager.functions
from pathlib import Path
from quietpager.model.time import system_clock
from quietpager.sandbox.load import load_case
case = Path(quietpager.functions.__path__[0]) / "detect/crash/cases/30-oom-bounded"
load_case(sys.argv[1], case, system_clock())
"""
"""Puts one recorded fault into the sandbox, with nothing but the wheel."""
CONFIG: Final = """
apiVersion: v1
kind: Config
current-context: sandbox
clusters: [{{name: sandbox, cluster: {{server: "{url}"}}}}]
users: [{{name: me, user: {{}}}}]
contexts: [{{name: sandbox, context: {{cluster: sandbox, user: me}}}}]
"""
SMOKE: Final[Mapping[str, str]] = {
    "console": """
from quietpager.functions.people.console.web import new
print("serves", type(new()).__name__)
""",
    "dynamodb": """
from quietpager.model.store import StoreUnavailable
from quietpager.store.opening import open_store
try:
    open_store("dynamodb://eu-west-1/none?endpoint=http://127.0.0.1:1").get("A#1")
except StoreUnavailable as no:
    print(no)
""",
    "local": """
from pathlib import Path
from quietpager.store import embedded
from quietpager.store.opening import open_store
with embedded.start(Path("postgres").absolute()) as server:
    store = open_store(server.url)
    print("answers", store.get("A#1"))
    store.close()
""",
    "metrics": """
from quietpager.runtime.metrics import Exposition
one = Exposition()
print("text", one.text()[:10])
one.close()
""",
}
"""Extra → what it is for, tried with nothing else installed. A test holds it against the extras there are."""
EXPECTS: Final[Mapping[str, str]] = {
    "console": "serves Console", "dynamodb": "DynamoDB .*tables none", "local": "answers None",
    "metrics": "text",
}  # fmt: skip
LONGEST: Final = 300
"""Seconds that one command may take, the download of packages included."""


@dataclass(frozen=True)
class Empty:
    """An environment with nothing in it, and a folder that is no checkout."""

    folder: Path
    say: Progress

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.folder / "env" / "bin" / "python")

    @property
    def command(self) -> str:
        """Its `quietpager`."""
        return str(self.folder / "env" / "bin" / "quietpager")

    def install(self, what: str) -> None:
        """Install with pip, as a stranger would."""
        self.run([self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", what], "")

    def run(self, command: list[str], expects: str, code: int = 0) -> str:
        """Run a command, and give what it printed; of one that must fail, its error output, too.

        Raises:
            SystemExit: it ended with another code, or did not print what is expected (a regular expression).
        """
        begun = monotonic()
        done = subprocess.run(  # noqa: S603 (commands of this file)
            command, cwd=self.folder, env=_bare(), capture_output=True, text=True, check=False,
            timeout=LONGEST, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        words = " ".join(Path(part).name for part in command[:3] if len(part) < 100)
        said = done.stdout + (done.stderr if code else "")
        if done.returncode != code or not re.search(expects, said):
            raise SystemExit(
                f"`{words}` failed in an empty environment (exit code {done.returncode}, expected {code}, "
                f"and to read {expects!r}):\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}"
            )
        self.say(f"{monotonic() - begun:6.1f} s for {words}")
        return said


def _bare() -> Mapping[str, str]:
    """Give the environment without what could lead back to the checkout."""
    ours = ("QUIETPAGER_", "PYTHON", "VIRTUAL_ENV")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)}


def build(into: Path) -> Path:
    """Build the wheel.

    Raises:
        SystemExit: it has more than the one package, or tests inside.
    """
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--wheel-dir", str(into), str(ROOT)], check=True)  # noqa: S603
    [wheel] = into.glob("quietpager-*.whl")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
    tops = {name.split("/")[0] for name in names} - {
        wheel.name.removesuffix("-py3-none-any.whl") + ".dist-info"
    }
    tests = [name for name in names if name.rpartition("/")[2].startswith(("test_", "conftest"))]
    if tops != {"quietpager"} or tests:
        raise SystemExit(f"The wheel holds {', '.join(sorted(tops))}, and the tests {tests}.")
    return wheel


def try_out(wheel: Path, place: Empty) -> None:
    """Install the wheel, first without its extras, and run the commands that a person runs."""
    place.run([sys.executable, "-m", "venv", str(place.folder / "env")], "")
    place.install(str(wheel))
    rendered = place.run([place.command, "render"], "kind: ApiServerSource")
    kinds = re.findall(r"(?m)^kind: (\w+)$", rendered)
    if not {"Broker", "PingSource", "Trigger", "ValidatingAdmissionPolicy", "NetworkPolicy"} <= set(kinds):
        raise SystemExit(f"`render` left something out; it gave {sorted(set(kinds))}.")
    where = place.run(
        [place.python, "-c", "import quietpager.functions as f; print(f.__path__[0])"], "functions"
    )
    place.run([place.command, "replay", f"{where.strip()}/detect/crash/cases/30-oom-bounded"], "oom_killed")
    (place.folder / "mine").mkdir()
    place.run([place.command, "rule", "new", "probe", "--into", "mine"], "probe")
    sandbox = [place.python, "-m", "quietpager.sandbox"]
    with subprocess.Popen(  # noqa: S603
        sandbox, cwd=place.folder, env=_bare(), stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            url = (server.stdout.readline() if server.stdout else "").split()[-1]
            (place.folder / "kubeconfig").write_text(CONFIG.format(url=url), encoding="utf-8")
            place.run([place.python, "-c", FAULT, url], "")
            place.run([place.command, "scan", "--kubeconfig", "kubeconfig"], "oom_killed")
            for words in (["run", "--kubeconfig", "kubeconfig"], ["demo", "--once"]):
                place.run([place.command, *words], r"pip install '?quietpager\[local\]", code=2)
            place.install(f"{wheel}[local]")
            _run(place)
        finally:
            server.terminate()
    place.run([place.command, "demo", "--once"], r"closed: fixed")


def try_extras(wheel: Path, folder: Path, say: Progress) -> None:
    """Install each extra by itself into an empty environment, and use what it is for."""
    for extra, program in SMOKE.items():
        place = Empty(folder / extra, say)
        place.folder.mkdir()
        place.run([sys.executable, "-m", "venv", str(place.folder / "env")], "")
        place.install(f"{wheel}[{extra}]")
        place.run([place.python, "-c", program], EXPECTS[extra])
        say(f"       the extra {extra} does what it is for")


def _run(place: Empty) -> None:
    """Start `quietpager run`, wait until it tells of the fault, and end it as a person would."""
    command = [place.command, "run", "--kubeconfig", "kubeconfig"]
    begun = monotonic()
    with subprocess.Popen(  # noqa: S603
        command, cwd=place.folder, env=_bare(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as running:
        too_long = Timer(LONGEST, running.terminate)
        too_long.start()
        said: list[str] = []
        for line in running.stdout or ():
            said.append(line)
            if "oom_killed" in line:
                running.terminate()
        too_long.cancel()
        if running.wait(LONGEST) != 0 or not any("oom_killed" in line for line in said):
            raise SystemExit(f"`quietpager run` failed in an empty environment:\n{''.join(said)[-3000:]}")
    place.say(f"{monotonic() - begun:6.1f} s for quietpager run, until it told of a fault and was stopped")


def main() -> None:
    """Build, install, try."""
    say = Progress()
    with tempfile.TemporaryDirectory(prefix="quietpager-wheel-") as folder:
        wheel = build(Path(folder) / "dist")
        say(f"built {wheel.name}, {wheel.stat().st_size // 1024} KiB")
        try_out(wheel, Empty(Path(folder), say))
        try_extras(wheel, Path(folder), say)
    say("the wheel does in an empty environment what a checkout does")


if __name__ == "__main__":
    main()
