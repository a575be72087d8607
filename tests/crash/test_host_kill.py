"""The local host killed while others post to it: whatever it answered 202 to is delivered, at least once.

From outside, over HTTP, with the real functions: each message is one that intake refuses, so its way ends at
the dead letter, which audits the first ones of an hour in full and counts the others. So it is looked for by
its id in the log of the function that handled it.
"""

import http.client
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from quietpager.local.demo import free_port
from quietpager.sandbox.server import running

DEAD_LETTER = "ingest-dead-letter"
KILLS = 4
PATIENCE = 60


@contextmanager
def host(env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "quietpager.local.host"]
    with (
        log.open("a", encoding="utf-8") as kept,
        subprocess.Popen(command, env=env, text=True, stdout=subprocess.PIPE, stderr=kept) as process,
    ):
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("quietpager ready")
            yield process
        finally:
            process.kill()


def post(port: int, name: str) -> bool:
    """Post one message; tells whether the broker said that it has it."""
    headers = {
        "ce-specversion": "1.0", "ce-id": name, "ce-source": "/test", "ce-kind": "Event",
        "ce-type": "dev.knative.apiserver.resource.add", "content-type": "application/json",
    }  # fmt: skip
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("POST", "/", json.dumps({"no": "Event"}), headers)
        return connection.getresponse().status == 202
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


@pytest.mark.timeout(400)  # many starts of a process, on whatever machine
def test_what_was_accepted_over_http_is_delivered_across_kills(
    new_database: Callable[[], str], tmp_path: Path
) -> None:
    chance = random.Random(20261125)  # noqa: S311 (moments of kills, no secret)
    url, port = new_database(), free_port()
    policy = tmp_path / "policy.yaml"
    policy.write_text("tick: 0.5\nsweep: 5\n")
    with running(speed=1) as api:
        env = os.environ | {
            "QUIETPAGER_STORE": url, "QUIETPAGER_API_SERVER": api, "QUIETPAGER_PORT": str(port),
            "QUIETPAGER_POLICY": str(policy), "QUIETPAGER_LOG": "INFO",
        }  # fmt: skip
        accepted: set[str] = set()
        number = left = 0
        log = tmp_path / "log"
        for _ in range(KILLS):
            with host(env, log) as process:
                until = time.monotonic() + chance.uniform(0.2, 1.0)
                while time.monotonic() < until or not accepted:
                    number += 1
                    if post(port, f"m{number}"):
                        accepted.add(f"m{number}")
                process.send_signal(signal.SIGKILL)
                process.wait()
            left += len(accepted - delivered(log))
        assert left, "no kill left anything to deliver"
        with host(env, log):
            end = time.monotonic() + PATIENCE
            while missing := accepted - delivered(log):
                assert time.monotonic() < end, f"{len(missing)} of {len(accepted)} accepted messages are lost"
                time.sleep(0.2)
    assert len(accepted) >= KILLS


def delivered(log: Path) -> set[str]:
    """Read which messages the dead letter has handled; a line that a kill cut short is none."""
    found: set[str] = set()
    for line in log.read_text(encoding="utf-8").splitlines():
        try:
            said = json.loads(line)
        except ValueError:
            continue
        if isinstance(said, dict) and (said.get("event"), said.get("function")) == ("handled", DEAD_LETTER):
            found.add(str(said["message"]))
    return found
