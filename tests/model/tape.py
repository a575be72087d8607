"""Runs a shipped handler up to the next thing it asks of the world.

A handler is a pure function of its message and of what store, cluster and clock answered. So a worker
that stands between two calls *is* its list of answers: it is brought back by running the handler
again over them, and it can be copied, hashed, stalled for an hour or thrown away at no cost.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from quietpager.model.cluster import Json, Kind, WatchEvent
from quietpager.model.message import Message
from quietpager.model.store import AuditEntry, Due, Record, Write
from quietpager.runtime.context import Context, Handler


@dataclass(frozen=True)
class Call:
    """One thing asked of a port, not yet answered."""

    port: str
    name: str
    args: tuple[Any, ...] = ()

    @property
    def acts(self) -> bool:
        """Tell whether others may come in before it: everything but a read of the store or the clock."""
        return self.name in {"transact", "json_patch"} or self.port == "cluster"


@dataclass(frozen=True)
class Answer:
    """What a port answered, or the error it raised; `key` stands for it in the worker's identity."""

    key: str
    value: Any = None
    error: Exception | None = None


@dataclass(frozen=True)
class Done:
    """The handler came to its end: its messages, or the error it ended with."""

    messages: tuple[Message, ...] = ()
    error: Exception | None = None


class _Pause(BaseException):
    """Unwinds a handler at an unanswered call; no `except Exception` of the product may catch it."""

    def __init__(self, call: Call) -> None:
        self.call = call


@dataclass
class Tape:
    """Answers, and how far the running handler has read them."""

    answers: Sequence[Answer] = ()
    position: int = 0

    def ask(self, port: str, name: str, *args: Any) -> Any:
        """Give the recorded answer; where there is none, stop the handler here."""
        if self.position >= len(self.answers):
            raise _Pause(Call(port, name, args))
        answer = self.answers[self.position]
        self.position += 1
        if answer.error is not None:
            raise answer.error
        return answer.value


@dataclass(frozen=True)
class TapeStore:
    """`model.store.Store`, as far as functions use it."""

    tape: Tape

    def get(self, key: str) -> Record | None:
        found: Record | None = self.tape.ask("store", "get", key)
        return found

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        found: dict[str, Record] = self.tape.ask("store", "get_many", tuple(keys))
        return found

    def scan(self, kind: str) -> list[Record]:
        found: list[Record] = self.tape.ask("store", "scan", kind)
        return found

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        raise NotImplementedError

    def similar(self, text: str, limit: int) -> list[Record]:
        raise NotImplementedError

    def transact(self, writes: Iterable[Write]) -> None:
        self.tape.ask("store", "transact", *writes)

    def claim_due(self, now: datetime, limit: int, within: str = "") -> list[Due]:
        found: list[Due] = self.tape.ask("store", "claim_due", now, limit, within)
        return found

    def due_item(self, id_: str) -> Due | None:
        found: Due | None = self.tape.ask("store", "due_item", id_)
        return found

    def due_items(self) -> list[Due]:
        raise NotImplementedError

    def audit(self, chain: str) -> list[AuditEntry]:
        raise NotImplementedError

    def audit_chains(self) -> list[str]:
        raise NotImplementedError

    def close(self) -> None:
        raise NotImplementedError


@dataclass(frozen=True)
class TapeCluster:
    """`model.cluster.Cluster`, as far as functions use it."""

    tape: Tape

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        found: Json | None = self.tape.ask("cluster", "get", kind, namespace, name)
        return found

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        found: list[Json] = self.tape.ask("cluster", "list", kind, namespace, labels)
        return found

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        del labels
        return iter(self.list(kind, namespace))

    def events(self, kind: str, namespace: str, name: str) -> Sequence[Json]:
        raise NotImplementedError

    def metadata(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        raise NotImplementedError

    def logs(
        self, namespace: str, pod: str, container: str, *, previous: bool = False, tail: int = 100,
        most: int = 1 << 16,
    ) -> bytes:  # fmt: skip
        raise NotImplementedError

    def listing(self, kind: Kind, namespace: str | None = None) -> str:
        raise NotImplementedError

    def watch(
        self,
        kind: Kind,
        namespace: str | None,
        resource_version: str,
        timeout_seconds: int,
        *,
        bookmarks: bool = False,
    ) -> Iterator[WatchEvent]:
        raise NotImplementedError

    def create(self, kind: Kind, obj: Json, *, dry_run: bool = False) -> Json:
        raise NotImplementedError

    def json_patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Sequence[Json], *,
        dry_run: bool = False, subresource: str = "",
    ) -> Json:  # fmt: skip
        if subresource:
            raise NotImplementedError
        word = "dry_run" if dry_run else "json_patch"
        after: Json = self.tape.ask("cluster", word, kind, namespace, name, tuple(patch))
        return after

    def merge_patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Json, *,
        dry_run: bool = False, subresource: str = "",
    ) -> Json:  # fmt: skip
        raise NotImplementedError

    def evict(self, namespace: str, pod: str, eviction: Json, *, dry_run: bool = False) -> Json:
        raise NotImplementedError

    def delete(self, kind: Kind, namespace: str | None, name: str) -> None:
        raise NotImplementedError


def key_of(message: Message) -> str:
    """Give a message's identity: its id only says when it was sent."""
    found = _KEYS.get(id(message))
    if found is None or found[0] is not message:
        text = json.dumps([message.type, message.attributes, message.data], sort_keys=True)
        found = _KEYS[id(message)] = (message, text)
    return found[1]


_KEYS: dict[int, tuple[Message, str]] = {}


@dataclass
class Functions:
    """The shipped handlers on one tape. What a handler does after given answers is worked out once."""

    tape: Tape
    handlers: dict[str, tuple[Handler, Context]]
    known: dict[tuple[str, str, tuple[str, ...]], Call | Done] = field(default_factory=dict)

    def go_on(self, name: str, message: Message, answers: tuple[Answer, ...]) -> Call | Done:
        """Run a handler over its answers, to its next call or its end."""
        key = (name, key_of(message), tuple(answer.key for answer in answers))
        found = self.known.get(key)
        if found is None:
            found = self.known[key] = self._run(name, message, answers)
        return found

    def _run(self, name: str, message: Message, answers: tuple[Answer, ...]) -> Call | Done:
        handle, context = self.handlers[name]
        self.tape.answers, self.tape.position = answers, 0
        try:
            return Done(tuple(handle(message, context)))
        except _Pause as pause:
            return pause.call
        except Exception as error:  # noqa: BLE001 (whatever it ends with, the broker sees as a failure)
            return Done(error=error)
