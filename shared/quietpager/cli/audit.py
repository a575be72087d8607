"""`quietpager audit`: verify the chains, export and anchor them; and `quietpager migrate`, for its roles."""

import os
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from quietpager.cli.exits import CannotBegin
from quietpager.cli.people import open_store_or_exit
from quietpager.model.store import StoreUnavailable
from quietpager.model.time import system_clock
from quietpager.runtime.connect import STORE
from quietpager.store.anchor import (
    Anchor,
    AnchorUnavailable,
    Audited,
    Snapshot,
    heads_of,
    retreats,
    verify_anchors,
)
from quietpager.store.anchors import open_anchor
from quietpager.store.audit import verify_all
from quietpager.store.dynamodb_schema import make_tables
from quietpager.store.export import all_chains, lines
from quietpager.store.exported import read_export
from quietpager.store.opening import DYNAMODB, open_back_end
from quietpager.store.rekey import move_by_port
from quietpager.store.roles import FUNCTIONS, grants, migrate_as_owner

Say = Callable[[str], None]


def verify(place: Path | None, say: Say) -> int:
    """Verify all chains, and hold them against a place's anchors; gives the exit code."""
    store = open_store_or_exit()
    try:
        # The anchors first: a chain may grow between the two reads, and never shrinks.
        about, faults = ("", []) if place is None else _against(place, store)
        faults = [*verify_all(store), *faults]
        for fault in faults:
            say(fault)
        say(f"{len(all_chains(store))} chains, {len(faults)} faults{about}")
    finally:
        store.close()
    return 1 if faults else 0


def verify_file(file: Path, place: Path | None, say: Say) -> int:
    """Verify an exported file, and hold it against a place's anchors; gives the exit code."""
    try:
        with file.open("rb") as lines:
            found = read_export(lines)
    except OSError as no:
        say(f"{file} cannot be read: {no.strerror}.")
        return 2
    about, faults = ("", []) if place is None else _against(place, found)
    for fault in (*found.faults, *faults):
        say(fault)
    say(f"{len(found.chains)} chains, {len(found.faults) + len(faults)} faults{about}")
    return 1 if found.faults or faults else 0


def _against(place: Path, store: Audited) -> tuple[str, list[str]]:
    try:
        kept = open_anchor(place).all()
    except AnchorUnavailable as no:
        return "; no anchor was compared", [str(no)]
    if not kept:
        return "; no anchor was compared", [
            f"There is no anchor in {place}; `quietpager audit anchor` makes one."
        ]
    return f"; {len(kept)} anchors compared, the newest is {kept[-1].name}", verify_anchors(store, kept)


def export(incident: str | None, out: Path | None, say: Say) -> int:
    """Write entries and heads as JSON Lines; gives the exit code."""
    store = open_store_or_exit()
    try:
        if incident is not None and incident not in all_chains(store):
            say(f"There is no chain {incident}; `quietpager incidents` lists them.")
            return 1
        found = lines(store, None if incident is None else [incident])
        if out is None:
            for line in found:
                say(line)
            return 0
        try:
            with out.open("w", encoding="ascii") as file:
                count = sum(bool(file.write(f"{line}\n")) for line in found)
        except OSError as no:
            raise CannotBegin(f"{out} cannot be written: {no.strerror}.") from None
        say(f"{count} lines in {out}; docs/audit.md has the script that verifies them.")
    finally:
        store.close()
    return 0


def anchor(place: Path, say: Say) -> int:
    """Anchor the heads once; gives the exit code."""
    store = open_store_or_exit()
    try:
        now = Snapshot.of(heads_of(store), system_clock())
        to: Anchor = open_anchor(place)
        gone = retreats(to.newest(), now)
        kept = to.keep(now)
    except (AnchorUnavailable, ValueError) as no:
        say(str(no))
        return 1
    finally:
        store.close()
    for sentence in gone:
        say(sentence)
    say(f"{now.chains} chains, root {now.root}: {'anchored' if kept else 'unchanged, nothing was written'}.")
    return 1 if gone else 0


def migrate(functions: str | None, cluster: str, say: Say, *, only: bool) -> int:
    """Make the tables and grant the functions' role its rights; gives the exit code."""
    if only:
        say(grants(functions or FUNCTIONS).rstrip())
        return 0
    url = os.environ.get(STORE, "")
    if url.startswith(DYNAMODB):
        return _make_tables(url, functions, cluster, say)
    if not url.startswith(("postgresql:", "postgres:")):
        say(f"Set {STORE} to the PostgreSQL URL of the tables' owner, or to dynamodb://REGION/PREFIX.")
        return 2
    try:
        done = migrate_as_owner(url, functions, cluster)
    except (StoreUnavailable, ValueError) as no:
        say(str(no))
        return 1
    say(f"Applied: {', '.join(done) or 'nothing, the tables are up to date'}.")
    if functions is not None:
        say(f"{functions} may read and insert audit entries, and change none.")
    return 0


def _make_tables(url: str, functions: str | None, cluster: str, say: Say) -> int:
    """Make DynamoDB's tables where it is not AWS's own, and look whether they are there where it is."""
    if functions is not None:
        say(
            "DynamoDB has no roles of its own: on AWS the policies in dynamodb.tf.json say what the "
            "functions may do. Run `quietpager migrate` without --functions."
        )
        return 1
    try:
        made = make_tables(url)
        with closing(open_back_end(url)) as store:
            moved = move_by_port(store, cluster)
    except (StoreUnavailable, ValueError) as no:
        say(str(no))
        return 1
    say(f"Made: {', '.join(made)}." if made else "The tables are there.")
    if moved:
        say(f"{moved} records have keys of cluster {cluster}.")
    return 0
