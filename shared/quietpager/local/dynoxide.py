"""dynoxide: a DynamoDB over SQLite, for `quietpager demo --store dynamodb` and the tests; MIT or Apache-2.0.

Its authors compare its answers with AWS's. It is not installed with quietpager: `make dynamodb` builds it
from its crate, or `cargo install dynoxide-rs` does.
"""

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

VERSION: Final = "3.2.0"
HOME: Final = (
    Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "quietpager" / f"dynoxide-{VERSION}"
)
"""Where `make dynamodb` puts it."""
STARTING: Final = 20.0
"""Seconds within which it listens."""
MISSING: Final = (
    "There is no dynoxide, the DynamoDB for trying things out. In a checkout `make dynamodb` builds it; "
    f"elsewhere `cargo install dynoxide-rs --version {VERSION} --locked` does. Or name a DynamoDB that you "
    "have: --store dynamodb://REGION/PREFIX."
)


class DynoxideUnavailable(Exception):  # noqa: N818 (what it is)
    """It is not there, or does not start; the text says what to do."""


def find() -> str | None:
    """Find the program: where `make dynamodb` puts it, else on PATH."""
    built = HOME / "bin" / "dynoxide"
    return str(built) if built.exists() else shutil.which("dynoxide")


@contextmanager
def serve() -> Iterator[str]:
    """Serve for a while, in memory, on loopback; gives the endpoint.

    Raises:
        DynoxideUnavailable: it is not there, or ended at once.
    """
    program = find()
    if program is None:
        raise DynoxideUnavailable(MISSING)
    port = _free_port()
    words = [program, "serve", "--host", "127.0.0.1", "--port", str(port), "--log", "quiet"]
    with subprocess.Popen(words) as process:  # noqa: S603 (found by us)
        try:
            end = time.monotonic() + STARTING
            while not _listens(port):
                if process.poll() is not None or time.monotonic() > end:
                    raise DynoxideUnavailable(f"{program} does not serve (it ended with {process.poll()}).")
                time.sleep(0.02)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as held:
        port: int = held.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
