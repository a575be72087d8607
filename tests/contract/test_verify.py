"""How success is verified: what an `action.yaml` says about it, and that these values drive the code."""

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from quietpager.actions.schema import load_action, load_actions
from quietpager.change.kinds import change_of
from quietpager.change.patch_fields import PatchFields
from quietpager.incident.machine import step
from quietpager.incident.news import Input, News
from quietpager.incident.policy import Policy
from quietpager.model.incident import AnyChange, Incident, Intent, Rehearsal, State, Verify
from quietpager.objects.live import Live
from quietpager.runtime import rechecking
from quietpager.runtime.context import functions_folder
from quietpager.runtime.rechecking import look
from tests.acts import NOW, incident, rehearsal
from tests.contract.test_rules import EVICTS, GOOD_ACTION, PATCHES
from tests.contract.test_surroundings import Objects

POLICY = Policy()
WRITES = (
    GOOD_ACTION.replace("write: []", PATCHES) + ", promise: {says: p}, verify: {goal: owner_healthy, %s}}"
)


def said(tmp_path: Path, text: str) -> Verify:
    path = tmp_path / "action.yaml"
    path.write_text(text, encoding="utf-8")
    return load_action(path).verify


@pytest.mark.parametrize(
    ("text", "window", "at_least"),
    [
        ("window: policy, at_least: policy", 0, 0),
        ("window: 2 x time to failure, at_least: 60s", 2, 60),
        ("window: 1.5 x time to failure, at_least: 2m", 1.5, 120),
        ("at_least: 1h", 0, 3600),
    ],
)
def test_window_and_least_are_read(tmp_path: Path, text: str, window: float, at_least: float) -> None:
    found = said(tmp_path, WRITES % text)
    assert (found.window, found.at_least) == (window, at_least)


BAD = {
    "goal: happy": "verify.goal",
    "window: soon": "verify.window",
    "at_least: 60 seconds": "verify.at_least",
    "at_least: -1": "verify.at_least",
    "colour: red": "verify.colour",
    "goal: nothing_written": "verify:",
}


@pytest.mark.parametrize("bad", BAD)
def test_what_is_not_known_is_refused_with_file_line_and_field(tmp_path: Path, bad: str) -> None:
    path = tmp_path / "action.yaml"
    block = f"promise: {{says: p}}\nverify:\n  {bad if bad.startswith('goal') else 'goal: owner_healthy'}\n"
    more = "" if bad.startswith("goal") else f"  {bad}\n"
    fields = GOOD_ACTION.replace("write: []", PATCHES).removeprefix("{")
    lines = [f"{one}\n" for one in _fields(fields)]
    path.write_text("".join(lines) + block + more, encoding="utf-8")
    with pytest.raises(ValueError, match="is not an action") as caught:
        load_action(path)
    assert BAD[bad] in str(caught.value)
    assert str(path) in str(caught.value)
    if BAD[bad] != "verify:":
        # What does not fit the rest of the file has no line of its own.
        assert f"line {len(lines) + (4 if more else 3)}: " in str(caught.value)


def _fields(text: str) -> Iterator[str]:
    """Cut a flow mapping at the commas between its fields."""
    depth, start = 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "[{") - (letter in "]}")
        if letter == "," and depth == 0:
            yield text[start:place].strip()
            start = place + 1
    yield text[start:].strip()


def test_what_may_write_must_say_how_it_is_verified(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="verify: what may write needs to say"):
        said(tmp_path, GOOD_ACTION.replace("write: []", PATCHES) + ", promise: {says: p}}")


def test_what_nothing_takes_back_cannot_say_that_it_is_restored(tmp_path: Path) -> None:
    evicts = GOOD_ACTION.replace("write: []", EVICTS).replace("inverse: none", "inverse: restore")
    evicts = evicts.replace("undo_when: never", "undo_when: worse").replace("fraction: no", "fraction: yes")
    text = evicts.replace("pdb: no", "pdb: yes") + (
        ", approvals: 2, promise: {says: p}, verify: {goal: owner_healthy}}"
    )
    with pytest.raises(ValueError, match="nothing takes back a change of kind remove_pods"):
        said(tmp_path, text)


def test_each_action_of_the_product_says_its_own() -> None:
    for action in load_actions(functions_folder()).values():
        assert "verify" in action.model_fields_set
        assert (action.verify.goal == "nothing_written") is (action.write == ())


