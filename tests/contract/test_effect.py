"""The one effect against the sandbox: at most one write, whoever stalls, dies or comes too late."""

import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from quietpager.actions.schema import load_actions
from quietpager.change import patch_fields
from quietpager.change.marks import MARK
from quietpager.change.patch_fields import PatchFields, patch_of, reversed_edits
from quietpager.change.send import carry_out
from quietpager.cluster.client import ApiServer, connect
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.cluster import ClusterUnavailable, Kind
from quietpager.model.incident import Edit, Intent, IntentState
from quietpager.model.message import OUTCOME, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Put
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.server import running
from quietpager.store.memory import MemoryStore

Json = dict[str, Any]
START = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy()
RAISE_MEMORY = load_actions(functions_folder())["raise-memory"]
LIMIT = "/spec/template/spec/containers/0/resources/limits/memory"
RAISE = (Edit(path=LIMIT, had="32Mi", gets="64Mi"),)
ENV = (Edit(path="/spec/template/spec/containers/0/env", gets=[{"name": "A", "value": "1"}]),)


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with running(speed=50) as url:
        client = connect(url, manager="effect")
        yield client
        client.close()


@dataclass
class World:
    """A cluster whose writes are counted, a store, a clock; `before`/`after` happen around a send."""

    real: ApiServer
    namespace: str
    target: ObjectRef
    generation: int
    store: MemoryStore = field(default_factory=MemoryStore)
    now: datetime = START
    writes: int = 0
    before: list[Callable[[], object]] = field(default_factory=list)
    after: list[Callable[[], object]] = field(default_factory=list)
    ill: bool = True

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        return self.real.get(kind, namespace, name)

    def json_patch(self, kind: Kind, namespace: str | None, name: str, patch: Sequence[Json]) -> Json:
        if self.before:
            self.before.pop()()
        done: Json = self.real.json_patch(kind, namespace, name, patch)
        self.writes += 1
        if self.after:
            self.after.pop()()
        return done

    def intent(self, edits: tuple[Edit, ...] = RAISE, **changes: Any) -> Intent:
        made = Intent(
            id="int-1", incident="inc-1", rehearsal="r", action="raise-memory", target=self.target,
            generation=self.generation, edits=edits, created_at=START,
            expires_at=START + timedelta(seconds=POLICY.claim),
        ).but(**changes)  # fmt: skip
        self.store.transact([Put(records.intent(made.id), made.to_json(), 0)])
        return made

    def carry(self, name: str = "int-1") -> Message | None:
        return carry_out(
            name, cage=RAISE_MEMORY.cage, store=self.store, cluster=self, policy=POLICY,  # type: ignore[arg-type]
            clock=lambda: self.now, still_failing=lambda _target: self.ill, actor="test",
        )  # fmt: skip

    def kept(self, name: str = "int-1") -> Intent:
        record = self.store.get(records.intent(name))
        assert record is not None
        return Intent.from_json(record.body)

    def switch(self, *, stopped: bool) -> None:
        found = self.store.get(records.SWITCH)
        self.store.transact([Put(records.SWITCH, {"stopped": stopped}, found.version if found else 0)])

    def late(self) -> None:
        self.now += timedelta(seconds=POLICY.act + 1)

    def live(self) -> Json:
        found = self.get("Deployment", self.namespace, "web")
        assert found is not None
        return found

    def foreign_edit(self) -> None:
        note = {"metadata": {"annotations": {"example.org/x": uuid.uuid4().hex}}}
        self.real.merge_patch("Deployment", self.namespace, "web", note)

    def limit(self) -> str:
        containers = self.live()["spec"]["template"]["spec"]["containers"]
        return str(containers[0]["resources"]["limits"]["memory"])


