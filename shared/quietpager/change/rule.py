"""One rule of an admission policy as text: what a kind of change, and `render`, say to the API server."""

import json
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """One validation: its name, its CEL expression, what it says, and a CEL string that says where."""

    name: str
    expression: str
    says: str
    where: str | None = None


def text(value: str) -> str:
    """Write a string of CEL; JSON's escapes are among CEL's."""
    return json.dumps(value)


def texts(values: Iterable[str]) -> str:
    """Write a list of strings."""
    return f"[{', '.join(map(text, values))}]"
