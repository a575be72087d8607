"""The wrapper around the official Kubernetes client: `connect()` gives a `port.Cluster`.

Who calls it: the functions' start-up, the command line, the demo and the contract suite. Nothing
else in the product may import `kubernetes`.

What is used of the official client is what is hard to get right: kubeconfig and service-account
credentials, their renewal, TLS and proxies (`Configuration`, `RESTClientObject`). Paths come from
the table below, so no discovery request is ever sent, and objects stay the API's own JSON, so none
of the client's 700 typed models is needed. Importing them would cost more than half of a
function's start-up budget; `_official_client` says how that is avoided.

Times are seconds. Every method raises `ClusterUnavailable` where nothing is known about what
happened (transport, timeout, 429, 5xx) and `Rejected` where the API server said no.
"""

import importlib
import importlib.util
import json
import os
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from types import ModuleType
from typing import TYPE_CHECKING, Any, Final, Literal
from urllib.parse import quote, urlencode

from quietpager.cluster.pages import Answer, items, judged, pages
from quietpager.model.cluster import ClusterUnavailable, Json, Kind, Rejected, WatchEvent

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

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


@dataclass(frozen=True, slots=True)
class Resource:
    """Where a kind lives in the API (a hand-made answer to what discovery would say)."""

    root: str
    api_version: str
    plural: str
    namespaced: bool = True


RESOURCES: Final[Mapping[Kind, Resource]] = {
    "Deployment": Resource("/apis/apps/v1", "apps/v1", "deployments"),
    "ReplicaSet": Resource("/apis/apps/v1", "apps/v1", "replicasets"),
    "Pod": Resource("/api/v1", "v1", "pods"),
    "Node": Resource("/api/v1", "v1", "nodes", namespaced=False),
    "Namespace": Resource("/api/v1", "v1", "namespaces", namespaced=False),
    "ResourceQuota": Resource("/api/v1", "v1", "resourcequotas"),
    "PersistentVolumeClaim": Resource("/api/v1", "v1", "persistentvolumeclaims"),
    "Event": Resource("/api/v1", "v1", "events"),
    "ConfigMap": Resource("/api/v1", "v1", "configmaps"),
    "Job": Resource("/apis/batch/v1", "batch/v1", "jobs"),
    "PodDisruptionBudget": Resource("/apis/policy/v1", "policy/v1", "poddisruptionbudgets"),
    "ClusterRoleBinding": Resource(
        "/apis/rbac.authorization.k8s.io/v1", "rbac.authorization.k8s.io/v1", "clusterrolebindings",
        namespaced=False,
    ),
}  # fmt: skip
"""One line a kind."""


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
    kubernetes = _official_client()
    configuration = kubernetes.configuration.Configuration()
    # 35.0.0 reads NO_PROXY and then resets it: without this line a proxy would get our requests.
    configuration.no_proxy = os.environ.get("NO_PROXY") or os.environ.get("no_proxy")
    address = url or os.environ.get(ENV_API_SERVER)
    if kubeconfig is not None:
        _read_kubeconfig(configuration, kubeconfig, context)
    elif address:
        configuration.host, configuration.proxy = address.rstrip("/"), None
    else:
        _read_service_account(configuration)
    configuration.connection_pool_maxsize = POOL_SIZE
    configuration.retries = False  # a write that was repeated below us would be a second write
    try:
        rest = kubernetes.rest.RESTClientObject(configuration)
    except (OSError, ValueError) as error:  # a certificate or key that is none
        raise ClusterUnavailable(f"the credentials cannot be used: {error}") from error
    return ApiServer(configuration, rest, manager, impersonate)