@pytest.fixture
def world(server: ApiServer) -> Iterator[World]:
    name = f"effect-{uuid.uuid4().hex[:8]}"
    server.create("Namespace", {"metadata": {"name": name}})
    container = {"name": "web", "image": "localhost/busybox:1", "resources": {"limits": {"memory": "32Mi"}}}
    server.create(
        "Deployment",
        {
            "metadata": {"name": "web", "namespace": name},
            "spec": {
                "replicas": 0, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [container]}},
            },
        },
    )  # fmt: skip
    meta: Json = {}
    # Until its controller has seen it, so that generations stand still afterwards.
    while "deployment.kubernetes.io/revision" not in meta.get("annotations", {}):
        found = server.get("Deployment", name, "web")
        assert found is not None
        meta = found["metadata"]
    target = ObjectRef(api_version="apps/v1", kind="Deployment", namespace=name, name="web", uid=meta["uid"])
    made = World(server, name, target, meta["generation"])
    made.switch(stopped=False)
    yield made
    server.delete("Namespace", None, name)


def test_an_intent_is_carried_out_once_and_marked(world: World) -> None:
    world.intent()
    said = world.carry()
    assert said is not None
    assert (said.type, said.data) == (OUTCOME, {"intent": "int-1"})
    assert (world.kept().state, world.limit(), world.writes) == (IntentState.APPLIED, "64Mi", 1)
    assert world.live()["metadata"]["annotations"][MARK] == "int-1"
    assert world.kept().generation_after == world.live()["metadata"]["generation"]
    assert world.carry() == said
    world.late()
    assert world.carry() == said
    assert world.writes == 1
    assert [e.kind for e in world.store.audit("inc-1")] == ["claimed", "applied"]


def test_an_unknown_intent_is_nobodys(world: World) -> None:
    assert world.carry("int-none") is None


@pytest.mark.parametrize("stalls", [False, True])
def test_two_workers_with_one_intent_write_once(world: World, stalls: bool) -> None:
    """The second comes while the first is about to send; stalled, the first is past its deadline."""
    world.intent()

    def second() -> None:
        if stalls:
            world.late()
        said = world.carry()
        assert (said is not None) == stalls

    world.before.append(second)
    world.carry()
    assert (world.writes, world.limit()) == (1, "64Mi")
    assert world.kept().state is IntentState.APPLIED


def only_uid(intent: Intent, live: Json) -> list[Json]:
    """Build the patch as a mutant does that forgot to pin the generation."""
    return [one for one in patch_of(intent, live) if one["path"] != "/metadata/generation"]


@pytest.mark.parametrize(("mutant", "written"), [(False, 1), (True, 2)])
def test_it_is_the_pinned_generation_that_stops_a_stalled_writer(
    world: World, monkeypatch: pytest.MonkeyPatch, mutant: bool, written: int
) -> None:
    if mutant:
        monkeypatch.setattr(patch_fields, "patch_of", only_uid)
    world.intent(ENV)

    def second() -> None:
        world.late()
        world.carry()

    world.before.append(second)
    world.carry()
    assert world.writes == written


def claimed(world: World) -> None:
    """Leave the intent as a worker does that died right after its claim."""

    def die() -> None:
        raise ClusterUnavailable("killed")

    world.before.append(die)
    assert world.carry() is None


def test_without_an_answer_nothing_is_recorded_and_it_is_taken_up_again(world: World) -> None:
    world.intent()
    claimed(world)
    assert (world.kept().state, world.writes) == (IntentState.CLAIMED, 0)
    assert world.carry() is None
    assert world.writes == 0
    world.late()
    assert world.carry() is not None
    assert (world.kept().state, world.writes) == (IntentState.APPLIED, 1)


def test_a_claim_leaves_a_due_item_that_speaks_at_its_deadline(world: World) -> None:
    world.intent()
    claimed(world)
    [due] = [d for d in world.store.due_items() if d.id == records.talk("int-1")]
    assert due.at == world.kept().act_by == START + timedelta(seconds=POLICY.act)
    assert due.message["data"] == {"intent": "int-1"}


