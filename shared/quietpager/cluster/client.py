"""The wrapper around the official Kubernetes client: `connect()` gives a `port.Cluster`.

Who calls it: the functions' start-up, the command line, the demo and the contract suite. Nothing
else in the product may import `kubernetes`.

What is used of the official client is TLS, proxies, and a pod's service account with its renewal
(`Configuration`, `RESTClientObject`). Kubeconfigs are read by `kubeconfig_files` and `credentials`,
whose docstrings say why. Paths come from the table of kinds, so no discovery request is ever sent, and
objects stay the API's own JSON, so none of the client's 700 typed models is needed. Importing them
would cost more than half of a function's start-up budget; `official` says how that is avoided.

Times are seconds. Every method raises `ClusterUnavailable` where nothing is known about what
happened (transport, timeout, 429, 5xx) and `Rejected` where the API server said no.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlencode

from quietpager.cluster.answers import failure, lines, object_of, refused_eviction, watch_event
from quietpager.cluster.official import official_client, read_service_account
from quietpager.cluster.pages import Answer, items, judged, pages
from quietpager.model.cluster import ClusterUnavailable, Json, Kind, Rejected, WatchEvent
from quietpager.objects.kinds.pod import KIND as POD
from quietpager.objects.table import resource

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

    from quietpager.cluster.credentials import Credentials

ENV_API_SERVER: Final = "QUIETPAGER_API_SERVER"
CONNECT_SECONDS: Final = 2.0
READ_SECONDS: Final = 5.0
POOL_SIZE: Final = 16
PIECE: Final = 1 << 16
"""Bytes of a page that are read at once."""
MOST_EVENTS: Final = 500
"""Events about one object that are read: whoever may write Events may write any number of them."""
METADATA_ONLY: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
MOST_ERROR: Final = 1 << 16
"""Bytes of an error's body that are read where an answer is streamed."""


def connect(
    url: str | None = None,
    *,
    kubeconfig: str | os.PathLike[str] | None = None,
    context: str | None = None,
    manager: str,
    impersonate: str | None = None,
) -> "ApiServer":
    """Connect to a kubeconfig's cluster, a plain-http sandbox or the cluster we run in.

    The first that is given wins: `kubeconfig`, `url`, the environment's QUIETPAGER_API_SERVER, the
    pod's service account. No request is sent yet. `manager` is who we say we are: the User-Agent
    of every call and the fieldManager of every write (at most 128 printable characters). `context` is
    one of the kubeconfig's; without it the current one. `impersonate` is the user as whom every call
    is made (`ApiServer.acting_as`).

    Raises:
        ClusterUnavailable: neither of them gives usable credentials.
    """
    kubernetes = official_client()
    configuration = kubernetes.configuration.Configuration()
    # 35.0.0 reads NO_PROXY and then resets it: without this line a proxy would get our requests.
    configuration.no_proxy = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    address = url or os.environ.get(ENV_API_SERVER)
    credentials = None
    if kubeconfig is not None:
        # Only people have a kubeconfig; a function does without these imports.
        from quietpager.cluster.credentials import settle  # noqa: PLC0415
        from quietpager.cluster.kubeconfig_files import choose  # noqa: PLC0415

        credentials = settle(configuration, choose(kubeconfig, context))
    elif address:
        configuration.host, configuration.proxy = address.rstrip("/"), None
    else:
        read_service_account(configuration)
    configuration.connection_pool_maxsize = POOL_SIZE
    configuration.retries = False  # a write that was repeated below us would be a second write
    try:
        rest = kubernetes.rest.RESTClientObject(configuration)
    except (OSError, ValueError) as error:  # a certificate or key that is none
        raise ClusterUnavailable(f"the credentials cannot be used: {error}") from error
    return ApiServer(configuration, rest, manager, impersonate, credentials)


