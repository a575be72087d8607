"""A recorded case's objects as a cluster that can be read; what is not in the folder does not exist.

Who calls it: replay, and the tests of rules and actions.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quietpager.cluster.snapshot import with_labels
from quietpager.model.cluster import Json, Kind, Rejected

_EPOCH = datetime.fromtimestamp(0, UTC)


class Recorded:
    """A `LogReader` over one case folder."""

    def __init__(self, folder: Path) -> None:
        """Read every object and Event; a file that is no object is as good as absent."""
        self.objects: list[Json] = []
        for path in sorted((folder / "objects").glob("*.json")):
            raw = read_json(path)
            if isinstance(raw, dict) and isinstance(raw.get("metadata"), dict):
                self.objects.append(raw)
        self.objects += _events(folder)
        self._previous = _bytes(folder / "previous_logs.txt")

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object."""
        return next((o for o in self.list(kind, namespace) if o["metadata"].get("name") == name), None)

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Read all objects of a kind; no rule selects by label here."""
        del labels
        return [
            o for o in self.objects
            if o.get("kind") == kind and namespace in (None, o["metadata"].get("namespace"))
        ]  # fmt: skip

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Read all objects of a kind one after the other."""
        return with_labels(self.list(kind, namespace), labels)

    def events(self, kind: str, namespace: str, name: str) -> Sequence[Json]:
        """Read the case's Events about one object."""
        about = {"kind": kind, "name": name}
        every = self.list("Event", namespace)
        return [one for one in every if about.items() <= (one.get("involvedObject") or {}).items()]

    def metadata(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object's metadata alone."""
        found = self.get(kind, namespace, name)
        return None if found is None else {"kind": kind, "metadata": found["metadata"]}

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        tail: int = 100,
        most: int = 1 << 16,
    ) -> bytes:
        """Read the tail of the crashed container; a case keeps no other log."""
        del namespace, tail
        if not previous or not self._previous:
            raise Rejected(400, "BadRequest", f"the case keeps no such log of {container} in {pod}")
        return self._previous[-most:]


def case_event(folder: Path) -> Any:
    """Read a case's Event; one without a name or uid gets what it lacks, so that it can be read by name."""
    raw = read_json(folder / "event.json")
    meta = raw.get("metadata") if isinstance(raw, dict) else None
    if not isinstance(meta, dict):
        return raw
    given = {key: value for key, value in meta.items() if value not in (None, "")}
    return raw | {"metadata": {"name": "event", "uid": "event"} | given}


def case_moment(raw: Any) -> datetime:
    """The case's own clock: the newest time its Event tells, or the epoch."""
    times: list[datetime] = []
    fields = raw if isinstance(raw, dict) else {}
    for name in ("lastTimestamp", "eventTime", "firstTimestamp", "deprecatedLastTimestamp"):
        try:
            moment = datetime.fromisoformat(str(fields.get(name)))
        except ValueError:
            continue
        if moment.tzinfo is not None:
            times.append(moment.astimezone(UTC))
    return max(times, default=_EPOCH)


def _events(folder: Path) -> list[Json]:
    related = read_json(folder / "related_events.json")
    items = related.get("items") if isinstance(related, dict) else related
    every = [case_event(folder), *(items if isinstance(items, list) else ())]
    good = (one for one in every if isinstance(one, dict) and isinstance(one.get("metadata"), dict))
    return [{"kind": "Event", "apiVersion": "v1"} | one for one in good]


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def read_json(path: Path) -> Any:
    """Read a file of a case; None where it is missing or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
