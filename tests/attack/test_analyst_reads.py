"""Whoever takes over the analyst reads what it may read: so it may read exactly what its code asks for.

Every request that its code sends is recorded at the HTTP server, over one walk through everything it looks
at, and held against the ClusterRole that is rendered for it. A ConfigMap's content is asked for by nobody.
RBAC has no word for "metadata alone": who holds the analyst's token may still read a ConfigMap by its name.
"""

import json
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from quietpager.cluster.client import connect
from quietpager.cluster.recorded import Recorded
from quietpager.model.cluster import Kind, LogReader
from quietpager.objects.table import KINDS, SETS, reading
from quietpager.render import function_folders, rights
from quietpager.runtime.context import Lazy, functions_folder
from quietpager.store.memory import MemoryStore
from tests.flow.harness import QUICK, Product

CASE = functions_folder() / "analyze/unknown/cases/33-unknown-operator-event"
PLURALS: Mapping[tuple[str, str], Kind] = {
    (one.resource.root, one.resource.plural): name for name, one in KINDS.items()
}
HIDDEN = "what the ConfigMap holds"
Json = dict[str, Any]
Right = tuple[str, str, str]
"""API group, resource, verb."""


@dataclass
class Asked:
    """A read-only API server over a case; `rights` are those that were used, `sent` is all it answered."""

    case: Recorded
    rights: set[Right] = field(default_factory=set)
    sent: list[bytes] = field(default_factory=list)

    def answer(self, url: str, accept: str) -> tuple[int, bytes]:
        """Answer a GET as the API server does, and note which right it takes."""
        at = urlsplit(url)
        parts = at.path.strip("/").split("/")
        root, rest = (parts[:2], parts[2:]) if parts[0] == "api" else (parts[:3], parts[3:])
        group = "" if parts[0] == "api" else parts[1]
        namespace, rest = (rest[1], rest[2:]) if rest[0] == "namespaces" and len(rest) > 2 else (None, rest)
        plural, name, sub = (*rest, "", "")[:3]
        kind = PLURALS["/" + "/".join(root), plural]
        self.rights.add((group, f"{plural}/{sub}" if sub else plural, "get" if name else "list"))
        if sub == "log":
            return 200, b"it says something\n"
        if not name:
            wanted = parse_qs(at.query).get("fieldSelector", [""])[0]
            items = [one for one in self.case.list(kind, namespace) if _selected(one, wanted)]
            return 200, json.dumps({"metadata": {}, "items": items}).encode()
        found = self.case.get(kind, namespace, name)
        if found is None:
            return 404, b'{"reason": "NotFound"}'
        if "as=PartialObjectMetadata" in accept:
            found = {"kind": "PartialObjectMetadata", "metadata": found["metadata"]}
        return 200, json.dumps(found).encode()


def _selected(one: Json, wanted: str) -> bool:
    about = one.get("involvedObject") or {}
    asked = [pair.removeprefix("involvedObject.").split("=") for pair in wanted.split(",") if pair]
    return all(about.get(key) == value for key, value in asked)


@pytest.fixture
def asked() -> Iterator[tuple[Asked, str]]:
    server = Asked(a_case())

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            code, body = server.answer(self.path, self.headers.get("Accept", ""))
            server.sent.append(body)
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    yield server, f"http://127.0.0.1:{http.server_port}"
    http.shutdown()
    http.server_close()
    thread.join()


NOW = datetime(2026, 11, 22, 19, 30, tzinfo=UTC)


def a_case() -> Recorded:
    """The recorded case, whose pods also use a ConfigMap, and one object of every kind it can be asked of."""
    case = Recorded(CASE)
    for one in case.objects:
        if one["kind"] == "Deployment":
            container = one["spec"]["template"]["spec"]["containers"][0]
            container["envFrom"] = [{"configMapRef": {"name": "settings"}}]
    case.objects += [
        thing("ConfigMap", "settings", data={"key": HIDDEN}),
        thing("PersistentVolumeClaim", "data", status={"phase": "Pending"}),
        thing("Node", "n1", namespace=None, status={"conditions": [
            {"type": "Ready", "status": "False", "lastTransitionTime": "2026-11-22T19:20:00Z"}]}),
        thing("Namespace", "team-44", namespace=None, status={"phase": "Active"}),
    ]  # fmt: skip
    return case


