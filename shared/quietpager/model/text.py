"""Cleans text from a cluster. Treat such text as hostile until this module has cleaned it."""

import re

from quietpager.masking.told import told

LONGEST_MESSAGE = 4096
"""Characters of an Event's message that are kept; Kubernetes itself allows 1 KiB (events.k8s.io)."""

LONGEST_KEY = 4096
"""Characters beyond a cut that are looked at, so that a secret at the edge is seen as one."""

_CONTROL = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.:_-]{0,251}[A-Za-z0-9])?")


def clean(text: str, longest: int = LONGEST_MESSAGE) -> str:
    """Make text fit for a terminal, a store and a person: no control or direction characters, bounded."""
    if len(text) > longest:
        # Half a key has no shape, so what is to be cut is masked first; a key at the edge is read as a whole.
        whole, text = text, told(text[: longest + LONGEST_KEY])
        kept = _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text[:longest])
        return f"{kept} (cut: {len(whole)} characters)"
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", text)


def is_name(text: str) -> bool:
    """Tell whether text can be the name of a Kubernetes object (generous: system names have colons)."""
    return _NAME.fullmatch(text) is not None
