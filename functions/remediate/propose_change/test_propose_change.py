"""Proposals: single fields of manifests, against a real `git` and a bare repository."""

import json
import os
import subprocess
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from quietpager.errors import BadMessage, Refused
from quietpager.functions.remediate.propose_change import manifests, proposing
from quietpager.functions.remediate.propose_change.git import TOKEN, Git
from quietpager.functions.remediate.propose_change.handler import handle
from quietpager.functions.remediate.propose_change.manifests import Field, edit_text, edit_tree, fields_of
from quietpager.functions.remediate.propose_change.proposing import Wanted, patch_text, push, wanted_of
from quietpager.incident import records
from quietpager.incident.policy import Places, Policy, Repository
from quietpager.model.finding import Remedy
from quietpager.model.incident import Autonomy, Edit, Incident, Rehearsal, State
from quietpager.model.message import APPLY, REHEARSE, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Put
from quietpager.outgoing import LOOPBACK
from quietpager.runtime.context import Context, Lazy, make_context
from quietpager.store.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
WEB = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web", uid="u1")
MANIFEST = """\
# the shop
apiVersion: v1
kind: Service
metadata: {name: web}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web            # not web-2
  namespace: shop
spec:
  replicas: 2
  template:
    spec:
      containers:
      - name: sidecar
        image: "proxy:1"
      - name: app      # ours

        image: 'shop:2'   # bumped by the pipeline
        args: [serve, --port=80]
        resources:
          limits: {memory: 32Mi}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: other}
spec: {template: {spec: {containers: [{name: app, image: shop:2}]}}}
"""
LIVE: dict[str, Any] = {
    "metadata": {
        "name": "web", "namespace": "shop", "uid": "u1", "generation": 3,
        "annotations": {"argocd.argoproj.io/tracking-id": "shop:apps/Deployment:shop/web"},
    },
    "spec": {
        "replicas": 2, "selector": {"matchLabels": {"app": "web"}},
        "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {
                "containers": [
                    {
                        "name": "app", "image": "shop:2", "args": ["serve", "--port=80"],
                        "resources": {"limits": {"memory": "32Mi"}},
                    },
                    {"name": "sidecar", "image": "proxy:1"},
                ]
            },
        },
    },
    "status": {},
}  # fmt: skip
IMAGE = Edit(path="/spec/template/spec/containers/0/image", had="shop:2", gets="shop:1")


def one(path: str, had: Any, gets: Any) -> tuple[Field, ...]:
    return fields_of([Edit(path=f"/spec/template/spec/containers/0/{path}", had=had, gets=gets)], LIVE)


def changed(before: str, after: str) -> list[tuple[str, str]]:
    old, new = before.splitlines(), after.splitlines()
    assert len(old) == len(new)
    return [(a, b) for a, b in zip(old, new, strict=True) if a != b]


# Manifests


def test_one_value_changes_and_not_one_other_byte() -> None:
    after = edit_text(MANIFEST, WEB, fields_of([IMAGE], LIVE))
    assert changed(MANIFEST, after) == [
        (
            "        image: 'shop:2'   # bumped by the pipeline",
            "        image: 'shop:1'   # bumped by the pipeline",
        )
    ]


def test_a_container_is_found_by_its_name_not_by_its_place() -> None:
    assert [str(f) for f in fields_of([IMAGE], LIVE)] == ["spec.template.spec.containers.app.image"]


def test_what_differs_inside_a_whole_is_taken_apart() -> None:
    fields = one("resources", {"limits": {"memory": "32Mi"}}, {"limits": {"memory": "64Mi"}})
    assert changed(MANIFEST, edit_text(MANIFEST, WEB, fields)) == [
        ("          limits: {memory: 32Mi}", "          limits: {memory: 64Mi}")
    ]


def test_a_field_can_be_added_and_removed_and_the_rest_stays() -> None:
    added = edit_text(MANIFEST, WEB, one("command", None, ["/bin/shop"]))
    [_, document, _] = yaml.safe_load_all(added)
    assert document["spec"]["template"]["spec"]["containers"][1]["command"] == ["/bin/shop"]
    assert [line for line in MANIFEST.splitlines() if line not in added.splitlines()] == []
    removed = edit_text(MANIFEST, WEB, one("args", ["serve", "--port=80"], None))
    assert [line for line in MANIFEST.splitlines() if line not in removed.splitlines()] == [
        "        args: [serve, --port=80]"
    ]


