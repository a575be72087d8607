"""The HTTP of the API server: an ASGI application over `registry`.

Served by `server`. Paths, parameters and bodies are those of the Kubernetes API conventions
(https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md);
the paths under /sandbox/ are our own: POST /sandbox/load, POST /sandbox/forbid, GET /sandbox/audit.

There is no RBAC here: everybody is one user who may do everything, but for what /sandbox/forbid names. What
an action's account may write, `cage` holds.
"""

import asyncio
import contextlib
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qsl

from quietpager.model.time import Clock, to_text
from quietpager.objects.kind import Resource
from quietpager.sandbox import answers, cage, eviction, logs, paging, patching, selection
from quietpager.sandbox.answers import Problem
from quietpager.sandbox.kinds import BY_PATH
from quietpager.sandbox.registry import Registry
from quietpager.sandbox.store import Change

Json = dict[str, Any]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]

_ALWAYS = frozenset({"/readyz", "/livez", "/healthz", "/version"})
_VERBS: Final = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
_MAX_BODY: Final = 3 << 20
_JSON_PATCH: Final = "application/json-patch+json"
_MERGE_PATCH: Final = "application/merge-patch+json"
_AUDIT_LINES: Final = 20_000
_WATCH_SECONDS: Final = 1800.0


@dataclass(frozen=True, slots=True)
class Target:
    """What a path names."""

    resource: Resource
    namespace: str = ""
    name: str = ""
    subresource: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read."""

    method: str
    query: dict[str, str]
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body."""
        try:
            return json.loads(self.body)
        except ValueError as error:
            text = f"error decoding the request's body: {error}"
            raise answers.bad_request(text) from error

    @property
    def dry_run(self) -> bool:
        """Whether nothing may be stored."""
        value = self.query.get("dryRun", "")
        if value not in {"", "All"}:
            raise answers.bad_request(f'Invalid value: "{value}": supported values: "All"')
        return value == "All"


