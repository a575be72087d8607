"""Limits what one part of the product may do with a person's credentials.

Who calls it: `quietpager run`, where all functions share one process and one kubeconfig. On Knative
each function has its own ServiceAccount instead.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Final, Literal

from quietpager.errors import GiveUp
from quietpager.model.cluster import Cluster, Json, Kind, Rejected, WatchEvent
from quietpager.objects.table import namespaced, resource

EVICTION: Final = "pods/eviction"
"""The resource of which an eviction is a creation, as RBAC names it."""


class ReadOnly:
    """A `Cluster` that reads as given and refuses every write in process, before anything is sent.

    Where a namespace is given, what would list or watch all namespaces keeps to that one.
    """

    def __init__(self, cluster: Cluster, who: str, namespace: str | None = None) -> None:
        """Read through `cluster`; `who` is named in refusals."""
        self._cluster, self._who, self._namespace = cluster, who, namespace

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object."""
        return self._cluster.get(kind, namespace, name)

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Read all objects of a kind."""
        return self._cluster.list(kind, self._within(kind, namespace), labels)

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Read all objects of a kind one after the other."""
        return self._cluster.each(kind, self._within(kind, namespace), labels)

    def listing(self, kind: Kind, namespace: str | None = None) -> str:
        """Give the resourceVersion from which a watch goes on."""
        return self._cluster.listing(kind, self._within(kind, namespace))

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        resource_version: str,
        timeout_seconds: int,
        *,
        bookmarks: bool = False,
    ) -> Iterator[WatchEvent]:
        """Follow changes."""
        within = self._within(kind, namespace)
        return self._cluster.watch(kind, within, resource_version, timeout_seconds, bookmarks=bookmarks)

    def events(self, kind: str, namespace: str, name: str) -> Sequence[Json]:
        """Read the Events about one object."""
        return self._cluster.events(kind, namespace, name)

    def metadata(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object's metadata alone."""
        return self._cluster.metadata(kind, namespace, name)

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
        """Read the end of a container's log."""
        return self._cluster.logs(namespace, pod, container, previous=previous, tail=tail, most=most)

    def create(self, kind: Kind, obj: Json, *, dry_run: bool = False) -> Json:
        """Refuse."""
        del obj, dry_run
        raise self._no("create", kind)

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
        """Refuse."""
        del namespace, name, patch, dry_run, subresource
        raise self._no("patch", kind)

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
        """Refuse."""
        del namespace, name, patch, dry_run, subresource
        raise self._no("patch", kind)

    def evict(self, namespace: str, pod: str, eviction: Json, *, dry_run: bool = False) -> Json:
        """Refuse."""
        del namespace, pod, eviction, dry_run
        raise self._no("evict", "Pod")

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        """Refuse."""
        del namespace, name
        raise self._no("delete", kind)

    def _within(self, kind: Kind, namespace: str | None) -> str | None:
        return namespace or (self._namespace if namespaced(kind) else None)

    def _no(self, verb: str, kind: Kind) -> GiveUp:
        return GiveUp(f"{self._who} may only read; it tried to {verb} a {kind}, and nothing was sent.")


class WritesAs(ReadOnly):
    """Reads with its own rights, and writes as another user, so that RBAC binds the write to that user.

    The only writes there are are those that a kind of change sends: a patch, an eviction, a creation.
    Each raises `Rejected` also where impersonation itself is refused; the text names the missing right. And,
    then nothing was sent, where the object is outside the namespace that is kept to: the store may hold
    incidents from a time when more was watched.
    """

    def __init__(
        self,
        own: Cluster,
        other: Cluster,
        user: str,
        namespace: str | None = None,
        *,
        creates: frozenset[str] = frozenset(),
    ) -> None:
        """Read through `own`; `other` impersonates `user`, who may create these resources and no others."""
        super().__init__(own, user, namespace)
        self._other, self._creates = other, creates

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
        """Patch as the other user."""
        with self._as_other(kind, namespace, name):
            return self._other.json_patch(
                kind, namespace, name, patch, dry_run=dry_run, subresource=subresource
            )

    def evict(self, namespace: str, pod: str, eviction: Json, *, dry_run: bool = False) -> Json:
        """Evict as the other user, who may create evictions."""
        if EVICTION not in self._creates:
            raise self._no("evict", "Pod")
        with self._as_other("Pod", namespace, pod):
            return self._other.evict(namespace, pod, eviction, dry_run=dry_run)

    def create(self, kind: Kind, obj: Json, *, dry_run: bool = False) -> Json:
        """Create as the other user, who may create such an object."""
        if resource(kind).plural not in self._creates:
            raise self._no("create", kind)
        meta = obj.get("metadata") or {}
        with self._as_other(kind, meta.get("namespace"), str(meta.get("name"))):
            return self._other.create(kind, obj, dry_run=dry_run)

    @contextmanager
    def _as_other(self, kind: Kind, namespace: str | None, name: str) -> Iterator[None]:
        """Keep to the namespace, and name the missing right where impersonation is refused."""
        if self._namespace not in (None, namespace):
            where = f"{kind} {namespace}/{name}"
            raise Rejected(
                403, "Forbidden", f"{where} is outside namespace {self._namespace}, which is kept to"
            )
        try:
            yield
        except Rejected as no:
            if no.code == 403 and "cannot impersonate" in no.message:
                raise Rejected(no.code, no.reason, self._may_not_impersonate()) from no
            raise

    def _may_not_impersonate(self) -> str:
        """Name the right, and how to give exactly that one."""
        *_, where, account = self._who.split(":")
        return (
            f"whoever the kubeconfig names may not impersonate {self._who}. They need the verb "
            f"impersonate on serviceaccounts/{account} in namespace {where}; an administrator gives it with "
            "`quietpager render --run-as USER | kubectl apply -f -`"
        )
