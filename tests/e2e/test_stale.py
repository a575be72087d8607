"""A person edits the Deployment between rehearsal and write: refused as stale, planned again."""

from contextlib import suppress
from datetime import datetime

import pytest

from infra.deploy import store_url
from quietpager.model.incident import IntentState, State
from tests.e2e.bed import Bed, apply_fault, frozen, now, process_ids
from tests.e2e.moments import Moments, moments
from tests.e2e.test_stories import check_writes, memory_limit

pytestmark = pytest.mark.timeout(400)


TRIES = 4
"""It must be stopped between its plan and the write; a miss is tried anew."""


def test_an_edit_after_the_rehearsal_makes_the_write_stale(bed: Bed) -> None:
    for _ in range(TRIES):
        with bed.team("stale") as namespace, moments(store_url()) as when:
            begun = now()
            if edited_between(bed, namespace, when):
                check(bed, namespace, begun)
                return
    pytest.fail(f"in {TRIES} tries the edit never came between plan and write")


def edited_between(bed: Bed, namespace: str, when: Moments) -> bool:
    """Break it, and edit the Deployment while the remediator stands still with its plan committed."""
    apply_fault("oom-bounded", namespace)
    pids = process_ids("remediate-raise-memory")
    when.wait("REHEARSAL", "rehearsed", 120)
    with frozen(pids):
        # The plan's due item tells decide what the remediator cannot.
        with suppress(AssertionError):  # a plan that came too late to count is planned again
            when.wait("INTENT", "INTENT", 20)
        intents = bed.intents(namespace)
        if not intents or any(intent.state is not IntentState.INTENT for intent in intents):
            return False
        annotate = {"metadata": {"annotations": {"team.example.com/looked-at-by": "a person"}}}
        bed.cluster.merge_patch("Deployment", namespace, "cache", annotate)
    return True


def check(bed: Bed, namespace: str, begun: datetime) -> None:
    incident = bed.ended(namespace)
    first, *rest = bed.intents(namespace)
    assert first.state is IntentState.REFUSED, bed.story(namespace)
    assert "somebody else changed" in first.result or "generation" in first.result
    assert [intent.state for intent in rest] == [IntentState.APPLIED]
    assert rest[0].generation > first.generation
    assert (incident.state, incident.reason) == (State.CLOSED, "fixed")
    assert memory_limit(bed, namespace, "cache") == "64Mi"
    assert check_writes(bed, namespace, begun) == 1
