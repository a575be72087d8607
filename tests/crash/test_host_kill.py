"""The local host killed while others post to it: whatever it answered 202 to is delivered, at least once.

From outside, over HTTP, with the real functions: each message is one that intake refuses, so that its way
ends in the audit of the dead letters, where it is looked for by its id.
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

from quietpager.functions.ingest.dead_letter.handler import CHAIN
from quietpager.local.demo import free_port
from quietpager.sandbox.server import running
from quietpager.store.postgres import PostgresStore

KILLS = 4
PATIENCE = 60


@contextmanager
def host(env: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "quietpager.local.host"]
    with subprocess.Popen(
        command, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
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
            "QUIETPAGER_POLICY": str(policy),
        }  # fmt: skip
        accepted: set[str] = set()
        number = left = 0
        store = PostgresStore(url)
        for _ in range(KILLS):
            with host(env) as process:
                until = time.monotonic() + chance.uniform(0.2, 1.0)
                while time.monotonic() < until or not accepted:
                    number += 1
                    if post(port, f"m{number}"):
                        accepted.add(f"m{number}")
                process.send_signal(signal.SIGKILL)
                process.wait()
            left += len(accepted - delivered(store))
        assert left, "no kill left anything to deliver"
        with host(env):
            end = time.monotonic() + PATIENCE
            while missing := accepted - delivered(store):
                assert time.monotonic() < end, f"{len(missing)} of {len(accepted)} accepted messages are lost"
                time.sleep(0.2)
        store.close()
    assert len(accepted) >= KILLS


def delivered(store: PostgresStore) -> set[str]:
    return {str(entry.body["id"]) for entry in store.audit(CHAIN)}
