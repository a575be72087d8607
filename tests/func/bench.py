"""What the tests of assembled functions have of Knative's `func`: its scaffolding, its installer, its host.

Facts from knative/func v0.50: templates/python/scaffolding/instanced-http and pkg/oci/python_builder.go.
"""

import json
import math
import os
import signal
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from typing import Any

from quietpager.local.demo import free_port
from quietpager.model.message import Message
from quietpager.model.time import system_clock
from quietpager.runtime.wire import event_from_message, http_from_event

EPOCH = "315532800"
"""1980, the least that a zip can hold; docs/deploy.md tells to set it, so that pip makes lasting bytecode."""
SITE = sysconfig.get_paths()["purelib"]
MAIN = """\
import logging
import service.limits
from func_python.http import serve
logging.basicConfig(level=logging.INFO)
from function import new
if __name__ == "__main__":
    serve(new)
"""
SERVICE = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "service"
version = "0.1.0"
dependencies = ["func-python==0.8.1", "function @ {root:uri}/f"]
[tool.hatch.metadata]
allow-direct-references = true
"""


def scaffold(function: Path) -> Path:
    """Write what func writes into a function's folder before it builds; give the folder of that."""
    build = function / ".func" / "build"
    (build / "service").mkdir(parents=True)
    (build / "service/__init__.py").touch()
    (build / "service/limits.py").touch()
    (build / "service/main.py").write_text(MAIN, encoding="utf-8")
    (build / "pyproject.toml").write_text(SERVICE, encoding="utf-8")
    (build / "f").symlink_to("../..")
    return build


def wheelhouse(names: Iterable[str], into: Path) -> Path:
    """Make wheels of what is installed here, so that pip needs no registry."""
    into.mkdir()
    for name in names:
        found = distribution(name)
        tags = [
            line[5:] for line in (found.read_text("WHEEL") or "").splitlines() if line.startswith("Tag: ")
        ]
        tag = tags[0] if len(tags) == 1 else _shared(tags)
        stem = f"{name.replace('-', '_')}-{found.version}-{tag}"
        with zipfile.ZipFile(into / f"{stem}.whl", "w") as wheel:
            for file in found.files or ():
                path = Path(str(found.locate_file(file)))
                if ".." not in file.parts and "__pycache__" not in file.parts and path.exists():
                    wheel.write(path, str(file))
    return into


def _shared(tags: list[str]) -> str:
    """Join tags that differ in one place only, as a wheel's name does (PEP 425)."""
    return "-".join(".".join(dict.fromkeys(part)) for part in zip(*(t.split("-") for t in tags), strict=True))


def pip_install(project: Path, target: Path, *options: str, **more: str) -> None:
    inherited = {k: v for k, v in os.environ.items() if k != "SOURCE_DATE_EPOCH"}
    env = {**inherited, "PIP_NO_INDEX": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1", **more}
    command = [sys.executable, "-m", "pip", "install", "--quiet", ".", "--target", str(target), *options]
    done = subprocess.run(command, cwd=project, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def as_in_a_layer(tree: Path) -> None:
    """Give files the times they have in func's layer: whole seconds, to the nearest (Go's archive/tar)."""
    for file in tree.rglob("*"):
        if file.is_file():
            whole = math.floor(file.stat().st_mtime + 0.5)
            os.utime(file, (whole, whole))


@dataclass(frozen=True)
class Seen:
    """What a process had loaded, and what it had to compile for that."""

    modules: frozenset[str]
    compiled: tuple[str, ...]

    def packages(self) -> set[str]:
        return {name.partition(".")[0] for name in self.modules}


@dataclass(frozen=True)
class Served:
    url: str
    process: "subprocess.Popen[bytes]"
    answer: Path

    def seen(self) -> Seen:
        self.answer.unlink(missing_ok=True)
        self.process.send_signal(signal.SIGUSR1)
        until = time.monotonic() + 30
        while not self.answer.exists():
            assert self.process.poll() is None
            assert time.monotonic() < until, "the process does not say what it has loaded"
            time.sleep(0.01)
        found: dict[str, Any] = json.loads(self.answer.read_text(encoding="utf-8"))
        return Seen(frozenset(found["modules"]), tuple(found["compiled"]))

    def get(self, path: str) -> int:
        try:
            with urllib.request.urlopen(f"{self.url}{path}", timeout=10) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as refused:
            return refused.code

    def post(self, message: Message) -> tuple[int, dict[str, str], bytes]:
        headers, body = http_from_event(event_from_message(message, source="/test", now=system_clock()))
        request = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return int(answer.status), {k.lower(): v for k, v in answer.headers.items()}, answer.read()
        except urllib.error.HTTPError as refused:
            return refused.code, {}, refused.read()


@contextmanager
def served(main: Path, lib: Iterable[str], work: Path, env: dict[str, str]) -> Iterator[Served]:
    """Serve as func's image does: `python service/main.py`, and nothing on the path but these folders."""
    port, spy = free_port(), Path(__file__).with_name("spy.py")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "QUIETPAGER_", "K_"))}
    clean |= {"PYTHONPATH": ":".join(lib), "LISTEN_ADDRESS": f"127.0.0.1:{port}"} | env
    answer, log = work / "seen.json", work / "log.txt"
    # -S: else the checkout would be found; -P: else the tests' folder.
    command = [sys.executable, "-S", "-P", str(spy), str(answer), str(main)]
    with (
        log.open("wb") as err,
        subprocess.Popen(command, env=clean, cwd=work, stdout=err, stderr=err) as process,
    ):
        one = Served(f"http://127.0.0.1:{port}", process, answer)
        try:
            until = time.monotonic() + 30
            while True:
                try:
                    if one.get("/health/readiness") == 200:
                        break
                except OSError:
                    pass
                assert process.poll() is None, log.read_text(encoding="utf-8")[-3000:]
                assert time.monotonic() < until, log.read_text(encoding="utf-8")[-3000:]
                time.sleep(0.02)
            yield one
        finally:
            process.terminate()
            process.wait(20)
    assert process.returncode == 0, log.read_text(encoding="utf-8")[-3000:]
