"""Finds past incidents with similar text, and what helped then. Who calls it: `analyze/unknown`."""

from typing import Final

from quietpager.incident import records
from quietpager.model.ledger import Count, Past
from quietpager.model.page import Similar
from quietpager.model.store import Store
from quietpager.store.search_terms import words

MOST: Final = 3
LEAST_WORDS: Final = 2
"""Words that must be shared; one alone is chance."""


def remembered(store: Store, text: str) -> tuple[tuple[Similar, ...], tuple[str, ...]]:
    """Find similar incidents, and a line for each action that was tried in one of them.

    Args:
        store: where records are.
        text: what is known of the present problem.
    """
    found = [Past.from_json(record.body) for record in store.similar(text, MOST * 2)]
    wanted = set(words(text))
    alike = [one for one in found if len(wanted & set(one.words.split())) >= LEAST_WORDS][:MOST]
    keys = dict.fromkeys(
        records.ledger(count.failure_class, count.action) for one in alike for count in one.counts
    )
    counts = (Count.from_json(record.body) for record in store.get_many([*keys]).values())
    helped = tuple(str(one) for one in sorted(counts, key=lambda one: (-one.helped, one.action)))
    return tuple(one.story for one in alike), helped
