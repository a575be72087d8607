"""Whoever may run `quietpager run` acts as any account, because impersonation was given for all of them.

On a real API server: a person with exactly what `quietpager render --run-as` prints may patch as the accounts
of the actions that write, and as nobody else. There, too: of a ConfigMap the metadata alone is sent.
"""

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from quietpager.cli.main import main as command
from quietpager.cluster.client import METADATA_ONLY, ApiServer, connect
from quietpager.cluster.limits import WritesAs
from quietpager.model.cluster import Rejected
from quietpager.render import function_folders
from quietpager.render.rights import RBAC, run_as, user_of
from quietpager.runtime.context import functions_folder
from tests import apiserver

Json = dict[str, Any]
FOLDERS = function_folders(functions_folder())
WRITERS = [one for one in FOLDERS if one.action is not None and one.writes]
PATCH: list[Json] = [{"op": "add", "path": "/metadata/annotations", "value": {"a": "b"}}]
ROLES = f"/apis/{RBAC}/v1"


@dataclass
class Place:
    """A namespace of our accounts, a Deployment, and a person who may read and impersonate."""

    server: apiserver.ApiServer
    namespace: str
    folder: Path

    @property
    def person(self) -> str:
        return f"system:serviceaccount:{self.namespace}:ann"

    def make(self, root: str, plural: str, body: Json) -> None:
        answer = self.server.send("POST", f"{root}/namespaces/{self.namespace}/{plural}", body)
        assert answer.code == 201, answer.message

    def account(self, name: str) -> None:
        self.make("/api/v1", "serviceaccounts", {"metadata": {"name": name}})

    def grant(self, objects: list[Json]) -> None:
        for one in objects:
            self.make(ROLES, f"{one['kind'].lower()}s", one)

    def as_person(self) -> ApiServer:
        """Connect as the product does, with a token of the person's own."""
        path = f"/api/v1/namespaces/{self.namespace}/serviceaccounts/ann/token"
        answer = self.server.send("POST", path, {"spec": {}})
        assert answer.code == 201, answer.message
        kubeconfig = self.server.kubeconfig(self.folder, {"token": answer.body["status"]["token"]})
        return connect(kubeconfig=kubeconfig, manager="run")


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    if gone := apiserver.missing():
        pytest.skip(f"IMPERSONATION WAS NOT TESTED: no {', '.join(gone)}; `make cluster` builds them")
    with apiserver.shared() as server:
        name = f"run-as-{uuid.uuid4().hex[:8]}"
        made = Place(server, name, tmp_path)
        assert server.send("POST", "/api/v1/namespaces", {"metadata": {"name": name}}).code == 201
        for account in ("ann", "other", *(one.name for one in FOLDERS)):
            made.account(account)
        pod = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
        spec = {"selector": {"matchLabels": {"a": "b"}}, "template": pod}
        made.make("/apis/apps/v1", "deployments", {"metadata": {"name": "web"}, "spec": spec})
        # All our accounts may patch here: what is refused below is refused to the person.
        rule = {"apiGroups": ["apps"], "resources": ["deployments"], "verbs": ["patch", "get"]}
        made.grant([
            {"kind": "Role", "metadata": {"name": "patch"}, "rules": [rule]},
            {"kind": "RoleBinding", "metadata": {"name": "patch"},
             "roleRef": {"apiGroup": RBAC, "kind": "Role", "name": "patch"},
             "subjects": [{"kind": "ServiceAccount", "name": one, "namespace": name}
                          for one in ("other", *(one.name for one in FOLDERS))]},
        ])  # fmt: skip
        yield made


def refused(client: ApiServer, user: str, namespace: str) -> Rejected:
    with pytest.raises(Rejected) as no:
        client.acting_as("run", user).json_patch("Deployment", namespace, "web", PATCH)
    return no.value


def test_with_exactly_the_rendered_rights_run_patches_as_each_action_and_as_nobody_else(place: Place) -> None:
    place.grant(run_as(FOLDERS, place.namespace, place.person))
    person = place.as_person()
    for folder in WRITERS:
        user = user_of(folder, place.namespace)
        writer = WritesAs(person, person.acting_as("run", user), user)
        writer.json_patch("Deployment", place.namespace, "web", PATCH)
    others = [user_of(one, place.namespace) for one in FOLDERS if one not in WRITERS]
    others += [
        f"system:serviceaccount:{place.namespace}:other",
        f"system:serviceaccount:kube-system:{WRITERS[0].name}",
        "admin", "system:admin", "system:kube-controller-manager", f"system:serviceaccount:{place.namespace}",
        "system:node:n1",
    ]  # fmt: skip
    for user in others:
        no = refused(person, user, place.namespace)
        assert (no.code, "cannot impersonate" in no.message) == (403, True), user
    with pytest.raises(Rejected) as own:
        person.json_patch("Deployment", place.namespace, "web", PATCH)
    assert own.value.code == 403
    person.close()


def test_before_anything_is_given_the_person_is_told_what_to_ask_for(place: Place) -> None:
    person = place.as_person()
    user = user_of(WRITERS[0], place.namespace)
    with pytest.raises(Rejected, match="quietpager render --run-as USER") as no:
        WritesAs(person, person.acting_as("run", user), user).json_patch(
            "Deployment", place.namespace, "web", PATCH
        )
    assert no.value.code == 403
    person.close()


def test_without_resource_names_the_person_acts_as_any_account_there(place: Place) -> None:
    """The mutant: the verb alone."""
    role, binding = run_as(FOLDERS, place.namespace, place.person)
    del role["rules"][0]["resourceNames"]
    place.grant([role, binding])
    person = place.as_person()
    other = f"system:serviceaccount:{place.namespace}:other"
    person.acting_as("run", other).json_patch("Deployment", place.namespace, "web", PATCH)
    person.close()


def test_what_is_printed_names_the_writing_accounts_and_the_person() -> None:
    done = CliRunner().invoke(command, ["render", "--run-as", "ann@example.com"])
    role, binding = yaml.safe_load_all(done.output)
    assert done.exit_code == 0
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["serviceaccounts"], "verbs": ["impersonate"],
         "resourceNames": sorted(one.name for one in WRITERS)}
    ]  # fmt: skip
    assert binding["subjects"] == [{"kind": "User", "name": "ann@example.com", "apiGroup": RBAC}]
    assert role["metadata"]["namespace"] == binding["metadata"]["namespace"] == "quietpager"
    for nobody in ("", " ", "a\nb"):
        assert CliRunner().invoke(command, ["render", "--run-as", nobody]).exit_code == 1


def test_the_real_api_server_sends_a_config_maps_metadata_alone(place: Place) -> None:
    place.make("/api/v1", "configmaps", {"metadata": {"name": "settings"}, "data": {"key": "hidden"}})
    client = connect(kubeconfig=place.server.kubeconfig(place.folder), manager="analyst")
    found = client.metadata("ConfigMap", place.namespace, "settings")
    assert found is not None
    assert found["metadata"]["managedFields"][0]["manager"]
    path = f"/api/v1/namespaces/{place.namespace}/configmaps/settings"
    raw = client._send("GET", path, {}, accept=METADATA_ONLY, stream=False)
    assert raw.status == 200
    assert b"hidden" not in raw.data
    client.close()
