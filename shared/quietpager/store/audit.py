"""The audit chain: how an entry is hashed, and how tampering is found.

Who calls it: both stores when they append, `quietpager audit verify` and the tests. Pure functions;
only `verify_all` reads a store.

    entry 1 ─ hash ▶ entry 2.previous ─ hash ▶ entry 3.previous ─ hash ▶ head {seq: 3, hash}

The head (record `CHAIN#<chain>`) is what makes a cut tail visible. Who can write to the database
can of course compute a new chain, or remove chain *and* head; against that only a copy of the
heads kept elsewhere helps (the `anchor` job).
"""

import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final

from quietpager.model.store import AuditEntry, Json, Record, Store
from quietpager.model.time import to_text

HEAD: Final = "CHAIN#"
"""What the key of a chain's head begins with."""

GENESIS: Final = "0" * 64
"""What the first entry of a chain names as the hash before it."""


def canonical(value: object) -> str:
    """Write JSON in the one form that is hashed: sorted keys, no spaces, ASCII only.

    Raises:
        ValueError: NaN or an infinity, which JSON does not have.
        TypeError: the value is not JSON.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def plain(body: Json) -> Json:
    """Give what a reader will get back: keys as strings, tuples as lists, a copy of all.

    Raises as `canonical` does.
    """
    copy: Json = json.loads(json.dumps(body, allow_nan=False))
    return copy


def entry_hash(
    *, chain: str, seq: int, at: datetime, kind: str, actor: str, body: Json, previous: str
) -> str:
    """Compute an entry's hash: SHA-256 over the canonical JSON of all its other fields, in hex.

    Raises as `canonical` does; `at` must be aware.
    """
    fields = [chain, seq, to_text(at), kind, actor, plain(body), previous]
    return sha256(canonical(fields).encode()).hexdigest()


def verify(entries: Sequence[AuditEntry], head: Record | None, chain: str | None = None) -> list[str]:
    """Find every fault of one chain, as sentences; an empty list means it is whole.

    `entries` as read, in the order they are kept; `head` is the record `CHAIN#<chain>`.
    """
    if chain is None:
        chain = entries[0].chain if entries else head.key.removeprefix(HEAD) if head else ""
    where = f"Chain {chain}:"
    faults: list[str] = []
    previous, expected = GENESIS, 1
    for place, entry in enumerate(entries, start=1):
        faults += [f"{where} {fault}" for fault in _faults_of(entry, chain, place, previous, expected)]
        previous, expected = entry.hash, entry.seq + 1
    faults += [
        f"{where} entry {seq} is there {count} times; entries were inserted."
        for seq, count in sorted(Counter(entry.seq for entry in entries).items())
        if count > 1
    ]
    return faults + [f"{where} {fault}" for fault in _faults_of_head(entries, head)]


def _faults_of(entry: AuditEntry, chain: str, place: int, previous: str, expected: int) -> list[str]:
    faults = []
    if entry.chain != chain:
        faults.append(f"place {place} holds an entry of chain {entry.chain}.")
    if entry.seq > expected:
        last = entry.seq - 1
        which = f"entry {expected} is" if last == expected else f"entries {expected} to {last} are"
        faults.append(f"{which} missing before entry {entry.seq}; deleted or moved.")
    elif entry.seq < expected:
        faults.append(f"entry {entry.seq} stands where {expected} belongs; reordered or inserted.")
    if entry.previous != previous:
        faults.append(f"entry {entry.seq} does not follow the entry before it.")
    try:
        whole = entry.hash == entry_hash(
            chain=entry.chain,
            seq=entry.seq,
            at=entry.at,
            kind=entry.kind,
            actor=entry.actor,
            body=entry.body,
            previous=entry.previous,
        )
    except (TypeError, ValueError, RecursionError, OverflowError):
        whole = False
    if not whole:
        faults.append(f"entry {entry.seq} was edited after it was written; its hash does not fit.")
    return faults


def _faults_of_head(entries: Sequence[AuditEntry], head: Record | None) -> list[str]:
    if head is None:
        return ["its head record is missing, so a cut tail could not be seen."] if entries else []
    seq, known = head.body.get("seq"), head.body.get("hash")
    # `True == 1`, so a bool would pass for the number of the first entry.
    if type(seq) is not int or not isinstance(known, str) or set(head.body) != {"seq", "hash"}:
        return ["its head record is damaged."]
    if not entries:
        return [f"all its {seq} entries are missing."]
    last = entries[-1]
    if seq > last.seq:
        return [f"its tail is cut: the head knows {seq} entries, the last one found is {last.seq}."]
    if seq < last.seq:
        return [f"entry {last.seq} is newer than the head, which knows {seq}: inserted, or head edited."]
    if known != last.hash:
        return [f"the head's hash is not that of entry {last.seq}; one of the two was edited."]
    return []


def verify_all(store: Store) -> list[str]:
    """Find every fault of every chain; an empty list means that all are whole.

    A chain that is written to meanwhile is read again before it is called faulty, because its
    entries and its head are two reads. Raises `StoreUnavailable`.
    """
    chains = {
        *store.audit_chains(),
        *(record.key.removeprefix(HEAD) for record in store.scan(HEAD[:-1])),
    }
    faults = []
    for chain in sorted(chains):
        found: list[str] = []
        for _ in range(5):
            head = store.get(HEAD + chain)
            found = verify(store.audit(chain), head, chain)
            if not found or store.get(HEAD + chain) == head:
                break
        faults += found
    return faults
