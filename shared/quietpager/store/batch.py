"""One transaction's writes, sorted out and checked before any store is touched.

Who calls it: `PostgresStore` and `MemoryStore`, so that both refuse the same mistakes, judge
conditions in the same order and build the same audit entries.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Final

from quietpager.masking.told import masked
from quietpager.model.store import (
    ABSENT,
    Audit,
    AuditEntry,
    Check,
    Delete,
    Due,
    DueDone,
    Json,
    Put,
    Write,
)
from quietpager.store.audit import GENESIS, HEAD, entry_hash, plain

PROSE: Final = "TELL#"
"""Records that are sentences for people without a model of their own; all other text is of type `Told`.

Their bodies are masked here, and so are those of audit entries, which are any JSON. It is the last moment
at which that is possible: an entry is hashed as it is stored, and exported as it was hashed.
"""


@dataclass(slots=True)
class Batch:
    """The writes by kind; `conditions` in the order in which they were given."""

    conditions: list[Put | Delete | Check] = field(default_factory=list)
    audits: list[Audit] = field(default_factory=list)
    due: list[Due] = field(default_factory=list)
    done: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, writes: Iterable[Write]) -> "Batch":
        """Sort the writes out.

        Raises:
            ValueError: a key or a due item occurs twice, a naive datetime, a write to a chain's
            head.
        """
        batch = cls()
        keys: set[str] = set()
        items: set[str] = set()
        for write in map(_harmless, writes):
            match write:
                case Put() | Delete() | Check():
                    _once(write.key, keys)
                    if write.expect < ABSENT:
                        raise ValueError(f"Record {write.key}: {write.expect} is no version.")
                    if write.key.startswith(HEAD) and not isinstance(write, Check):
                        raise ValueError(f"Record {write.key} is a chain's head; only Audit moves it.")
                    batch.conditions.append(write)
                case Audit():
                    _aware(write.at)
                    batch.audits.append(write)
                case Due():
                    _aware(write.at)
                    _aware(write.since or write.at)
                    _once(write.id, items)
                    batch.due.append(write)
                case DueDone():
                    _once(write.id, items)
                    batch.done.append(write.id)
        for audit in batch.audits:
            if HEAD + audit.chain in keys:
                raise ValueError(f"Record {HEAD + audit.chain} occurs twice in one transaction.")
        return batch

    def heads(self) -> list[str]:
        """Name the keys of the chain heads that this transaction moves."""
        return sorted({HEAD + audit.chain for audit in self.audits})

    def first_failing(self, versions: Mapping[str, int]) -> Put | Delete | Check | None:
        """Find the first condition that does not hold; `versions` of the records that exist."""
        for condition in self.conditions:
            if versions.get(condition.key, ABSENT) != condition.expect:
                return condition
        return None

    def chain(self, heads: Mapping[str, Json]) -> tuple[list[AuditEntry], dict[str, Json]]:
        """Link the audit entries to the chains' heads; gives the entries and the new heads' bodies.

        Raises ValueError or TypeError for a body that is not JSON.
        """
        moved = dict(heads)
        entries = []
        for audit in self.audits:
            head = moved.get(HEAD + audit.chain, {"seq": 0, "hash": GENESIS})
            seq, previous, body = head["seq"] + 1, head["hash"], plain(audit.body)
            digest = entry_hash(
                chain=audit.chain,
                seq=seq,
                at=audit.at,
                kind=audit.kind,
                actor=audit.actor,
                body=body,
                previous=previous,
            )
            entries.append(
                AuditEntry(audit.chain, seq, audit.at, audit.kind, audit.actor, body, previous, digest)
            )
            moved[HEAD + audit.chain] = {"seq": seq, "hash": digest}
        return entries, moved


def _harmless(write: Write) -> Write:
    """Mask what is free text; see PROSE."""
    match write:
        case Audit():
            return replace(write, body=masked(write.body))
        case Put() if write.key.startswith(PROSE):
            return replace(write, body=masked(write.body))
        case _:
            return write


def _once(key: str, seen: set[str]) -> None:
    if key in seen:
        raise ValueError(f"{key} occurs twice in one transaction.")
    seen.add(key)


def _aware(moment: datetime) -> None:
    if moment.tzinfo is None:
        raise ValueError("A datetime without a time zone cannot be stored.")
