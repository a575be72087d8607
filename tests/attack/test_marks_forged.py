"""Our own annotations, written by somebody else: the mark of an intent, and the one that says to ignore.

Who may edit a Deployment may write any annotation on it. The mark `quietpager.dev/intent` is how a write
whose answer was lost is recognised; its value followed from the incident and the plan, so that a tenant
could write it beforehand: then nothing was sent, and the audit said `applied`. An undo's mark still
follows from the mark that stands on the object. So a mark counts only with what its patch does, and never
before anything was sent; and nobody can guess it.
"""

from dataclasses import replace
from typing import Any

import pytest

from quietpager.change import send
from quietpager.change.marks import MARK, UNDO_OF
from quietpager.change.patch_fields import PatchFields, reversed_edits
from quietpager.cluster.client import ApiServer
from quietpager.incident import records
from quietpager.model.cluster import ClusterUnavailable
from quietpager.model.incident import Intent, IntentState, State
from quietpager.model.store import Put
from tests.acts import intents, tell
from tests.contract.test_effect import World
from tests.contract.test_effect import server as _server
from tests.contract.test_effect import world as _world
from tests.deciding import world as about_to_act
from tests.flow.test_stories import OOM, memory
from tests.flow.test_stories import World as Story
from tests.flow.test_stories import world as _story

server, world, story = _server, _world, _story


def write(world: World, mark: str, **more: Any) -> None:
    """What a tenant does to its own Deployment: the mark, and what else it likes."""
    change: dict[str, Any] = {"metadata": {"annotations": {MARK: mark}}} | more
    world.real.merge_patch("Deployment", world.namespace, "web", change)


def limit(value: str) -> dict[str, Any]:
    containers = [{"name": "web", "image": "localhost/busybox:1", "resources": {"limits": {"memory": value}}}]
    return {"spec": {"template": {"spec": {"containers": containers}}}}


