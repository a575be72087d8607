"""Turns lines of the table into requests, sends them as an action's account, and reads the answer.

Every request is a dry run: it goes through all of admission and leaves nothing behind, so that each line
meets the same objects.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from quietpager.change.marks import (
    MARK,
    ROLLED,
    UNDO_OF,
    WROTE,
    annotation,
    is_rolled_back,
    pointer,
    record_of,
    shape_of,
)
from tests.apiserver import Answer, ApiServer

Json = dict[str, Any]
A = TypeVar("A")
B = TypeVar("B")

HERE: Final = Path(__file__).parent
NEW: Final = "second"
"""The intent that a request names where its line says nothing else."""
GROUPS: Final = ("system:serviceaccounts", "system:serviceaccounts:quietpager", "system:authenticated")
BELOW: Final = {
    "pod": "/spec/template/spec",
    "app": "/spec/template/spec/containers/0",
    "side": "/spec/template/spec/containers/1",
}
PATCH: Final = "application/json-patch+json"
ROLLED_AT: Final = pointer(ROLLED)
WROTE_AT: Final = pointer(WROTE)
TRUE: Final = "{record}"
"""Stands in a merge patch for the record that belongs to it."""
VALID: Final = {
    "raise-memory": {
        f"{BELOW['app']}/resources/limits/memory": "512Mi",
        f"{BELOW['app']}/resources/requests/memory": "256Mi",
    },
    "set-requests": {
        f"{BELOW['app']}/resources/requests/memory": "64Mi",
        f"{BELOW['app']}/resources/requests/cpu": "100m",
    },
    "rollout-undo": {
        f"{BELOW['app']}/image": "registry.example.com:5000/shop/web:1",
        f"{BELOW['side']}/image": "localhost/side:1",
    },
}
"""What an action may change; one of it goes with each line that tries something of another kind."""
OTHER: Final = frozenset({
    "platform", "opt-in", "ignored", "intent", "metadata", "annotations", "spec", "template", "pod",
    "containers", "container", "present",
})  # fmt: skip
"""The rules about something else than what the action may change."""
WORKERS: Final = 8
_REFUSED: Final = re.compile(r"denied request: ([\w-]+), rule ([\w-]+): (.*)", re.DOTALL)


@dataclass(frozen=True)
class Request:
    """One request of one action, and what it should get."""

    action: str
    method: str
    path: str
    body: Any
    content: str
    gets: str
    name: str
    wrote: str | None = ""
    """The record that goes with it: empty for the true one, None for none."""
    rolled: str | None = ""
    """How a rollback left it: empty for the truth, None where nothing is said, or a text."""

    @property
    def rule(self) -> str:
        return self.gets.partition(" ")[0]


@dataclass(frozen=True)
class Verdict:
    """`allowed`, the rule that refused, or `server` where something else did; and the whole text."""

    rule: str
    said: str
    body: Json

    def meets(self, request: Request) -> bool:
        rule, _, end = request.gets.partition(" ")
        return self.rule == rule and self.said.endswith(end)


def table(actions: Sequence[str]) -> list[Request]:
    """Read the table: one request for each line and action."""
    lines = yaml.safe_load((HERE / "requests.yaml").read_text(encoding="utf-8"))["rules"]
    return [_request(action, line) for line in lines for action in line.get("as", actions)]


def _request(action: str, line: Json) -> Request:
    if "send" in line:
        method, path = line["send"]
        content = "application/merge-patch+json" if method == "PATCH" else "application/json"
        if path.rpartition("/")[2].partition("?")[0] not in {"exec", "portforward", "proxy"}:
            path += "?dryRun=All"
        return Request(
            action, method, path, line.get("body"), content, line["gets"], f"{action} {method} {path}"
        )
    place, below = line.get("at", "shop/web"), BELOW.get(line.get("below", ""), "")
    edits = {below + pointer: value for pointer, value in line["edit"].items()}
    if line["gets"].partition(" ")[0] in OTHER and not str(line.get("mark", "")).endswith(UNDO_OF):
        free = (one for one in VALID[action] if not any(f"{one}/".startswith(f"{e}/") for e in edits))
        edits = {**{one: VALID[action][one] for one in [*free][:1]}, **edits}
    annotated = place != "shop/fresh" and place.partition("/")[0] == "shop"
    patch = [*_edits(edits), *_mark(line.get("mark", NEW), annotated=annotated)]
    told = ("at", "below", "mark", "edit", "rolled")
    what = " ".join(f"{key}={line[key]!r}" for key in told if key in line)
    notes = line.get("wrote", ""), line.get("rolled", "")
    return patch_request(action, place, patch, line["gets"], what, *notes)


def patch_request(
    action: str,
    at: str,
    patch: list[Json],
    gets: str,
    what: str,
    wrote: str | None = "",
    rolled: str | None = "",
) -> Request:
    """Make the request of a JSON Patch of a Deployment."""
    namespace, _, name = at.partition("/")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}?dryRun=All"
    return Request(action, "PATCH", path, patch, PATCH, gets, f"{action} {what}", wrote, rolled)


def marked(*changes: Json) -> list[Json]:
    """Give a JSON Patch that also names a new intent."""
    return [*changes, *_mark(NEW, annotated=True)]


def _edits(edits: Mapping[str, Any]) -> list[Json]:
    return [edit(path, value) for path, value in edits.items()]


def edit(path: str, value: Any) -> Json:
    """Give the operation that sets a field or an element, or removes it."""
    if value is None:
        return {"op": "remove", "path": path}
    op = "replace" if path.rpartition("/")[2].isdigit() else "add"
    return {"op": op, "path": path, "value": value}


def _mark(mark: str | None, *, annotated: bool) -> list[Json]:
    if not annotated:
        return [edit("/metadata/annotations", {MARK: mark})]
    return [edit(pointer(MARK), mark)]


def account(action: str, without: str = "") -> str:
    """Name the account of an action, or of the policy that lacks one rule."""
    end = f"-without-{without}" if without else ""
    return f"system:serviceaccount:quietpager:remediate-{action}{end}"


def ask(server: ApiServer, request: Request, user: str) -> Verdict:
    """Send it as this account, with its record."""
    body = recorded(server, request)
    return verdict(
        server.send(request.method, request.path, body, user=user, groups=GROUPS, content=request.content)
    )


_KNOWN: dict[str, Any] = {}
"""Bodies with their records, by request; nothing of the table is ever stored, so they stay true."""


def recorded(server: ApiServer, request: Request) -> Any:
    """Add the record to a patch, as the API server itself would have the object then; an undo removes it."""
    if request.wrote is request.rolled is None or request.method != "PATCH":
        return request.body
    key = json.dumps([request.action, request.path, request.body, request.wrote, request.rolled])
    if key not in _KNOWN:
        _KNOWN[key] = _recorded(server, request)
    return _KNOWN[key]


def _recorded(server: ApiServer, request: Request) -> Any:
    body, content = request.body, request.content
    if content != PATCH and TRUE not in json.dumps(body):
        return body
    live = server.send("GET", request.path.partition("?")[0]).body
    after = server.send("PATCH", request.path, body, content=content).body
    if "annotations" not in after.get("metadata", {}):
        return body
    rolls = request.action == "rollout-undo" or is_rolled_back(live)
    rolled = request.rolled or (shape_of(after) if rolls and request.rolled is not None else None)
    if content == PATCH and rolled is not None:
        body = [*body, {"op": "add", "path": ROLLED_AT, "value": rolled}]
    if request.wrote is None:
        return body
    before, meta = annotation(live, MARK), live["metadata"]
    if before and annotation(after, MARK) == before + UNDO_OF and request.wrote == "":
        return [*body, {"op": "remove", "path": WROTE_AT}] if annotation(live, WROTE) else body
    # The record itself moves the generation, where nothing else does.
    moved = max(after["metadata"]["generation"], meta["generation"] + 1)
    value = request.wrote or record_of(request.action, meta["uid"], moved, live, after)
    value = value.replace("{uid}", meta["uid"]).replace("{next}", str(moved))
    if content != PATCH:
        return json.loads(json.dumps(body).replace(TRUE, value))
    return [*body, {"op": "add", "path": WROTE_AT, "value": value}]


def verdict(answer: Answer) -> Verdict:
    if answer.code < 300:
        return Verdict("allowed", "", answer.body)
    if found := _REFUSED.search(answer.message):
        return Verdict(found[2], answer.message, answer.body)
    return Verdict("server", f"{answer.code} {answer.message}", answer.body)


def all_at_once(work: Callable[[A], B], items: Iterable[A]) -> list[B]:
    """Do it for all, some at once, in their order."""
    with ThreadPoolExecutor(WORKERS) as pool:
        return list(pool.map(work, items))
