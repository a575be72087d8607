"""What a container's process does, as workloads.yaml declares it: what memory it takes, how its image comes.

Who calls it: the kubelet of the sandbox.
"""

import re
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import yaml

from quietpager.model.quantity import quantity

Json = dict[str, Any]

_TABLE: Final = Path(__file__).with_name("workloads.yaml")


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What a container's process does."""

    needs: Decimal | None = None
    """Bytes of memory that it takes; Infinity takes all there is; None never matters."""
    pull: Literal["", "missing", "flaky"] = ""
    declared: bool = False

    def dies(self, container: Json) -> bool:
        """Say whether it gets over its memory limit (without one, over what a node has)."""
        limit = ((container.get("resources") or {}).get("limits") or {}).get("memory")
        if self.needs is None:
            return False
        return self.needs.is_infinite() if limit is None else quantity(limit) < self.needs


def behaviour(container: Json, table: Path = _TABLE) -> Behaviour:
    """Look a container up in the declared table."""
    command = " ".join([*(container.get("command") or ()), *(container.get("args") or ())])
    for image_pattern, command_pattern, found in _rows(table):
        if image_pattern.search(container.get("image", "")) and command_pattern.search(command):
            return found
    return Behaviour()


@cache
def _rows(table: Path) -> list[tuple[re.Pattern[str], re.Pattern[str], Behaviour]]:
    return [
        (
            re.compile(row.get("image", "")),
            re.compile(row.get("command", "")),
            Behaviour(_bytes(row.get("needs")), row.get("pull", ""), declared=True),
        )
        for row in yaml.safe_load(table.read_text(encoding="utf-8"))
    ]


def _bytes(text: str | None) -> Decimal | None:
    if text is None:
        return None
    return Decimal("Infinity") if text == "unlimited" else quantity(text)