class ApiServer:
    """One API server, as `port.Cluster` says; safe to share between threads."""

    def __init__(self, configuration: Any, rest: Any, manager: str, impersonate: str | None = None) -> None:
        """Use the official client's configuration and connection pool."""
        self._configuration, self._manager, self._impersonate = configuration, manager, impersonate
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
        return ApiServer(self._configuration, self._rest, manager, impersonate)

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
        response = self._send("GET", _path("Pod", namespace, pod, "log"), query, accept="*/*")
        try:
            if response.status >= 300:
                raise _failure(response.status, response.read(MOST_ERROR))
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
                raise _failure(response.status, response.data)
            for line in _lines(response):
                yield _watch_event(json.loads(line))
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
            raise _refused_eviction(response.status, response.data)
        return _object(response.data)

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Delete an object, with its own grace period."""
        self._call("DELETE", _path(kind, namespace, name), {})

    def close(self) -> None:
        """Close the pooled connections."""
        self._pool.clear()

    def _items(self, kind: Kind, namespace: str | None, query: Mapping[str, str]) -> Iterator[Json]:
        path = _path(kind, namespace)
        for page in pages(lambda asked, most: self._page(path, asked, most), query, _failure):
            yield from items(page, kind, RESOURCES[kind].api_version)

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
            raise _failure(response.status, response.data)
        return _object(response.data)

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
        return response

    def _credentials(self) -> dict[str, str]:
        """Headers that say who we are; asking renews a token that is about to expire."""
        settings = self._configuration.auth_settings().values()
        return {one["key"]: one["value"] for one in settings if one["in"] == "header"}


def _path(kind: Kind, namespace: str | None, name: str | None = None, subresource: str = "") -> str:
    resource = RESOURCES[kind]
    parts = [resource.root]
    if resource.namespaced and namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    elif resource.namespaced and name:
        raise ValueError(f"a {kind} lives in a namespace, so one must be named")
    parts.append(resource.plural)
    parts += [quote(part, safe="") for part in (name, subresource) if part]
    return "/".join(parts)


def _object(body: bytes) -> Json:
    try:
        answer = json.loads(body)
    except ValueError as error:
        raise ClusterUnavailable("the API server's answer is not JSON") from error
    if not isinstance(answer, dict):
        raise ClusterUnavailable("the API server's answer is not an object")
    return answer


def _status(body: bytes) -> Json:
    """Read an error's body: a Status object, or a proxy's own words."""
    try:
        status = json.loads(body)
    except ValueError:
        status = None
    return status if isinstance(status, dict) else {"message": body[:200].decode(errors="replace")}


def _refused_eviction(code: int, body: bytes) -> ClusterUnavailable | Rejected:
    """Tell a disruption budget's 429 from an overloaded server's, and keep 500 as an answer."""
    status = _status(body)
    details = status.get("details")
    causes = details.get("causes") if isinstance(details, dict) else None
    named = [one.get("reason") for one in causes or () if isinstance(one, dict)]
    if code == 500 or (code == 429 and "DisruptionBudget" in named):
        return Rejected(code, str(status.get("reason", "")), str(status.get("message", "")))
    return _failure(code, body)


def _failure(code: int, body: bytes) -> ClusterUnavailable | Rejected:
    """Say what an error answer means."""
    status = _status(body)
    message, reason = str(status.get("message", "")), str(status.get("reason", ""))
    if code == 429 or code >= 500 or code < 400:
        return ClusterUnavailable(f"the API server answered {code} {reason}: {message}")
    return Rejected(code, reason, message)


def _lines(response: "BaseHTTPResponse") -> Iterator[bytes]:
    """Cut the stream of a watch into its lines."""
    rest = b""
    for chunk in response.stream(1 << 16):
        *complete, rest = (rest + chunk).split(b"\n")
        yield from (line for line in complete if line.strip())


def _watch_event(line: Any) -> WatchEvent:
    kind, obj = line["type"], line["object"]
    if kind == "ERROR":
        raise _failure(int(obj.get("code", 500)), json.dumps(obj).encode())
    return WatchEvent(kind, obj)


def _read_kubeconfig(configuration: Any, path: str | os.PathLike[str], context: str | None) -> None:
    from kubernetes import config  # noqa: PLC0415 (loads the whole client; only people do this)

    # The loader of `load_kube_config`, kept: it alone knows what the context's user and cluster ask for.
    load = config.kube_config._get_kube_config_loader  # noqa: SLF001 (there is no public way to it)
    try:
        loader = load(filename=os.fspath(path), active_context=context, persist_config=True)
        loader.load_and_set(configuration)
        parts = (loader._user, loader._cluster)  # noqa: SLF001 (the same)
        user, cluster = (getattr(part, "value", None) or {} for part in parts)
        no = kubeconfig_fault(user, cluster, configuration)
    except (config.ConfigException, OSError) as error:
        text = f"the kubeconfig {path} cannot be used: {error}".rstrip(".")
        raise ClusterUnavailable(text) from error
    # Besides its own error the loader raises whatever broken YAML, base64 or a wrong shape lead to.
    except Exception as error:
        raise ClusterUnavailable(f"{path} is no kubeconfig ({type(error).__name__})") from error
    if no:
        raise ClusterUnavailable(f"the kubeconfig {path} cannot be used: {no}")


def kubeconfig_fault(user: Mapping[str, Any], cluster: Mapping[str, Any], configuration: Any) -> str:
    """Honour what the loader passes over, and say what cannot be honoured; empty: all of it counts.

    `proxy-url` is taken over. Impersonation is refused, for a person must not act with more rights here than
    with kubectl; so are credentials that were named and gave nothing, for the call would go on anonymously.
    """
    if asked := sorted(_IMPERSONATES & {key for key, value in user.items() if value}):
        return (
            f"its user has {', '.join(asked)}, and quietpager does not impersonate for a person. Name a "
            "--context whose user has the rights itself"
        )
    proxy = cluster.get("proxy-url")
    if proxy:
        if not str(proxy).startswith(("http://", "https://")):
            return f"its proxy-url {str(proxy).partition(':')[0]}:… is not supported; only http and https are"
        configuration.proxy, configuration.no_proxy = str(proxy), None
    named = sorted(_CREDENTIALS & user.keys())
    if named and not (configuration.api_key.get("authorization") or configuration.cert_file):
        plugin = user.get("exec") if isinstance(user.get("exec"), Mapping) else None
        hint = f" {plugin['installHint']}" if plugin and plugin.get("installHint") else ""
        which = f"{plugin.get('command')} ({', '.join(named)})" if plugin else ", ".join(named)
        return f"{which} gave no credentials; without any, the call would be anonymous.{hint}".rstrip(".")
    return ""


_IMPERSONATES: Final = frozenset({"as", "as-uid", "as-groups", "as-user-extra"})
_CREDENTIALS: Final = frozenset(
    {
        "exec", "auth-provider", "token", "tokenFile", "client-certificate", "client-certificate-data",
        "username", "password",
    }
)  # fmt: skip
"""What a kubeconfig's user may be known by (client-go, `clientcmd/api/v1.AuthInfo`)."""


