"""The API server of the cage's tests: with the objects of the table, the policies, and their mutants."""

from collections.abc import Iterator
from copy import deepcopy
from time import monotonic, sleep
from typing import Any, Final

import pytest
import yaml

from quietpager.actions.schema import load_actions
from quietpager.change.marks import WROTE
from quietpager.render import manifests
from quietpager.render.cage import API, policy_name
from quietpager.render.rights import RBAC
from quietpager.runtime.context import functions_folder
from tests import apiserver
from tests.apiserver import ApiServer
from tests.cage.requests import HERE, PATCH, WROTE_AT, Request, account, all_at_once, ask, edit, patch_request

Json = dict[str, Any]

ACTIONS: Final = tuple(name for name, one in load_actions(functions_folder()).items() if one.write)
RENDERED: Final = [one for one in manifests(functions_folder()) if one["apiVersion"] == API]
POLICIES: Final = {one["metadata"]["name"]: one for one in RENDERED if one["kind"].endswith("Policy")}
PLURALS: Final = {
    "Namespace": "namespaces", "Pod": "pods", "ConfigMap": "configmaps", "Secret": "secrets",
    "Node": "nodes", "Deployment": "deployments", "StatefulSet": "statefulsets", "DaemonSet": "daemonsets",
    "ClusterRoleBinding": "clusterrolebindings", "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
}  # fmt: skip
ANYTHING: Final = {
    "apiVersion": f"{RBAC}/v1",
    "kind": "ClusterRoleBinding",
    "metadata": {"name": "anything"},
    "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
    "subjects": [
        {
            "kind": "Group",
            "name": "system:serviceaccounts:quietpager",
            "apiGroup": "rbac.authorization.k8s.io",
        }
    ],
}
"""The accounts may do anything by their roles, so that every refusal is the cage's."""
PATIENCE: Final = 120.0


def rules_of(action: str) -> list[str]:
    """Name the rules of an action's policy, in their order."""
    validations = POLICIES[policy_name(action)]["spec"]["validations"]
    return [one["message"].partition(", rule ")[2].partition(":")[0] for one in validations]


CUTS: Final = [(action, rule) for action in ACTIONS for rule in rules_of(action)]
"""Every action and rule: the policy that lacks it stands on the server, too, for an account of its own."""


@pytest.fixture(scope="session")
def server() -> Iterator[ApiServer]:
    """Give the server, furnished."""
    if gone := apiserver.missing():
        pytest.skip(f"THE CAGE WAS NOT TESTED: no {', '.join(gone)}; `make cluster` builds them")
    with apiserver.shared() as found:
        _furnish(found)
        yield found


def _furnish(server: ApiServer) -> None:
    """Make everything, unless another worker has (then it is only waited for), and wait until it counts."""
    objects = yaml.safe_load((HERE / "objects.yaml").read_text(encoding="utf-8"))
    all_at_once(lambda one: make(server, one), [o for o in objects if o["kind"] == "Namespace"])
    cut = [made for action, rule in CUTS for made in without(action, rule)]
    others = [o for o in objects if o["kind"] != "Namespace"]
    all_at_once(lambda one: make(server, one), [ANYTHING, *others, *RENDERED, *cut])
    all_at_once(lambda one: _fill_in(server, one), [o for o in others if WROTE in str(o["metadata"])])
    users = [account(action) for action in ACTIONS] + [account(*one) for one in CUTS]
    all_at_once(lambda user: wait(server, user), users)


def make(server: ApiServer, one: Json) -> None:
    namespace = one["metadata"].get("namespace")
    root = "/api/v1" if one["apiVersion"] == "v1" else f"/apis/{one['apiVersion']}"
    within = f"/namespaces/{namespace}" if namespace else ""
    answer = server.send("POST", f"{root}{within}/{PLURALS[one['kind']]}", one)
    assert answer.code in {201, 409}, answer.message


def _fill_in(server: ApiServer, one: Json) -> None:
    """Write the uid into the record, once; whichever worker is first makes generation 2."""
    path = f"/apis/apps/v1/namespaces/{one['metadata']['namespace']}/deployments/{one['metadata']['name']}"
    text = one["metadata"]["annotations"][WROTE]
    uid = server.send("GET", path).body["metadata"]["uid"]
    filled = text.replace("{uid}", uid)
    if filled == text:
        # A record that names another object: only the generation is moved.
        filled = f"{text} "
    patch = [
        {"op": "test", "path": WROTE_AT, "value": text},
        {"op": "replace", "path": WROTE_AT, "value": filled},
    ]
    answer = server.send("PATCH", path, patch, content=PATCH)
    assert answer.code in {200, 422}, answer.message  # 422: another worker has


def without(action: str, *rules: str) -> list[Json]:
    """Give policy and binding of an action without some rules, for an account of their own."""
    name = policy_name(action)
    policy, binding = (deepcopy(one) for one in RENDERED if one["metadata"]["name"] == name)
    named = f"{name}-without-{'-'.join(rules)}"
    policy["metadata"]["name"] = binding["metadata"]["name"] = binding["spec"]["policyName"] = named
    spec = policy["spec"]
    missing = [rules_of(action).index(rule) for rule in rules]
    spec["validations"] = [one for place, one in enumerate(spec["validations"]) if place not in missing]
    [condition] = spec["matchConditions"]
    condition["expression"] = condition["expression"].replace(
        account(action), account(action, "-".join(rules))
    )
    return [policy, binding]


def wait(server: ApiServer, user: str) -> None:
    """Wait until its policy counts: it comes some 100 ms after it was made. Two rules refuse the canary."""
    patch = [edit("/spec/replicas", 0)]
    canary: Request = patch_request("canary", "kube-platform/web", patch, "", "")
    end, seen = monotonic() + PATIENCE, None
    while monotonic() < end:
        seen = ask(server, canary, user)
        if seen.rule not in {"allowed", "server"}:
            return
        sleep(0.05)
    pytest.fail(f"The policy of {user} did not count within {PATIENCE:.0f} s: {seen}")
