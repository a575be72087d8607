"""The cage on a real API server: a table of requests, each rule removed once, and each field changed once."""

import re
from collections import defaultdict
from collections.abc import Iterator
from copy import deepcopy
from typing import Any, Final

import pytest
import yaml

from quietpager.actions.schema import load_actions
from quietpager.change.marks import MARK, ROLLED, UNDO_OF, WROTE, annotation
from quietpager.change.patch_fields import patch_of, reversed_edits
from quietpager.change.promise import breaches
from quietpager.model.incident import Edit, Intent
from quietpager.model.reference import ObjectRef
from quietpager.model.time import system_clock
from quietpager.render.fields import OPENAPI, committed_fields, fields_of
from quietpager.runtime.context import functions_folder
from tests.apiserver import ApiServer
from tests.cage.conftest import ACTIONS, CUTS
from tests.cage.requests import (
    BELOW,
    HERE,
    NEW,
    Request,
    Verdict,
    account,
    all_at_once,
    ask,
    edit,
    marked,
    patch_request,
    recorded,
    table,
)

Json = dict[str, Any]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(240),
]  # the first of a worker waits until sixty policies count

TABLE: Final = table(ACTIONS)
LINES: Final[dict[tuple[str, str], list[Request]]] = defaultdict(list)
for _one in TABLE:
    LINES[_one.action, _one.rule].append(_one)


def answers(server: ApiServer, requests: list[Request]) -> list[Verdict]:
    return all_at_once(lambda one: ask(server, one, account(one.action)), requests)


# The table


