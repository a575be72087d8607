"""A reader that asks the API server each question once; for one look at many objects."""

from collections.abc import Iterator, Mapping

from quietpager.model.cluster import Json, Kind, Reader


class Once:
    """A reader that asks the API server each question once; for one look at many objects."""

    def __init__(self, reader: Reader) -> None:
        """Nothing is read yet."""
        self._reader = reader
        self._got: dict[tuple[Kind, str | None, str], Json | None] = {}
        self._listed: dict[tuple[Kind, str | None, str], list[Json]] = {}
        self._each: dict[tuple[Kind, str | None, tuple[tuple[str, str], ...]], list[Json]] = {}

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object; None where it does not exist."""
        key = (kind, namespace, name)
        if key not in self._got:
            self._got[key] = self._reader.get(kind, namespace, name)
        return self._got[key]

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Read all objects of a kind."""
        key = (kind, namespace, labels)
        if key not in self._listed:
            self._listed[key] = self._reader.list(kind, namespace, labels)
        return self._listed[key]

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Read all objects of a kind that carry the labels; here they are held, as long as the look takes."""
        key = (kind, namespace, tuple(sorted((labels or {}).items())))
        if key not in self._each:
            self._each[key] = [*self._reader.each(kind, namespace, labels)]
        return iter(self._each[key])
