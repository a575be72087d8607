"""What an API server's answers mean: errors, and the lines of a watch.

Who calls it: `client`.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from quietpager.model.cluster import ClusterUnavailable, Rejected, WatchEvent

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse


def failure(code: int, body: bytes) -> ClusterUnavailable | Rejected:
    """Say what an error answer means; its body is a Status object (or a proxy's own words)."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    if not isinstance(status, dict):
        status = {"message": body[:200].decode(errors="replace")}
    message, reason = str(status.get("message", "")), str(status.get("reason", ""))
    if code == 429 or code >= 500 or code < 400:
        return ClusterUnavailable(f"the API server answered {code} {reason}: {message}")
    return Rejected(code, reason, message)


def lines(response: "BaseHTTPResponse") -> Iterator[bytes]:
    """Cut the stream of a watch into its lines."""
    rest = b""
    for chunk in response.stream(1 << 16):
        *complete, rest = (rest + chunk).split(b"\n")
        yield from (line for line in complete if line.strip())


def watch_event(line: Any) -> WatchEvent:
    """Read one line of a watch; raises what an ERROR in it means."""
    kind, obj = line["type"], line["object"]
    if kind == "ERROR":
        raise failure(int(obj.get("code", 500)), json.dumps(obj).encode())
    return WatchEvent(kind, obj)