def thing(kind: str, name: str, namespace: str | None = "team-44", **more: Any) -> Json:
    about = {"name": name, "namespace": namespace, "uid": f"uid-{name}", "resourceVersion": "1",
             "creationTimestamp": "2026-11-22T19:00:00Z"}  # fmt: skip
    return {"apiVersion": "v1", "kind": kind, "metadata": about, **more}


def events(case: Recorded) -> list[Json]:
    """One Event that no rule knows about an object of each kind, also of one that is gone or foreign."""
    [pod, *_] = case.list("Pod")
    [sets, *_] = case.list("ReplicaSet")
    [web, *_] = case.list("Deployment")
    about = [
        *((one["kind"], one["metadata"]) for one in (pod, sets, web)),
        *((kind, case.list(kind)[-1]["metadata"]) for kind in ("PersistentVolumeClaim", "Node", "Namespace")),
        ("Pod", {"name": "gone", "namespace": "team-44", "uid": "uid-gone"}),
        ("Ledger", {"name": "ledger", "namespace": "team-44", "uid": "uid-ledger"}),
    ]  # fmt: skip
    return [
        {
            "kind": "Event", "apiVersion": "v1", "type": "Warning", "reason": "NobodyKnowsThis",
            "message": "epoch 7 is behind 9", "count": 3, "source": {"component": "an-operator"},
            "metadata": {"name": f"e{n}", "namespace": m.get("namespace") or "default", "uid": f"e{n}",
                         "resourceVersion": "1"},
            "involvedObject": {"kind": kind, "name": m["name"], "namespace": m.get("namespace"),
                               "uid": m["uid"]},
            "firstTimestamp": "2026-11-22T19:20:00Z", "lastTimestamp": "2026-11-22T19:29:50Z",
        }
        for n, (kind, m) in enumerate(about)
    ]  # fmt: skip


def walk(asked: tuple[Asked, str]) -> Product:
    """Let every Event come in, and the clock speak until each incident was looked at again."""
    server, url = asked
    now = [NOW]
    told = events(server.case)
    server.case.objects += told
    product = Product(MemoryStore(), server.case, clock=lambda: now[0], policy=QUICK)  # type: ignore[arg-type]
    client = connect(url, manager="analyst")
    ctx = product.contexts["analyze-unknown"]
    lazy = Lazy(lambda: product.store, lambda: client)
    product.contexts["analyze-unknown"] = replace(ctx, lazy=lazy)
    for event in told:
        product.event(event)
    product.deliver()
    for _ in range(8):
        now[0] += timedelta(seconds=2)
        product.ping("clock")
    client.close()
    return product


def granted() -> set[Right]:
    folders = [one for one in function_folders(functions_folder()) if one.name == "analyze-unknown"]
    [role] = [one for one in rights.roles(folders, {}, "quietpager") if one["kind"] == "ClusterRole"]
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"] for resource in rule["resources"] for verb in rule["verbs"]
    }  # fmt: skip


def test_the_analyst_uses_every_right_that_it_has_and_needs_no_other(asked: tuple[Asked, str]) -> None:
    product = walk(asked)
    assert asked[0].rights <= granted()
    of_every_kind = {(one.group, one.plural, verb) for one, verb in reading(SETS["targets"]())}
    assert granted() - asked[0].rights <= of_every_kind
    assert {str(one.owner) for one in product.incidents()} >= {"Deployment team-44/ledger", "Node n1"}
    assert product.refused == []


def test_what_a_config_map_holds_never_reaches_the_analyst(asked: tuple[Asked, str]) -> None:
    walk(asked)
    assert any(b'"settings"' in body for body in asked[0].sent)
    assert not any(HIDDEN.encode() in body for body in asked[0].sent)


def test_read_as_a_whole_object_its_content_would_reach_the_analyst(
    asked: tuple[Asked, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutant: the same code, with a reader that asks for the object."""

    def whole(reader: LogReader, kind: Kind, namespace: str | None, name: str) -> Json | None:
        return reader.get(kind, namespace, name)

    monkeypatch.setattr("quietpager.cluster.client.ApiServer.metadata", whole)
    walk(asked)
    assert any(HIDDEN.encode() in body for body in asked[0].sent)


@pytest.mark.parametrize("reads", ["configmaps:watch", "pods:get,list", "pods:*"])
def test_a_verb_that_nobody_gets_is_not_rendered(reads: str) -> None:
    [folder] = [one for one in function_folders(functions_folder()) if one.name == "analyze-unknown"]
    with pytest.raises(ValueError, match="behind the colon stands"):
        rights.roles([replace(folder, reads=(reads,))], {}, "q")
