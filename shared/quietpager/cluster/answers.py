"""What an API server's answers mean: errors, and the lines of a watch.

Who calls it: `client`.
"""

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from quietpager.model.cluster import ClusterUnavailable, Json, Rejected, WatchEvent

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse


def object_of(body: bytes) -> Json:
    """Read the object in an answer."""
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise ClusterUnavailable("the API server's answer is not JSON") from error
    if not isinstance(answer, dict):
        raise ClusterUnavailable("the API server's answer is not an object")
    return answer


def _status(body: bytes) -> Json:
    """Read an error's body: a Status object, or a proxy's own words."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    return status if isinstance(status, dict) else {"message": body[:200].decode(errors="replace")}


def failure(code: int, body: bytes) -> ClusterUnavailable | Rejected:
    """Say what an error answer means."""
    status = _status(body)
    message, reason = str(status.get("message", "")), str(status.get("reason", ""))
    if code == 429 or code >= 500 or code < 400:
        return ClusterUnavailable(f"the API server answered {code} {reason}: {message}")
    return Rejected(code, reason, message)


def refused_eviction(code: int, body: bytes) -> ClusterUnavailable | Rejected:
    """Tell a disruption budget's 429 from an overloaded server's, and keep 500 as an answer."""
    status = _status(body)
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    named = [one.get("reason") for one in causes or () if isinstance(one, dict)]
    if code == 500 or (code == 429 and "DisruptionBudget" in named):
        return Rejected(code, str(status.get("reason", "")), str(status.get("message", "")))
    return failure(code, body)


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