class ApiServer:
    """One API server, as `port.Cluster` says; safe to share between threads."""

    def __init__(
        self,
        configuration: Any,
        rest: Any,
        manager: str,
        impersonate: str | None = None,
        credentials: "Credentials | None" = None,
    ) -> None:
        """Use the official client's configuration and connection pool.

        `credentials` are a kubeconfig's; without them the configuration knows who we are.
        """
        self._configuration, self._manager, self._impersonate = configuration, manager, impersonate
        self._known_by = credentials
        self._rest, self._pool = rest, rest.pool_manager

    @property
    def address(self) -> str:
        """The URL of the API server."""
        return str(self._configuration.host)

    def acting_as(self, manager: str, impersonate: str | None = None) -> "ApiServer":
        """Give the same server and connections under another name.

        `impersonate` is a user's name, `system:serviceaccount:<namespace>:<name>` for a ServiceAccount;
        the server adds a ServiceAccount's groups by itself
        (https://kubernetes.io/docs/reference/access-authn-authz/user-impersonation/).
        """
        return ApiServer(self._configuration, self._rest, manager, impersonate, self._known_by)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object; None where it does not exist."""
        try:
            return self._call("GET", _path(kind, namespace, name))
        except Rejected as no:
            if no.code == 404:
                return None
            raise

    def metadata(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object's metadata alone; the server leaves the rest out.

        A server that answers with the whole object all the same does not have it kept
        (https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches).
        """
        try:
            answer = self._call("GET", _path(kind, namespace, name), accept=METADATA_ONLY)
        except Rejected as no:
            if no.code == 404:
                return None
            raise
        return {"kind": kind, "metadata": answer.get("metadata") or {}}

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Read all objects of a kind that match a label selector, whole."""
        return [*self._items(kind, namespace, {"labelSelector": labels} if labels else {})]

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Read all objects of a kind one after the other, in pages."""
        selector = ",".join(f"{key}={value}" for key, value in (labels or {}).items())
        for raw in self._items(kind, namespace, {"labelSelector": selector} if selector else {}):
            yield judged(kind, raw)

    def listing(self, kind: Kind, namespace: str | None = None) -> str:
        """Give the resourceVersion from which a watch goes on; of the list one object is read at most."""
        answer = self._call("GET", _path(kind, namespace), {"limit": "1"})
        return str(answer.get("metadata", {}).get("resourceVersion", ""))

    def events(self, kind: str, namespace: str, name: str) -> Sequence[Json]:
        """Read the Events about one object (core/v1 Events can be selected by these fields)."""
        about = f"involvedObject.kind={kind},involvedObject.name={name}"
        return [*islice(self._items("Event", namespace, {"fieldSelector": about}), MOST_EVENTS)]

    def logs(
        self,
        namespace: str,
        pod: str,
        container: str,
        *,
        previous: bool = False,
        tail: int = 100,
        most: int = 1 << 16,
    ) -> bytes:
        """Read the last lines of a container; never more than `most` bytes, whatever the server sends."""
        import urllib3  # noqa: PLC0415 (imported with the official client, on first use)

        query = {"container": container, "tailLines": str(tail), "limitBytes": str(most)}
        if previous:
            query["previous"] = "true"
        response = self._send("GET", _path(POD.name, namespace, pod, "log"), query, accept="*/*")
        try:
            if response.status >= 300:
                raise failure(response.status, response.read(MOST_ERROR))
            # One read may give less than there is: the log comes in pieces.
            parts, left = [], most
            while left > 0 and (part := response.read(left)):
                parts.append(part)
                left -= len(part)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterUnavailable(f"the log of {container} in {pod} broke off: {error}") from error
        finally:
            response.close()
        return b"".join(parts)

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        resource_version: str,
        timeout_seconds: int,
        *,
        bookmarks: bool = False,
    ) -> Iterator[WatchEvent]:
        """Follow changes; the iterator ends when the API server ends the watch."""
        import urllib3  # noqa: PLC0415 (imported with the official client, on first use)

        query = {"watch": "1", "resourceVersion": resource_version}
        query["timeoutSeconds"] = str(timeout_seconds)
        if bookmarks:
            query["allowWatchBookmarks"] = "true"
        response = self._send(
            "GET", _path(kind, namespace), query, read_seconds=timeout_seconds + READ_SECONDS
        )
        try:
            if response.status >= 400:
                raise failure(response.status, response.data)
            for line in lines(response):
                yield watch_event(json.loads(line))
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            raise ClusterUnavailable(f"the watch on {kind} broke off: {error}") from error
        finally:
            response.close()  # whoever stops reading in the middle must not leave a connection

    def create(self, kind: Kind, obj: Json, *, dry_run: bool = False) -> Json:
        """Create an object; the namespace is the object's own."""
        namespace = obj.get("metadata", {}).get("namespace")
        return self._write("POST", _path(kind, namespace), obj, dry_run)

    def json_patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        patch: Sequence[Json],
        *,
        dry_run: bool = False,
        subresource: Literal["", "status"] = "",
    ) -> Json:
        """Apply RFC 6902 operations."""
        path = _path(kind, namespace, name, subresource)
        return self._write("PATCH", path, [*patch], dry_run, "application/json-patch+json")

    def merge_patch(
        self,
        kind: Kind,
        namespace: str | None,
        name: str,
        patch: Json,
        *,
        dry_run: bool = False,
        subresource: Literal["", "status"] = "",
    ) -> Json:
        """Apply an RFC 7386 merge patch."""
        path = _path(kind, namespace, name, subresource)
        return self._write("PATCH", path, patch, dry_run, "application/merge-patch+json")

    def evict(self, namespace: str, pod: str, eviction: Json, *, dry_run: bool = False) -> Json:
        """Create an Eviction; what a budget or the eviction itself answers is an answer, not an overload."""
        path, query = _path("Pod", namespace, pod, "eviction"), {"fieldManager": self._manager}
        if dry_run:
            query["dryRun"] = "All"
        response = self._send("POST", path, query, eviction, stream=False)
        if response.status >= 300:
            raise refused_eviction(response.status, response.data)
        return object_of(response.data)

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Delete an object, with its own grace period."""
        self._call("DELETE", _path(kind, namespace, name), {})

    def close(self) -> None:
        """Close the pooled connections."""
        self._pool.clear()

    def _items(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Iterator[Json]:
        path = _path(kind, namespace)
        for page in pages(lambda asked, most: self._page(path, asked, most), query, failure):
            yield from items(page, kind, resource(kind).api_version)

    def _page(self, path: str, query: Mapping[str, str], most: int) -> Answer:
        """Read a page, or drop it once it is larger than it may be."""
        import urllib3  # noqa: PLC0415 (imported with the official client, on first use)

        response = self._send("GET", path, query)
        parts, left = list[bytes](), most
        try:
            # In pieces: `read(n)` would keep a buffer of its own that grows to as much again.
            for part in response.stream(PIECE):
                parts.append(part)
                left -= len(part)
                if left < 0:
                    response.close()
                    return Answer(response.status, None)
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterUnavailable(f"the list broke off: {error}") from error
        finally:
            response.release_conn()
        return Answer(response.status, b"".join(parts))

    def _write(
        self,
        method: str,
        path: str,
        body: Any,
        dry_run: bool,
        content_type: str = "application/json",
    ) -> Json:
        query = {"fieldManager": self._manager}
        if dry_run:
            query["dryRun"] = "All"
        return self._call(method, path, query, body, content_type)

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        content_type: str = "application/json",
        accept: str = "application/json",
    ) -> Json:
        response = self._send(method, path, query or {}, body, content_type, stream=False, accept=accept)
        if response.status >= 300:
            raise failure(response.status, response.data)
        return object_of(response.data)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        content_type: str = "application/json",
        *,
        read_seconds: float = READ_SECONDS,
        stream: bool = True,
        accept: str = "application/json",
    ) -> "BaseHTTPResponse":
        import urllib3  # noqa: PLC0415 (imported with the official client, on first use)

        headers = {"Accept": accept, "User-Agent": self._manager}
        headers |= self._credentials()
        if self._impersonate is not None:
            headers["Impersonate-User"] = self._impersonate
        if body is not None:
            headers["Content-Type"] = content_type
        url = self._configuration.host + path + ("?" + urlencode(query) if query else "")
        try:
            response: BaseHTTPResponse = self._pool.request(
                method,
                url,
                body=None if body is None else json.dumps(body).encode(),
                headers=headers,
                preload_content=not stream,
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                redirect=False,
            )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise ClusterUnavailable(f"the API server gave no answer: {error}") from error
        if response.status == 401 and self._known_by is not None:
            self._known_by.refused()
        return response

    def _credentials(self) -> dict[str, str]:
        """Headers that say who we are; asking renews a token that is about to expire."""
        if self._known_by is not None:
            return self._known_by.headers()
        settings = self._configuration.auth_settings().values()
        return {one["key"]: one["value"] for one in settings if one["in"] == "header"}


def _path(kind: Kind, namespace: str | None, name: str | None = None, subresource: str = "") -> str:
    where = resource(kind)
    parts = [where.root]
    if where.namespaced and namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    elif where.namespaced and name:
        raise ValueError(f"a {kind} lives in a namespace, so one must be named")
    parts.append(where.plural)
    parts += [quote(part, safe="") for part in (name, subresource) if part]
    return "/".join(parts)
