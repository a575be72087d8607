"""Writes one page for a person about an object that is unhealthy and that no rule knows.

A Warning about a workload that is well, or not unwell for longer than the dwell, is nothing.
"""

from collections.abc import Callable
from datetime import datetime, timedelta

from quietpager.analysis.compose import compose
from quietpager.analysis.gather import Gathered, gather
from quietpager.analysis.logs import joined
from quietpager.analysis.unwell import unwell
from quietpager.model.cluster import LogReader
from quietpager.model.finding import Diagnosis, Evidence, Healthy, NotYet, Verdict
from quietpager.model.page import Similar
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import Signal
from quietpager.objects.kinds.node import KIND as NODE
from quietpager.objects.live import Live
from quietpager.objects.table import known

UNKNOWN = "unknown"
"""The failure class of everything here."""

MOST_EVIDENCE = 6
"""Facts that stand in the finding; the page has all of them."""

Remember = Callable[[str], tuple[tuple[Similar, ...], tuple[str, ...]]]
"""Finds similar incidents and what helped then, from a text."""


def nothing(_text: str) -> tuple[tuple[Similar, ...], tuple[str, ...]]:
    """Remember nothing; for replay, which has no store."""
    return (), ()


def analyse(
    signal: Signal, live: Live, reader: LogReader, now: datetime, dwell: float, remember: Remember = nothing
) -> Verdict:
    """Judge the target; where it is unwell for `dwell` seconds, gather the evidence and write the page.

    Raises what the reader raises while the target itself is read; evidence that cannot be read is
    named in the page instead.
    """
    trouble = unwell(live, reader, now)
    if trouble is None:
        return Healthy(why=f"{signal.target} and its owner are well, gone, or starting")
    left = timedelta(seconds=dwell) - (now - trouble.since)
    if left > timedelta():
        return NotYet(why=f"{trouble.why}, but not for {dwell:.0f} s yet", again_in=left.total_seconds())
    found = gather(signal.origin, live, reader, trouble, now)
    page = compose(found, *remember(search_text(found)))
    summary = Evidence(text=page.summary, source=str(found.owner))
    facts = [Evidence(text=one.text, source=one.source) for one in page.facts[:MOST_EVIDENCE]]
    return Diagnosis(
        failure_class=UNKNOWN,
        cause=cause_of(found.owner),
        owner=found.owner,
        evidence=(summary, *facts),
        facts=found.revision_facts,
        since=trouble.since,
        page=page,
    )


def cause_of(owner: ObjectRef) -> str:
    """Make the cause key: nothing says more than which object it is about."""
    return f"node:{owner.identity}" if known(owner) is NODE else f"workload:{owner.identity}"


def search_text(found: Gathered) -> str:
    """Say what is known in words that a past incident may share."""
    event = found.told
    said = [] if event is None else [event.reason, event.component, event.message]
    told = [UNKNOWN, found.owner.name, *said, found.trouble.why]
    return " ".join([*told, joined(found.logs), *(one.text for one in found.facts)])
