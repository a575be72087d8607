"""Store and cluster as a worker has them: the real ones, scoped to one schedule, with a fault at a call."""

import json
import os
import signal
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from quietpager.model.cluster import ClusterUnavailable, Json, Rejected
from quietpager.model.store import (
    Audit,
    AuditEntry,
    Check,
    Conflict,
    Delete,
    Due,
    DueDone,
    Put,
    Record,
    Store,
)
from quietpager.model.store import Write as StoreWrite
from quietpager.store.delegate import Wrapped
from tests.crash.points.schedules import Fault
from tests.model.world import Blind

T = TypeVar("T")


def open_store(url: str) -> Store:
    """Open the store, with one connection: a worker does one thing at a time."""
    if url.startswith("dynamodb:"):
        from quietpager.store.dynamodb import DynamoStore  # noqa: PLC0415 (boto3 only where it is used)

        return DynamoStore(url)
    from quietpager.store.postgres import PostgresStore  # noqa: PLC0415 (the same)

    return PostgresStore(url, connections=1)


@dataclass
class Strikes:
    """Counts a worker's calls; at the one that its next fault names, it sends the signal to itself.

    `tell` says so first, for nobody can afterwards.
    """

    tell: Callable[[Json], None] = lambda _line: None
    faults: list[Fault] = field(default_factory=list)
    count: int = 0
    transactions: int = 0
    named: Counter[str] = field(default_factory=Counter)

    def begin(self, faults: list[Fault]) -> None:
        """Begin anew."""
        self.faults = faults
        self._forget()

    def _forget(self) -> None:
        self.count = self.transactions = 0
        self.named.clear()

    def within(self) -> None:
        """Stand between the writes of a transaction and its commit."""
        self.transactions += 1
        self._strike("within", self.transactions, "transact")

    def around(self, name: str, call: Callable[[], T]) -> T:
        """Make one call."""
        self.count += 1
        self.named[name] += 1
        self._strike("before", self.count, name)
        try:
            return call()
        finally:
            self._strike("after", self.count, name)

    def _strike(self, moment: str, number: int, name: str) -> None:
        if not self.faults or self.faults[0].moment != moment:
            return
        fault = self.faults[0]
        met = self.named[name] if fault.only else number
        if fault.only not in ("", name) or met != fault.call:
            return
        self.faults.pop(0)
        self._forget()
        self.tell({"struck": fault.kind, "where": f"{moment} {name}"})
        os.kill(os.getpid(), signal.SIGKILL if fault.kind == "kill" else signal.SIGSTOP)
        while fault.kind == "kill":
            time.sleep(1)
        self.tell({"woken": True})


class Scoped(Wrapped):
    """The store, with a schedule's scope in front of every name."""

    def __init__(self, store: Store, scope: str = "", strikes: Strikes | None = None) -> None:
        """Take the real store; `scope` may change from schedule to schedule."""
        super().__init__(store)
        self.scope, self.strikes = scope, strikes or Strikes()

    def get(self, key: str) -> Record | None:
        """Read one record."""
        return self.strikes.around("get", lambda: self._read([key]).get(key))

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """Read several records."""
        return self.strikes.around("get_many", lambda: self._read(keys))

    def transact(self, writes: Iterable[StoreWrite]) -> None:
        """Do all or nothing."""
        some = list(writes)
        self.strikes.around("transact", lambda: self._write(some))

    def audit(self, chain: str) -> list[AuditEntry]:
        """Read one chain."""
        return self._store.audit(f"{self.scope}/{chain}")

    def _key(self, key: str) -> str:
        kind, _, rest = key.partition("#")
        return f"{kind}#{self.scope}/{rest}"

    def _read(self, keys: Sequence[str]) -> dict[str, Record]:
        plain = {self._key(key): key for key in keys}
        found = self._store.get_many(list(plain))
        return {plain[key]: replace(record, key=plain[key]) for key, record in found.items()}

    def _write(self, writes: list[StoreWrite]) -> None:
        try:
            self._store.transact([self._scoped(write) for write in writes])
        except Conflict as lost:
            if any(isinstance(write, Blind) and self._key(write.key) == lost.key for write in writes):
                self._write(writes)
                return
            plain = {self._key(w.key): w.key for w in writes if isinstance(w, Put | Delete | Check)}
            raise Conflict(plain.get(lost.key, lost.key), lost.expected, lost.found) from lost

    def _scoped(self, write: StoreWrite) -> StoreWrite:
        match write:
            case Blind():  # what a mutant writes without comparing
                there = self._store.get(self._key(write.key))
                return Put(self._key(write.key), write.body, 0 if there is None else there.version)
            case Put() | Delete() | Check():
                return replace(write, key=self._key(write.key))
            case Audit():
                return replace(write, chain=f"{self.scope}/{write.chain}")
            case Due() | DueDone():
                return replace(write, id=f"{self.scope}/{write.id}")


class Api:
    """One connection to `apiserver`: a JSON line asks, a JSON line answers."""

    def __init__(self, path: str) -> None:
        """Connect."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self._lines = self._socket.makefile("rb")

    def ask(self, **question: Any) -> Any:
        """Ask one thing; raises Rejected, ClusterUnavailable."""
        self._socket.sendall(json.dumps(question).encode() + b"\n")
        line = self._lines.readline()
        if not line:
            raise ClusterUnavailable("the API server hung up")
        said = json.loads(line)
        if "rejected" in said:
            raise Rejected(*said["rejected"])
        return said["answer"]

    def close(self) -> None:
        """Hang up."""
        self._lines.close()
        self._socket.close()


@dataclass
class ScopedCluster:
    """`model.cluster.Cluster`, as far as these functions use it."""

    path: str
    strikes: Strikes
    scope: str = ""
    made: Api | None = None

    def get(self, kind: str, namespace: str | None, name: str) -> Json | None:
        """Read one object."""
        found: Json | None = self._ask("get", args=[kind, namespace, name])
        return found

    def list(self, kind: str, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Read all objects of a kind."""
        found: list[Json] = self._ask("list", args=[kind, namespace, labels])
        return found

    def each(
        self, kind: str, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Read all objects of a kind; there is one workload."""
        del labels
        return iter(self.list(kind, namespace))

    def json_patch(
        self, _kind: str, _namespace: str | None, _name: str, patch: Sequence[Json], *, dry_run: bool = False
    ) -> Json:
        """Patch the Deployment."""
        after: Json = self._ask("dry_run" if dry_run else "json_patch", patch=list(patch), by=os.getpid())
        return after

    def _ask(self, name: str, **known: Any) -> Any:
        def call() -> Any:
            self.made = self.made or Api(self.path)
            return self.made.ask(scope=self.scope, do=name, **known)

        return self.strikes.around(name, call)
