"""The cluster's port: what the product asks of an API server, and how it can answer.

Who calls it: detectors and planners through `Reader`. Only `quietpager.change` sends a write; planners use
`Cluster.json_patch` for a dry run. The contract suite runs on the sandbox and on a real API server.
Objects are the API's own JSON; `quietpager.objects.types` gives them types.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Json = dict[str, Any]

Kind = str
"""The kind of an object, as objects say it. `quietpager.objects.table` knows which there are, and where each
lives in the API."""


class ClusterUnavailable(Exception):  # noqa: N818
    """No answer, a timeout, 429 or 5xx: nothing is known about what happened."""


class Rejected(Exception):  # noqa: N818
    """The API server answered and said no (4xx); nothing was changed."""

    def __init__(self, code: int, reason: str, message: str) -> None:
        """Keep the HTTP code, the Status object's `reason` and `message`."""
        self.code, self.reason, self.message = code, reason, message
        super().__init__(f"the API server answered {code} {reason}: {message}")


@dataclass(frozen=True, slots=True)
class WatchEvent:
    """One line of a watch. The object of a BOOKMARK has a kind and a resourceVersion, and nothing else."""

    type: Literal["ADDED", "MODIFIED", "DELETED", "BOOKMARK"]
    object: Json


class Reader(Protocol):
    """Reading, as detectors and planners need it. Raises `ClusterUnavailable`, `Rejected` (403)."""

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object; None where it does not exist."""
        ...

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Read all objects of a kind, of all namespaces where none is given.

        `labels` is a label selector such as `a=b,c in (d,e)`. Listed objects say their kind. They are all
        held, so this is not for what tenants fill.
        """
        ...

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Read all objects of a kind one after the other; none is held once it is given.

        Of a pod only what is judged is there: no annotations, env or args. `labels` must all be on the object
        with these values. An object that changes meanwhile may come in neither state or in both.
        What goes wrong is raised while iterating.
        """
        ...


class EventReader(Reader, Protocol):
    """Reading, and what others have said of an object; as the sweep needs it."""

    def events(self, kind: str, namespace: str, name: str) -> Sequence[Json]:
        """Read the Events of a namespace about one object, of any kind; it need not exist.

        The API server selects them, for a namespace may hold more than a function's memory does.
        """
        ...


class LogReader(EventReader, Protocol):
    """Reading, Events, and what containers have said; as the analyst needs it."""

    def metadata(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object's `metadata` and nothing else of it; None where it does not exist.

        For objects whose content is nobody's business here, such as a ConfigMap's: the API server sends
        a PartialObjectMetadata, so that the content never enters our memory.
        """
        ...

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
        """Read the last `tail` lines of a container, cut after `most` bytes.

        `previous`: of the container before its last restart. Whatever the container wrote comes back
        as it is, so it may be binary. Kubernetes begins at the tail and stops after `most`, so of
        long lines the newest are lost: ask again with a shorter tail.

        `Rejected` 400 where the container has not started, or has no previous one, or is not in the
        pod; 404 where the pod is gone; 403 where we may not.
        """
        ...


class Cluster(LogReader, Protocol):
    """Everything. Raises `ClusterUnavailable` and `Rejected`."""

    def listing(self, kind: Kind, namespace: str | None = None) -> str:
        """Give the resourceVersion of a list as of now, from which a watch goes on."""
        ...

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        resource_version: str,
        timeout_seconds: int,
        *,
        bookmarks: bool = False,
    ) -> Iterator[WatchEvent]:
        """Follow changes after `resource_version` until the timeout, in seconds.

        With `bookmarks` the server may say now and then how far it has come although nothing of this
        kind changed, so that the next watch does not begin from a version that is too old
        (https://kubernetes.io/docs/reference/using-api/api-concepts/#watch-bookmarks).
        `Rejected` 410 where the version is too old: list again. What goes wrong is raised while
        iterating. Closing the iterator closes the connection.
        """
        ...

    def create(self, kind: Kind, obj: Json, *, dry_run: bool = False) -> Json:
        """Create an object; the namespace is the object's own."""
        ...

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
        """Apply RFC 6902 operations, all or none.

        `Rejected` 422 for a `test` that fails and for a path that leads nowhere alike (Kubernetes
        1.35): read again to tell a lost race from a bug.
        """
        ...

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
        """Apply an RFC 7386 merge patch; a stale resourceVersion in it is `Rejected` with 409."""
        ...

    def evict(self, namespace: str, pod: str, eviction: Json, *, dry_run: bool = False) -> Json:
        """Ask for the removal of a pod, as `policy/v1` Eviction; PodDisruptionBudgets may refuse it.

        `Rejected` 429 where a budget allows none, 409 where a precondition does not match (the budget is used
        up all the same), 404 where the pod is gone. `Rejected` 500 where several budgets select the pod, and
        where the server failed: then read the pod again (Kubernetes 1.35.4, measured).
        """
        ...

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Delete an object. For `quietpager stop`, tests and the demo; no function calls it."""
        ...
