"""The dwell, through decide: how long a symptom has lasted, and what makes it begin anew."""

from datetime import datetime, timedelta
from typing import Any

import pytest

from quietpager.incident.machine import step
from quietpager.incident.news import Input, News
from quietpager.model.finding import Diagnosis, Dwell, Finding
from quietpager.model.incident import Incident, State
from tests.acts import NOW, incident, intents, tell
from tests.deciding import POLICY, put, world


@pytest.mark.parametrize(
    ("seconds", "restarts", "limits", "acts"),
    [
        (59.0, 1, {}, 0),
        (60.0, 0, {}, 1),
        (0.0, 2, {}, 1),
        (60.0, 0, {"dwell_seconds": 61.0}, 0),
        (1.0, 0, {"dwell_seconds": 1.0}, 1),
        (1.0, 2, {"dwell_restarts": 3}, 0),
        (1.0, 99, {"dwell_restarts": 0}, 0),
    ],
)
def test_decide_computes_the_dwell_from_the_incident_and_the_policy(
    seconds: float, restarts: int, limits: dict[str, Any], acts: int
) -> None:
    """Fails if the answer is wired to yes or to no anywhere between the store and the guard."""
    store, ctx, _ = world(0, POLICY.but(**limits))
    young = incident().but(since=NOW - timedelta(seconds=seconds), restarts=restarts)
    put(store, young)
    tell(ctx, 0)
    assert len(intents(store)) == acts
    if not acts:
        refused = Incident.from_json(store.scan("INCIDENT")[0].body).refusals
        assert refused[0].startswith(
            f"Guard 12 (dwell): The symptom has lasted {seconds:.0f} s and {restarts}"
        )


def test_the_age_of_a_symptom_is_the_earliest_told_but_begins_anew_after_a_healthy_look() -> None:
    """Else guard 12 would refuse what the state machine has just waited for, or pass a relapse at once."""
    waiting = incident().but(state=State.WAITING, since=NOW, restarts=0)
    hour_ago, minute_ago = NOW - timedelta(hours=1), NOW - timedelta(minutes=1)

    def look(one: Incident, since: datetime) -> Incident:
        told = Diagnosis(
            failure_class="oom_killed", cause=one.cause, owner=one.owner, evidence=(), since=since
        )
        seen = Finding(
            id="look", incident=one.id, serial=one.serial + 1, outcome="failing", at=NOW, family="crash",
            target=one.owner, why="", diagnosis=told, dwell=Dwell(seconds=1e9),
        )  # fmt: skip
        after = step(one, Input(News.FAILING, finding=seen), POLICY, NOW).incident
        assert after is not None
        return after

    first = look(waiting, hour_ago)
    assert first.since == hour_ago
    assert look(first, minute_ago).since == hour_ago
    assert look(first.but(healthy_since=minute_ago), NOW).since == NOW
