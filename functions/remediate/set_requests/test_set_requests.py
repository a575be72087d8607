"""`set-requests` over the recorded case: what it would change, and when it will not."""

from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from quietpager.actions.plan import rehearse
from quietpager.actions.schema import load_action
from quietpager.errors import Refused
from quietpager.functions.remediate.set_requests.plan import plan
from quietpager.model.cluster import Kind
from quietpager.model.finding import Remedy
from quietpager.model.incident import Autonomy, Edit, Rehearsal
from quietpager.model.quantity import quantity
from tests.cases import Changeable

HERE = Path(__file__).parent
CASE = HERE.parents[1] / "detect/scheduling/cases/23-unschedulable"
ACTION = load_action(HERE / "action.yaml")
BASE = "/spec/template/spec/containers"
Json = dict[str, Any]
HALF: dict[str, str | float] = {"share": 0.5}


class Objects(Changeable):
    """The recorded case, which a test may change."""

    def __init__(self) -> None:
        super().__init__(CASE)

    def one(self, kind: Kind) -> Json:
        return self.list(kind)[0]

    @property
    def spec(self) -> Json:
        found: Json = self.deployment["spec"]["template"]["spec"]
        return found

    def ask(self, *containers: Json) -> None:
        """Give the template these containers' resources, by order."""
        self.spec["containers"] = [
            {"name": f"c{number}", "image": "i", "resources": resources}
            for number, resources in enumerate(containers)
        ]


@pytest.fixture
def large() -> Objects:
    return Objects()


def rehearsed(objects: Objects, params: dict[str, str | float]) -> Rehearsal:
    asked = Rehearsal(
        id="r", incident="i", remedy=Remedy(action="set-requests", params=params), owner=objects.live.target,
        asked_at=datetime(2026, 11, 25, tzinfo=UTC),
    )  # fmt: skip
    return rehearse(
        asked, ACTION, plan, objects.live, opt_in_label="on", ignore_annotation="off", dry_run=None
    )


def test_the_pod_asks_for_half_of_the_largest_node_and_nothing_else_changes(large: Objects) -> None:
    change = plan(large.live, HALF)
    # 24580016Ki allocatable: half of it, in whole MiB.
    assert change.edits == (
        Edit(path=f"{BASE}/0/resources/requests/memory", had="40Gi", gets="12001Mi"),
    )  # fmt: skip
    assert ACTION.outside(tuple(e.path for e in change.edits)) == ()
    assert "40Gi -> 12001Mi" in change.summary


def test_it_asks_a_person_whatever_a_rule_says() -> None:
    assert ACTION.autonomy_at_most is Autonomy.APPROVE


def test_a_person_may_choose_the_value_within_the_share(large: Objects) -> None:
    [edit] = plan(large.live, {"share": 0.5, "memory": "4Gi"}).edits
    assert edit.gets == "4Gi"
    with pytest.raises(Refused, match="at most 12001Mi of memory"):
        plan(large.live, {"share": 0.5, "memory": "13Gi"})
    [edit] = plan(large.live, {"share": 0.9, "memory": "13Gi"}).edits
    assert edit.gets == "13Gi"


def test_only_the_largest_container_changes_and_the_rest_keeps_its_own(large: Objects) -> None:
    large.ask({"requests": {"memory": "1Gi"}}, {"requests": {"memory": "40Gi"}, "limits": {"memory": "40Gi"}})
    [edit] = plan(large.live, HALF).edits
    assert edit.path == f"{BASE}/1/resources/requests/memory"
    assert quantity(edit.gets) + quantity("1Gi") == quantity("12001Mi")


def test_cpu_is_set_in_the_way_the_api_server_gives_it_back(large: Objects) -> None:
    large.ask({"requests": {"cpu": "64", "memory": "1Gi"}})
    [edit] = plan(large.live, HALF).edits
    assert (edit.path, edit.had, edit.gets) == (f"{BASE}/0/resources/requests/cpu", "64", "1")
    [edit] = plan(large.live, {"share": 0.25}).edits
    assert edit.gets == "500m"


def test_where_some_node_could_hold_it_it_refuses_even_a_cordoned_one(large: Objects) -> None:
    node = deepcopy(large.one("Node")) | {"spec": {"unschedulable": True}}
    node["status"]["allocatable"]["memory"] = "64Gi"
    large.objects.append(node)
    with pytest.raises(Refused, match="is not too large"):
        plan(large.live, HALF)


def test_without_any_open_node_it_refuses(large: Objects) -> None:
    large.one("Node")["spec"]["unschedulable"] = True
    with pytest.raises(Refused, match="No node takes pods"):
        plan(large.live, HALF)


@pytest.mark.parametrize(
    "resources",
    [
        pytest.param([{"requests": {"memory": "30Gi"}}] * 2, id="two large ones"),
        pytest.param([{"limits": {"memory": "40Gi"}}], id="a limit counts as the request"),
    ],
)
def test_where_lowering_one_request_cannot_help_it_refuses(large: Objects, resources: list[Json]) -> None:
    large.ask(*resources)
    with pytest.raises(Refused, match=r"alone cannot help|may not change"):
        plan(large.live, HALF)


def test_an_init_container_that_is_too_large_is_refused(large: Objects) -> None:
    large.ask({"requests": {"memory": "1Gi"}})
    resources = {"requests": {"memory": "40Gi"}}
    large.spec["initContainers"] = [{"name": "i", "image": "i", "resources": resources}]
    with pytest.raises(Refused, match="cannot help"):
        plan(large.live, HALF)


def test_a_resource_that_is_not_too_large_stays(large: Objects) -> None:
    with pytest.raises(Refused, match="it stays as it is"):
        plan(large.live, {"share": 0.5, "cpu": "1"})


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"share": 0.01},
        {"share": 1},
        {"share": "NaN"},
        {"share": 0.5, "memory": "1Ki"},
        {"share": 0.5, "memory": "lots"},
        {"share": 0.5, "cpu": 0},
        {"share": 0.5, "limit": "1Gi"},
    ],
)
def test_parameters_outside_their_bounds_are_refused(large: Objects, params: dict[str, str | float]) -> None:
    refused = rehearsed(large, params)
    assert (refused.state, refused.edits) == ("refused", ())
    assert refused.refusal is not None
    assert refused.refusal.startswith("set-requests")


def test_the_rehearsed_plan_fits_and_is_given_back_where_it_does_not_help(large: Objects) -> None:
    done = rehearsed(large, HALF)
    assert done.state == "rehearsed"
    assert done.facts is not None
    assert (done.facts.does_not_fit, done.facts.outside_may_change) == (None, ())
    assert done.undo_when == "unchanged"