def trusting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take the mechanism out: the mark alone says that it was applied."""
    real = PatchFields.judge

    def judge(change: PatchFields, intent: Intent, live: Any) -> Any:
        if (live["metadata"].get("annotations") or {}).get(MARK) == intent.id:
            return IntentState.APPLIED, "applied", {"generation_after": live["metadata"]["generation"]}
        return real(change, intent, live)

    def act(intent: Intent, *, resumed: bool, **more: Any) -> Any:
        # Whether something was sent before is not asked either.
        found = real_act(intent, resumed=True, **more)
        return found if found[0] is IntentState.APPLIED else real_act(intent, resumed=resumed, **more)

    real_act = send._act
    monkeypatch.setattr(PatchFields, "judge", judge)
    monkeypatch.setattr(send, "_act", act)


FORGED = ["before the plan", "after the plan", "after the plan, with the change"]


def forge(world: World, when: str) -> None:
    if when == "before the plan":
        write(world, "int-1")
        world.generation = world.live()["metadata"]["generation"]
    elif when == "after the plan":
        write(world, "int-1")
    else:
        write(world, "int-1", **limit("64Mi"))


@pytest.mark.parametrize("when", FORGED)
def test_a_forged_mark_is_not_taken_for_a_write_of_ours(world: World, when: str) -> None:
    forge(world, when)
    world.intent()
    world.carry()
    if when == "before the plan":
        # The plan was made on it, so it is like any other annotation, and the write goes through.
        assert (world.kept().state, world.writes, world.limit()) == (IntentState.APPLIED, 1, "64Mi")
    else:
        assert (world.kept().state, world.writes) == (IntentState.REFUSED, 0)


@pytest.mark.parametrize("when", FORGED)
def test_where_the_mark_alone_counts_nothing_is_written_and_applied_is_said(
    world: World, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    trusting(monkeypatch)
    forge(world, when)
    world.intent()
    world.carry()
    assert (world.kept().state, world.writes) == (IntentState.APPLIED, 0)


def interrupted(world: World) -> None:
    """Claim, and die before anything is sent."""

    def away() -> None:
        raise ClusterUnavailable("away")

    world.intent()
    world.before.append(away)
    assert world.carry() is None
    world.late()


def test_after_an_interrupted_attempt_a_forged_mark_without_the_change_is_unknown(world: World) -> None:
    interrupted(world)
    write(world, "int-1")
    world.carry()
    assert (world.kept().state, world.writes) == (IntentState.UNKNOWN, 0)
    assert "not what it changes" in world.kept().result


def test_after_a_lost_answer_and_a_foreign_change_no_undo_goes_over_that_change(world: World) -> None:
    def lost() -> None:
        raise ClusterUnavailable("the answer was lost")

    world.intent()
    world.after.append(lost)
    assert world.carry() is None
    write(world, "int-1", metadata={"annotations": {"example.org/note": "mine"}})
    world.late()
    world.carry()
    forward = world.kept()
    assert (forward.state, forward.generation_after) == (IntentState.APPLIED, forward.generation + 1)
    undo(world, forward)
    assert (world.kept("int-1-undo").state, world.limit()) == (IntentState.REFUSED, "64Mi")


def undo(world: World, forward: Intent) -> None:
    made = forward.but(
        id=f"{forward.id}{UNDO_OF}", state=IntentState.INTENT, undoes=forward.id, act_by=None, result="",
        edits=reversed_edits(forward.edits), generation=forward.generation_after or -1,
        created_at=world.now, expires_at=world.now + (forward.expires_at - forward.created_at),
    )  # fmt: skip
    world.store.transact([Put(records.intent(made.id), made.to_json(), 0)])
    world.carry(made.id)


def applied(world: World) -> Intent:
    world.intent()
    world.carry()
    assert world.kept().state is IntentState.APPLIED
    return world.kept()


def test_the_mark_of_the_undo_can_be_read_off_the_object_and_does_not_stand_for_it(world: World) -> None:
    forward = applied(world)
    write(world, f"{forward.id}{UNDO_OF}")
    undo(world, forward)
    assert (world.kept("int-1-undo").state, world.limit()) == (IntentState.REFUSED, "64Mi")


def test_where_the_mark_alone_counts_an_undo_is_said_that_never_was(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    forward = applied(world)
    trusting(monkeypatch)
    write(world, f"{forward.id}{UNDO_OF}")
    undo(world, forward)
    assert (world.kept("int-1-undo").state, world.limit()) == (IntentState.APPLIED, "64Mi")


def test_a_foreign_change_with_our_mark_kept_is_never_undone(world: World) -> None:
    forward = applied(world)
    write(world, forward.id, **limit("96Mi"))
    undo(world, forward)
    assert (world.kept("int-1-undo").state, world.limit()) == (IntentState.REFUSED, "96Mi")


def first_intent(nonce: Any = None) -> str:
    store, ctx, _clock = about_to_act(1)
    tell(ctx if nonce is None else replace(ctx, nonce=nonce), 0)
    [made] = intents(store)
    return made.id


def test_nobody_can_know_the_mark_of_an_intent_before_it_is_written() -> None:
    """The same incident, plan and object, twice."""
    assert first_intent() != first_intent()


def test_without_its_random_part_the_mark_could_be_worked_out() -> None:
    assert first_intent(lambda: "") == first_intent(lambda: "")


# --- against the running product ---------------------------------------------------------------------------


def annotate(cluster: ApiServer, name: str, **notes: str | None) -> None:
    namespace, _, deployment = name.partition("/")
    cluster.merge_patch("Deployment", namespace, deployment, {"metadata": {"annotations": notes}})


def test_a_deployment_that_says_leave_me_alone_stops_nobody_else(story: Story) -> None:
    story.load(OOM, events=False)
    other = [one for one in story.cluster.list("Deployment", "team-45") if one["metadata"]["name"] == "cache"]
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {
        "name": "team-46", "labels": {"quietpager.dev/enabled": "true"}}}  # fmt: skip
    story.cluster.create("Namespace", space)
    copy = {"metadata": {"name": "twin", "namespace": "team-46"}, "spec": other[0]["spec"]}
    story.cluster.create("Deployment", copy)
    annotate(story.cluster, "team-45/cache", **{"quietpager.dev/ignore": "true", MARK: "int-forged"})
    assert story.product.run_until(story.ended("cache", "twin"))
    assert story.the("cache").state is State.BLOCKED
    assert "quietpager.dev/ignore" in " ".join(story.the("cache").refusals)
    assert memory(story.deployment("team-45", "cache")) == "32Mi"
    assert (story.the("twin").state, story.the("twin").reason) == (State.CLOSED, "fixed")
    assert [one["namespace"] for one in story.writes()] == ["team-46"]
