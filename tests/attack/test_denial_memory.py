"""One tenant's large pods, and what a function that looks at all pods needs for them.

Sixty pods of a megabyte each took the sweep from 52 to 324 MiB: more than its limit, so that it was
killed at each turn and saw nothing of anybody. A list is read in pages that are bounded in bytes, and
nothing of it is kept.

The API server is a process of its own that makes the pods up while they are read; what the sweep needs at
most is what the kernel says of its process.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

ROOT = Path(__file__).parents[2]
MOST_MIB = 150
MANY = int(os.environ.get("QUIETPAGER_PODS", "1000"))
"""Pods of 100 KB each; `make crash` takes 5,000, which take half a minute."""

POD: dict[str, Any] = {
    "metadata": {
        "namespace": "noisy", "creationTimestamp": "2026-01-01T00:00:00Z",
        "annotations": {"note": "x" * 20_000}, "managedFields": [{"manager": "m", "fieldsV1": {}}] * 100,
    },
    "spec": {"nodeName": "n", "containers": [{"name": "c", "image": "i", "env": []}]},
    "status": {
        "phase": "Running",
        "containerStatuses": [{
            "name": "c", "restartCount": 3, "image": "i",
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off"}},
            "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}},
        }],
    },
}  # fmt: skip


def pod(size: int) -> bytes:
    """Make a pod of so many bytes; %08d stands for its number."""
    one = json.loads(json.dumps(POD))
    one["metadata"] |= {"name": "p-%08d", "uid": "u-%08d"}
    each = len(json.dumps({"name": "VARIABLE_00000", "value": "value"})) + 2
    left = size - len(json.dumps(one))
    one["spec"]["containers"][0]["env"] = [
        {"name": f"VARIABLE_{number:05d}", "value": "value"} for number in range(left // each)
    ]
    return json.dumps(one).encode()


class Pods(BaseHTTPRequestHandler):
    """GET /api/v1/pods, with limit and continue; everything else is an empty list."""

    protocol_version = "HTTP/1.1"
    count, template = 0, b""

    def do_GET(self) -> None:
        """Send a page as it is made."""
        asked = {key: value[0] for key, value in parse_qs(urlsplit(self.path).query).items()}
        count = self.count if urlsplit(self.path).path == "/api/v1/pods" else 0
        start = int(asked.get("continue", 0))
        end = min(start + int(asked.get("limit", count)), count)
        about = json.dumps({"continue": str(end)} if end < count else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Connection", "close")
        self.end_headers()
        try:
            self.wfile.write(b'{"metadata":' + about + b',"items":[')
            for number in range(start, end):
                one = self.template.replace(b"%08d", b"%08d" % number)
                self.wfile.write((b"," if number > start else b"") + one)
            self.wfile.write(b"]}")
        except OSError:
            pass  # it was dropped for its size
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def serve(count: int, size: int) -> None:
    """Serve until killed."""
    Pods.count, Pods.template = count, pod(size)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pods)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


def sweep(port: int, how: str) -> None:
    """Look at all pods once, as the sweep does; say how many were found wrong, and the MiB at most."""
    from datetime import UTC, datetime  # noqa: PLC0415

    from quietpager.cli.catalogue import routes  # noqa: PLC0415
    from quietpager.cluster import pages  # noqa: PLC0415
    from quietpager.cluster.client import connect  # noqa: PLC0415
    from quietpager.runtime.sweeping import find  # noqa: PLC0415

    if how == "whole":
        setattr(pages, "FIRST_LIMIT", 1 << 30)  # noqa: B010 (constants, for whoever reads the types)
        setattr(pages, "MOST_PAGE", 1 << 40)  # noqa: B010
    if how == "many a page":
        setattr(pages, "MOST_PAGE", 1 << 40)  # noqa: B010
    cluster = connect(f"http://127.0.0.1:{port}", manager="sweep")
    found = sum(1 for _ in find(cluster, routes(), datetime(2026, 1, 1, 1, tzinfo=UTC)))
    sys.stdout.write(json.dumps([found, peak()]))


def peak() -> float:
    """Most MiB that this process has held; `ru_maxrss` would count its parent's as well (proc(5), VmHWM)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@contextmanager
def api_server(count: int, size: int) -> Iterator[int]:
    program = f"from tests.attack.test_denial_memory import serve; serve({count}, {size})"
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


def swept(count: int, size: int, how: str = "as shipped") -> tuple[int, float]:
    """Sweep in a process of its own; gives what was found and the MiB that it took at most."""
    with api_server(count, size) as port:
        program = f"from tests.attack.test_denial_memory import sweep; sweep({port}, {how!r})"
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True
        )
    found, mib = json.loads(done.stdout)
    return int(found), float(mib)


@pytest.mark.parametrize(("count", "size"), [(MANY, 100_000), (60, 1_000_000)])
def test_whatever_tenants_put_into_their_pods_the_sweep_needs_no_more_memory(count: int, size: int) -> None:
    found, mib = swept(count, size)
    assert found == count
    assert mib <= MOST_MIB


@pytest.mark.parametrize(("count", "size", "how"), [(300, 100_000, "whole"), (60, 1_000_000, "many a page")])
def test_without_pages_or_without_their_bound_in_bytes_the_sweep_needs_far_more(
    count: int, size: int, how: str
) -> None:
    assert swept(count, size, how)[1] > MOST_MIB
