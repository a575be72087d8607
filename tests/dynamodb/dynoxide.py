"""dynoxide: a DynamoDB over SQLite whose answers its authors compare with AWS's; MIT or Apache-2.0.

`make dynamodb` builds it from its crate, once, below the cache folder of the XDG base directory
specification; its own lock file pins what it is built from. Two minutes on two cores.
"""

import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from infra.local.demo import free_port

VERSION: Final = "3.2.0"
_HOME: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
_ROOT: Final = _HOME / "quietpager" / f"dynoxide-{VERSION}"
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
    endpoint = f"http://127.0.0.1:{port}"
    words = [str(PROGRAM), "serve", "--host", "127.0.0.1", "--port", str(port), "--log", "quiet"]
    with subprocess.Popen(words) as process:
        try:
            _until_it_answers(endpoint, process)
            yield endpoint
        finally:
            process.kill()


def _until_it_answers(endpoint: str, process: subprocess.Popen[bytes]) -> None:
    for _ in range(200):
        try:
            urllib.request.urlopen(endpoint, timeout=1).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            if process.poll() is not None:
                raise AssertionError(f"dynoxide ended with {process.returncode}") from None
            time.sleep(0.05)
        else:
            return
    raise AssertionError(f"dynoxide does not answer at {endpoint}")
