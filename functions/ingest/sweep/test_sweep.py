"""What only Events say is found by the sweep as well: that a volume is not there stands in no status."""

import copy
from datetime import UTC, datetime, timedelta
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from quietpager.cluster.recorded import Recorded
from quietpager.runtime.sweeping import MOST_ASKED, PATIENCE, find

Json = dict[str, Any]

# By name, for a function may not depend on infra or on another function; only its test asks them.
routes = import_module("quietpager.cli.catalogue").routes()
SECRET = (
    Path(import_module("quietpager.functions.detect.config").__path__[0]) / "cases/21-secret-volume-missing"
)
CREATED = datetime(2026, 11, 22, 18, 33, 43, tzinfo=UTC)


class Asked(Recorded):
    """A recorded case that counts how often its Events were asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.asked = 0

    def events(self, kind: str, namespace: str, name: str) -> Any:
        self.asked += 1
        return super().events(kind, namespace, name)

    @property
    def pod(self) -> Json:
        return next(one for one in self.objects if one["kind"] == "Pod")


@pytest.fixture
def case() -> Asked:
    return Asked(SECRET)


def swept(case: Asked, seconds: float = PATIENCE) -> list[tuple[str, str, str]]:
    found = find(case, routes, CREATED + timedelta(seconds=seconds))
    return [(one.family, one.event.uid if one.event else "", one.target.name) for one in found]


def test_a_volume_that_is_not_there_is_found_though_its_event_was_lost(case: Asked) -> None:
    [told] = [one for one in case.list("Event") if one["reason"] == "FailedMount"]
    assert swept(case) == [("config", told["metadata"]["uid"], case.pod["metadata"]["name"])]


def test_a_start_gets_its_time_and_its_events_are_not_asked_for(case: Asked) -> None:
    assert swept(case, PATIENCE - 1) == []
    assert case.asked == 0


@pytest.mark.parametrize("what", ["leaving", "running", "without a node"])
def test_a_pod_that_does_not_wait_for_its_volumes_is_not_asked_about(case: Asked, what: str) -> None:
    if what == "leaving":
        case.pod["metadata"]["deletionTimestamp"] = "2026-11-22T18:34:00Z"
    elif what == "running":
        for one in case.pod["status"]["containerStatuses"]:
            one["state"] = {"running": {"startedAt": "2026-11-22T18:33:50Z"}}
    else:
        del case.pod["spec"]["nodeName"]
    swept(case)
    assert case.asked == 0


def test_what_another_pod_of_that_name_was_warned_of_is_not_about_this_one(case: Asked) -> None:
    case.pod["metadata"]["uid"] = "another"
    assert swept(case) == []


def test_of_many_that_wait_a_few_are_asked_about(case: Asked) -> None:
    for number in range(3 * MOST_ASKED):
        one = copy.deepcopy(case.pod)
        one["metadata"] |= {"name": f"app-{number}", "uid": f"u{number}"}
        case.objects.append(one)
    assert len(swept(case)) == 1
    assert case.asked == MOST_ASKED
