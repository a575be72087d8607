"""The world that the functions run in: records, due items, messages under way, workers, one workload.

A `World` never changes; every move gives another one. What is left out, and why it may be: people are
told outside the model; audit entries are not kept (their promises are checked on the real stores).
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Any, Final

from quietpager.change.marks import MARK, WROTE, pointer
from quietpager.model.cluster import Json
from quietpager.model.message import Message
from quietpager.model.store import ABSENT, Audit, Conflict, Delete, Due, Put, Record, Write
from quietpager.model.time import to_text
from quietpager.store.audit import plain
from quietpager.store.batch import Batch
from tests.model.tape import Answer, Call, key_of

START: Final = datetime(2026, 11, 22, 19, 30, tzinfo=UTC)
"""Just after the recorded case that the workload is taken from."""

CASE: Final = Path(__file__).parents[2] / "functions" / "detect" / "crash" / "cases" / "30-oom-bounded"


@cache
def recorded() -> dict[str, list[Json]]:
    """Read the recorded Deployment, its ReplicaSet, pods and node, by kind."""
    found: dict[str, list[Json]] = {}
    for path in sorted((CASE / "objects").glob("*.json")):
        raw: Json = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(raw["kind"], []).append(raw)
    return found


def arrived() -> Json:
    """Read the recorded Event."""
    found: Json = json.loads((CASE / "event.json").read_text(encoding="utf-8"))
    return found


@dataclass(frozen=True)
class Workload:
    """The Deployment as far as it can change: two fields, generation, our mark; and whether it is well.

    `enough` is the limit from which on it is healthy; None: more memory never helps. `failed`: when its
    containers were last killed, in seconds since START; None: as recorded, before it.
    """

    limit: str = "32Mi"
    request: str = "16Mi"
    generation: int = 1
    mark: str | None = None
    enough: str | None = "64Mi"
    healed: bool = False
    failed: int | None = None
    touched: int = 0
    may_write: bool = True

    @property
    def healthy(self) -> bool:
        """Tell whether its pods run."""
        return self.healed or (self.enough is not None and int(self.limit[:-2]) >= int(self.enough[:-2]))

    def deployment(self) -> Json:
        """Give it as the API server would."""
        raw: Json = plain(recorded()["Deployment"][0])
        raw["metadata"]["generation"] = self.generation
        if self.mark is not None:
            raw["metadata"]["annotations"][MARK] = self.mark
        [container] = raw["spec"]["template"]["spec"]["containers"]
        container["resources"] = {"limits": {"memory": self.limit}, "requests": {"memory": self.request}}
        wanted = raw["spec"]["replicas"]
        raw["status"] = {
            "observedGeneration": self.generation, "replicas": wanted, "updatedReplicas": wanted,
            "availableReplicas": wanted if self.healthy else 0,
        }  # fmt: skip
        return raw

    def pods(self) -> list[Json]:
        """Give its pods: as they were recorded while they were killed, or well."""
        found = [plain(pod) for pod in recorded()["Pod"]]
        if self.failed is not None:
            killed = to_text(START + timedelta(seconds=self.failed))
            for pod in found:
                [status] = pod["status"]["containerStatuses"]
                status["state"]["terminated"] |= {"startedAt": killed, "finishedAt": killed}
        if self.healthy:
            for pod in found:
                [status] = pod["status"]["containerStatuses"]
                status |= {"ready": True, "state": {"running": {}}, "lastState": {}, "restartCount": 0}
                pod["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
        return found

    def patched(self, patch: tuple[Json, ...]) -> "Workload | None":
        """Apply a JSON Patch of the product; None where a `test` fails or we may not write."""
        fields = {
            "/metadata/uid": self.deployment()["metadata"]["uid"],
            "/metadata/generation": self.generation,
            "/metadata/annotations/quietpager.dev~1intent": self.mark,
            "/spec/template/spec/containers/0/resources/limits/memory": self.limit,
            "/spec/template/spec/containers/0/resources/requests/memory": self.request,
        }
        if not self.may_write:
            return None
        record = pointer(WROTE)
        for one in patch:
            if one["path"] == record:
                continue  # what the API server's own rules read; the model has none
            if one["op"] == "test" and fields[one["path"]] != one["value"]:
                return None
            if one["op"] != "test":
                fields[one["path"]] = one["value"]
        _uid, _generation, mark, limit, request = fields.values()
        after = replace(self, mark=mark, limit=limit, request=request)
        return after if after == self else replace(after, generation=self.generation + 1)


@dataclass(frozen=True)
class Blind(Put):
    """What a mutant writes where the product compares and sets: whatever is there is overwritten."""


@dataclass(frozen=True)
class Worker:
    """One running function: what it was called with, what it was answered, what it asks now, since when.

    `number` tells workers apart for the reader; it is no part of the identity.
    """

    name: str
    message: Message
    answers: tuple[Answer, ...]
    call: Call
    since: int
    number: int = 0

    @cached_property
    def key(self) -> tuple[str, str, tuple[str, ...]]:
        """Its identity: two workers with the same key will do the same."""
        return self.name, key_of(self.message), tuple(answer.key for answer in self.answers)


@dataclass(frozen=True)
class Mutation:
    """One write that the API server took. `late`: time passed while the worker was about to send it, as
    when it was stopped just there."""

    intent: str
    undo: bool
    at: int
    late: bool
    before: Workload
    after: Workload


Kept = tuple[int, str]
"""A record: version and body as JSON text."""


@dataclass(frozen=True)
class World:
    """Everything at one moment. `now` is in seconds since START; `spent` counts faults by name.

    `begun` numbers the workers, for the reader; it is no part of the identity.
    """

    now: int = 0
    store: Mapping[str, Kept] = field(default_factory=dict)
    due: Mapping[str, Due] = field(default_factory=dict)
    flight: Mapping[str, Message] = field(default_factory=dict)
    workers: tuple[Worker, ...] = ()
    workload: Workload = Workload()
    spent: tuple[tuple[str, int], ...] = ()
    history: tuple[Mutation, ...] = ()
    stopped_at: int | None = None
    begun: int = 0

    @property
    def key(self) -> tuple[Any, ...]:
        """Its identity."""
        return (
            self.now, tuple(sorted(self.store.items())),
            tuple(sorted((i.id, i.at, str(i.message["type"])) for i in self.due.values())),
            tuple(sorted(self.flight)), tuple(sorted((w.key, w.since < self.now) for w in self.workers)),
            self.workload, self.spent, self.history, self.stopped_at,
        )  # fmt: skip

    @property
    def rests(self) -> bool:
        """Tell whether nothing is left to wait for: every incident is closed or with a person.

        A person's answer that nobody has taken up yet is waited for.
        """
        states = [record.body["state"] for record in self.records("INCIDENT")]
        done = all(s == "CLOSED" or s.startswith("WITH_PERSON") for s in states)
        return bool(states) and done and not self.unused

    @property
    def unused(self) -> list[str]:
        """Name the questions whose answer was neither carried out nor refused."""
        asked = self.records("APPROVAL")
        return [one.key for one in asked if one.body["decision"] is not None and not one.body.get("used")]

    @property
    def clock(self) -> datetime:
        """The time."""
        return START + timedelta(seconds=self.now)

    def record(self, key: str) -> Record | None:
        """Read one record."""
        kept = self.store.get(key)
        return None if kept is None else _record(key, *kept)

    def records(self, kind: str) -> list[Record]:
        """Read all records of a kind."""
        found = (self.record(key) for key in sorted(self.store) if key.startswith(f"{kind}#"))
        return [record for record in found if record is not None]

    def count(self, fault: str) -> int:
        """Tell how often a fault happened."""
        return dict(self.spent).get(fault, 0)

    def spend(self, fault: str) -> "World":
        """Count a fault."""
        counted = dict(self.spent) | {fault: self.count(fault) + 1}
        return replace(self, spent=tuple(sorted(counted.items())))

    def send(self, *messages: Message) -> "World":
        """Put messages under way; one that is under way already is there once."""
        return replace(self, flight=dict(self.flight) | {key_of(m): m for m in messages})

    def without(self, message: Message) -> "World":
        """Take a message away."""
        return replace(self, flight={k: m for k, m in self.flight.items() if k != key_of(message)})

    def transact(self, writes: tuple[Write, ...]) -> "World":
        """Do all or nothing, as the store's port says; raises Conflict."""
        batch = Batch.of(self._seen(write) for write in writes if not isinstance(write, Audit))
        versions = {w.key: self.store[w.key][0] if w.key in self.store else ABSENT for w in batch.conditions}
        failing = batch.first_failing(versions)
        if failing is not None:
            raise Conflict(failing.key, failing.expect, self.record(failing.key))
        store, due = dict(self.store), dict(self.due)
        for write in batch.conditions:
            if isinstance(write, Put):
                store[write.key] = (versions[write.key] + 1, json.dumps(plain(write.body), sort_keys=True))
            elif isinstance(write, Delete):
                store.pop(write.key, None)
        for item in batch.due:
            due[item.id] = item
        for done in batch.done:
            due.pop(done, None)
        return replace(self, store=store, due=due)

    def _seen(self, write: Write) -> Write:
        """Let a mutant's blind write find whatever version there is."""
        if not isinstance(write, Blind):
            return write
        return Put(write.key, write.body, self.store[write.key][0] if write.key in self.store else ABSENT)

    def tick(self) -> "World":
        """Let the clock say whatever is due, as `govern/clock` does."""
        ripe = [item for item in self.due.values() if item.at <= self.clock]
        moved = {item.id: replace(item, at=self.clock + item.every) for item in ripe}
        after = replace(self, due=dict(self.due) | moved)
        return after.send(*(Message.from_json(item.message) for item in ripe))

    def next_moment(self) -> int | None:
        """Tell when something is next due, in seconds."""
        later = [item.at for item in self.due.values() if item.at > self.clock]
        return min((int((at - START).total_seconds()) for at in later), default=None)

    def read(self, call: Call) -> Answer:
        """Answer a read."""
        match call.port, call.name:
            case "clock", _:
                return Answer(str(self.now), self.clock)
            case "store", "get":
                return Answer(str(self.store.get(call.args[0])), self.record(call.args[0]))
            case "store", "due_item":
                item = self.due.get(call.args[0])
                return Answer("none" if item is None else to_text(item.at), item)
            case "store", "get_many":
                there = [key for key in call.args[0] if key in self.store]
                value = {key: _record(key, *self.store[key]) for key in there}
                return Answer(str([(key, self.store[key]) for key in there]), value)
            case "cluster", "dry_run":
                return Answer("admitted")
            case "cluster", kind:
                return _look(self.workload, kind, call.args)
        raise AssertionError(f"the model has no answer for {call}")


@lru_cache(maxsize=1 << 16)
def _record(key: str, version: int, text: str) -> Record:
    return Record(key, version, json.loads(text))


@lru_cache(maxsize=1 << 12)
def _look(workload: Workload, word: str, args: tuple[Any, ...]) -> Answer:
    kind, found = args[0], []
    match kind:
        case "Deployment":
            found = [workload.deployment()]
        case "Pod":
            found = workload.pods()
        case "Namespace":
            found = [{"metadata": {"name": args[2], "labels": {"quietpager.dev/enabled": "true"}}}]
        case _:
            found = recorded().get(kind, [])
    key = f"{word} {args} {workload}"
    if word == "list":
        return Answer(key, found)
    return Answer(key, next((one for one in found if one["metadata"]["name"] == args[2]), None))