def test_resumed_with_our_mark_there_it_was_applied_and_is_not_written_again(world: World) -> None:
    world.intent()

    def lost_answer() -> None:
        raise ClusterUnavailable("the answer was lost")

    world.after.append(lost_answer)
    assert world.carry() is None
    assert (world.kept().state, world.writes) == (IntentState.CLAIMED, 1)
    world.late()
    assert world.carry() is not None
    assert (world.kept().state, world.writes) == (IntentState.APPLIED, 1)
    assert world.kept().generation_after == world.live()["metadata"]["generation"]


def test_resumed_with_a_moved_generation_and_no_mark_it_is_unknown(world: World) -> None:
    world.intent()
    claimed(world)
    world.foreign_edit()
    world.late()
    assert world.carry() is not None
    assert (world.kept().state, world.writes) == (IntentState.UNKNOWN, 0)


@pytest.mark.parametrize("late", [False, True])
def test_a_foreign_edit_is_never_overwritten(world: World, late: bool) -> None:
    world.intent()
    if late:
        world.before.append(world.foreign_edit)
    else:
        world.foreign_edit()
    assert world.carry() is not None
    assert (world.kept().state, world.writes, world.limit()) == (IntentState.REFUSED, 0, "32Mi")
    assert "somebody else changed" in world.kept().result


@pytest.mark.parametrize("absent", [False, True])
def test_a_stopped_switch_refuses_before_the_claim(world: World, absent: bool) -> None:
    world.intent()
    if absent:
        world.store._state.pop(records.SWITCH)
    else:
        world.switch(stopped=True)
    assert world.carry() is not None
    assert (world.kept().state, world.kept().act_by, world.writes) == (IntentState.REFUSED, None, 0)


def test_stopped_after_a_claim_nobody_knows_what_happened(world: World) -> None:
    world.intent()
    claimed(world)
    world.switch(stopped=True)
    world.late()
    assert world.carry() is not None
    assert (world.kept().state, world.writes) == (IntentState.UNKNOWN, 0)


def test_an_expired_intent_is_never_carried_out(world: World) -> None:
    world.now = world.intent().expires_at
    assert world.carry() is not None
    assert (world.kept().state, world.writes) == (IntentState.EXPIRED, 0)


@pytest.mark.parametrize("gone", [False, True])
def test_an_object_that_is_gone_or_another_is_refused(world: World, gone: bool) -> None:
    world.intent(target=world.target.but(**({"name": "none"} if gone else {"uid": "another"})))
    assert world.carry() is not None
    assert (world.kept().state, world.kept().healed, world.writes) == (IntentState.REFUSED, False, 0)


def test_what_has_healed_is_left_alone(world: World) -> None:
    world.ill = False
    world.intent()
    assert world.carry() is not None
    assert (world.kept().state, world.kept().healed, world.writes) == (IntentState.REFUSED, True, 0)


def test_past_its_deadline_a_worker_does_not_send(world: World) -> None:
    world.intent()
    look = world.real.get

    def slow(kind: Kind, namespace: str | None, name: str) -> Json | None:
        world.late()
        return look(kind, namespace, name)

    world.get = slow  # type: ignore[method-assign]
    assert world.carry() is None
    assert (world.kept().state, world.writes) == (IntentState.CLAIMED, 0)


def undo_of(world: World) -> Intent:
    world.intent()
    world.carry()
    forward = world.kept()
    return world.intent(
        reversed_edits(forward.edits), id="int-1-undo", undoes="int-1", generation=forward.generation_after
    )


def test_an_undo_gives_back_what_was(world: World) -> None:
    undo_of(world)
    assert world.carry("int-1-undo") is not None
    assert (world.kept("int-1-undo").state, world.limit()) == (IntentState.APPLIED, "32Mi")


def test_an_undo_needs_the_mark_of_what_it_undoes(world: World) -> None:
    undo = undo_of(world)
    note = {"metadata": {"annotations": {MARK: "int-other"}}}
    moved = world.real.merge_patch("Deployment", world.namespace, "web", note)["metadata"]["generation"]
    pinned = undo.but(id="int-2", generation=moved)
    world.store.transact([Put(records.intent("int-2"), pinned.to_json(), 0)])
    assert world.carry("int-2") is not None
    assert (world.kept("int-2").state, world.limit()) == (IntentState.REFUSED, "64Mi")


