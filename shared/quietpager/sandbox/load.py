"""Recorded cases in the sandbox: read a case's folder, move it to now, load it.

Used by the demo and by tests. `read_case` is pure; `load_case` posts to the sandbox's own endpoint,
which a real API server does not have.
"""

import json
import re
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from quietpager.model.time import to_text

Json = dict[str, Any]

_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")


@dataclass(frozen=True, slots=True)
class Case:
    """A recorded case, moved in time."""

    objects: list[Json]
    event: Json
    """The Event that the case is about."""
    related: list[Json]
    """The other Events, oldest first."""

    def events(self) -> list[Json]:
        """All Events, the case's own last, as they can be posted: without what a server writes."""
        return [_postable(event) for event in [*self.related, self.event]]


def read_case(folder: Path, now: datetime) -> Case:
    """Read a case and shift all of its times by one constant, so that its newest is `now`.

    Raises:
        OSError, ValueError: the folder is no case.
    """
    objects = [_read(path) for path in sorted((folder / "objects").glob("*.json"))]
    event = _read(folder / "event.json")
    related: list[Json] = []
    if (path := folder / "related_events.json").exists():
        found = _read(path)
        related = found if isinstance(found, list) else found["items"]
    times = [datetime.fromisoformat(text) for text in _times([objects, event, related])]
    seconds = int((now - max(times, default=now)).total_seconds())
    moved = _shift({"o": objects, "e": event, "r": related}, timedelta(seconds=seconds))
    moved["r"].sort(key=lambda e: e.get("lastTimestamp") or e.get("eventTime") or "")
    return Case(moved["o"], moved["e"], moved["r"])


def load_case(url: str, folder: Path, now: datetime, *, enabled: bool = True) -> Case:
    """Put a case's objects into the sandbox at `url`; gives the case, with its Events to post.

    Namespaces that are missing are created, opted in (`quietpager.dev/enabled: "true"`) where
    `enabled`. Kinds that the sandbox does not have are left out.
    """
    case = read_case(folder, now)
    body = json.dumps({"objects": case.objects, "enabled": enabled}).encode()
    request = urllib.request.Request(  # noqa: S310 (the sandbox's own http URL)
        url.rstrip("/") + "/sandbox/load", body, {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310 (the same)
        answer.read()
    return case


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _times(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _times(item)
    elif isinstance(value, str) and _TIME.fullmatch(value):
        yield value


def _shift(value: Any, by: timedelta) -> Any:
    if isinstance(value, dict):
        return {key: _shift(item, by) for key, item in value.items()}
    if isinstance(value, list):
        return [_shift(item, by) for item in value]
    if isinstance(value, str) and _TIME.fullmatch(value):
        return to_text(datetime.fromisoformat(value) + by)
    return value


def _postable(event: Json) -> Json:
    metadata = {key: event["metadata"][key] for key in ("name", "namespace")}
    return event | {"metadata": metadata}
