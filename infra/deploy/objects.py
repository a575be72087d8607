"""Gives objects to kubectl in a file that only its owner can read: what is in a command line, all can."""

import json
import tempfile
from collections.abc import Sequence
from typing import Any

from infra.testbed.addons import kubectl

Json = dict[str, Any]


def apply(objects: Sequence[Json]) -> None:
    """Apply objects in their order; fields that somebody else set become ours."""
    manager = "--field-manager=quietpager-deploy"
    _give(["apply", "--server-side", "--force-conflicts", manager], objects)


def create(one: Json) -> None:
    """Create one object; ends with kubectl's text where it exists."""
    _give(["create", "--field-manager=quietpager-deploy"], [one])


def _give(command: Sequence[str], objects: Sequence[Json]) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
        json.dump({"apiVersion": "v1", "kind": "List", "items": list(objects)}, file)
        file.flush()
        kubectl(*command, "-f", file.name)
