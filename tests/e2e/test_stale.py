"""A person edits the Deployment between rehearsal and write: refused as stale, planned again."""

import pytest

from infra.deploy import store_url
from quietpager.model.incident import IntentState, State
from tests.e2e.bed import Bed, apply_fault, frozen, now, process_ids
from tests.e2e.moments import moments
from tests.e2e.test_stories import check_writes, memory_limit

pytestmark = pytest.mark.timeout(400)


def test_an_edit_after_the_rehearsal_makes_the_write_stale(bed: Bed) -> None:
    with bed.team("stale") as namespace, moments(store_url()) as when:
        begun = now()
        apply_fault("oom-bounded", namespace)
        pids = process_ids("remediate-raise-memory")
        when.wait("REHEARSAL", "rehearsed", 120)
        # It stands still with its plan committed; the plan's due item tells decide what it cannot.
        with frozen(pids):
            when.wait("INTENT", "INTENT", 30)
            annotate = {"metadata": {"annotations": {"team.example.com/looked-at-by": "a person"}}}
            bed.cluster.merge_patch("Deployment", namespace, "cache", annotate)
        incident = bed.ended(namespace)
        first, *rest = bed.intents(namespace)
        assert first.state is IntentState.REFUSED, bed.story(namespace)
        assert "somebody else changed" in first.result or "generation" in first.result
        assert [intent.state for intent in rest] == [IntentState.APPLIED]
        assert rest[0].generation > first.generation
        assert (incident.state, incident.reason) == (State.CLOSED, "fixed")
        assert memory_limit(bed, namespace, "cache") == "64Mi"
        assert check_writes(bed, namespace, begun) == 1
