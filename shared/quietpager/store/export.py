"""Writes the audit as JSON Lines, for a reader who has neither our store nor our code.

Who calls it: `quietpager audit export`. `docs/audit.md` says what a line is, and has the script, of
Python's standard library alone, that verifies such a file.
"""

import json
from collections.abc import Iterator, Sequence

from quietpager.model.store import AuditEntry, Json, Record, Store
from quietpager.model.time import to_text
from quietpager.store.anchor import Head
from quietpager.store.audit import HEAD
from quietpager.store.merkle import root_of

READS = 5
"""How often a chain that is written to meanwhile is read again, so that entries and head fit."""


def lines(store: Store, chains: Sequence[str] | None = None) -> Iterator[str]:
    """Give the lines, without their ends: each chain's entries, its head, at last what there must be.

    Nothing is judged and nothing left out: what was tampered with is exported as it is.

    Args:
        store: where it is read.
        chains: those to export; None for all there are.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    names = all_chains(store) if chains is None else sorted(set(chains))
    heads, count = [], 0
    for chain in names:
        entries, head = _read(store, chain)
        yield from (_line(_entry(one)) for one in entries)
        count += len(entries)
        if head is not None:
            yield _line({"type": "head", "chain": chain, **head.body})
            heads.append(Head(chain, head.body.get("seq", 0), head.body.get("hash", "")))
    root = root_of([head.leaf for head in heads])
    yield _line({"type": "end", "chains": len(names), "entries": count, "root": root})


def all_chains(store: Store) -> list[str]:
    """Name every chain of which there is an entry or a head."""
    heads = (record.key.removeprefix(HEAD) for record in store.scan(HEAD[:-1]))
    return sorted({*store.audit_chains(), *heads})


def _read(store: Store, chain: str) -> tuple[list[AuditEntry], Record | None]:
    entries, head = store.audit(chain), store.get(HEAD + chain)
    for _ in range(READS):
        before = head
        entries, head = store.audit(chain), store.get(HEAD + chain)
        if head == before:
            break
    return entries, head


def _entry(one: AuditEntry) -> Json:
    return {
        "type": "entry", "chain": one.chain, "seq": one.seq, "at": to_text(one.at), "kind": one.kind,
        "actor": one.actor, "body": one.body, "previous": one.previous, "hash": one.hash,
    }  # fmt: skip


def _line(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
