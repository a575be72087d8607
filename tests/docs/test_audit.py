"""The script in docs/audit.md, run as a stranger would: on a fresh export, and on exports tampered with."""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from quietpager.model.store import Audit
from quietpager.store.anchor import Snapshot, heads_of
from quietpager.store.export import lines
from quietpager.store.memory import MemoryStore

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
Lines = list[dict[str, Any]]


def script() -> str:
    text = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    [found] = [part.partition("\n```")[0] for part in text.split("```python\n")[1:]]
    return found


@pytest.fixture
def store() -> MemoryStore:
    """Three chains; their bodies have what is hard to write the same way twice."""
    made = MemoryStore()
    odd = {"é\x00\ud800": [1e300, -0.0, 2**70, None, True, "\u2028"], "a": {"b": {}, "A": 1.5}}
    for number in range(4):
        made.transact([Audit(chain, NOW, "kind", "ü", odd | {"n": number}) for chain in ("a", "ä", "b")])
    return made


def check(folder: Path, said: Lines, anchor: Snapshot | None = None) -> tuple[int, str]:
    program, file, kept = folder / "check.py", folder / "audit.jsonl", folder / "anchor.json"
    program.write_text(script(), encoding="utf-8")
    file.write_text("".join(json.dumps(line) + "\n" for line in said), encoding="ascii")
    more = []
    if anchor is not None:
        kept.write_text(anchor.to_text(lines=True), encoding="ascii")
        more = [str(kept)]
    # -I: neither our library nor anything else that is installed for the person; -S: no site packages.
    done = subprocess.run(
        [sys.executable, "-I", "-S", str(program), str(file), *more],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""
    return done.returncode, done.stdout


def exported(store: MemoryStore, *chains: str) -> Lines:
    return [json.loads(line) for line in lines(store, chains or None)]


def test_the_script_is_about_a_page() -> None:
    assert len([line for line in script().splitlines() if line.strip()]) <= 90


def test_a_fresh_export_is_whole(store: MemoryStore, tmp_path: Path) -> None:
    said = exported(store)
    assert [line["type"] for line in said] == [*[*["entry"] * 4, "head"] * 3, "end"]
    now = Snapshot.of(heads_of(store), NOW)
    assert said[-1]["root"] == now.root
    assert check(tmp_path, said) == (0, "The audit is whole.\n")
    assert check(tmp_path, said, now) == (0, "The audit is whole.\n")
    store.transact([Audit("a", NOW, "later", "me")])
    assert check(tmp_path, exported(store), now) == (0, "The audit is whole.\n")
    assert check(tmp_path, exported(store, "b")) == (0, "The audit is whole.\n")
    assert check(tmp_path, exported(MemoryStore())) == (0, "The audit is whole.\n")


def edit(place: int, **new: Any) -> Callable[[Lines], Lines]:
    return lambda said: [*said[:place], said[place] | new, *said[place + 1 :]]


TAMPERED: dict[str, Callable[[Lines], Lines]] = {
    "chain": edit(1, chain="b"),
    "seq": edit(1, seq=7),
    "at": edit(1, at="2026-01-01T12:00:00.000006Z"),
    "kind": edit(1, kind="other"),
    "actor": edit(1, actor="u"),
    "body": edit(1, body={}),
    "infinite": edit(1, body={"n": float("inf")}),
    "previous": edit(1, previous="0" * 64),
    "hash": edit(1, hash="0" * 64),
    "an entry gone": lambda said: [*said[:1], *said[2:]],
    "the last gone": lambda said: [*said[:3], *said[4:]],
    "two entries swapped": lambda said: [said[0], said[2], said[1], *said[3:]],
    "an entry doubled": lambda said: [*said[:2], *said[1:]],
    "a head edited": edit(4, hash="0" * 64),
    "a head with another number": edit(4, seq=3),
    "a head gone": lambda said: [*said[:4], *said[5:]],
    "a chain gone": lambda said: said[5:],
    "a tail gone, its head set back": lambda said: edit(4, seq=3, hash=said[2]["hash"])(said)[:3] + said[4:],
    "the end gone": lambda said: said[:-1],
    "the end edited": edit(15, root="0" * 64),
    "more after the end": lambda said: [*said, said[0]],
    "a second end": lambda said: [*said, said[-1]],
    "an end in the middle": lambda said: [said[-1], *said],
    "a line of another type": lambda said: [{"type": "note"}, *said],
    "nothing left": lambda _: [],
}  # fmt: skip


@pytest.mark.parametrize("how", TAMPERED)
def test_an_export_that_was_tampered_with_is_not(store: MemoryStore, tmp_path: Path, how: str) -> None:
    code, said = check(tmp_path, TAMPERED[how](exported(store)))
    assert code == 1
    assert "whole" not in said
    assert said.strip().endswith(".")


@pytest.mark.parametrize("chain", ["a", "ä", "b"])
def test_what_was_made_up_from_beginning_to_end_is_found_by_the_anchor(
    store: MemoryStore, tmp_path: Path, chain: str
) -> None:
    before = Snapshot.of(heads_of(store), NOW)
    store._audit.pop(chain)
    store._state.pop(f"CHAIN#{chain}")
    assert check(tmp_path, exported(store)) == (0, "The audit is whole.\n")
    assert check(tmp_path, exported(store), before)[0] == 1
    store.transact([Audit(chain, NOW, "kind", "forger") for _ in range(5)])
    assert check(tmp_path, exported(store)) == (0, "The audit is whole.\n")
    assert check(tmp_path, exported(store), before) == (
        1, f"{chain}: not as it was anchored at 2026-01-01T12:00:00.000005Z.\n",
    )  # fmt: skip
