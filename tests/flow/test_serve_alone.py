"""One function served alone behind func-python's own host, and `quietpager send` to it."""

import json
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietpager.cli.main import main
from quietpager.local.demo import free_port
from quietpager.model.time import system_clock
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.load import load_case
from quietpager.sandbox.server import running

CASE = functions_folder() / "detect/image/cases/32-bad-tag-new-revision"


@contextmanager
def served(function: str, env: dict[str, str]) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, "-m", "quietpager.cli.main", "serve", function, "--port", str(port)]
    with subprocess.Popen(command, env=os.environ | env, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            for _ in range(200):
                try:
                    urllib.request.urlopen(f"{url}/health/readiness", timeout=5).close()
                    break
                except OSError:
                    time.sleep(0.05)
            yield url
        finally:
            process.terminate()
            process.wait(10)


def send(file: Path, to: str, env: dict[str, str]) -> tuple[int, str]:
    done = CliRunner().invoke(main, ["send", str(file), "--to", to], env=env)
    return done.exit_code, done.output


def test_an_event_becomes_a_signal_and_a_signal_a_finding_by_hand(pg_url: str, tmp_path: Path) -> None:
    with running(speed=1) as cluster:
        env = {"QUIETPAGER_STORE": pg_url, "QUIETPAGER_API_SERVER": cluster}
        load_case(cluster, CASE, system_clock())
        with served("ingest/intake", env) as intake:
            code, said = send(CASE / "event.json", intake, env)
        assert (code, said.splitlines()[0]) == (0, "200 dev.quietpager.signal")
        signal = json.loads(said.splitlines()[1])
        assert signal["family"] == "image"
        event = {
            "specversion": "1.0", "id": "1", "source": "/test", "type": "dev.quietpager.signal",
            "family": "image", "data": signal,
        }  # fmt: skip
        (tmp_path / "signal.json").write_text(json.dumps(event))
        with served("detect/image", env) as detect:
            code, said = send(tmp_path / "signal.json", detect, env)
        assert (code, said.splitlines()[0]) == (0, "200 dev.quietpager.finding")
        assert "store: 1 finding records" in said


@pytest.mark.parametrize("body", ['{"kind": "Pod"}', "[1]", "{broken"])
def test_what_is_no_event_is_refused_with_a_sentence(pg_url: str, tmp_path: Path, body: str) -> None:
    (tmp_path / "file.json").write_text(body)
    env = {"QUIETPAGER_STORE": pg_url}
    with served("ingest/intake", env) as intake:
        code, said = send(tmp_path / "file.json", intake, env)
    assert code != 0
    assert said.strip()


def test_an_unknown_function_is_named_with_those_there_are() -> None:
    done = CliRunner().invoke(main, ["serve", "detect/nothing"])
    assert done.exit_code == 2
    assert "detect/crash" in done.output
