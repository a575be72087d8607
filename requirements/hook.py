"""Gives hatchling the run-time requirements from their one home, requirements/run.in."""

from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Requirements(MetadataHookInterface):
    """Called by hatchling whenever it needs the project's metadata."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Fill in `dependencies`."""
        lines = (Path(self.root) / "requirements" / "run.in").read_text(encoding="utf-8").splitlines()
        names = (line.partition("#")[0].strip() for line in lines)
        build_only = {"hatchling>=1.27", "editables"}
        metadata["dependencies"] = [name for name in names if name and name not in build_only]
