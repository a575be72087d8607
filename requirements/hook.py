"""Gives hatchling the run-time requirements from their one home, requirements/run.in and local.in.

Lines behind `# extra: NAME` are what `pip install quietpager[NAME]` brings besides; the others everybody gets.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

BUILD_ONLY = {"hatchling>=1.27", "editables"}
EXTRA = re.compile(r"# extra: (\w+)")


class Requirements(MetadataHookInterface):
    """Called by hatchling whenever it needs the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in `dependencies` and `optional-dependencies`."""
        needed: list[str] = []
        extras: dict[str, list[str]] = {}
        for file in ("run.in", "local.in"):
            for extra, name in _lines(Path(self.root) / "requirements" / file):
                (needed if extra is None else extras.setdefault(extra, [])).append(name)
        metadata["dependencies"] = needed
        metadata["optional-dependencies"] = extras


def _lines(file: Path) -> Iterator[tuple[str | None, str]]:
    extra: str | None = None
    for line in file.read_text(encoding="utf-8").splitlines():
        if begins := EXTRA.match(line):
            extra = begins[1]
        name = line.partition("#")[0].strip()
        if name and not name.startswith("-r ") and name not in BUILD_ONLY:
            yield extra, name
