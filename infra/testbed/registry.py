"""A registry that fails in every way a registry can, so that pull errors are real ones.

Who starts it: the test bed, on loopback inside its network namespace; containerd asks it for every
image of `registry.example.com`. The first part of an image's name says how it answers:

    missing/    404        forbidden/  403        limited/  429
    private/    401        broken/     500
    good/       serves the busybox image under any name and tag but `missing`
    flaky/      500 for the first seconds after it was first asked in a while, then as good/

Answers follow the OCI distribution specification 1.1.
"""

import hashlib
import http.server
import json
import sys
import tarfile
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import Final

REFUSALS: Final = {
    "missing": (HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", "manifest unknown"),
    "private": (HTTPStatus.UNAUTHORIZED, "UNAUTHORIZED", "authentication required"),
    "forbidden": (HTTPStatus.FORBIDDEN, "DENIED", "requested access to the resource is denied"),
    "limited": (HTTPStatus.TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "You have reached your pull rate limit."),
    "broken": (HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", "internal error"),
}
FLAKY_SECONDS: Final = 5.0
"""Shorter than the kubelet's first back-off (10 s), so the second pull succeeds."""
FORGETS_AFTER: Final = 30.0
"""Seconds without a question after which a flaky image is as new: longer than that back-off."""


@dataclass(slots=True)
class Content:
    """What `good/` serves: one image out of an OCI layout archive."""

    blobs: dict[str, bytes]
    manifest: str
    asked: dict[str, tuple[float, float]] = field(default_factory=dict)
    """Flaky image → when it was first and last asked for."""
    lock: Lock = field(default_factory=Lock)

    def is_still_bad(self, name: str, now: float) -> bool:
        """Tell whether a flaky image is not to be had yet; the first question in a while starts its clock."""
        with self.lock:
            first, last = self.asked.get(name, (now, now))
            if now - last > FORGETS_AFTER:
                first = now
            self.asked[name] = (first, now)
            return now - first < FLAKY_SECONDS


def read_archive(path: Path) -> Content:
    """Read an OCI image layout with one image in it."""
    with tarfile.open(path) as archive:
        parts = {
            member.name: found.read()
            for member in archive
            if (found := archive.extractfile(member)) is not None
        }
    manifest = json.loads(parts["index.json"])["manifests"][0]["digest"]
    blobs = {f"sha256:{hashlib.sha256(data).hexdigest()}": data for data in parts.values()}
    return Content(blobs, manifest)


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers GET and HEAD of `/v2/<how>/…/{manifests,blobs}/<reference>`."""

    protocol_version = "HTTP/1.1"
    content: Content

    def do_GET(self) -> None:
        """Answer one request."""
        parts = self.path.partition("?")[0].strip("/").split("/")
        how = parts[1] if len(parts) > 1 else ""
        name, (what, reference) = "/".join(parts[1:-2]), [*parts, "", ""][len(parts) - 2 : len(parts)]
        if how in REFUSALS:
            self._refuse(*REFUSALS[how])
        elif how == "flaky" and self.content.is_still_bad(name, monotonic()):
            self._refuse(*REFUSALS["broken"])
        elif reference == "missing":
            self._refuse(*REFUSALS["missing"])
        elif how not in {"good", "flaky"}:
            self._send(HTTPStatus.OK, b"{}", "application/json")  # "is this a registry?"
        else:
            self._serve(what, reference)

    do_HEAD = do_GET  # noqa: N815 (the standard library's name)

    def _serve(self, what: str, reference: str) -> None:
        digest = reference if reference.startswith("sha256:") else self.content.manifest
        blob = self.content.blobs.get(digest)
        if blob is None:
            self._refuse(*REFUSALS["missing"])
            return
        kind = "application/octet-stream"
        if what == "manifests":
            kind = json.loads(blob)["mediaType"]
        self._send(HTTPStatus.OK, blob, kind, {"Docker-Content-Digest": digest})

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        body = json.dumps({"errors": [{"code": code, "message": message, "detail": None}]}).encode()
        more = {"Www-Authenticate": 'Basic realm="testbed"'} if status is HTTPStatus.UNAUTHORIZED else {}
        self._send(status, body, "application/json", more)

    def _send(self, status: HTTPStatus, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in {"Content-Type": kind, "Content-Length": str(len(body)), **(more or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def main() -> None:
    """Serve until ended: `python -m infra.testbed.registry PORT BUSYBOX_ARCHIVE`."""
    port, archive = int(sys.argv[1]), Path(sys.argv[2])
    Handler.content = read_archive(archive)
    http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()


if __name__ == "__main__":
    main()
