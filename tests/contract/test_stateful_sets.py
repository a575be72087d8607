"""A StatefulSet is healed by an action whose action.yaml says that it is for one; no code knows of it.

The folder of raise-memory is copied, and `applies_to`, `read` and `write` are changed: nothing else. Plan,
dry run, write and cage are then the product's own, on the sandbox's API server.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shutil import copytree

import pytest

from quietpager.actions.plan import rehearse, server_dry_run
from quietpager.actions.schema import Action, load_action
from quietpager.change.marks import MARK
from quietpager.change.patch_fields import patch_of
from quietpager.change.send import carry_out
from quietpager.cluster.client import ApiServer, connect
from quietpager.functions.remediate.raise_memory.plan import plan
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.cluster import Json, Rejected
from quietpager.model.finding import Remedy
from quietpager.model.incident import Edit, Intent, IntentState, Rehearsal
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Put
from quietpager.objects.live import Live
from quietpager.render import function_folders
from quietpager.render.cage import cage
from quietpager.render.fields import committed_fields
from quietpager.runtime.context import functions_folder
from quietpager.sandbox import cage as sandbox_cage
from quietpager.sandbox.server import running
from quietpager.store.memory import MemoryStore
from tests.objects.held import pod

START = datetime(2026, 11, 25, tzinfo=UTC)
POLICY = Policy()
OPT_IN = {POLICY.opt_in_label: "true"}
AGENT = "quietpager-remediate-raise-memory"
FLIPPED = {
    "applies_to: [Deployment]": "applies_to: [StatefulSet]",
    "resources: [deployments, replicasets], verbs": "resources: [statefulsets, controllerrevisions], verbs",
    "resources: [deployments], verbs: [patch]": "resources: [statefulsets], verbs: [patch]",
}


@pytest.fixture(scope="module")
def action(tmp_path_factory: pytest.TempPathFactory) -> Action:
    """Give raise-memory as its own folder has it, but for whom it is for."""
    folder = tmp_path_factory.mktemp("functions") / "raise_memory"
    copytree(functions_folder() / "remediate/raise_memory", folder)
    return flipped(folder / "action.yaml")


def flipped(path: Path) -> Action:
    text = path.read_text()
    for old, new in FLIPPED.items():
        assert old in text
        text = text.replace(old, new)
    path.write_text(text)
    return load_action(path)


@dataclass
class World:
    """A namespace of the sandbox with a StatefulSet whose pod was killed for memory."""

    cluster: ApiServer
    namespace: str

    @property
    def db(self) -> Json:
        found = self.cluster.get("StatefulSet", self.namespace, "db")
        assert found is not None
        return found

    @property
    def target(self) -> ObjectRef:
        uid = self.db["metadata"]["uid"]
        return ObjectRef(
            api_version="apps/v1", kind="StatefulSet", namespace=self.namespace, name="db", uid=uid
        )

    @property
    def limit(self) -> str:
        [one] = self.db["spec"]["template"]["spec"]["containers"]
        return str(one["resources"]["limits"]["memory"])


@pytest.fixture
def world(action: Action, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setattr(sandbox_cage, "_actions", lambda: {action.name: action})
    with running(speed=50) as url:
        admin, writer = connect(url, manager="admin"), connect(url, manager=AGENT)
        name = f"sets-{uuid.uuid4().hex[:8]}"
        admin.create("Namespace", {"metadata": {"name": name, "labels": OPT_IN}})
        admin.create("Node", {"metadata": {"name": "n"}, "status": {"allocatable": {"memory": "8Gi"}}})
        admin.create("StatefulSet", stateful_set(name))
        made = World(writer, name)
        admin.create("Pod", killed(made.db, name))
        status = killed(made.db, name)["status"]
        admin.merge_patch("Pod", name, "db-0", {"status": status}, subresource="status")
        yield made
        admin.close()
        writer.close()


def stateful_set(namespace: str) -> Json:
    limited = {"name": "db", "image": "localhost/db:1", "resources": {"limits": {"memory": "32Mi"}}}
    return {
        "metadata": {"name": "db", "namespace": namespace},
        "spec": {
            "replicas": 1, "serviceName": "db", "selector": {"matchLabels": {"app": "web"}},
            "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [limited]}},
        },
    }  # fmt: skip


def killed(owner: Json, namespace: str) -> Json:
    """Give its pod, as the kubelet has it after an OOM kill."""
    made = pod(owner, "db-0", ill="db", containers=("db",))
    made["metadata"] |= {"namespace": namespace}
    made["metadata"].pop("uid")
    made["spec"]["nodeName"] = "elsewhere"
    ended = {"terminated": {"exitCode": 137, "reason": "OOMKilled", "finishedAt": "2026-11-25T00:00:00Z"}}
    made["status"]["containerStatuses"][0]["lastState"] = ended
    return made


def rehearsed(world: World, action: Action) -> Rehearsal:
    remedy = Remedy(action=action.name, params={"factor": 2, "ceiling": "4Gi"})
    asked = Rehearsal(id="r", incident="inc", remedy=remedy, owner=world.target, asked_at=START)
    return rehearse(
        asked, action, plan, Live(world.cluster, world.target), opt_in_label=POLICY.opt_in_label,
        ignore_annotation=POLICY.ignore_annotation, dry_run=server_dry_run(world.cluster, START),
    )  # fmt: skip


def intent_of(world: World, edits: tuple[Edit, ...]) -> Intent:
    return Intent(
        id="int-1", incident="inc", rehearsal="r", action="raise-memory", target=world.target,
        generation=world.db["metadata"]["generation"], edits=edits, created_at=START,
        expires_at=START + timedelta(seconds=POLICY.claim),
    )  # fmt: skip


def test_it_is_rehearsed_written_and_marked(world: World, action: Action) -> None:
    planned = rehearsed(world, action)
    assert planned.facts is not None, planned.refusal
    assert (planned.facts.dry_run, planned.facts.dry_run_refused) == ("admitted", None)
    store = MemoryStore()
    intent = intent_of(world, planned.edits)
    store.transact(
        [Put(records.SWITCH, {"stopped": False}, 0), Put(records.intent("int-1"), intent.to_json(), 0)]
    )
    said = carry_out(
        "int-1", cage=action.cage, store=store, cluster=world.cluster, policy=POLICY, clock=lambda: START,
        still_failing=lambda _target: True, actor="test",
    )  # fmt: skip
    assert said is not None
    record = store.get(records.intent("int-1"))
    assert record is not None
    done = Intent.from_json(record.body)
    assert (done.state, done.result, world.limit) == (IntentState.APPLIED, "applied", "64Mi")
    assert world.db["metadata"]["annotations"][MARK] == "int-1"


def test_the_action_as_it_is_refuses_it(world: World) -> None:
    whole = load_action(functions_folder() / "remediate/raise_memory/action.yaml")
    assert rehearsed(world, whole).refusal == "raise-memory is not for a StatefulSet."
    assert world.limit == "32Mi"


@pytest.mark.parametrize(("kind", "limit", "rule"), [
    ("StatefulSet", "128Mi", "factor"), ("StatefulSet", "16Mi", "up"), ("Deployment", "64Mi", "kind"),
])  # fmt: skip
def test_its_account_can_do_no_more_to_it_than_the_action_says(
    world: World, kind: str, limit: str, rule: str
) -> None:
    """Four times the memory, less of it, and the kind that the action is no longer for."""
    path = "/spec/template/spec/containers/0/resources/limits/memory"
    intent = intent_of(world, (Edit(path=path, had="32Mi", gets=limit),))
    with pytest.raises(Rejected, match=f"rule {rule}"):
        world.cluster.json_patch(kind, world.namespace, "db", patch_of(intent, world.db))


def test_its_cage_on_a_real_api_server_matches_stateful_sets_and_their_fields(action: Action) -> None:
    folders = [one for one in function_folders(functions_folder()) if one.action == action.name]
    [policy, _] = cage(folders, {action.name: action}, POLICY, committed_fields(), "quietpager")
    [kind] = [one for one in policy["spec"]["validations"] if "rule kind" in one["message"]]
    assert 'request.resource.resource == "statefulsets"' in kind["expression"]
    assert "deployments" not in kind["expression"]
    [spec] = [one["expression"] for one in policy["spec"]["variables"] if one["name"] == "spec"]
    assert "volumeClaimTemplates" in spec


@pytest.mark.parametrize("wrong", ["applies_to: [Deployment]", "applies_to: [StatefulSet, Job]"])
def test_rights_for_another_kind_than_it_is_for_are_not_rendered(action: Action, wrong: str) -> None:
    names = tuple(wrong.partition("[")[2].rstrip("]").split(", "))
    folders = [one for one in function_folders(functions_folder()) if one.action == action.name]
    other = action.but(applies_to=names)
    with pytest.raises(ValueError, match=r"holds patches of deployments|No action can change a Job"):
        cage(folders, {action.name: other}, POLICY, committed_fields(), "quietpager")
