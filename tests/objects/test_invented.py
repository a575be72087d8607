"""An owner kind that is invented here is one file: detectors find it, rechecks judge it, an action is for it.

What it takes besides is data: `owners` in a detector's `reads` is rendered with it, and an action's
`applies_to`, `read` and `write` name it.
"""

from datetime import datetime
from typing import Any

import pytest

from quietpager.actions.plan import rehearse
from quietpager.actions.schema import Access, load_actions
from quietpager.cluster.recorded import Recorded
from quietpager.functions.detect.crash.diagnose import diagnose
from quietpager.functions.remediate.raise_memory.plan import plan
from quietpager.model.cluster import Json
from quietpager.model.finding import Diagnosis, Remedy
from quietpager.model.incident import Incident, Rehearsal, State
from quietpager.model.signal import Signal
from quietpager.objects import table
from quietpager.objects.health import health_of
from quietpager.objects.live import Live
from quietpager.render import function_folders, rights
from quietpager.rules.schema import load_rule
from quietpager.runtime.context import functions_folder
from quietpager.runtime.detecting import finding_of
from quietpager.runtime.rechecking import look
from tests.objects import invented
from tests.objects.held import owned_by, ref

OOM = functions_folder() / "detect/crash/cases/30-oom-bounded"
NOW = datetime.fromisoformat("2026-11-25T00:00:00+00:00")
ACTION = load_actions(functions_folder())["raise-memory"]
FLEETS = Access(group="example.com", resources=("fleets",), verbs=("get", "list"))
FOR_FLEETS = ACTION.but(
    applies_to=("Fleet",), read=(*ACTION.read, FLEETS), write=(FLEETS.but(verbs=("patch",)),)
)


@pytest.fixture
def case(monkeypatch: pytest.MonkeyPatch) -> Recorded:
    """Give the recorded OOM kill, with its Deployment turned into a fleet; the table has its file."""
    for name, kind in table.discovered(invented).items():
        monkeypatch.setitem(table.KINDS, name, kind)
    found = Recorded(OOM)
    [old] = found.list("Deployment")
    fleet: Json = old | {"apiVersion": "example.com/v1", "kind": "Fleet"}
    fleet |= {"spec": old["spec"] | {"ships": 2}, "status": {"afloat": 0}}
    found.objects = [fleet, *(o for o in found.objects if o["kind"] not in {"Deployment", "ReplicaSet"})]
    for pod in found.list("Pod"):
        pod["metadata"]["ownerReferences"] = owned_by(fleet)
    return found


def found_in(case: Recorded) -> tuple[Live, Any]:
    target = ref(case.list("Pod")[0])
    live = Live(case, target, now=NOW)
    return live, diagnose(Signal(target=target, family="crash"), live)


def test_a_detector_finds_what_is_wrong_with_it(case: Recorded) -> None:
    live, verdict = found_in(case)
    assert isinstance(verdict, Diagnosis)
    assert (verdict.failure_class, verdict.owner.kind) == ("oom_killed", "Fleet")
    rule = load_rule(functions_folder() / "detect/crash/rule.yaml")
    finding = finding_of(live.target, verdict, rule, "c", NOW)
    assert [one.action for one in finding.remedies] == ["raise-memory"]
    assert (live.wanted, live.available, len(live.pods)) == (2, 0, 2)


def test_rechecks_judge_it_by_its_own_counts_and_its_pods(case: Recorded) -> None:
    [fleet] = case.list("Fleet")
    incident = Incident(
        id="i", cause="workload:x", episode=1, cluster="c", family="crash", failure_class="oom_killed",
        owner=ref(fleet), state=State.WAITING, opened_at=NOW, state_since=NOW, since=NOW, deadline_at=NOW,
        recheck_every=10.0,
    )  # fmt: skip

    def seen() -> str:
        return look(incident, Live(case, ref(fleet), now=NOW), None, diagnose)[0]

    assert seen() == "failing"
    for pod in case.list("Pod"):
        pod["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    assert seen() == "failing", "its pods are well, and it has none afloat by its own count"
    fleet["status"]["afloat"] = 2
    assert (seen(), health_of(Live(case, ref(fleet)), None).why) == ("healthy", "2 of 2 replicas available")
    case.objects = []
    assert seen() == "gone"


def test_an_action_that_is_for_it_is_rehearsed(case: Recorded) -> None:
    [fleet] = case.list("Fleet")
    remedy = Remedy(action="raise-memory", params={"factor": 2, "ceiling": "4Gi"})
    asked = Rehearsal(id="r", incident="i", remedy=remedy, owner=ref(fleet), asked_at=NOW)

    def rehearsed(action: Any) -> Rehearsal:
        return rehearse(
            asked, action, plan, Live(case, ref(fleet)), opt_in_label="on", ignore_annotation="off",
            dry_run=None,
        )  # fmt: skip

    done = rehearsed(FOR_FLEETS)
    assert (done.state, done.generation) == ("rehearsed", fleet["metadata"]["generation"])
    assert (done.edits[0].had, done.edits[0].gets) == ("32Mi", "64Mi")
    assert rehearsed(ACTION).refusal == "raise-memory is not for a Fleet."


def test_its_rights_are_rendered_for_whoever_reads_owners(case: Recorded) -> None:
    del case
    folders = [one for one in function_folders(functions_folder()) if one.name == "detect-crash"]
    [role] = [one for one in rights.roles(folders, {}, "quietpager") if one["kind"] == "ClusterRole"]
    [rule] = [one for one in role["rules"] if one["apiGroups"] == ["example.com"]]
    assert (rule["resources"], rule["verbs"]) == (["fleets"], ["get"])


def test_without_its_file_only_its_pods_are_known(case: Recorded, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: the table does not have it."""
    monkeypatch.delitem(table.KINDS, "Fleet")
    live, verdict = found_in(case)
    assert (verdict.owner.kind, live.raw_owner, live.wanted) == ("Fleet", None, 0)
