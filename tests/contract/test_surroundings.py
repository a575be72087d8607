"""The facts around a plan, over recorded cases that a test changes."""

from pathlib import Path
from typing import Any

import pytest

from quietpager.actions.plan import Planned, rehearse
from quietpager.actions.schema import load_actions
from quietpager.actions.surroundings import fleet_of, other_rollout, scope_of
from quietpager.change.patch_fields import PatchFields
from quietpager.cluster.recorded import Recorded
from quietpager.model.cluster import Kind
from quietpager.model.finding import Remedy
from quietpager.model.incident import Applies, Edit, Rehearsal
from quietpager.model.reference import ObjectRef
from quietpager.model.time import system_clock
from quietpager.objects.kinds.deployment import Deployment
from quietpager.objects.live import Live
from quietpager.runtime.context import functions_folder

CASES = functions_folder() / "detect"
PARAMS: dict[str, dict[str, str | float]] = {"raise-memory": {"factor": 1.5, "ceiling": "4Gi"}}
NEW_FAILS = "image/cases/32-bad-tag-new-revision"
Json = dict[str, Any]


class Objects(Recorded):
    """A recorded case that a test may change."""

    def __init__(self, case: str) -> None:
        super().__init__(Path(CASES / case))

    def every(self, kind: Kind) -> list[Json]:
        return [one for one in self.objects if one.get("kind") == kind]

    @property
    def owner(self) -> ObjectRef:
        return Deployment.read(self.every("Deployment")[0]).ref.but(kind="Deployment", api_version="apps/v1")

    @property
    def live(self) -> Live:
        return Live(self, self.owner)


def revision(one: Json) -> int:
    return int(one["metadata"]["annotations"]["deployment.kubernetes.io/revision"])


def test_the_recorded_rollout_carries_the_symptom_so_it_is_nobody_elses() -> None:
    objects = Objects(NEW_FAILS)
    assert len(objects.every("ReplicaSet")) == 2
    assert other_rollout(objects.live) is None


def test_failing_pods_of_an_older_replica_set_mean_somebody_elses_rollout() -> None:
    objects = Objects(NEW_FAILS)
    newest, older = sorted(objects.every("ReplicaSet"), key=revision, reverse=True)
    for one, number in ((newest, 1), (older, 2)):
        one["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = str(number)
    said = other_rollout(objects.live)
    assert said is not None
    assert said.endswith("failing pod(s) are of an earlier revision than 2, the newest")


def test_one_revision_alone_is_no_rollout() -> None:
    objects = Objects(NEW_FAILS)
    newest = max(objects.every("ReplicaSet"), key=revision)
    objects.objects = [one for one in objects.objects if one is not newest]
    assert other_rollout(objects.live) is None


def test_the_fleet_counts_unready_and_cordoned_nodes_and_versions() -> None:
    objects = Objects(NEW_FAILS)
    objects.objects = [one for one in objects.objects if one.get("kind") != "Node"]
    for number, (ready, cordoned, version) in enumerate(
        [
            ("True", False, "v1.35.4"),
            ("Unknown", False, "v1.35.4"),
            ("True", True, "v1.34.1"),
            ("False", True, ""),
        ]
    ):
        objects.objects.append(
            {
                "kind": "Node", "metadata": {"name": f"n{number}"}, "spec": {"unschedulable": cordoned},
                "status": {"conditions": [{"type": "Ready", "status": ready}],
                           "nodeInfo": {"kubeletVersion": version}},
            }
        )  # fmt: skip
    fleet = fleet_of(objects.live)
    assert (fleet.nodes, fleet.unhealthy) == (4, 2)
    assert (fleet.cordoned, fleet.kubelets) == (("n2", "n3"), ("v1.34.1", "v1.35.4"))


def test_what_changes_only_the_owner_names_it_by_uid() -> None:
    objects = Objects(NEW_FAILS)
    assert objects.owner.uid
    assert scope_of(objects.live, objects.owner, ()) == {"targets": (objects.owner,)}


def test_of_pods_that_go_it_counts_who_is_there_who_stays_well_and_where_they_run() -> None:
    objects = Objects(NEW_FAILS)
    pods = objects.live.pods
    well = [pod for pod in pods if pod.ready]
    assert len(pods) > len(well) > 0
    bad = next(pod for pod in pods if not pod.ready)
    zone = {"topology.kubernetes.io/zone": "a"}
    for node in objects.every("Node"):
        node["metadata"]["labels"] = zone
    found = scope_of(objects.live, objects.owner, (bad.ref,))
    assert (found["siblings"], found["healthy"], found["domains"]) == (len(pods), len(well), ("a",))
    found = scope_of(objects.live, objects.owner, (bad.ref, well[0].ref))
    assert found["healthy"] == len(well) - 1
    for node in objects.every("Node"):
        del node["metadata"]["labels"]
    assert scope_of(objects.live, objects.owner, (bad.ref,))["domains"] == (bad.spec.node_name,)


@pytest.mark.parametrize(
    ("name", "field", "gets"),
    [
        ("raise-memory", "resources/limits/memory", "96Mi"),
        ("rollout-undo", "image", "registry.example.com/good/app:2"),
    ],
)
def test_a_rehearsal_carries_its_actions_guards_and_all_facts_they_need(
    name: str, field: str, gets: str
) -> None:
    objects = Objects(NEW_FAILS)
    asked = Rehearsal(
        id="r", incident="i", remedy=Remedy(action=name, params=PARAMS.get(name, {})), owner=objects.owner,
        asked_at=system_clock(),
    )  # fmt: skip
    action = load_actions(functions_folder())[name]

    def plan(_live: Live, _params: dict[str, str | float]) -> Planned:
        path = f"/spec/template/spec/containers/0/{field}"
        return Planned(change=PatchFields(edits=(Edit(path=path, gets=gets),)), summary="s")

    facts = rehearse(
        asked, action, plan, objects.live, opt_in_label="l", ignore_annotation="a", dry_run=None
    ).facts
    assert facts is not None
    assert facts.guards == Applies(fraction=False, rollout_of_others="refuse", pdb=False)
    assert facts.targets == (objects.owner,)
    assert facts.fleet is not None
