"""dynoxide: a DynamoDB over SQLite whose answers its authors compare with AWS's; MIT or Apache-2.0.

`make dynamodb` builds it from its crate, once, below the cache folder; the crate's own lock file pins what it
is built from. Two minutes on two cores.
"""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from infra.testbed.layout import CACHE
from quietpager.local.demo import free_port
from tests.polling import until

VERSION: Final = "3.2.0"
_ROOT: Final = CACHE / f"dynoxide-{VERSION}"
PROGRAM: Final = _ROOT / "bin" / "dynoxide"


def build() -> None:
    """Build it, unless it is there.

    Raises:
        SystemExit: there is no cargo, or it fails.
    """
    if PROGRAM.exists():
        return
    cargo = shutil.which("cargo")
    if cargo is None:
        raise SystemExit(
            "There is no `cargo` here: install Rust 1.88 or newer. Until then the tests use moto, which "
            "takes one request at a time."
        )
    done = subprocess.run(
        [
            cargo, "install", "dynoxide-rs", "--version", f"={VERSION}", "--locked", "--root", str(_ROOT),
            "--no-default-features", "--features", "native-sqlite,http-server,cli", "--quiet",
        ], check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(
            f"cargo could not build dynoxide {VERSION} (it needs Rust 1.88 or newer); see what it says above."
        )


@contextmanager
def serve() -> Iterator[str]:
    """Serve for a while, in memory; gives the endpoint."""
    port = free_port()
    words = [str(PROGRAM), "serve", "--host", "127.0.0.1", "--port", str(port), "--log", "quiet"]
    with subprocess.Popen(words) as process:
        try:
            until(lambda: _listens(port) or process.poll() is not None)
            assert process.poll() is None, f"dynoxide ended with {process.returncode}"
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
