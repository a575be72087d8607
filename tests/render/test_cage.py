"""The cage as rendered: what holds without a server. On a real API server: tests/cage."""

import json
from typing import Any

import pytest

from infra.deploy.__main__ import PRUNED, _is_of
from quietpager.actions.schema import Action, load_actions
from quietpager.incident.policy import Policy
from quietpager.render.cage import API, cage, policy_name
from quietpager.render.fields import committed_fields, fields_of
from quietpager.render.folders import FunctionFolder, function_folders
from quietpager.runtime.context import functions_folder

Json = dict[str, Any]

FOLDERS = function_folders(functions_folder())
ACTIONS = load_actions(functions_folder())
FIELDS = committed_fields()
RENDERED = cage(FOLDERS, ACTIONS, Policy(), FIELDS, "quietpager")
POLICIES = [one for one in RENDERED if one["kind"] == "ValidatingAdmissionPolicy"]


def one_folder(name: str) -> FunctionFolder:
    return FunctionFolder(f"remediate-{name}", f"remediate/{name}", ())


def rendered(action: Action, namespace: str = "quietpager", policy: Policy | None = None) -> str:
    folders, actions = [one_folder(action.name)], {action.name: action}
    return json.dumps(cage(folders, actions, policy or Policy(), FIELDS, namespace))


def test_each_action_that_writes_has_a_policy_and_a_binding_that_denies() -> None:
    wanted = {policy_name(name) for name, action in ACTIONS.items() if action.write}
    for kind in ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding"):
        assert {one["metadata"]["name"] for one in RENDERED if one["kind"] == kind} == wanted
    for one in RENDERED:
        assert one["apiVersion"] == API
        if one["kind"].endswith("Binding"):
            name = one["metadata"]["name"]
            assert one["spec"] == {"policyName": name, "validationActions": ["Deny"]}


def test_policies_fail_closed_and_look_nothing_up() -> None:
    """A policy's parameter that is missing refused every write of a cluster (docs/safety-cage.md)."""
    for one in POLICIES:
        assert one["spec"]["failurePolicy"] == "Fail"
        assert "paramKind" not in one["spec"]
        assert "params" not in json.dumps(one)
    assert "paramRef" not in json.dumps(RENDERED)


def test_every_request_of_the_account_is_judged_and_nobody_elses() -> None:
    for one in POLICIES:
        [rules] = one["spec"]["matchConstraints"]["resourceRules"]
        assert (rules["resources"], rules["operations"], rules["apiGroups"]) == (["*/*"], ["*"], ["*"])
        [condition] = one["spec"]["matchConditions"]
        name = one["metadata"]["name"].removeprefix("quietpager-").removesuffix("-cage")
        account = f"system:serviceaccount:quietpager:remediate-{name}"
        assert condition["expression"] == f'request.userInfo.username == "{account}"'


def test_every_rule_has_a_message_of_its_own() -> None:
    for one in POLICIES:
        messages = [rule["message"] for rule in one["spec"]["validations"]]
        assert len({said.partition(":")[0] for said in messages}) == len(messages) >= 14


def test_an_action_that_never_writes_needs_no_cage() -> None:
    action = ACTIONS["raise-memory"].model_copy(update={"name": "propose-change", "write": ()})
    folders = [one_folder("propose-change")]
    assert cage(folders, {"propose-change": action}, Policy(), FIELDS, "quietpager") == []


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("restart", {}),
        ("raise-memory", {"may_change": ("spec.replicas",)}),
        ("raise-memory", {"may_change": ("spec.template.spec.containers[*].resources.limits",)}),
        ("raise-memory", {"params": {}}),
        ("raise-memory", {"params": {"factor": {"max": 2}, "ceiling": {"quantity": True}}}),
    ],
)
def test_an_action_whose_promise_is_not_known_is_not_rendered(name: str, changed: Json) -> None:
    action = Action.model_validate(ACTIONS["raise-memory"].model_dump() | {"name": name} | changed)
    with pytest.raises(ValueError, match=r"cage"):
        rendered(action)


def test_an_action_with_a_right_that_no_kind_of_change_needs_is_not_even_read() -> None:
    write = ({"group": "apps", "resources": ("deployments",), "verbs": ("update",)},)
    with pytest.raises(ValueError, match="no kind of change sends `update deployments of group apps`"):
        Action.model_validate(ACTIONS["raise-memory"].model_dump() | {"write": write})


@pytest.mark.parametrize("level", ["ObjectMeta", "DeploymentSpec", "PodTemplateSpec", "PodSpec", "Container"])
def test_a_field_that_a_newer_server_has_is_compared(level: str) -> None:
    newer = {**FIELDS, level: (*FIELDS[level], "brandNew")}
    for one in cage(FOLDERS, ACTIONS, Policy(), newer, "quietpager"):
        if one["kind"] == "ValidatingAdmissionPolicy":
            assert json.dumps(one).count(".?brandNew == ") == 1


def test_the_bounds_are_the_actions() -> None:
    before = ACTIONS["raise-memory"]
    params = before.model_dump()["params"]
    params = {"factor": {**params["factor"], "max": 1.5}, "ceiling": {**params["ceiling"], "max": 1024.0}}
    text = rendered(Action.model_validate(before.model_dump() | {"params": params}))
    assert "double('1.5')" in text
    assert "quantity('1024')" in text


def test_places_are_the_policys() -> None:
    policy = Policy(opt_in_label="example.com/on", protected_prefixes=("kube-", "infra-"))
    text = rendered(ACTIONS["raise-memory"], "watch", policy)
    assert r"[\"kube-\", \"infra-\", \"watch\"]" in text
    assert "example.com/on" in text


@pytest.mark.parametrize("document", [{}, {"components": {"schemas": {}}}, {"components": None}])
def test_a_document_without_fields_is_no_field_list(document: Json) -> None:
    with pytest.raises(ValueError, match="tells no fields of"):
        fields_of(document)


def test_a_deploy_of_one_remediator_brings_its_cage_and_no_other() -> None:
    found = {one["metadata"]["name"] for one in RENDERED if _is_of(one, ["remediate-raise-memory"])}
    assert found == {policy_name("raise-memory")}
    assert {"validatingadmissionpolicies", "validatingadmissionpolicybindings"} <= set(PRUNED.split(","))
