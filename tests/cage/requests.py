"""Turns lines of the table into requests, sends them as an action's account, and reads the answer.

Every request is a dry run: it goes through all of admission and leaves nothing behind, so that each line
meets the same objects.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import yaml

from quietpager.safety.effect import MARK
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
    annotated = place != "shop/fresh" and place.partition("/")[0] == "shop"
    patch = [*_edits(edits), *_mark(line.get("mark", NEW), annotated=annotated)]
    what = " ".join(f"{key}={line[key]!r}" for key in ("at", "below", "mark", "edit") if key in line)
    return patch_request(action, place, patch, line["gets"], what)


def patch_request(action: str, at: str, patch: list[Json], gets: str, what: str) -> Request:
    """Make the request of a JSON Patch of a Deployment."""
    namespace, _, name = at.partition("/")
    path = f"/apis/apps/v1/namespaces/{namespace}/deployments/{name}?dryRun=All"
    return Request(action, "PATCH", path, patch, "application/json-patch+json", gets, f"{action} {what}")


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
    return [edit("/metadata/annotations/" + MARK.replace("/", "~1"), mark)]


def account(action: str, without: str = "") -> str:
    """Name the account of an action, or of the policy that lacks one rule."""
    end = f"-without-{without}" if without else ""
    return f"system:serviceaccount:quietpager:remediate-{action}{end}"


def ask(server: ApiServer, request: Request, user: str) -> Verdict:
    """Send it as this account."""
    return verdict(
        server.send(
            request.method, request.path, request.body, user=user, groups=GROUPS, content=request.content
        )
    )


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
