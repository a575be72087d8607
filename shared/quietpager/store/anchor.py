"""Anchors: the heads of the audit's chains at one moment, kept out of reach of the store's writers.

Who calls it: `govern/anchor` and `quietpager audit anchor` write them; `quietpager audit verify --anchor`
holds today's chains against every one of them. The chains alone cannot tell that one of them was removed
together with its head, or computed anew from its first entry to its head; an anchor can.

    heads of all chains ─ Merkle tree ▶ root ─┐
                                              ├▶ Snapshot ─▶ port Anchor: a Git commit, a line of a file
    moment, number of chains, the heads ──────┘

Every chain only grows. So what was a head then is the end of a prefix now, and the root of then can be
computed from today's entries. The pure part is here; `store.anchors` has the places.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Protocol

from quietpager.model.store import AuditEntry, Store
from quietpager.model.time import to_text
from quietpager.store.audit import GENESIS, HEAD, canonical, entry_hash
from quietpager.store.merkle import root_of

FORMAT: Final = 1
"""Of the text of a snapshot; another one is not understood."""

_KEYS: Final = {"format": int, "at": str, "root": str, "chains": int, "heads": list}


def no_key_twice(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make the object of JSON's pairs, for `object_pairs_hook`: of a key that stands twice readers differ.

    Raises:
        ValueError: a key stands there twice.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found


def typed(value: Mapping[str, object]) -> dict[str, type]:
    """Give the exact type of each field: a bool is no number, and neither is `1.0` a whole one."""
    return {key: type(field) for key, field in value.items()}


@dataclass(frozen=True, slots=True, order=True)
class Head:
    """Where one chain ended: the number of its entries, and the hash of the last."""

    chain: str
    seq: int
    hash: str

    @property
    def leaf(self) -> bytes:
        """What is hashed into the tree."""
        return canonical([self.chain, self.seq, self.hash]).encode()


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All heads at one moment, in order of their chains' names; `root` is as it was kept."""

    at: str
    root: str
    chains: int
    heads: tuple[Head, ...]

    @classmethod
    def of(cls, heads: Iterable[Head], at: datetime) -> "Snapshot":
        """Make one of heads in any order."""
        ordered = tuple(sorted(heads))
        return cls(to_text(at), root_of([head.leaf for head in ordered]), len(ordered), ordered)

    def to_text(self, *, lines: bool = False) -> str:
        """Write it as JSON on one line, or with a line for each head, so that a diff shows what is new."""
        about = {"format": FORMAT, "at": self.at, "root": self.root, "chains": self.chains}
        heads = [json.dumps([head.chain, head.seq, head.hash]) for head in self.heads]
        gap, start = (",\n", "\n") if lines else (", ", "")
        return f'{json.dumps(about)[:-1]}, "heads": [{start}{gap.join(heads)}{start}]}}'

    @classmethod
    def from_text(cls, text: str) -> "Snapshot":
        """Read what `to_text` wrote.

        Raises:
            ValueError: it is no snapshot.
        """
        try:
            read = json.loads(text, object_pairs_hook=no_key_twice)
            if read["format"] != FORMAT or type(read["format"]) is not int:
                raise ValueError(f"its format is {read['format']!r}, this version reads {FORMAT}")
            if typed(read) != _KEYS or any([*map(type, one)] != [str, int, str] for one in read["heads"]):
                raise ValueError("it is no anchor: its keys, or the types of its values, are others")
            heads = tuple(Head(*one) for one in read["heads"])
        except (KeyError, TypeError, RecursionError, OverflowError, AttributeError) as wrong:
            raise ValueError(f"it is no anchor ({type(wrong).__name__}: {wrong})") from wrong
        if any(one.seq < 1 for one in heads) or [one.chain for one in heads] != sorted(
            {one.chain for one in heads}
        ):
            raise ValueError("its heads are out of order, or a chain stands there twice, or without an entry")
        return cls(read["at"], read["root"], read["chains"], heads)


@dataclass(frozen=True, slots=True)
class Anchored:
    """One anchor as it was found: where, and its text."""

    name: str
    text: str


class Audited(Protocol):
    """What has chains: a store, or a file that was exported."""

    def audit(self, chain: str) -> list[AuditEntry]:
        """Read one chain in order of `seq`; empty where there is none."""
        ...


class AnchorUnavailable(Exception):  # noqa: N818 (a word, not a fault)
    """The place of the anchors cannot be read or written; the text says what to do."""


class Anchor(Protocol):
    """A place for anchors that who writes to the store cannot change. It only ever grows."""

    def newest(self) -> Snapshot | None:
        """Read the last anchor; None where there is none, or none that can be read."""
        ...

    def keep(self, snapshot: Snapshot) -> bool:
        """Keep one; False where the newest has the same root already. Raises `AnchorUnavailable`."""
        ...

    def all(self) -> list[Anchored]:
        """Read every anchor, oldest first. Raises `AnchorUnavailable`."""
        ...