def _read_service_account(configuration: Any) -> None:
    with _importing:
        _deferred("kubernetes.config")
        incluster = importlib.import_module("kubernetes.config.incluster_config")
    try:
        incluster.load_incluster_config(configuration)
    except incluster.ConfigException as error:
        raise ClusterUnavailable(f"there is no API server to talk to: {error}") from error


_importing = threading.RLock()


def _official_client() -> Any:
    """Import the official client's transport without its 700 models.

    `import kubernetes.client.rest` first runs the packages' `__init__`, which import every model
    and API class (0.36 s CPU and 35 MB more, measured with 35.0.0). So the two packages
    are entered in `sys.modules` with their `__init__` put off; it runs as soon as anybody asks the
    package for a name that is not there yet, so other users of the library notice nothing.
    """
    with _importing:
        if "kubernetes" not in sys.modules:
            _deferred("kubernetes")
            client = _deferred("kubernetes.client")
            # `from package import module` would ask the package first; import_module does not.
            configuration = importlib.import_module("kubernetes.client.configuration")
            # The one name of the package that the service-account loader asks for.
            client.__dict__["Configuration"] = configuration.Configuration
        return _Official(
            importlib.import_module("kubernetes.client.configuration"),
            importlib.import_module("kubernetes.client.rest"),
        )


@dataclass(frozen=True, slots=True)
class _Official:
    """The two modules of the official client that are used."""

    configuration: Any
    rest: Any


def _deferred(name: str) -> ModuleType:
    """Enter a package in `sys.modules` and run its `__init__` when a missing name is asked for."""
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ModuleNotFoundError(f"{name} is not installed")
    loader, package = spec.loader, importlib.util.module_from_spec(spec)

    def run_init(attribute: str) -> Any:
        if attribute.startswith("__"):
            raise AttributeError(f"module {name!r} has no attribute {attribute!r}")
        with _importing:
            if package.__dict__.pop("__getattr__", None) is not None:
                loader.exec_module(package)
        return getattr(package, attribute)

    package.__dict__["__getattr__"] = run_init
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)
    return package
