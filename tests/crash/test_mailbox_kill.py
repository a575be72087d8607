"""A broker that is killed at any moment delivers, after a restart, all that it had accepted.

Replies and dead letters included: what a delivery became is kept in the statement that ends it.
"""

import os
import random
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from quietpager.store.opening import open_mailbox

PROGRAM = Path(__file__).with_name("mailbox_process.py")
ROOT = Path(__file__).parents[2]
EVENTS = 200


def store_url(request: pytest.FixtureRequest, where: str) -> str:
    if where == "postgres":
        found: str = request.getfixturevalue("new_database")()
        return found
    from tests.dynamodb import fresh  # noqa: PLC0415 (boto3 takes a while to import)

    return fresh(request.getfixturevalue("dynamodb"))


def lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.timeout(300)  # many starts of a process, on whatever machine
@pytest.mark.parametrize("where", ["postgres", pytest.param("dynamodb", marks=pytest.mark.slow)])
def test_every_accepted_event_is_delivered_across_kills(
    request: pytest.FixtureRequest, where: str, tmp_path: Path
) -> None:
    url = store_url(request, where)
    accepted, delivered = tmp_path / "accepted", tmp_path / "delivered"
    chance = random.Random(20260301)  # noqa: S311 (moments of kills, no secret)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "shared")])}

    def begin(first: int, last: int) -> subprocess.Popen[bytes]:
        words = [
            sys.executable,
            str(PROGRAM),
            url,
            str(first),
            str(last),
            str(accepted),
            str(delivered),
        ]
        return subprocess.Popen(words, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)

    def missing() -> list[int]:
        have = set(lines(accepted))
        return [number for number in range(EVENTS) if f"e{number}" not in have]

    kills = left = 0
    with closing(open_mailbox(url)) as mailbox:
        while rest := missing():
            with begin(rest[0], EVENTS) as process:
                ready = lines(accepted).count("ready") + 1
                while lines(accepted).count("ready") < ready and process.poll() is None:
                    time.sleep(0.002)
                time.sleep(chance.uniform(0.01, 0.25))
                process.send_signal(signal.SIGKILL)
                _, complaint = process.communicate()
                assert process.returncode in (0, -signal.SIGKILL), complaint.decode()
                kills += process.returncode == -signal.SIGKILL
            left += len(mailbox.pending())
        assert kills, "none was killed at work"
        assert left, "no kill left anything to deliver"

        with begin(0, 0) as last:
            _, complaint = last.communicate(timeout=30)
        assert last.returncode == 0, complaint.decode()
        assert mailbox.pending() == []
    kept = {line for line in lines(accepted) if line != "ready"}
    assert len(kept) == EVENTS
    got = set(lines(delivered))
    for subscriber in ("quiet", "replying", "replies", "refusing", "dead"):
        assert {name for name in kept if f"{subscriber} {name}" not in got} == set(), subscriber
