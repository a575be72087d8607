"""The store's one port: conditional transactions over state and audit, and due items.

Who calls it: every function, through `Context.store`. Every back end (PostgreSQL, DynamoDB,
memory) passes `tests/contract/test_store.py`. Nothing here may need more than a key-value table with
conditional writes of several items can give.

The one conditional write:

    reader A   get(INCIDENT#1) → version 7    transact[Put(INCIDENT#1, expect=7)] → version 8
    reader B   get(INCIDENT#1) → version 7    …later: transact[Put(INCIDENT#1, expect=7)] → Conflict

`expect=n` means "still at version n"; `expect=ABSENT` means "nobody has written it yet".
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Protocol

Json = dict[str, Any]

ABSENT: Final = 0
"""The version of a record that does not exist; the first write makes it version 1."""


@dataclass(frozen=True, slots=True)
class Record:
    """One row of the state table."""

    key: str
    version: int
    body: Json


@dataclass(frozen=True, slots=True)
class Put:
    """Write a record if it is still at version `expect`; its version becomes `expect + 1`."""

    key: str
    body: Json
    expect: int


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a record if it is still at version `expect`."""

    key: str
    expect: int


@dataclass(frozen=True, slots=True)
class Check:
    """Write nothing, but fail the transaction unless the record is still at version `expect`."""

    key: str
    expect: int


@dataclass(frozen=True, slots=True)
class Audit:
    """Append one entry to an audit chain (one for each incident, one for refusals of intake)."""

    chain: str
    at: datetime
    kind: str
    actor: str
    body: Json = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Due:
    """Say `message` at `at`, and again each `every`, until `DueDone` takes it away.

    Putting a due item whose id exists replaces it. `message` is what
    `quietpager.model.message.Message` dumps to. `since` is when the incident opened that the item belongs
    to (of a plan or an intent: when it was asked for); None: it belongs to none, and waits for those that do.
    """

    id: str
    at: datetime
    every: timedelta
    message: Json
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class DueDone:
    """Take a due item away; one that is gone already is no error."""

    id: str


Write = Put | Delete | Check | Audit | Due | DueDone


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One audited fact, as stored: `hash` = SHA-256 over everything else and the previous hash."""

    chain: str
    seq: int
    at: datetime
    kind: str
    actor: str
    body: Json
    previous: str
    hash: str


class Conflict(Exception):  # noqa: N818
    """A condition did not hold; nothing was written. The record found is attached."""

    def __init__(self, key: str, expected: int, found: Record | None) -> None:
        """Name the key, the version that was asked for and what is there."""
        self.key, self.expected, self.found = key, expected, found
        have = "absent" if found is None else f"at version {found.version}"
        want = "absent" if expected == ABSENT else f"at version {expected}"
        super().__init__(f"record {key} is {have}, the transaction needs it {want}")


class StoreUnavailable(Exception):  # noqa: N818
    """The store does not answer, or with an error that is no conflict. Nothing is known."""


class Store(Protocol):
    """Everything the product asks of a store. Thread-safe. Any call: `StoreUnavailable`."""

    def get(self, key: str) -> Record | None:
        """Read one record, strongly consistent."""
        ...

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        """Read several records in one round trip; keys that are absent are absent in the answer."""
        ...

    def scan(self, kind: str) -> list[Record]:
        """Read all records whose key starts with `kind + '#'`, in key order (for people)."""
        ...

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        """Read up to `limit` records of one kind whose keys come after a key; "" begins.

        The order of the keys is the back end's own, and always the same. May be a moment behind what was
        written: whoever acts on a record names its version. Fewer than `limit`: there are no more.
        """
        ...

    def similar(self, text: str, limit: int) -> list[Record]:
        """Find up to `limit` records `PAST#…` that share words with a text, the most shared first.

        A record is found by its body's field `words`; `store.search_terms` says what counts as a word. Among
        equals the key decides. A back end without full text reads them all: they are few and small.
        """
        ...

    def transact(self, writes: Iterable[Write]) -> None:
        """Do all or nothing; raises `Conflict` for the first condition that does not hold.

        JSON comes back as it was written, NUL characters, large integers and floats included;
        NaN and infinities are no JSON (ValueError), nor are naive datetimes welcome (ValueError).

        A key occurs at most once in a transaction (else ValueError). Audit entries get their `seq`
        and `hash` here, serialised for each chain; the chain's head is kept as record
        `CHAIN#<chain>` with body `{seq, hash}` in the same transaction, so that a cut tail is
        found.
        """
        ...

    def claim_due(self, now: datetime, limit: int, within: str = "") -> list[Due]:
        """Take up to `limit` items with `at <= now`; each moves on to `now + every`.

        `within`: only items whose ids begin so are looked at; whatever others there are changes nothing.

        Three quarters of the limit go to items of incidents, the oldest incident first, as long as there are
        any; the rest goes to what has been due longest (`queue`). Served in that order: items of incidents by
        `since`, then the others by `at`.

        Of two callers at the same time only one gets an item. The items are returned as they were.
        """
        ...

    def due_item(self, id_: str) -> Due | None:
        """Read one due item, strongly consistent; None where it does not exist."""
        ...

    def due_items(self) -> list[Due]:
        """Read all due items, oldest first (for people, tests and reports)."""
        ...

    def audit(self, chain: str) -> list[AuditEntry]:
        """Read one chain in order of `seq`."""
        ...

    def audit_chains(self) -> list[str]:
        """Name all chains."""
        ...

    def close(self) -> None:
        """Give back connections."""
        ...
