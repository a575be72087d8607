"""Text from a cluster is hostile until it went through here."""

import re

LONGEST_MESSAGE = 4096
"""Characters of an Event's message that are kept; Kubernetes itself allows 1 KiB (events.k8s.io)."""

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?")


def clean(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Make text fit for a terminal, a store and a person: no control or direction characters, bounded."""
    kept = text[: longest + 1]
    printable = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", kept)
    if len(text) > longest:
        return f"{printable[:longest]} (cut: {len(text)} characters)"
    return printable


def is_name(text: str) -> bool:
    """Tell whether text can be the name of a Kubernetes object (generous: system names have colons)."""
    return _NAME.fullmatch(text) is not None
