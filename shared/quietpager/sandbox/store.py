"""Objects, their versions and what changed: etcd and the watch cache in a hundred lines.

Used by `registry` alone to write, by `api`, `controllers` and `kubelet` to read and to follow.
Stored objects are never changed in place: a write puts a new one. Single-threaded, like all of
the sandbox: everything happens on one asyncio loop.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Change:
    """One write."""

    version: int
    type: Literal["ADDED", "MODIFIED", "DELETED"]
    object: Json
    before: Json | None

    @property
    def kind(self) -> str:
        """The object's kind."""
        return str(self.object["kind"])


class Store:
    """All objects of the cluster, with one counter of versions for all of them."""

    def __init__(self, history: int = 4000) -> None:
        """Keep the last `history` changes for watches that come late."""
        self.version = 1
        self.oldest = 1
        """A watch from before this version is too old."""
        self._objects: dict[str, dict[str, dict[str, Json]]] = defaultdict(lambda: defaultdict(dict))
        """By kind, namespace and name: a list of one namespace costs no more for what is in the others."""
        self._history: deque[Change] = deque(maxlen=history)
        self._listeners: list[Callable[[Change], None]] = []

    def begin(self) -> None:
        """Let no watch begin before now: what stands so far was there from the start."""
        self.oldest = self.version

    def get(self, kind: str, namespace: str, name: str) -> Json | None:
        """Read one object."""
        return self._objects[kind].get(namespace, {}).get(name)

    def select(self, kind: str, namespace: str = "") -> list[Json]:
        """Read all objects of a kind, of one namespace where it is given, by name."""
        spaces = self._objects[kind]
        chosen = [spaces.get(namespace, {})] if namespace else [spaces[one] for one in sorted(spaces)]
        return [space[name] for space in chosen for name in sorted(space)]

    def put(self, obj: Json) -> Json:
        """Write an object under a new version; the caller gives it away."""
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        space, name = self._space(obj), obj["metadata"]["name"]
        before = space.get(name)
        space[name] = obj
        self._tell(Change(self.version, "MODIFIED" if before else "ADDED", obj, before))
        return obj

    def remove(self, obj: Json) -> Json:
        """Remove an object; what is told carries the version of the removal."""
        before = self._space(obj).pop(obj["metadata"]["name"])
        self.version += 1
        metadata = before["metadata"] | {"resourceVersion": str(self.version)}
        gone = before | {"metadata": metadata}
        self._tell(Change(self.version, "DELETED", gone, before))
        return gone

    def since(self, version: int) -> list[Change] | None:
        """List the changes after a version; None where they are not kept any more."""
        if version < self.oldest:
            return None
        return [change for change in self._history if change.version > version]

    def as_of(self, kind: str, namespace: str, version: int) -> list[Json] | None:
        """Read as `select` does, but as of a version; None where the changes since are not all kept."""
        changes = self.since(version)
        if changes is None:
            return None
        found = {_key(obj): obj for obj in self.select(kind, namespace)}
        for change in reversed([one for one in changes if one.kind == kind]):
            key = _key(change.object)
            if namespace in ("", key[0]):
                if change.before is None:
                    found.pop(key, None)
                else:
                    found[key] = change.before
        return [found[key] for key in sorted(found)]

    def listen(self, listener: Callable[[Change], None]) -> Callable[[], None]:
        """Call `listener` at each change, within the write; gives the function that ends it."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def _tell(self, change: Change) -> None:
        if len(self._history) == self._history.maxlen:
            self.oldest = self._history[0].version
        self._history.append(change)
        for listener in [*self._listeners]:
            listener(change)

    def _space(self, obj: Json) -> dict[str, Json]:
        return self._objects[obj["kind"]][obj["metadata"].get("namespace") or ""]


def _key(obj: Json) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]