@pytest.mark.parametrize(("action", "rule"), sorted(LINES))
def test_the_table(server: ApiServer, action: str, rule: str) -> None:
    requests = LINES[action, rule]
    wrong = [
        f"{request.name}\n    should get {request.gets!r}, got {verdict.rule}: {verdict.said}"
        for request, verdict in zip(requests, answers(server, requests), strict=True)
        if not verdict.meets(request)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(("action", "rule"), CUTS)
def test_without_one_rule_something_gets_through(server: ApiServer, action: str, rule: str) -> None:
    requests = LINES[action, rule]
    cut = all_at_once(lambda one: ask(server, one, account(action, rule)), requests)
    assert any(verdict.rule == "allowed" for verdict in cut), [one.said for one in cut]


ELSEWHERE: Final = frozenset({"kind", "platform", "opt-in", "ignored"})
"""The rules about the place, which the statement in Python does not have."""


@pytest.mark.parametrize("action", ACTIONS)
def test_plan_and_server_say_the_same(server: ApiServer, action: str) -> None:
    """The statement that plans and the sandbox are held to names the same rule for each line of the table."""
    known = load_actions(functions_folder())[action]
    lines = [
        one
        for one in TABLE
        if one.action == action and one.rule not in ELSEWHERE and "/deployments/" in one.path
    ]

    def said(request: Request) -> str:
        live = server.send("GET", request.path.partition("?")[0]).body
        body = recorded(server, request)
        after = server.send("PATCH", request.path, body, content=request.content).body
        assert after.get("kind") == "Deployment", (request.name, after)
        broken = [one.rule for one in breaches(known.cage, live, after)]
        return broken[0] if broken else "allowed"

    for request, rule in zip(lines, all_at_once(said, lines), strict=True):
        assert rule == request.rule, request.name
    assert len(lines) > 60


def test_nobody_else_is_caged(server: ApiServer) -> None:
    requests = [one for one in TABLE if one.action == ACTIONS[0]]
    other = "system:serviceaccount:quietpager:govern-decide"
    for found in all_at_once(lambda one: ask(server, one, other), requests):
        assert found.rule in {"allowed", "server"}, found
        assert "ValidatingAdmissionPolicy" not in found.said


# Every field


def test_the_committed_names_are_the_servers(server: ApiServer) -> None:
    found = fields_of(server.send("GET", OPENAPI).body)
    assert found == committed_fields(), "make shared/quietpager/render/fields.json again; its module says how"


def without_mark(deployment: Json) -> Json:
    """Give what a write may not change unseen: all but what the server keeps, and the mark."""
    found = deepcopy(deployment)
    found.pop("status", None)
    for one in ("managedFields", "generation", "resourceVersion"):
        found["metadata"].pop(one, None)
    for mark in (MARK, WROTE, ROLLED):
        found["metadata"].get("annotations", {}).pop(mark, None)
    return found


LEVELS: Final = {
    "ObjectMeta": "/metadata",
    "DeploymentSpec": "/spec",
    "PodTemplateSpec": "/spec/template",
    "PodSpec": "/spec/template/spec",
    "Container": "/spec/template/spec/containers/1",
    "ResourceRequirements": "/spec/template/spec/containers/1/resources",
}
FIELDS: Final[dict[str, Json]] = yaml.safe_load((HERE / "fields.yaml").read_text(encoding="utf-8"))
RULES: Final = {
    "ObjectMeta": "metadata",
    "DeploymentSpec": "spec",
    "PodTemplateSpec": "template",
    "PodSpec": "pod",
    "Container": "container",
    "ResourceRequirements": "container",
}


@pytest.mark.parametrize("level", LEVELS)
def test_every_published_field_is_held(server: ApiServer, level: str) -> None:
    """Each field is set to another value: its rule names it, or `answered` says why not."""
    values, elsewhere = FIELDS["values"][level], FIELDS["elsewhere"].get(level, {})
    assert {*values, *elsewhere} == set(committed_fields()[level])
    tried = [
        (action, name)
        for action in ACTIONS
        for name in values
        if name not in FIELDS["allowed"].get(action, {}).get(level, ())
    ]
    requests = [
        patch_request(
            action, "shop/web", marked(edit(f"{LEVELS[level]}/{name}", values[name])), RULES[level], name
        )
        for action, name in tried
    ]
    for (_, name), verdict in zip(tried, answers(server, requests), strict=True):
        wanted = FIELDS["answered"].get(level, {}).get(name, RULES[level])
        if wanted == "unchanged":
            assert verdict.rule == "changes", (name, verdict.said)
        else:
            assert verdict.rule == wanted, (name, verdict.said)
            assert wanted == "server" or re.search(rf"\b{name}\b", verdict.said), (name, verdict.said)


# Every place of a real Deployment

MAY_CHANGE: Final = {
    "raise-memory": r"/resources/(limits|requests)/memory",
    "set-requests": r"/resources/requests/(memory|cpu)",
    "rollout-undo": (
        r"/(image|resources/(limits|requests)/(cpu|ephemeral-storage|memory)"
        r"|(liveness|readiness|startup)Probe)(/.*)?"
    ),
}
SERVERS: Final = ("/status", "/metadata/managedFields", "/metadata/generation", "/metadata/resourceVersion")


def places(of: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Give every JSON pointer below, with what is there."""
    items = of.items() if isinstance(of, dict) else enumerate(of) if isinstance(of, list) else ()
    for key, value in items:
        pointer = f"{at}/{str(key).replace('~', '~0').replace('/', '~1')}"
        if not pointer.startswith(SERVERS):
            yield pointer, value
            yield from places(value, pointer)


def changes(pointer: str, value: Any) -> Iterator[Json]:
    """Remove it; and where it is a single value, put another one there."""
    yield {"op": "remove", "path": pointer}
    if isinstance(value, bool):
        yield {"op": "replace", "path": pointer, "value": not value}
    elif isinstance(value, int):
        yield {"op": "replace", "path": pointer, "value": value + 1}
    elif isinstance(value, str):
        yield {"op": "replace", "path": pointer, "value": "other"}


@pytest.mark.parametrize("action", ACTIONS)
def test_any_single_change_elsewhere_is_refused(server: ApiServer, action: str) -> None:
    now = server.send("GET", "/apis/apps/v1/namespaces/shop/deployments/web").body
    free = re.compile(r"/spec/template/spec/containers/\d+" + MAY_CHANGE[action])
    tried = [
        (pointer, change)
        for pointer, value in places(now)
        if pointer != "/metadata/annotations/quietpager.dev~1intent"
        for change in changes(pointer, value)
    ]
    requests = [patch_request(action, "shop/web", marked(one), "", str(one)) for _, one in tried]
    refused = 0
    for (pointer, change), verdict in zip(tried, answers(server, requests), strict=True):
        if verdict.rule == "allowed" and free.fullmatch(pointer) is None:
            assert without_mark(verdict.body) == without_mark(now), change
        refused += verdict.rule not in {"allowed", "server"}
    assert refused > 100


# The product's own patches


EDITS: Final = {
    "raise-memory": (
        Edit(path=f"{BELOW['app']}/resources/limits/memory", had="256Mi", gets="512Mi"),
        Edit(path=f"{BELOW['app']}/resources/requests/memory", had="128Mi", gets="256Mi"),
    ),
    "set-requests": (Edit(path=f"{BELOW['app']}/resources/requests/cpu", had="250m", gets="100m"),),
    "rollout-undo": (
        Edit(path=f"{BELOW['side']}/image", had="localhost/side", gets="localhost/side:1"),
        Edit(path=f"{BELOW['app']}/resources/limits/memory", had="256Mi", gets="512Mi"),
        Edit(path=f"{BELOW['app']}/readinessProbe/httpGet/path", had="/ready", gets="/healthz"),
    ),
}


@pytest.mark.parametrize("action", ACTIONS)
def test_what_the_product_sends_is_let_through_and_its_undo_once(server: ApiServer, action: str) -> None:
    """Really written, as `carry_out` writes it; an undo of the undo is refused, whatever it holds."""
    path = "/apis/apps/v1/namespaces/shop/deployments"
    web = server.send("GET", f"{path}/web").body
    meta = {"name": f"own-{action}", "namespace": "shop"}
    made = server.send("POST", path, {**web, "metadata": meta}).body
    forward = Intent(
        id="forward", incident="i", rehearsal="r", action=action, generation=made["metadata"]["generation"],
        target=ObjectRef(
            api_version="apps/v1", kind="Deployment", namespace="shop", name=meta["name"],
            uid=made["metadata"]["uid"],
        ),
        edits=EDITS[action], created_at=system_clock(), expires_at=system_clock(),
    )  # fmt: skip
    after = write(server, forward, made)
    assert after.rule == "allowed", after.said
    assert without_mark(after.body) != without_mark(made)
    undo = forward.but(
        id=f"forward{UNDO_OF}", undoes="forward", edits=reversed_edits(forward.edits),
        generation=after.body["metadata"]["generation"],
    )  # fmt: skip
    undone = write(server, undo, after.body)
    if action == "rollout-undo":
        assert undone.rule == "intent", undone.said
        return
    assert undone.rule == "allowed", undone.said
    assert without_mark(undone.body)["spec"] == without_mark(made)["spec"]
    again = undo.but(
        id=f"forward{UNDO_OF}{UNDO_OF}", undoes=undo.id, edits=forward.edits,
        generation=undone.body["metadata"]["generation"],
    )  # fmt: skip
    assert write(server, again, undone.body).rule == "intent"


def write(server: ApiServer, intent: Intent, live: Json) -> Verdict:
    request = Request(
        intent.action,
        "PATCH",
        f"/apis/apps/v1/namespaces/shop/deployments/{intent.target.name}",
        [one for one in patch_of(intent, live) if one["op"] != "remove" or annotation(live, WROTE)],
        "application/json-patch+json",
        "",
        "",
        None,
        None,
    )
    return ask(server, request, account(intent.action))


# Limits of the server


@pytest.mark.parametrize("action", ACTIONS)
def test_a_large_deployment_is_within_the_servers_budget(server: ApiServer, action: str) -> None:
    """A policy that costs more than the API server grants would refuse; 40 containers are far beyond use."""
    resources = {"limits": {"memory": "64Mi"}, "requests": {"memory": "64Mi", "cpu": "100m"}}
    env = [{"name": f"VARIABLE_{n}", "value": "x" * 40} for n in range(60)]
    containers = [
        {"name": f"container-{n}", "image": "web:2", "env": env, "resources": resources} for n in range(40)
    ]
    notes = {"quietpager.dev/intent": "first"} | {f"example.com/note-{n}": "x" * 200 for n in range(200)}
    body = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": f"huge-{action}", "annotations": notes},
        "spec": {
            "selector": {"matchLabels": {"app": "huge"}},
            "template": {"metadata": {"labels": {"app": "huge"}}, "spec": {"containers": containers}},
        },
    }
    assert server.send("POST", "/apis/apps/v1/namespaces/shop/deployments", body).code == 201
    field, value = {
        "raise-memory": ("resources/limits/memory", "128Mi"),
        "set-requests": ("resources/requests/memory", "32Mi"),
        "rollout-undo": ("image", "web:1"),
    }[action]
    patch = marked(*(edit(f"/spec/template/spec/containers/{n}/{field}", value) for n in range(40)))
    found = ask(server, patch_request(action, f"shop/huge-{action}", patch, "", ""), account(action))
    assert found.rule == "allowed", found.said
    assert found.body["metadata"]["annotations"]["quietpager.dev/intent"] == NEW
