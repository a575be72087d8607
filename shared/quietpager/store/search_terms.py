"""What counts as a word where past incidents are searched; one answer for every back end.

Words are letters and digits, beginning with a letter, so that PostgreSQL's parser cuts them exactly as
this module does (configuration `simple`), and none can be an operator of its query language.
"""

import re
from collections.abc import Iterable
from typing import Final

from quietpager.model.store import Record

PAST: Final = "PAST"
"""Kind of the records that `similar` looks through."""

MOST: Final = 200
"""Words of one text that count."""

_WORD: Final = re.compile(r"[a-z][a-z0-9]{2,39}")
_COMMON: Final = frozenset(
    [
        "and",
        "are",
        "but",
        "can",
        "for",
        "from",
        "has",
        "have",
        "not",
        "that",
        "the",
        "this",
        "was",
        "were",
        "will",
        "with",
        "pod",
        "pods",
        "container",
        "containers",
        "deployment",
        "replicas",
        "replica",
        "warning",
        "error",
        "failed",
        "failing",
        "status",
        "state",
    ]
)


def words(text: str) -> tuple[str, ...]:
    """Give the distinct words of a text in order, without those that every incident has."""
    found = dict.fromkeys(one for one in _WORD.findall(text.lower()) if one not in _COMMON)
    return tuple(found)[:MOST]


def most_similar(past: Iterable[Record], text: str, limit: int) -> list[Record]:
    """Choose what `similar` promises, for a back end without full text."""
    wanted = set(words(text))
    shared = [(len(wanted & set(words(str(r.body.get("words"))))), r) for r in past]
    found = sorted(((n, r) for n, r in shared if n), key=lambda one: (-one[0], one[1].key))
    return [record for _, record in found[: max(limit, 0)]]
