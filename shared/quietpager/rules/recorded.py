"""A recorded case's objects as a cluster that can be read; what is not in the folder does not exist.

Who calls it: replay, and the tests of rules and actions.
"""

import json
from pathlib import Path
from typing import Any

from quietpager.cluster.port import Json, Kind


class Recorded:
    """A `Reader` over `objects/*.json` of one case folder."""

    def __init__(self, folder: Path) -> None:
        """Read every object; a file that is no object is as good as absent."""
        self.objects: list[Json] = []
        for path in sorted((folder / "objects").glob("*.json")):
            raw = read_json(path)
            if isinstance(raw, dict) and isinstance(raw.get("metadata"), dict):
                self.objects.append(raw)

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


def read_json(path: Path) -> Any:
    """Read a file of a case; None where it is missing or no JSON."""
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
