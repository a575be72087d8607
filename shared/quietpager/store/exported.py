"""Reads an exported audit as strictly as the script in docs/audit.md does, and says what is wrong with it.

Who calls it: `quietpager audit verify --file`. `docs/audit.md` has a script of Python's standard library
alone that judges the same file; a test holds that the two agree. A line has exactly the keys and types of its
type, and nothing may stand there twice: whatever two readers could understand differently is a fault.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from quietpager.model.store import AuditEntry, Record
from quietpager.model.time import to_text
from quietpager.store.anchor import Head, no_key_twice, typed
from quietpager.store.audit import HEAD, canonical, verify
from quietpager.store.merkle import root_of

_SHAPES: Final[dict[str, dict[str, type]]] = {
    "entry": {
        "type": str, "chain": str, "seq": int, "at": str, "kind": str, "actor": str, "body": dict,
        "previous": str, "hash": str,
    },
    "head": {"type": str, "chain": str, "seq": int, "hash": str},
    "end": {"type": str, "chains": int, "entries": int, "root": str},
}  # fmt: skip


@dataclass
class Exported:
    """What a file holds; `faults` is a sentence for each thing that is wrong, none where it is whole."""

    chains: dict[str, list[AuditEntry]] = field(default_factory=dict)
    heads: list[Head] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def audit(self, chain: str) -> list[AuditEntry]:
        """Give the entries of one chain, in the order of the file; see `anchor.Audited`."""
        return self.chains.get(chain, [])


def read_export(lines: Iterable[bytes]) -> Exported:
    """Read and verify the lines of a file; never raises for what they hold."""
    found = Exported()
    order: list[tuple[str, bool, int]] = []
    ends: list[dict[str, Any]] = []
    for number, source in enumerate(lines, start=1):
        try:
            line = _read(source)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OverflowError):
            found.faults.append(f"Line {number} is no line of an export.")
            continue
        if ends:
            found.faults.append(f"Line {number} stands behind the end.")
        if isinstance(line, Head):
            found.heads.append(line)
            order.append((line.chain, True, line.seq))
        elif isinstance(line, AuditEntry):
            found.chains.setdefault(line.chain, []).append(line)
            order.append((line.chain, False, line.seq))
        else:
            ends.append(line)
    if order != sorted(set(order)):
        found.faults.append("The lines are out of order, or one stands there twice.")
    found.faults += _faults_of_chains(found)
    there = {
        "type": "end", "chains": len(found.heads), "entries": len(order) - len(found.heads),
        "root": root_of([head.leaf for head in found.heads]),
    }  # fmt: skip
    if ends != [there]:
        found.faults.append("The end does not fit: lines are missing, or were added.")
    return found


def _read(source: bytes) -> AuditEntry | Head | dict[str, Any]:
    line = json.loads(source.decode("ascii"), object_pairs_hook=no_key_twice)
    if typed(line) != _SHAPES[line["type"]]:
        raise ValueError("these are not the keys, or not the types, that belong there")
    canonical(line)  # raises where there is an infinity, which JSON does not have
    kind = line.pop("type")
    if kind == "head":
        return Head(**line)
    if kind == "end":
        return {"type": kind, **line}
    at = datetime.fromisoformat(line["at"])
    if to_text(at) != line["at"]:
        raise ValueError("its moment is written in another way than ours")
    return AuditEntry(**line | {"at": at})


def _faults_of_chains(found: Exported) -> list[str]:
    by_chain: dict[str, list[Head]] = {}
    for head in found.heads:
        by_chain.setdefault(head.chain, []).append(head)
    faults = []
    for chain in sorted({*found.chains, *by_chain}):
        heads = by_chain.get(chain, [])
        kept = Record(HEAD + chain, 1, {"seq": heads[0].seq, "hash": heads[0].hash}) if heads else None
        faults += verify(found.audit(chain), kept, chain)
        if len(heads) > 1:
            faults.append(f"Chain {chain}: it has {len(heads)} heads.")
    return faults