def template(container: Json) -> Json:
    return {"spec": {"template": {"spec": {"containers": [{"name": "web", **container}]}}}}


def another_field(world: World) -> None:
    """Somebody sets an image; lists are replaced as a whole by a merge patch, so the limit is said again."""
    limits = {"limits": {"memory": world.limit()}}
    change = template({"image": "localhost/busybox:2", "resources": limits})
    world.real.merge_patch("Deployment", world.namespace, "web", change)


def the_same_field(world: World) -> None:
    change = template({"image": "localhost/busybox:1", "resources": {"limits": {"memory": "128Mi"}}})
    world.real.merge_patch("Deployment", world.namespace, "web", change)


def the_same_value(world: World) -> None:
    """Somebody puts the old value back before us: nothing is left to undo, and it is not ours any more."""
    change = template({"image": "localhost/busybox:1", "resources": {"limits": {"memory": "32Mi"}}})
    world.real.merge_patch("Deployment", world.namespace, "web", change)


def replaced(world: World) -> None:
    """Delete it and make it anew, our mark and all, as a restore from a backup does."""
    old = world.live()
    world.real.delete("Deployment", world.namespace, "web")
    meta = {"name": "web", "namespace": world.namespace, "annotations": {MARK: "int-1"}}
    world.real.create("Deployment", {"metadata": meta, "spec": old["spec"]})
    assert world.live()["metadata"]["uid"] != old["metadata"]["uid"]


FOREIGN = [another_field, the_same_field, the_same_value, replaced]


@pytest.mark.parametrize("late", [False, True], ids=["before its look", "between its look and its write"])
@pytest.mark.parametrize("change", FOREIGN, ids=lambda change: change.__name__)
def test_an_undo_never_goes_over_what_somebody_else_did(
    world: World, change: Callable[[World], None], late: bool
) -> None:
    undo_of(world)
    if late:
        world.before.append(lambda: change(world))
    else:
        change(world)
    left = world.live()["spec"]
    assert world.carry("int-1-undo") is not None
    done = world.kept("int-1-undo")
    assert (done.state, world.writes) == (IntentState.REFUSED, 1)
    assert done.result
    if not late:
        assert world.live()["spec"] == left
    assert world.limit() == {"the_same_field": "128Mi", "the_same_value": "32Mi"}.get(change.__name__, "64Mi")


@pytest.mark.parametrize("change", [another_field, the_same_field], ids=lambda change: change.__name__)
def test_without_its_pins_an_undo_would_overwrite(
    world: World, change: Callable[[World], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    real = patch_fields.patch_of
    monkeypatch.setattr(patch_fields, "patch_of", lambda *a: [one for one in real(*a) if one["op"] != "test"])
    monkeypatch.setattr(PatchFields, "judge", lambda *_: None)
    undo_of(world)
    change(world)
    world.carry("int-1-undo")
    assert (world.kept("int-1-undo").state, world.limit()) == (IntentState.APPLIED, "32Mi")


def test_an_undo_happens_once_however_often_it_is_asked_for(world: World) -> None:
    undo_of(world)
    said = world.carry("int-1-undo")
    world.late()
    assert world.carry("int-1-undo") == said
    assert world.writes == 2


@pytest.mark.parametrize("pinned_anew", [False, True])
def test_a_second_undo_of_the_same_change_is_refused(world: World, pinned_anew: bool) -> None:
    """Also one that knows the newest generation: the mark is the first undo's by now."""
    undo = undo_of(world)
    world.carry("int-1-undo")
    the_same_field(world)
    generation = world.live()["metadata"]["generation"] if pinned_anew else undo.generation
    again = undo.but(id="int-1-undo-2", generation=generation)
    world.store.transact([Put(records.intent(again.id), again.to_json(), 0)])
    assert world.carry(again.id) is not None
    assert (world.kept(again.id).state, world.limit(), world.writes) == (IntentState.REFUSED, "128Mi", 2)
