"""`raise-memory` over recorded cases: what it would change, and when it will not."""

from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from quietpager.actions.plan import rehearse
from quietpager.actions.schema import load_action
from quietpager.errors import Refused
from quietpager.functions.remediate.raise_memory.plan import plan
from quietpager.model.cluster import Kind
from quietpager.model.finding import Remedy
from quietpager.model.incident import Edit, Rehearsal
from tests.cases import Changeable

HERE = Path(__file__).parent
DETECT = HERE.parents[1] / "detect"
ACTION = load_action(HERE / "action.yaml")
Json = dict[str, Any]
DOUBLE: dict[str, str | float] = {"factor": 2, "ceiling": "4Gi"}
NO_OOM = ["crash/cases/03-crashloop", "crash/cases/20-run-error", "image/cases/32-bad-tag-new-revision"]


class Objects(Changeable):
    """A recorded case that a test may change."""

    def __init__(self, case: str) -> None:
        super().__init__(DETECT / case)

    def one(self, kind: Kind) -> Json:
        return self.list(kind)[0]

    @property
    def resources(self) -> Json:
        found: Json = self.deployment["spec"]["template"]["spec"]["containers"][0]["resources"]
        return found


@pytest.fixture
def oom() -> Objects:
    return Objects("crash/cases/30-oom-bounded")


def rehearsed(objects: Objects, params: dict[str, str | float]) -> Rehearsal:
    asked = Rehearsal(
        id="r", incident="i", remedy=Remedy(action="raise-memory", params=params), owner=objects.live.target,
        asked_at=datetime(2026, 11, 25, tzinfo=UTC),
    )  # fmt: skip
    return rehearse(
        asked, ACTION, plan, objects.live, opt_in_label="on", ignore_annotation="off", dry_run=None
    )


def test_the_killed_container_gets_twice_its_limit_and_nothing_else_changes(oom: Objects) -> None:
    change = plan(oom.live, DOUBLE)
    limit = Edit(path="/spec/template/spec/containers/0/resources/limits/memory", had="32Mi", gets="64Mi")
    assert limit in change.edits
    assert ACTION.outside(tuple(e.path for e in change.edits)) == ()
    assert "32Mi -> 64Mi" in change.summary


def test_the_request_grows_by_the_factor_and_never_beyond_the_limit(oom: Objects) -> None:
    oom.resources["requests"] = {"memory": "30Mi"}
    gets = {
        e.path.rpartition("resources/")[2]: e.gets
        for e in plan(oom.live, {"factor": 2, "ceiling": "48Mi"}).edits
    }
    assert gets == {"limits/memory": "48Mi", "requests/memory": "48Mi"}
    oom.resources["requests"] = {"memory": "8Mi"}
    gets = {e.path.rpartition("resources/")[2]: e.gets for e in plan(oom.live, DOUBLE).edits}
    assert gets == {"limits/memory": "64Mi", "requests/memory": "16Mi"}


@pytest.mark.parametrize("case", NO_OOM)
def test_where_nothing_was_killed_for_memory_it_refuses(case: str) -> None:
    with pytest.raises(Refused, match="killed for memory"):
        plan(Objects(case).live, DOUBLE)


def test_without_a_limit_it_refuses(oom: Objects) -> None:
    oom.resources.pop("limits")
    with pytest.raises(Refused, match="no memory limit"):
        plan(oom.live, DOUBLE)


@pytest.mark.parametrize("ceiling", ["32Mi", "16Mi"])
def test_at_the_ceiling_it_refuses(oom: Objects, ceiling: str) -> None:
    with pytest.raises(Refused, match="ceiling"):
        plan(oom.live, {"factor": 2, "ceiling": ceiling})


def test_a_deployment_that_is_gone_is_refused(oom: Objects) -> None:
    live = oom.live
    oom.objects = [o for o in oom.objects if o["kind"] != "Deployment"]
    with pytest.raises(Refused, match="gone"):
        plan(live, DOUBLE)