@pytest.mark.parametrize("value", ["yes", "1.10", "a: b", "x # y", "", "{{ x }}", "\u2028", "a\nb", "'"])
def test_odd_text_stays_text(value: str) -> None:
    after = edit_text(MANIFEST, WEB, one("image", "shop:2", value))
    [_, document, _] = yaml.safe_load_all(after)
    assert document["spec"]["template"]["spec"]["containers"][1]["image"] == value


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=12), st.text(max_size=12))
def test_any_text_for_any_text_and_nothing_else(had: str, gets: str) -> None:
    assume(had != gets)
    try:
        written = yaml.safe_dump(had, default_style='"', width=1 << 16).strip()
        before = MANIFEST.replace("'shop:2'", written)
        documents = list(yaml.safe_load_all(before))
    except yaml.YAMLError:
        assume(False)
        raise
    containers = documents[1]["spec"]["template"]["spec"]["containers"]
    assume(containers[1]["image"] == had)
    containers[1]["image"] = gets
    try:
        after = edit_text(before, WEB, one("image", had, gets))
    except Refused:
        return
    assert list(yaml.safe_load_all(after)) == documents


def test_a_change_that_takes_more_with_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the last look, a value written badly would go unseen."""
    monkeypatch.setattr(manifests, "_scalar", lambda _value, _before: "shop:1\n        tty: true")
    with pytest.raises(Refused, match="without changing more"):
        edit_text(MANIFEST, WEB, fields_of([IMAGE], LIVE))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (MANIFEST.replace("'shop:2'", "'shop:9'"), "is shop:9 in Git and shop:2 in the cluster"),
        (MANIFEST.replace("'shop:2'", "'shop:1'"), "Git has the wanted values already"),
        (MANIFEST.replace("        image: 'shop:2'   # bumped by the pipeline\n", ""), "is nothing in Git"),
        (MANIFEST.replace("'shop:2'", "&tag 'shop:2'"), "anchor"),
        (MANIFEST.replace("- name: app ", "- name: app-2 "), "is nothing in Git"),
        (MANIFEST + "---\n" + MANIFEST.partition("---\n")[2], "2 times"),
        ("kind: Deployment\nmetadata: {name: web", "cannot be read as YAML"),
        ("a: b\n", "0 times"),
        ("# Deployment web\n" + "[" * 800, "levels deep"),
        ("[" * 9000, "0 times"),
    ],
)
def test_what_a_person_must_look_at_is_refused(text: str, sentence: str) -> None:
    with pytest.raises(Refused, match=sentence):
        edit_text(text, WEB, fields_of([IMAGE], LIVE))


def test_a_manifest_with_the_namespace_comes_before_one_without(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "web.yaml").write_text(MANIFEST.replace("  namespace: shop\n", ""))
    assert edit_tree(tmp_path, "", WEB, fields_of([IMAGE], LIVE)).file == "base/web.yaml"
    (tmp_path / "web.yml").write_text(MANIFEST)
    assert edit_tree(tmp_path, "", WEB, fields_of([IMAGE], LIVE)).file == "web.yml"
    (tmp_path / "again.yaml").write_text(MANIFEST)
    with pytest.raises(Refused, match="2 files"):
        edit_tree(tmp_path, "", WEB, fields_of([IMAGE], LIVE))
    assert edit_tree(tmp_path, "base", WEB, fields_of([IMAGE], LIVE)).file == "base/web.yaml"


def test_templates_and_links_are_not_edited(tmp_path: Path) -> None:
    (tmp_path / "repo").mkdir()
    (tmp_path / "outside.yaml").write_text(MANIFEST)
    (tmp_path / "repo" / "link.yaml").symlink_to(tmp_path / "outside.yaml")
    with pytest.raises(Refused, match=r"No manifest of Deployment shop/web was found in Git\.$"):
        edit_tree(tmp_path / "repo", "", WEB, fields_of([IMAGE], LIVE))
    (tmp_path / "repo" / "t.yaml").write_text("kind: Deployment\nmetadata:\n  name: web\n{{ if x }}: [\n")
    with pytest.raises(Refused, match="a template"):
        edit_tree(tmp_path / "repo", "", WEB, fields_of([IMAGE], LIVE))


# Git


def git(*arguments: str, at: Path) -> str:
    done = subprocess.run(  # noqa: S603 (a test's own)
        ["git", "-c", "user.name=t", "-c", "user.email=t@localhost", *arguments],  # noqa: S607
        cwd=at, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    work, there = tmp_path / "work", tmp_path / "repo.git"
    work.mkdir()
    (work / "apps").mkdir()
    (work / "apps" / "web.yaml").write_text(MANIFEST)
    git("init", "-q", "-b", "main", at=work)
    git("add", ".", at=work)
    git("commit", "-qm", "first", at=work)
    git("clone", "-q", "--bare", str(work), str(there), at=tmp_path)
    return there


def repository(bare: Path, **more: Any) -> Repository:
    return Repository(url=f"file://{bare}", **more)


def plan() -> Rehearsal:
    return Rehearsal(
        id="inc-1-r1", incident="inc-1", remedy=Remedy(action="rollout-undo"), owner=WEB, state="rehearsed",
        asked_at=NOW, generation=3, edits=(IMAGE,), summary="roll Deployment shop/web back",
    )  # fmt: skip


def incident() -> Incident:
    return Incident(
        id="inc-1", cause="workload:u1", episode=1, cluster="c", family="image",
        failure_class="image_pull_not_found", owner=WEB, state=State.PLANNING, opened_at=NOW, state_since=NOW,
        autonomy=Autonomy.AUTO, since=NOW, deadline_at=NOW, recheck_every=10.0, rehearsal="inc-1-r2",
    )  # fmt: skip


def wanted() -> Wanted:
    return wanted_of(plan(), incident(), LIVE)


BRANCH = "quietpager/inc-1-r1"


def branches(bare: Path) -> list[str]:
    return git("for-each-ref", "--format=%(refname:short)", "refs/heads", at=bare).split()


def test_the_branch_has_the_one_line_and_is_pushed_once(bare: Path) -> None:
    first = push(wanted(), repository(bare))
    assert (first.kind, first.where) == ("branch", BRANCH)
    head = git("rev-parse", BRANCH, at=bare)
    diff = git("diff", "--numstat", "main", BRANCH, at=bare)
    assert diff == "1\t1\tapps/web.yaml\n"
    assert "+        image: 'shop:1'" in first.text
    assert push(wanted(), repository(bare)).where == BRANCH
    assert git("rev-parse", BRANCH, at=bare) == head
    assert branches(bare) == ["main", BRANCH]


def test_a_push_that_lost_the_race_takes_what_is_there(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Git.push
    pushed: list[str] = []

    def late(self: Git, branch: str) -> None:
        if not pushed:
            other = bare.parent / "rival"
            git("clone", "-q", str(bare), str(other), at=bare.parent)
            git("checkout", "-q", "-b", branch, at=other)
            git("commit", "-q", "--allow-empty", "-m", "rival", at=other)
            git("push", "-q", "origin", branch, at=other)
        pushed.append(branch)
        real(self, branch)

    monkeypatch.setattr(Git, "push", late)
    assert push(wanted(), repository(bare)).where == BRANCH
    assert "rival" in git("log", "-1", "--format=%s", BRANCH, at=bare)
    assert pushed == [BRANCH]


def test_deliveries_at_the_same_time_make_one_branch(bare: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        shown = list(pool.map(lambda _: push(wanted(), repository(bare)), range(4)))
    assert {one.where for one in shown} == {BRANCH}
    assert branches(bare) == ["main", BRANCH]
    assert git("rev-list", "--count", BRANCH, at=bare) == "2\n"


def test_the_same_plan_makes_the_same_commit(bare: Path) -> None:
    push(wanted(), repository(bare))
    head = git("rev-parse", BRANCH, at=bare)
    git("branch", "-D", BRANCH, at=bare)
    push(wanted(), repository(bare))
    assert git("rev-parse", BRANCH, at=bare) == head


def test_a_server_that_says_no_is_quoted_without_the_token(bare: Path) -> None:
    hook = bare / "hooks" / "pre-receive"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\necho 'not here, canary-token' >&2\nexit 1\n")
    hook.chmod(0o755)
    with pytest.raises(Refused, match=r"git push failed .*not here, \*\*\*"):
        push(wanted(), repository(bare), env={TOKEN: "canary-token", "PATH": _path()})


def _path() -> str:
    return os.environ["PATH"]


def test_no_repository_and_no_git_are_sentences(tmp_path: Path) -> None:
    with pytest.raises(Refused, match="git ls-remote failed"):
        push(wanted(), repository(tmp_path / "nowhere"))
    with pytest.raises(Refused, match="git cannot be run here"):
        push(wanted(), repository(tmp_path / "nowhere"), env={"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@host/x", "ext::sh -c touch% /x", "--upload-pack=x", "http://host/x",
        "https://a b", "",
    ],
)  # fmt: skip
def test_a_url_with_a_credential_or_a_command_is_no_policy(url: str) -> None:
    with pytest.raises(ValueError, match="url") as no:
        Policy.model_validate({"repositories": [{"url": url}]})
    assert "secret" not in str(no.value)


# Pull requests


@contextmanager
def github(answers: dict[str, Any]) -> Iterator[tuple[str, list[tuple[str, str, Any, str]]]]:
    """Be GitHub: one list of pull requests, and what was asked."""
    asked: list[tuple[str, str, Any, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._answer(200, answers["pulls"])

        def do_POST(self) -> None:
            if answers.get("refuse"):
                self._answer(answers["refuse"], {"message": "no right to"})
                return
            answers["pulls"].append({"html_url": "https://github.example/shop/manifests/pull/7"})
            self._answer(201, answers["pulls"][-1])

        def _answer(self, code: int, body: Any) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            sent = json.loads(self.rfile.read(size)) if size else None
            asked.append((self.command, self.path, sent, self.headers.get("Authorization") or ""))
            raw = json.dumps(body).encode()
            self.send_response(code)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


def test_a_pull_request_is_opened_once(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOPBACK, "1")
    named = bare.parent / "shop" / "manifests.git"
    named.parent.mkdir()
    bare.rename(named)
    env = {TOKEN: "canary-token", "PATH": _path()}
    with github({"pulls": []}) as (api, asked):
        first = push(wanted(), repository(named, github=api), env)
        again = push(wanted(), repository(named, github=api), env)
    assert first.kind == "pull_request"
    assert first.where == again.where == "https://github.example/shop/manifests/pull/7"
    posts = [body for method, _, body, _ in asked if method == "POST"]
    assert len(posts) == 1
    assert (posts[0]["head"], posts[0]["base"]) == (BRANCH, "main")
    assert {head for *_, head in asked} == {"Bearer canary-token"}
    assert asked[0][1].startswith("/repos/shop/manifests/pulls?")
    assert "canary-token" not in f"{first}{posts}"


def test_a_pull_request_that_is_refused_leaves_the_branch(bare: Path) -> None:
    with github({"pulls": [], "refuse": 403}) as (api, _):
        shown = push(wanted(), repository(bare, github=api))
    assert (shown.kind, shown.where) == ("branch", BRANCH)
    assert "GitHub answered 403 to the pull request: no right to" in shown.text
    assert BRANCH in branches(bare)


# The function


class OneDeployment:
    """A cluster with one Deployment and its namespace; whatever writes is an error."""

    def __init__(self, *, enabled: bool = True) -> None:
        self.labels = {"quietpager.dev/enabled": "true"} if enabled else {}

    def get(self, kind: str, _namespace: str | None, name: str) -> Any:
        if kind == "Namespace":
            return {"kind": kind, "metadata": {"name": name, "labels": self.labels}}
        return LIVE | {"kind": kind} if kind == "Deployment" else None

    def list(self, *_: Any) -> list[Any]:
        return []

    def each(self, *_: Any) -> Iterator[Any]:
        return iter(())


def world(
    policy: Policy, *, stopped: bool = False, enabled: bool = True, dial: Autonomy = Autonomy.AUTO,
    params: Mapping[str, str | float] | None = None, named: tuple[str, ...] = ("shop",),
) -> tuple[MemoryStore, Context]:  # fmt: skip
    store, policy = MemoryStore(), policy.but(namespaces=Places(allow=named))
    wants = Remedy(action="propose-change", params=dict({"of": "inc-1-r1"} if params is None else params))
    asked = Rehearsal(id="inc-1-r2", incident="inc-1", remedy=wants, owner=WEB, asked_at=NOW)
    store.transact(
        [
            Put(records.SWITCH, {"stopped": stopped}, 0),
            Put(records.incident("inc-1"), incident().but(autonomy=dial).to_json(), 0),
            Put(records.rehearsal("inc-1-r1"), plan().to_json(), 0),
            Put(records.rehearsal("inc-1-r2"), asked.to_json(), 0),
        ]
    )
    cluster: Any = OneDeployment(enabled=enabled)
    lazy = Lazy(lambda: store, lambda: cluster)
    return store, make_context("remediate-propose-change", lazy, policy=policy, clock=lambda: NOW)


def rehearsed(store: MemoryStore, ctx: Context) -> Rehearsal:
    message = Message(id="m", type=REHEARSE, data={"rehearsal": "inc-1-r2"})
    [answer] = handle(message, ctx)
    assert handle(message, ctx) == [answer]
    record = store.get(records.rehearsal("inc-1-r2"))
    assert record is not None
    return Rehearsal.from_json(record.body)


def test_the_plan_becomes_a_branch(bare: Path) -> None:
    done = rehearsed(*world(Policy(repositories=(repository(bare),))))
    assert done.proposal is not None
    assert (done.state, done.proposal.kind, done.proposal.where) == ("rehearsed", "branch", BRANCH)
    assert done.edits == ()
    assert BRANCH in done.summary


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"stopped": True}, "writing is stopped"),
        ({"enabled": False}, "no label"),
        ({"named": ()}, "the policy does not name namespace shop"),
        ({"dial": Autonomy.ANALYZE}, "autonomy is analyze"),
    ],
)
def test_nothing_is_pushed_where_nothing_might_be_written(bare: Path, more: Any, why: str) -> None:
    done = rehearsed(*world(Policy(repositories=(repository(bare),)), **more))
    assert done.proposal is not None
    assert done.proposal.kind == "patch"
    assert why in done.summary
    assert branches(bare) == ["main"]


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        (Policy(), "names no Git repository"),
        (Policy(repositories=(Repository(url="file:///nowhere/at/all"),)), "git ls-remote failed"),
    ],
)
def test_whatever_fails_the_plan_is_attached_as_a_patch(policy: Policy, why: str) -> None:
    done = rehearsed(*world(policy))
    assert done.proposal is not None
    assert why in done.summary
    text = "\n".join(line for line in done.proposal.text.splitlines() if not line.startswith("#"))
    assert json.loads(text) == [
        {"op": "test", "path": IMAGE.path, "value": "shop:2"},
        {"op": "replace", "path": IMAGE.path, "value": "shop:1"},
    ]


def test_a_class_without_a_safe_action_gets_advice() -> None:
    done = rehearsed(*world(Policy(), params={}))
    assert done.proposal is not None
    assert done.proposal.kind == "patch"
    assert "no action of the catalogue is safe" in done.proposal.text


@pytest.mark.parametrize(
    "params", [{"of": "inc-9-r1"}, {"of": "inc-1-r2"}, {"of": 3.0}, {"of": ""}, {"to": "x"}]
)
def test_a_plan_that_is_none_is_refused(params: dict[str, Any]) -> None:
    done = rehearsed(*world(Policy(), params=params))
    assert (done.state, done.proposal) == ("refused", None)
    assert done.refusal


def test_it_never_applies() -> None:
    _, ctx = world(Policy())
    with pytest.raises(BadMessage, match="only rehearses"):
        handle(Message(id="m", type=APPLY, data={"intent": "x"}), ctx)


def test_text_of_the_cluster_is_no_markup_and_no_second_line() -> None:
    nasty = IMAGE.but(had="shop:2\n@everyone ![x](http://x)")
    body = wanted_of(plan().but(edits=(nasty,)), incident(), LIVE).body
    [line] = [line for line in body.splitlines() if "@everyone" in line]
    assert line.startswith("    ")
    assert "@everyone" in patch_text(wanted_of(plan().but(edits=(nasty,)), incident(), LIVE))
    assert proposing.TRIES == 2