def heads_of(store: Store) -> list[Head]:
    """Read all heads. Raises `StoreUnavailable`; ValueError for a head that is damaged."""
    heads = []
    for record in store.scan(HEAD[:-1]):
        seq, known = record.body.get("seq"), record.body.get("hash")
        if type(seq) is not int or not isinstance(known, str):
            raise ValueError(f"{record.key} is damaged; `quietpager audit verify` says what else is.")
        heads.append(Head(record.key.removeprefix(HEAD), seq, known))
    return heads


def retreats(before: Snapshot | None, now: Snapshot) -> list[str]:
    """Say which chains are shorter than at the last anchor, gone, or other; heads alone are compared.

    Cheap enough for every tick. An empty list does not mean that all is well: that is `verify_anchors`.
    """
    today = {head.chain: head for head in now.heads}
    said = []
    for old in () if before is None else before.heads:
        new = today.get(old.chain)
        if new is None:
            said.append(f"Chain {old.chain} is gone: at the last anchor it had {old.seq} entries.")
        elif new.seq < old.seq:
            said.append(f"Chain {old.chain} has {new.seq} entries; at the last anchor it had {old.seq}.")
        elif new.seq == old.seq and new.hash != old.hash:
            said.append(f"Chain {old.chain} has another head than at the last anchor, and no new entry.")
    return said


def prefixes(chain: str, entries: Sequence[AuditEntry]) -> list[str]:
    """Compute the hash of each entry from what the entries say, whatever hash is kept with them.

    So a chain that was edited, entry and hash, gives other values from there on. What cannot be hashed
    (an infinity, which no entry ever holds) gives an empty string, which no anchor holds either.
    """
    found, previous = [], GENESIS
    for entry in entries:
        try:
            previous = entry_hash(
                chain=chain,
                seq=entry.seq,
                at=entry.at,
                kind=entry.kind,
                actor=entry.actor,
                body=entry.body,
                previous=previous,
            )
        except (TypeError, ValueError, RecursionError, OverflowError):
            previous = ""
        found.append(previous)
    return found


def verify_anchors(store: Audited, anchored: Sequence[Anchored]) -> list[str]:
    """Hold today's chains against every anchor; gives a sentence for each fault, none for none.

    The anchors must have been read before: a chain may grow meanwhile, but it never shrinks.

    Raises:
        StoreUnavailable: the store does not answer.
    """
    faults: list[str] = []
    snapshots: list[tuple[str, Snapshot]] = []
    for one in anchored:
        try:
            snapshots.append((one.name, Snapshot.from_text(one.text)))
        except ValueError as wrong:
            faults.append(f"Anchor {one.name} cannot be read: {wrong}.")
    wanted = sorted({head.chain for _, snapshot in snapshots for head in snapshot.heads})
    today = {chain: prefixes(chain, store.audit(chain)) for chain in wanted}
    told: set[str] = set()
    for name, snapshot in snapshots:
        faults += _faults_of(name, snapshot, today, told)
    return faults


def _faults_of(
    name: str, snapshot: Snapshot, today: Mapping[str, Sequence[str]], told: set[str]
) -> list[str]:
    where = f"Anchor {name} ({snapshot.at}):"
    if snapshot != _recomputed(snapshot, lambda head: head.hash):
        return [f"{where} its root or count does not fit its own list of heads; the anchor was edited."]
    faults = []
    for head in snapshot.heads:
        if (wrong := _fault_of(head, today[head.chain], snapshot.at)) and head.chain not in told:
            told.add(head.chain)
            faults.append(f"{where} {wrong}")
    if snapshot != _recomputed(snapshot, lambda head: _at(today[head.chain], head.seq)) and not told:
        faults.append(f"{where} its root {snapshot.root} cannot be computed from today's chains.")
    return faults


def _fault_of(head: Head, today: Sequence[str], at: str) -> str:
    chain, seq = head.chain, head.seq
    if not today:
        return f"chain {chain} is gone, head and all: it had {seq} entries then, today there are none."
    if len(today) < seq:
        return f"the tail of chain {chain} is cut: it had {seq} entries then, today there are {len(today)}."
    if _at(today, seq) != head.hash:
        return f"chain {chain} was rewritten: its first {seq} entries are not those of {at}."
    return ""


def _at(today: Sequence[str], seq: int) -> str:
    return today[seq - 1] if 0 < seq <= len(today) else ""


def _recomputed(snapshot: Snapshot, hash_of: Callable[[Head], str]) -> Snapshot:
    heads = [Head(head.chain, head.seq, hash_of(head)) for head in snapshot.heads]
    root = root_of([head.leaf for head in heads])
    return Snapshot(snapshot.at, root, len(heads), tuple(heads))