def acting(verify: Verify | None, time_to_failure: float = 40.0) -> Incident:
    """Commit a plan whose action asks for this, and let the write be applied."""
    plan = rehearsal().but(verify=verify, undo_when="unchanged")
    before = incident().but(time_to_failure=time_to_failure, window=POLICY.verification(time_to_failure))
    after = step(before, Input(News.ALLOWED, rehearsal=plan), POLICY, NOW).incident
    assert after is not None
    intent = Intent(
        id="int", incident=after.id, rehearsal=plan.id, action="raise-memory", target=plan.owner,
        generation=1, edits=(), created_at=NOW, expires_at=NOW, applied_at=NOW,
    )  # fmt: skip
    done = step(after.but(intent="int"), Input(News.APPLIED, intent=intent), POLICY, NOW).incident
    assert done is not None
    assert done.state is State.VERIFYING
    return done


@pytest.mark.parametrize(
    ("verify", "window"),
    [
        (None, 80.0),
        (Verify(goal="owner_healthy"), 80.0),
        (Verify(goal="owner_healthy", window=5), 200.0),
        (Verify(goal="owner_healthy", at_least=600), 600.0),
        (Verify(goal="owner_healthy", window=1, at_least=10), 80.0),
    ],
)
def test_an_action_may_ask_for_a_longer_window_and_never_for_a_shorter_one(
    verify: Verify | None, window: float
) -> None:
    found = acting(verify)
    assert found.window == window
    assert found.deadline_at - NOW == timedelta(seconds=POLICY.rollout + window)
    assert found.undo_when == "unchanged"


def healed(goal: str) -> tuple[Incident, Live]:
    """Give a healthy workload with leaving pods that were killed for memory since the act."""
    objects = Objects("image/cases/32-bad-tag-new-revision")
    newest = max(objects.every("ReplicaSet"), key=lambda one: one["metadata"]["creationTimestamp"])
    mine = newest["metadata"]["uid"]
    pods: list[dict[str, Any]] = [
        one for one in objects.every("Pod") if one["metadata"]["ownerReferences"][0]["uid"] == mine
    ]
    ended = {"reason": "OOMKilled", "exitCode": 137, "finishedAt": "2030-01-01T00:00:00Z"}
    for pod in pods:
        pod["metadata"]["deletionTimestamp"] = "2030-01-01T00:00:00Z"
        pod["status"]["containerStatuses"][0]["lastState"] = {"terminated": ended}
    [deployment] = objects.every("Deployment")
    wanted, generation = deployment["spec"]["replicas"], deployment["metadata"]["generation"]
    deployment["status"] = {
        "replicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted,
        "observedGeneration": generation,
    }  # fmt: skip
    found = incident().but(state=State.VERIFYING, acted_at=NOW, goal=goal, owner=objects.owner)
    return found, objects.live


def test_the_goal_no_new_oom_is_missed_by_a_healthy_workload_that_was_killed_for_memory_again() -> None:
    def never(*_: object) -> Any:
        raise AssertionError("nobody diagnoses what is healthy")

    found, live = healed("owner_healthy_and_no_new_oom")
    outcome, health, _ = look(found, live, found.acted_at, never)
    assert (outcome, "killed for memory again" in health.why) == ("failing", True)
    assert look(*healed("owner_healthy"), found.acted_at, never)[0] == "healthy"


def test_without_the_look_at_the_goal_it_counts_as_healthy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rechecking, "_missed_goal", lambda *_: None)
    found, live = healed("owner_healthy_and_no_new_oom")
    assert look(found, live, found.acted_at, lambda *_: pytest.fail("not asked"))[0] == "healthy"


# Records of before there were kinds


def test_records_without_a_change_are_patches_of_their_edits() -> None:
    plan = rehearsal()
    body = plan.to_json()
    for new in ("change", "verify"):
        del body[new]
    old = Rehearsal.from_json(body)
    assert change_of(old) == PatchFields(edits=plan.edits)
    assert old.diff_key == plan.diff_key
    stored = AnyChange.from_json({"kind": "patch_fields", "edits": [e.to_json() for e in plan.edits]})
    assert change_of(plan.but(change=stored)) == PatchFields(edits=plan.edits)