@pytest.mark.parametrize(
    "params",
    [
        {"factor": 1.0, "ceiling": "4Gi"},
        {"factor": 2.1, "ceiling": "4Gi"},
        {"factor": "NaN", "ceiling": "4Gi"},
        {"factor": "1e999", "ceiling": "4Gi"},
        {"factor": -2, "ceiling": "4Gi"},
        {"factor": "two", "ceiling": "4Gi"},
        {"factor": 2, "ceiling": "4 gigs"},
        {"factor": 2},
        {"ceiling": "4Gi"},
        {"factor": 2, "ceiling": "4Gi", "replicas": 0},
    ],
)
def test_parameters_outside_their_bounds_are_refused(oom: Objects, params: dict[str, str | float]) -> None:
    refused = rehearsed(oom, params)
    assert (refused.state, refused.edits) == ("refused", ())
    assert refused.refusal is not None
    assert refused.refusal.startswith("raise-memory")


def test_within_all_bounds_the_plan_fits(oom: Objects) -> None:
    done = rehearsed(oom, DOUBLE)
    assert done.state == "rehearsed"
    assert done.facts is not None
    assert (done.facts.does_not_fit, done.facts.outside_may_change) == (None, ())
    assert done.generation == oom.one("Deployment")["metadata"]["generation"]


def test_more_than_the_largest_node_has_does_not_fit(oom: Objects) -> None:
    oom.resources["requests"] = {"memory": "32Mi"}
    small = oom.one("Node")
    small["status"]["allocatable"]["memory"] = "63Mi"
    large = deepcopy(small) | {"spec": {"unschedulable": True}}
    large["status"]["allocatable"]["memory"] = "64Gi"
    oom.objects.append(large)
    facts = rehearsed(oom, DOUBLE).facts
    assert facts is not None
    assert facts.does_not_fit is not None
    assert "largest node has 63Mi" in facts.does_not_fit
    small["status"]["allocatable"]["memory"] = "64Mi"
    facts = rehearsed(oom, DOUBLE).facts
    assert facts is not None
    assert facts.does_not_fit is None


@pytest.mark.parametrize(("used", "fits"), [("100Mi", True), ("129Mi", False)])
def test_a_quota_must_have_room_for_every_replica(oom: Objects, used: str, fits: bool) -> None:
    deployment = oom.one("Deployment")
    oom.resources["requests"] = {"memory": "32Mi"}
    deployment["spec"]["replicas"] = 4
    oom.objects.append(
        {
            "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": deployment["metadata"]["namespace"]},
            "status": {"hard": {"requests.memory": "256Mi"}, "used": {"requests.memory": used}},
        }
    )
    facts = rehearsed(oom, DOUBLE).facts
    assert facts is not None
    assert (facts.does_not_fit is None) == fits


def test_without_a_request_the_scheduler_counts_the_new_limit(oom: Objects) -> None:
    oom.resources.pop("requests", None)
    oom.one("Node")["status"]["allocatable"]["memory"] = "63Mi"
    facts = rehearsed(oom, DOUBLE).facts
    assert facts is not None
    assert facts.does_not_fit is not None


@pytest.mark.parametrize(("used", "fits"), [("0", True), ("48Mi", False)])
def test_a_quota_of_limits_counts_the_growth_of_limits(oom: Objects, used: str, fits: bool) -> None:
    deployment = oom.one("Deployment")
    deployment["spec"]["replicas"] = 1
    oom.resources["requests"] = {"memory": "8Mi"}
    oom.objects.append(
        {
            "kind": "ResourceQuota",
            "metadata": {"name": "q", "namespace": deployment["metadata"]["namespace"]},
            "status": {"hard": {"limits.memory": "64Mi"}, "used": {"limits.memory": used}},
        }
    )
    facts = rehearsed(oom, DOUBLE).facts
    assert facts is not None
    assert (facts.does_not_fit is None) == fits
