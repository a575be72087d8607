"""Turns a closed incident into its entries of the ledger. Pure. Who calls it: `learn/codify`."""

from collections.abc import Iterable, Mapping

from quietpager.model.incident import How, Incident, Tried
from quietpager.model.ledger import Count, Past
from quietpager.model.page import Similar
from quietpager.store.search_terms import words

Key = tuple[str, str]

SENT = frozenset({How.APPLIED, How.UNKNOWN, How.UNVERIFIED})
"""A change that was written and whose effect nobody knows."""

NOT_HELPED = frozenset({How.NOT_HELPED, How.NOT_UNDONE, How.UNDO_LOST})


def counts_of(incident: Incident) -> tuple[Count, ...]:
    """Count what was carried out in one incident. What was refused before its write was not tried."""
    found: dict[str, Count] = {}
    for number, one in enumerate(incident.tried):
        held = incident.reason == "fixed" and number + 1 == len(incident.tried)
        count = _count(incident.failure_class, one, held=held)
        if count is not None:
            before = found.get(one.action)
            found[one.action] = count if before is None else before.plus(count)
    return tuple(found.values())


def _count(failure_class: str, one: Tried, *, held: bool) -> Count | None:
    """Count one try. `held`: nothing says that a verified fix failed again later."""
    fresh = Count(failure_class=failure_class, action=one.action, tried=1)
    if one.how is How.HELPED:
        return fresh.but(helped=1) if held else fresh.but(not_helped=1)
    if one.how is How.NOT_PROVEN:
        return fresh.but(unproven=1) if held else fresh.but(not_helped=1)
    if one.how is How.UNDONE:
        return fresh.but(not_helped=1, undone=1)
    if one.how in NOT_HELPED:
        return fresh.but(not_helped=1)
    return fresh if one.how in SENT else None


def past_of(incident: Incident) -> Past:
    """Make what is remembered of a closed incident."""
    page = incident.page
    texts = [incident.failure_class, incident.owner.name, *(one.text for one in incident.evidence)]
    if page is not None:
        texts += [page.summary, *(one.text for one in page.facts), *(one.what for one in page.causes)]
    lasted = (incident.state_since - incident.opened_at).total_seconds()
    what = page.summary if page is not None else f"{incident.failure_class} on {incident.owner}"
    return Past(
        story=Similar(
            incident=incident.id,
            what=what,
            ended=f"{incident.reason or 'closed'} after {lasted:.0f} s",
            tried=tuple(f"{one.action}: {one.result}" for one in incident.tried),
        ),
        failure_class=incident.failure_class,
        closed_at=incident.state_since,
        words=" ".join(words(" ".join(texts))),
        counts=counts_of(incident),
    )


def corrected(
    ledger: Mapping[Key, Count], before: Iterable[Count], after: Iterable[Count]
) -> dict[Key, Count]:
    """Replace an incident's earlier part in the ledger by its new one; gives the counts that change."""
    changed: dict[Key, Count] = {}
    for counts, times in ((before, -1), (after, 1)):
        for one in counts:
            key = (one.failure_class, one.action)
            empty = Count(failure_class=one.failure_class, action=one.action)
            changed[key] = changed.get(key, ledger.get(key, empty)).plus(one, times)
    return {key: count for key, count in changed.items() if count != ledger.get(key)}