class Api:
    """The application. It keeps the audit of every write that came over HTTP."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        """Serve a registry."""
        self._registry, self._clock = registry, clock
        self.audit: deque[Json] = deque(maxlen=_AUDIT_LINES)
        self._forbidden: frozenset[tuple[str, str]] = frozenset()
        """Verb and resource, as RBAC has them, that are answered with 403."""
        self.closing = asyncio.Event()
        """Ends all watches."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"the sandbox serves no {scope['type']}")
        try:
            request = await _read(scope, receive)
            await self._route(scope["path"], request, receive, send)
        except Problem as problem:
            await _answer(send, problem.code, problem.body())

    async def _route(self, path: str, request: Request, receive: Receive, send: Send) -> None:
        if path.startswith("/sandbox/") or path in _ALWAYS:
            await _answer(send, 200, self._own(path, request))
        else:
            target = _target(path)
            self._hold_to_rights(target, request)
            if request.method in _VERBS:
                await _answer(send, *self._write(target, request))
            elif request.method != "GET":
                text = "the server does not allow this method on the requested resource"
                raise Problem(405, "MethodNotAllowed", text)
            elif target.subresource == "log":
                pod = self._registry.read(target.resource, target.namespace, target.name)
                await _answer(send, 200, logs.read(pod, request.query))
            elif target.name:
                found = self._registry.read(target.resource, target.namespace, target.name)
                await _answer(send, 200, _as_accepted(found, request))
            elif _watches(request):
                await self._watch(target, request, receive, send)
            else:
                await _answer(send, 200, self._list(target, request))

    def _own(self, path: str, request: Request) -> Any:
        """Answer what is not about objects: health, version, and what tests ask of the sandbox itself."""
        match path, request.method:
            case "/sandbox/audit", _:
                return [*self.audit]
            case "/sandbox/load", "POST":
                return self._load(request.json())
            case "/sandbox/forbid", "POST":
                self._forbidden = frozenset((one["verb"], one["resource"]) for one in request.json())
                return {}
            case "/version", _:
                return {"major": "1", "minor": "35", "gitVersion": "v1.35.4-sandbox"}
            case _ if path in _ALWAYS:
                return {"status": "ok"}
        raise Problem(404, "NotFound", "the server could not find the requested resource")

    def _hold_to_rights(self, target: Target, request: Request) -> None:
        """Answer 403 for what has been forbidden, and 401 where ("authenticate", "users") is."""
        if ("authenticate", "users") in self._forbidden:
            raise Problem(401, "Unauthorized", "Unauthorized")
        user = request.headers.get("impersonate-user")
        if user is not None and ("impersonate", "serviceaccounts") in self._forbidden:
            raise answers.may_not_impersonate(user)
        verb = _verb(target, request)
        if (verb, target.resource.plural) in self._forbidden:
            raise answers.not_allowed(verb, target.resource, target.namespace)

    def _load(self, body: Any) -> Json:
        if not isinstance(body, dict) or not isinstance(body.get("objects"), list):
            raise answers.bad_request("the body is {objects: […], enabled: true or false}")
        left_out = self._registry.load(body["objects"], enabled=bool(body.get("enabled")))
        return {"left_out": left_out}

    def _list(self, target: Target, request: Request) -> Json:
        resource = target.resource
        items, about = paging.page(
            self._registry.store, resource.kind, target.namespace, request.query, _selected(request)
        )
        return {
            "kind": f"{resource.kind}List",
            "apiVersion": resource.api_version,
            "metadata": about,
            # As from the real one: in a list the items do not repeat their kind.
            "items": [{k: v for k, v in obj.items() if k not in {"kind", "apiVersion"}} for obj in items],
        }

    def _write(self, target: Target, request: Request) -> tuple[int, Json]:
        body: Any = None
        resource, name = target.resource, target.name
        found = self._registry.store.get(resource.kind, target.namespace, name)
        about: Json = found["metadata"] if found else {}
        try:
            body = request.json() if request.body else None
            code, answer = self._do(target, request, body)
            about = answer["metadata"]
        except Problem as problem:
            code, answer = problem.code, problem.body()
        self.audit.append(
            {
                "time": to_text(self._clock()),
                "verb": _VERBS[request.method],
                "kind": resource.kind,
                "subresource": target.subresource,
                "namespace": target.namespace,
                "name": about.get("name", name),
                "uid": about.get("uid"),
                "dryRun": request.query.get("dryRun") == "All",
                "code": code,
                "user_agent": request.headers.get("user-agent", ""),
                "impersonate": request.headers.get("impersonate-user", ""),
                "field_manager": request.query.get("fieldManager", ""),
                "body": body,
            }
        )
        return code, answer

    def _do(self, target: Target, request: Request, body: Any) -> tuple[int, Json]:
        registry, resource, dry_run = self._registry, target.resource, request.dry_run
        if target.subresource == "log":
            text = "the server does not allow this method on the requested resource"
            raise Problem(405, "MethodNotAllowed", text)
        where = (resource, target.namespace, target.name)
        admit, account = None, cage.account_of(request.headers)
        if account is not None:
            verb = {"POST": "CREATE", "DELETE": "DELETE"}.get(request.method, "UPDATE")
            place = registry.store.get("Namespace", "", target.namespace)
            admit = cage.hold(account, verb, resource, target.subresource, target.name, place)
        if request.method == "POST" and not target.name:
            if not isinstance(body, dict):
                raise answers.bad_request("the body is not an object")
            return 201, registry.create(resource, body, target.namespace, dry_run=dry_run)
        if request.method == "POST" and target.subresource == "eviction":
            return 201, eviction.evict(registry, target.namespace, target.name, body, dry_run=dry_run)
        if not target.name or request.method == "POST" or target.subresource == "eviction":
            text = "the server does not allow this method on the requested resource"
            raise Problem(405, "MethodNotAllowed", text)
        if request.method == "DELETE":
            if dry_run:
                return 200, registry.read(*where)
            grace = (body or {}).get("gracePeriodSeconds", request.query.get("gracePeriodSeconds"))
            return 200, registry.delete(*where, None if grace is None else int(grace))
        change = _change(request.headers.get("content-type", "").partition(";")[0], body)
        status = target.subresource == "status"
        return 200, registry.update(*where, change, status=status, dry_run=dry_run, admit=admit)

    async def _watch(self, target: Target, request: Request, receive: Receive, send: Send) -> None:
        wanted = _selected(request)
        queue: asyncio.Queue[Change] = asyncio.Queue()
        store = self._registry.store
        # From here to the subscription nothing may await, or a change could be missed.
        first = list(self._backlog(target, request, wanted))
        stop = store.listen(queue.put_nowait)
        end = time.monotonic() + float(request.query.get("timeoutSeconds") or _WATCH_SECONDS)
        if any(event["type"] == "ERROR" for event in first):
            end = 0.0  # such a watch is over
        left = asyncio.ensure_future(_until_left(receive))
        closing = asyncio.ensure_future(self.closing.wait())
        try:
            headers = [(b"content-type", b"application/json")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await _lines(send, first)
            while not left.done() and not closing.done():
                getter = asyncio.ensure_future(queue.get())
                await asyncio.wait(
                    {getter, left, closing},
                    timeout=max(0.0, end - time.monotonic()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if not getter.done():
                    getter.cancel()
                    if request.query.get("allowWatchBookmarks") == "true" and not left.done():
                        await _lines(send, [_bookmark(target.resource, store.version)])
                    break
                changes = [getter.result()]
                while not queue.empty():
                    changes.append(queue.get_nowait())
                await _lines(send, filter(None, (_event(c, target, wanted) for c in changes)))
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            stop()
            for task in (left, closing):
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    def _backlog(self, target: Target, request: Request, wanted: selection.Matches) -> Iterable[Json]:
        """List what a watch has to be told first."""
        store, text = self._registry.store, request.query.get("resourceVersion", "")
        if text in {"", "0"}:
            for obj in store.select(target.resource.kind, target.namespace):
                if wanted(obj):
                    yield {"type": "ADDED", "object": obj}
            return
        if not text.isdecimal():
            raise answers.bad_version(text)
        changes = store.since(int(text))
        if changes is None:
            # Not an answer of its own: the stream is open already, so it comes as an event.
            yield {"type": "ERROR", "object": answers.too_old(int(text), store.oldest).body()}
            return
        for change in changes:
            if event := _event(change, target, wanted):
                yield event


def _bookmark(resource: Resource, version: int) -> Json:
    """Say how far a watch has come. A real server also says it once a minute on the way."""
    about = {"kind": resource.kind, "apiVersion": resource.api_version}
    return {"type": "BOOKMARK", "object": about | {"metadata": {"resourceVersion": str(version)}}}


def _as_accepted(found: Json, request: Request) -> Json:
    """Give the object, or its metadata alone where the request asks for that (PartialObjectMetadata)."""
    if "as=PartialObjectMetadata" not in request.headers.get("accept", ""):
        return found
    about = {"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1"}
    return about | {"metadata": found["metadata"]}


def _verb(target: Target, request: Request) -> str:
    """Name what a request does, in RBAC's word."""
    if request.method != "GET":
        return _VERBS.get(request.method, "")
    if target.name:
        return "get"
    return "watch" if _watches(request) else "list"


def _watches(request: Request) -> bool:
    return request.query.get("watch", "").lower() in {"1", "true"}


def _selected(request: Request) -> selection.Matches:
    try:
        by_label = selection.labels(request.query.get("labelSelector", ""))
        by_field = selection.fields(request.query.get("fieldSelector", ""))
    except ValueError as error:
        raise answers.bad_request(str(error)) from error
    return lambda obj: by_label(obj) and by_field(obj)


def _event(change: Change, target: Target, wanted: selection.Matches) -> Json | None:
    """Say a change as this watch sees it: entering a selection adds, leaving it deletes."""
    obj = change.object
    if change.kind != target.resource.kind:
        return None
    if target.namespace and obj["metadata"].get("namespace") != target.namespace:
        return None
    was = change.before is not None and wanted(change.before)
    now = change.type != "DELETED" and wanted(obj)
    kind = {(False, True): "ADDED", (True, True): "MODIFIED", (True, False): "DELETED"}
    found = kind.get((was, now))
    return {"type": found, "object": obj} if found else None


def _change(content_type: str, body: Any) -> Callable[[Json], Json]:
    """Make the function that a patch is."""
    if content_type == _JSON_PATCH:
        if not isinstance(body, list):
            raise answers.bad_request("a JSON patch is a list of operations")

        def change(obj: Json) -> Json:
            try:
                return patching.apply(obj, body)
            except patching.PatchError as error:
                raise answers.patch_failed() from error

        return change
    if content_type == _MERGE_PATCH:
        if not isinstance(body, dict):
            raise answers.bad_request("a merge patch is an object")
        return lambda obj: patching.merge(obj, body)
    text = f"the body of the request was in an unknown format - accepted media types include: {_JSON_PATCH}, {_MERGE_PATCH}"  # noqa: E501 (the API server's sentence)
    raise Problem(415, "UnsupportedMediaType", text)


def _target(path: str) -> Target:
    """Understand a path of the API."""
    match path.strip("/").split("/"):
        case ["api", "v1", *rest]:
            group = ""
        case ["apis", group, "v1", *rest]:
            pass
        case _:
            raise answers.no_such_path()
    namespace = ""
    if len(rest) > 2 and rest[0] == "namespaces" and rest[2] != "status":
        _, namespace, *rest = rest
    resource = BY_PATH.get((group, rest[0] if rest else ""))
    if resource is None or len(rest) > 3:
        raise answers.no_such_path()
    name, subresource = [*rest[1:], "", ""][:2]
    wrong_place = bool(namespace) is not resource.namespaced
    if (name and wrong_place) or (namespace and not resource.namespaced):
        raise answers.no_such_path()
    known = (subresource == "status" and resource.has_status) or (
        subresource in {"log", "eviction"} and resource.kind == "Pod"
    )
    if subresource and not known:
        raise answers.no_such_path()
    return Target(resource, namespace, name, subresource)


async def _lifespan(receive: Receive, send: Send) -> None:
    """Answer the server's start and stop; `server` itself owns what has to run."""
    while (message := await receive())["type"] != "lifespan.shutdown":
        await send({"type": f"{message['type']}.complete"})
    await send({"type": "lifespan.shutdown.complete"})


async def _read(scope: Scope, receive: Receive) -> Request:
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > _MAX_BODY:
            raise Problem(413, "RequestEntityTooLarge", "the request is too large")
        if not message.get("more_body"):
            break
    headers = {key.decode("latin-1"): value.decode("latin-1") for key, value in scope["headers"]}
    query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
    return Request(scope["method"], query, headers, body)


async def _answer(send: Send, code: int, answer: Any) -> None:
    plain = isinstance(answer, bytes)
    body = answer if plain else json.dumps(answer, separators=(",", ":")).encode()
    headers = [
        (b"content-type", b"text/plain" if plain else b"application/json"),
        (b"content-length", str(len(body)).encode()),
    ]
    await send({"type": "http.response.start", "status": code, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _lines(send: Send, events: Iterable[Json]) -> None:
    body = b"".join(json.dumps(e, separators=(",", ":")).encode() + b"\n" for e in events)
    if body:
        await send({"type": "http.response.body", "body": body, "more_body": True})


async def _until_left(receive: Receive) -> None:
    """Wait until the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
