"""The cages of evictions and cordons on a real API server: a table, and each rule removed once.

No action of the product evicts or cordons yet, so two that tests invent are rendered. What they hold is in
the files of the kinds of change, and so is why a Job that runs again has no cage.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

import pytest

from quietpager.actions.schema import Action
from quietpager.change.marks import MARK, pointer
from quietpager.incident.policy import Policy
from quietpager.render.cage import cage, policy_name
from quietpager.render.fields import NODE_OPENAPI, NODE_SPEC, committed_fields
from quietpager.render.folders import FunctionFolder
from tests.apiserver import ApiServer
from tests.cage.conftest import make, wait
from tests.cage.requests import GROUPS, PATCH, account, all_at_once, verdict
from tests.changes import CORDON, EVICT, RERUN

Json = dict[str, Any]

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]


def rendered(action: Action) -> list[Json]:
    folder = FunctionFolder(f"remediate-{action.name}", f"remediate/{action.name}", ())
    return cage([folder], {action.name: action}, Policy(), committed_fields(), "quietpager")


CAGES: Final = {action.name: rendered(action) for action in (EVICT, CORDON)}


def rules(name: str) -> list[str]:
    validations = CAGES[name][0]["spec"]["validations"]
    return [one["message"].partition(", rule ")[2].partition(":")[0] for one in validations]


CUTS: Final = [(name, rule) for name in CAGES for rule in rules(name)]


def without(name: str, rule: str) -> list[Json]:
    """Give policy and binding of an action without one rule, for an account of their own."""
    policy, binding = (deepcopy(one) for one in CAGES[name])
    named = f"{policy_name(name)}-without-{rule}"
    policy["metadata"]["name"] = binding["metadata"]["name"] = binding["spec"]["policyName"] = named
    del policy["spec"]["validations"][rules(name).index(rule)]
    [condition] = policy["spec"]["matchConditions"]
    condition["expression"] = condition["expression"].replace(account(name), account(name, rule))
    return [policy, binding]


@dataclass(frozen=True)
class Line:
    """One request, and the rule that must answer it."""

    action: str
    gets: str
    method: str
    path: str
    body: Any
    content: str = "application/json"


def evict(gets: str, at: str = "shop", mark: str | None = "second", **options: Any) -> Line:
    notes = {} if mark is None else {"annotations": {MARK: mark}}
    body = {
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": "victim", "namespace": at, **notes},
        "deleteOptions": {"preconditions": {"uid": "{uid}", "resourceVersion": "{version}"}} | options,
    }  # fmt: skip
    return Line("evict-pod", gets, "POST", f"/api/v1/namespaces/{at}/pods/victim/eviction", body)


def patch(gets: str, name: str, mark: str | None, *changes: Json) -> Line:
    at = pointer(MARK)
    marks = [] if mark is None else [{"op": "add", "path": at, "value": mark}]
    return Line("cordon", gets, "PATCH", f"/api/v1/nodes/{name}", [*marks, *changes], PATCH)


CLOSE: Final = {"op": "add", "path": "/spec/unschedulable", "value": True}
OPEN: Final = {"op": "remove", "path": "/spec/unschedulable"}
ADD_NOTE: Final = {"op": "add", "path": "/metadata/annotations/x", "value": "y"}
NO_NOTE: Final = {"op": "replace", "path": "/metadata/annotations/note", "value": ""}
SCALE: Final = {"op": "replace", "path": "/spec/replicas", "value": 9}
POD: Final = {
    "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "made", "namespace": "shop"},
    "spec": {"containers": [{"name": "a", "image": "a"}]},
}  # fmt: skip

LINES: Final = [
    evict("allowed"),
    Line("evict-pod", "kind", "DELETE", "/api/v1/namespaces/shop/pods/victim", None),
    Line("evict-pod", "kind", "POST", "/api/v1/namespaces/shop/pods", POD),
    Line("evict-pod", "kind", "PATCH", "/apis/apps/v1/namespaces/shop/deployments/web", [SCALE], PATCH),
    evict("platform", at="knative-serving"),
    evict("platform", at="quietpager"),
    evict("opt-in", at="closed"),
    evict("opt-in", at="declined"),
    evict("intent", mark=None),
    evict("intent", mark=""),
    evict("intent", mark="call this number: 555"),
    evict("pinned", preconditions=None),
    evict("pinned", preconditions={"uid": "{uid}"}),
    evict("pinned", preconditions={"resourceVersion": "{version}"}),
    evict("gently", gracePeriodSeconds=0),
    evict("gently", propagationPolicy="Orphan"),
    patch("allowed", "open", "second", CLOSE),
    patch("allowed", "shut", "first-undo", OPEN),
    Line("cordon", "kind", "PATCH", "/api/v1/nodes/open/status", [
        {"op": "add", "path": "/status/capacity", "value": {"cpu": "1"}}
    ], PATCH),
    Line("cordon", "kind", "DELETE", "/api/v1/nodes/open", None),
    Line("cordon", "kind", "PATCH", "/apis/apps/v1/namespaces/shop/deployments/web", [SCALE], PATCH),
    patch("opt-in", "unlabelled", "second", CLOSE),
    patch("ignored", "left-alone", "second", CLOSE),
    patch("intent", "open", None, CLOSE),
    patch("intent", "open", "first", CLOSE),
    patch("intent", "open", "other-undo", CLOSE),
    patch("intent", "shut", "other-undo", OPEN),
    patch("intent", "open", "call this number: 555", CLOSE),
    patch("equal", "open", "second", CLOSE, {"op": "add", "path": "/spec/providerID", "value": "mine"}),
    patch("equal", "open", "second", CLOSE, {"op": "add", "path": "/spec/taints", "value": [
        {"key": "away", "effect": "NoExecute"}
    ]}),
    patch("equal", "open", "second", CLOSE, {"op": "add", "path": "/metadata/labels/gpu", "value": "yes"}),
    patch("annotations", "open", "second", CLOSE, ADD_NOTE),
    patch("annotations", "open", "second", CLOSE, {"op": "remove", "path": "/metadata/annotations/note"}),
    patch("annotations", "open", "second", CLOSE, NO_NOTE),
    patch("changes", "open", "second"),
    patch("changes", "shut", "second"),
    patch("back", "shut", "second", OPEN),
]  # fmt: skip


def node(name: str, *, closed: bool = False, labelled: bool = True, ignore: str = "") -> Json:
    labels = {"quietpager.dev/enabled": "true"} if labelled else {}
    notes = {MARK: "first", "note": "kept"} | ({"quietpager.dev/ignore": ignore} if ignore else {})
    meta = {"name": name, "labels": labels, "annotations": notes}
    return {"apiVersion": "v1", "kind": "Node", "metadata": meta, "spec": {"unschedulable": closed}}


def victim(namespace: str) -> Json:
    return POD | {"metadata": {"name": "victim", "namespace": namespace}}


@pytest.fixture(scope="session")
def furnished(server: ApiServer) -> ApiServer:
    """Give the server of the other cages, with these two and what they are tried on."""
    nodes = [
        node("open"), node("shut", closed=True), node("unlabelled", labelled=False),
        node("left-alone", ignore="yes"),
    ]  # fmt: skip
    places = ("shop", "closed", "declined", "knative-serving", "quietpager")
    cut = [made for one in CUTS for made in without(*one)]
    every = [*nodes, *map(victim, places), *(made for one in CAGES.values() for made in one), *cut]
    all_at_once(lambda one: make(server, one), every)
    all_at_once(lambda user: wait(server, user), [*map(account, CAGES), *(account(*one) for one in CUTS)])
    return server


def ask(server: ApiServer, line: Line, user: str) -> str:
    """Send it as a dry run; gives the rule that refused, or `allowed`."""
    body = line.body
    if line.path.endswith("/eviction"):
        meta = server.send("GET", line.path.removesuffix("/eviction")).body["metadata"]
        body = filled(body, {"{uid}": meta["uid"], "{version}": meta["resourceVersion"]})
    path = f"{line.path}?dryRun=All"
    return verdict(server.send(line.method, path, body, user=user, groups=GROUPS, content=line.content)).rule


def filled(value: Any, words: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {key: filled(one, words) for key, one in value.items()}
    return words.get(value, value) if isinstance(value, str) else value


def test_the_table_of_kinds(furnished: ApiServer) -> None:
    found = all_at_once(lambda one: ask(furnished, one, account(one.action)), LINES)
    wrong = [(line, rule) for line, rule in zip(LINES, found, strict=True) if rule != line.gets]
    assert not wrong, wrong


@pytest.mark.parametrize(("action", "rule"), CUTS)
def test_without_one_rule_of_its_kind_something_gets_through(
    furnished: ApiServer, action: str, rule: str
) -> None:
    lines = [one for one in LINES if (one.action, one.gets) == (action, rule)]
    found = all_at_once(lambda one: ask(furnished, one, account(action, rule)), lines)
    if rule == "kind":
        # What this rule refuses lacks the fields that the others ask for, so they refuse it as well.
        assert not {"kind", "allowed"} & {*found}, found
    else:
        assert "allowed" in found, (rule, found)


def test_the_names_of_a_nodes_fields_are_the_servers(server: ApiServer) -> None:
    found = server.send("GET", NODE_OPENAPI).body["components"]["schemas"]["io.k8s.api.core.v1.NodeSpec"]
    assert tuple(sorted(found["properties"])) == NODE_SPEC


def test_what_cannot_be_caged_is_not_rendered() -> None:
    with pytest.raises(ValueError, match="No cage is known for action rerun-job") as caught:
        rendered(RERUN)
    assert "cannot compare it with the Job" in str(caught.value)
