"""A recheck of a cause that is no workload, over recorded objects that a test changes."""

from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest

from quietpager.cluster.recorded import Recorded
from quietpager.functions.detect.config.diagnose import diagnose
from quietpager.model.finding import Healthy, NotMine, Verdict
from quietpager.model.incident import Incident, State
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import Signal
from quietpager.objects.live import Live
from quietpager.objects.once import Once
from quietpager.rules.judging import Diagnose, judge
from quietpager.runtime import rechecking
from quietpager.runtime.context import functions_folder
from quietpager.runtime.rechecking import look

CASES = functions_folder() / "detect/config/cases"
NOW = datetime(2026, 11, 25, tzinfo=UTC)
Json = dict[str, Any]


@pytest.fixture
def objects() -> Recorded:
    return Recorded(CASES / "02-configmap-missing")


def incident(objects: Recorded, *more: ObjectRef, kind: str = "Deployment") -> Incident:
    meta = objects.list("Deployment")[0]["metadata"] if objects.list("Deployment") else {}
    owner = ObjectRef(
        api_version="apps/v1", kind=kind, namespace="team-12", name="app", uid=meta.get("uid", "gone")
    )
    return Incident(
        id="inc", cause="configmap:team-12/app-config", episode=1, cluster="c", family="config",
        failure_class="config_missing_configmap", owner=owner, owners=(owner, *more), state=State.WAITING,
        opened_at=NOW, state_since=NOW, since=NOW, deadline_at=NOW, recheck_every=10.0,
    )  # fmt: skip


def seen(objects: Recorded, one: Incident) -> tuple[str, str]:
    outcome, health, _ = look(one, Live(Once(objects), one.owner, cause=one.cause), None, diagnose)
    return outcome, health.why


def status(objects: Recorded) -> Json:
    found: Json = objects.list("Pod")[0]["status"]
    return found


def test_it_fails_while_a_pod_fails_for_this_cause(objects: Recorded) -> None:
    assert seen(objects, incident(objects))[0] == "failing"


def test_a_second_owner_counts_as_much_as_the_first(objects: Recorded) -> None:
    """The first owner is gone; the pods are the second's."""
    one = incident(objects)
    gone = one.owner.but(name="other", uid="other")
    assert seen(objects, one.but(owner=gone, owners=(gone, one.owner)))[0] == "failing"


def test_a_pod_that_fails_for_something_else_is_not_this_incidents(objects: Recorded) -> None:
    waiting = status(objects)["containerStatuses"][0]["state"]["waiting"]
    waiting["message"] = 'configmap "another" not found'
    assert seen(objects, incident(objects))[0] == "healthy"


def test_who_cannot_know_calls_nothing_healthy(objects: Recorded) -> None:
    """The kubelet says something here that this family does not know: that is no answer."""
    status(objects)["containerStatuses"][0]["state"]["waiting"]["message"] = "something new"
    assert seen(objects, incident(objects))[0] == "unreadable"


def test_where_not_mine_counts_as_healthy_it_would_close(
    objects: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    def taken_for_well(signal: Signal, live: Live, diagnose: Diagnose) -> Verdict:
        verdict = judge(signal, live, diagnose)
        return Healthy(why=verdict.why) if isinstance(verdict, NotMine) else verdict

    monkeypatch.setattr(rechecking, "judge", taken_for_well)
    status(objects)["containerStatuses"][0]["state"]["waiting"]["message"] = "something new"
    assert seen(objects, incident(objects))[0] == "healthy"


def test_a_pod_that_has_only_just_started_proves_nothing(objects: Recorded) -> None:
    status(objects)["containerStatuses"][0]["state"] = {"waiting": {"reason": "ContainerCreating"}}
    assert seen(objects, incident(objects))[0] == "unreadable"


def test_it_is_gone_with_the_last_of_its_owners(objects: Recorded) -> None:
    one = incident(objects)
    objects.objects = [o for o in objects.objects if o["kind"] == "Node"]
    assert seen(objects, one)[0] == "gone"


def test_owners_that_cannot_be_read_are_judged_by_the_pods_known_by_name(objects: Recorded) -> None:
    pod = objects.list("Pod")[0]["metadata"]
    target = ObjectRef(
        api_version="v1", kind="Pod", namespace="team-12", name=pod["name"], uid="of an earlier pod"
    )
    one = incident(objects, kind="Rollout").but(symptoms=(target,))
    assert seen(objects, one)[0] == "failing"
    objects.objects = [o for o in objects.objects if o["kind"] != "Pod"]
    assert seen(objects, one)[0] == "unreadable"


def test_one_look_asks_each_question_once(objects: Recorded) -> None:
    asked: list[tuple[Any, ...]] = []

    class Counting(Recorded):
        def list(self, kind: Any, namespace: str | None = None, labels: str = "") -> list[Json]:
            asked.append((kind, namespace))
            return super().list(kind, namespace, labels)

    counting = Counting(CASES / "02-configmap-missing")
    one = incident(objects)
    others = tuple(one.owner.but(name=f"w{n}", uid=f"w{n}") for n in range(5))
    deployment = deepcopy(objects.list("Deployment")[0])
    for other in others:
        meta = deployment["metadata"] | {"name": other.name, "uid": other.uid}
        counting.objects.append(deployment | {"metadata": meta})
    assert seen(counting, one.but(owners=(one.owner, *others)))[0] == "failing"
    lists = [question for question in asked if question == ("Pod", "team-12")]
    assert len(lists) <= 2  # `get` of a recorded case lists as well
