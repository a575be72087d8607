"""The embedded PostgreSQL outlives whoever started it, and nobody stops it under another."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from quietpager.model.store import ABSENT, Put, Record, StoreUnavailable
from quietpager.store.embedded import start
from quietpager.store.postgres import PostgresStore

STARTER = """
import sys, time
from pathlib import Path
from quietpager.store.embedded import start
server = start(Path(sys.argv[1]), {"fsync": "off"})
print(server.url, flush=True)
time.sleep(600)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # Not below pytest's own temporary folder; see pg_server.
    home = Path(tempfile.mkdtemp(prefix="quietpager-embedded-"))
    yield home / "data" / "pg"
    shutil.rmtree(home)


def test_the_server_outlives_a_kill_of_its_starter_and_of_itself(folder: Path) -> None:
    words = [sys.executable, "-c", STARTER, str(folder)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        url = starter.stdout.readline().strip()
        with closing(PostgresStore(url)) as store:
            store.transact([Put("A#1", {"kept": True}, ABSENT)])

            second = start(folder)
            assert second.url == url
            store.close()
            assert not second.stop(), "the starter still uses it"
            assert store.get("A#1") is not None

            starter.send_signal(signal.SIGKILL)
            starter.wait()
            third = start(folder)
            assert store.get("A#1") == Record("A#1", 1, {"kept": True})
            assert not third.stop(), "the store is still connected"

            noted = folder / "postmaster.pid"
            pid = noted.read_text().split()[0]
            os.kill(int(pid), signal.SIGKILL)
            # After a container restarts, the old number may belong to anybody.
            with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
                noted.write_text(noted.read_text().replace(pid, str(other.pid), 1))
                fourth = start(folder)
                other.communicate(b"")
            assert store.get("A#1") == Record("A#1", 1, {"kept": True})
        assert fourth.stop()
        assert fourth.stop(), "it is stopped already"


def test_a_folder_that_cannot_be_used_is_a_sentence(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("a file")
    with pytest.raises(StoreUnavailable, match=r"cannot use the folder .*/pg: "):
        start(folder)


def test_data_of_an_unknown_version_are_a_sentence(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "PG_VERSION").write_text("9")
    with pytest.raises(StoreUnavailable, match="PostgreSQL 9"):
        start(folder)
