"""A cluster as it was when each kind was first asked for: one LIST call a kind, and no GET but of Events.

Who calls it: `quietpager scan`, whose detectors and planners would otherwise read hundreds of objects
one by one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from quietpager.model.cluster import EventReader, Json, Kind, Rejected
from quietpager.objects.kinds.namespace import KIND as NAMESPACE
from quietpager.objects.table import namespaced

T = TypeVar("T")


class Snapshot:
    """A `Reader` over lists. With a namespace it knows that namespace's objects only.

    A kind that may not be listed is asked for once; each later question raises the same `Rejected`.
    """

    def __init__(self, reader: EventReader, namespace: str | None = None) -> None:
        """Nothing is listed yet."""
        self._reader, self.namespace = reader, namespace
        self._kinds: dict[Kind, dict[str | None, dict[str, Json]]] = {}
        self.refused: dict[Kind, Rejected] = {}
        """What may not be listed, and the API server's answer."""

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Find one object; None where it was not listed. An Event is asked for: nobody needs all of them."""
        if kind == "Event":
            with self._asking(kind):
                return self._reader.get(kind, namespace, name)
        return self._of(kind).get(namespace, {}).get(name)

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Give the listed objects; a label selector is left to the API server."""
        if labels:
            return self._reader.list(kind, namespace or self._scope(kind), labels)
        places = self._of(kind)
        if namespace is not None:
            return [*places.get(namespace, {}).values()]
        return [one for place in places.values() for one in place.values()]

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Give the listed objects; what the labels are, is looked up here."""
        return with_labels(self.list(kind, namespace), labels)

    def events(self, kind: str, namespace: str, name: str) -> Sequence[Json]:
        """Ask the API server for the Events about one object: nobody needs all of them."""
        with self._asking("Event"):
            return self._reader.events(kind, namespace, name)

    def counts(self) -> dict[Kind, int]:
        """Count what was listed, by kind."""
        return {kind: sum(map(len, places.values())) for kind, places in self._kinds.items()}

    def _scope(self, kind: Kind) -> str | None:
        return self.namespace if namespaced(kind) else None

    def _of(self, kind: Kind) -> dict[str | None, dict[str, Json]]:
        with self._asking(kind):
            if kind not in self._kinds:
                self._kinds[kind] = _by_place(self._read(kind))
        return self._kinds[kind]

    @contextmanager
    def _asking(self, kind: Kind) -> Iterator[None]:
        """Raise what was answered before where a kind may not be read, and remember it."""
        if kind in self.refused:
            raise self.refused[kind]
        try:
            yield
        except Rejected as no:
            if no.code == 403:
                self.refused[kind] = no
            raise

    def _read(self, kind: Kind) -> Iterable[Json]:
        if kind == NAMESPACE.name and self.namespace is not None:
            # A Role in a namespace lets its holder get that Namespace, never list them.
            one = self._reader.get(kind, None, self.namespace)
            return [] if one is None else [one]
        return self._reader.each(kind, self._scope(kind))


class WhatMayBeRead:
    """A `Reader` to which a kind that may not be listed is empty; for looking at the rest all the same.

    Who calls it: the diagnosis in `quietpager scan`, which says what it could not read. Plans must not
    be made on it.
    """

    def __init__(self, snapshot: Snapshot) -> None:
        """Read through a snapshot."""
        self._snapshot = snapshot

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Find one object."""
        return _or(None, lambda: self._snapshot.get(kind, namespace, name))

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Give the objects of a kind."""
        return _or([], lambda: self._snapshot.list(kind, namespace, labels))

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Give the objects of a kind one after the other."""
        return with_labels(self.list(kind, namespace), labels)

    def events(self, kind: str, namespace: str, name: str) -> Sequence[Json]:
        """Give the Events about one object."""
        return _or([], lambda: self._snapshot.events(kind, namespace, name))


def with_labels(objects: Iterable[Json], labels: Mapping[str, str] | None) -> Iterator[Json]:
    """Give those of the objects that carry all of the labels, as a selector on the API server would.

    Who else calls it: readers over something that is no API server.
    """
    wanted = (labels or {}).items()
    for one in objects:
        if wanted <= (one["metadata"].get("labels") or {}).items():
            yield one


def _or(nothing: T, ask: Callable[[], T]) -> T:
    """Ask, and take it that there is nothing where that may not be read."""
    try:
        return ask()
    except Rejected as no:
        if no.code == 403:
            return nothing
        raise


def _by_place(objects: Iterable[Json]) -> dict[str | None, dict[str, Json]]:
    places: dict[str | None, dict[str, Json]] = defaultdict(dict)
    for one in objects:
        meta = one["metadata"]
        places[meta.get("namespace")][meta["name"]] = one
    return dict(places)
