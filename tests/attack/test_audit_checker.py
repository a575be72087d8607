"""A file that is not the audit is called whole: an invented entry, a doubled key, a number that is none.

Each forgery goes to both judges: the script of docs/audit.md, which a stranger runs, and `quietpager audit
verify --file`. Both must refuse it, and on whatever is generated they must agree. The anchor is the second
file that a stranger is given, so it is forged as well.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from quietpager.cli.main import main as command
from quietpager.model.store import Audit
from quietpager.store import exported
from quietpager.store.anchor import Anchored, Snapshot, heads_of, verify_anchors
from quietpager.store.audit import canonical, entry_hash
from quietpager.store.export import lines
from quietpager.store.exported import read_export
from quietpager.store.memory import MemoryStore
from tests.docs.test_audit import script

NOW = datetime(2026, 1, 1, 12, 0, 0, 5, tzinfo=UTC)
File = list[bytes]


def made() -> MemoryStore:
    store = MemoryStore()
    for number in range(3):
        body = {"n": number, "odd": [1e300, -0.0, 2**70, None, True, "\u2028"], "who": {"a": 1}}
        store.transact([Audit(chain, NOW, "kind", "me", body) for chain in ("a", "b", "c")])
    return store


STORE = made()
WHOLE: File = [line.encode() + b"\n" for line in lines(STORE)]
ANCHOR = Snapshot.of(heads_of(STORE), NOW)
KEYS = {"entry": "chain seq at kind actor body previous hash", "head": "chain seq hash",
        "end": "chains entries root"}  # fmt: skip


def stranger(source: str = "") -> Callable[..., list[str]]:
    """Load the script as the module of a stranger; the file is its text alone."""
    space: dict[str, Any] = {"__name__": "check"}
    exec(compile(source or script(), "check.py", "exec"), space)  # noqa: S102 (that is the point)
    return lambda file, anchor=None: list(space["check"](file, anchor))


THEIRS = stranger()


def ours(file: File) -> list[str]:
    return read_export(file).faults


def line(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode() + b"\n"


def place_of(kind: str) -> int:
    return next(n for n, one in enumerate(WHOLE) if json.loads(one)["type"] == kind)


def put(place: int, *new: bytes, instead: int = 1) -> File:
    return [*WHOLE[:place], *new, *WHOLE[place + instead :]]


OTHERS: tuple[Any, ...] = (None, True, False, 0, 1, 1.0, 3.0, -1, 2**70, "", "1", "x", [], {}, [1], {"a": 1})


def changed_fields() -> Iterator[tuple[str, File]]:
    for kind, keys in KEYS.items():
        place = place_of(kind)
        value = json.loads(WHOLE[place])
        for key in keys.split():
            for other in OTHERS:
                if line(other) != line(value[key]):
                    yield f"{kind}.{key} is {other!r}", put(place, line(value | {key: other}))
            fewer = {name: field for name, field in value.items() if name != key}
            yield f"{kind}.{key} is gone", put(place, line(fewer))
            yield f"{kind}.{key} is called otherwise", put(place, line(fewer | {key.upper(): value[key]}))
            look_alike = key.replace("a", "\u0430").replace("s", "\u0455").replace("h", "\u04bb")
            if look_alike != key:
                yield f"{kind}.{key} in other letters", put(place, line(fewer | {look_alike: value[key]}))
            twice = WHOLE[place][:-2] + f',"{key}":{json.dumps(value[key])}}}\n'.encode()
            yield f"{kind}.{key} stands there twice", put(place, twice)
            first = b'{"%s":"hidden",' % key.encode() + WHOLE[place][1:]
            yield f"{kind}.{key} stands there twice, hidden before", put(place, first)
        yield f"{kind} has one more key", put(place, line(value | {"note": "all is well"}))
        for other in ("note", "Entry", "entry ", "", None, 1, ["entry"], "\u0435ntry", "heads"):
            yield f"{kind} is of type {other!r}", put(place, line(value | {"type": other}))


def moved_lines() -> Iterator[tuple[str, File]]:
    for place in range(len(WHOLE)):
        yield f"line {place} is gone", put(place)
        yield f"line {place} is there twice", put(place, WHOLE[place], instead=0)
        yield f"line {place} is there again at the end", [*WHOLE, WHOLE[place]]
        yield f"line {place} is there again at the beginning", [WHOLE[place], *WHOLE]
        if place:
            swapped = [WHOLE[place], WHOLE[place - 1]]
            yield f"lines {place - 1} and {place} are swapped", put(place - 1, *swapped, instead=2)
            yield f"cut before line {place}", WHOLE[:place]
            yield f"only from line {place} on", WHOLE[place:]
    yield "two whole chains are swapped", [*WHOLE[4:8], *WHOLE[:4], *WHOLE[8:]]
    yield "two chains are woven into each other", [
        *(one for two in zip(WHOLE[:4], WHOLE[4:8], strict=True) for one in two), *WHOLE[8:]
    ]  # fmt: skip
    yield "all heads are at the end", [
        *(one for one in WHOLE if b'"head"' not in one), *(one for one in WHOLE if b'"head"' in one)
    ]  # fmt: skip


def odd_lines() -> Iterator[tuple[str, File]]:
    place, entry = place_of("entry"), json.loads(WHOLE[0])
    for name, odd in {
        "an empty line": b"\n", "no JSON": b"what?\n", "a list": b"[]\n", "a text": b'"entry"\n',
        "null": b"null\n", "a number": b"1\n", "two values": WHOLE[0][:-1] + WHOLE[0],
        "half a line": WHOLE[0][:40] + b"\n",
        "a byte order mark": b"\xef\xbb\xbf" + WHOLE[0], "a byte that is no ASCII": b'{"type":"entry\xe9"}\n',
        "a NUL": b"\0\n", "deep": b"[" * 100_000 + b"\n",
        "a huge number": b'{"type":"entry","seq":' + b"9" * 9999 + b"}\n",
        "an invented entry": line({"type": "approval", "chain": "a", "by": "nobody"}),
        "a head of no chain": line({"type": "head", "chain": "z", "seq": 1, "hash": "0" * 64}),
        "a head of an empty chain": line({"type": "head", "chain": "z", "seq": 0, "hash": ""}),
        "an empty head": line({"type": "head", "chain": "aa", "seq": 0, "hash": "0" * 64}),
    }.items():  # fmt: skip
        yield f"{name} at the beginning", put(place, odd, instead=0)
        yield f"{name} in the place of an entry", put(place, odd)
        yield f"{name} behind the end", [*WHOLE, odd]
    yield "a look-alike chain", put(0, line(entry | {"chain": "\u0430"}))
    yield "an infinity in a body", put(0, line(entry | {"body": {"n": float("inf")}}))
    yield "1 is 1.0 in a body", put(0, WHOLE[0].replace(b'"a":1', b'"a":1.0'))
    yield "1 is true in a body", put(0, WHOLE[0].replace(b'"a":1', b'"a":true'))
    yield "a key twice deep in a body", put(0, WHOLE[0].replace(b'{"a":1}', b'{"a":2,"a":1}'))
    yield "another moment of the same name", put(0, WHOLE[0].replace(b"000005Z", b"000005+00:00"))
    yield "nothing at all", []
    yield "only white space", [b" \n"]


FORGED = dict([*changed_fields(), *moved_lines(), *odd_lines()])


def test_what_was_exported_is_whole_to_both() -> None:
    assert (THEIRS(WHOLE), ours(WHOLE)) == ([], [])
    assert THEIRS(WHOLE, ANCHOR.to_text(lines=True).encode()) == []
    assert len(FORGED) > 350


@pytest.mark.parametrize("how", FORGED)
def test_no_forged_audit_is_called_whole(how: str) -> None:
    assert THEIRS(FORGED[how]), "the script calls it whole"
    assert ours(FORGED[how]), "`audit verify --file` calls it whole"


def invented() -> File:
    return put(0, line({"type": "approval", "chain": "a", "seq": 3, "hash": "x"}), instead=0)


def test_without_exact_keys_and_types_an_invented_entry_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutants: a check of lines that forgives, in each of the two judges."""
    number = [*WHOLE[:-1], WHOLE[-1].replace(b'"chains":3', b'"chains":3.0')]
    assert ours(number)
    assert THEIRS(number)
    exact = "{key: type(field) for key, field in value.items()} != "
    assert exact in script()
    assert stranger(script().replace(exact, "None is "))(number) == []
    shapes = exported._SHAPES
    monkeypatch.setattr(exported, "typed", lambda value: shapes[value["type"]])
    assert ours(number) == []
    forgetful = stranger(script().replace('yield f"Line {number} is no line of an export."', "pass"))
    assert (THEIRS(invented()) == [], forgetful(invented())) == (False, [])


def test_without_the_check_for_a_key_twice_a_hidden_value_is_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden = put(0, b'{"actor":"the real one",' + WHOLE[0][1:])
    assert THEIRS(hidden)
    assert ours(hidden)
    assert stranger(script().replace("if len(dict(pairs)) != len(pairs):", "if False:"))(hidden) == []
    monkeypatch.setattr(exported, "no_key_twice", dict)
    assert ours(hidden) == []


@given(st.data())
def test_both_judges_agree_on_whatever_is_made_of_it(data: st.DataObject) -> None:
    """The lines of an export, shuffled, doubled, with bytes and values exchanged."""
    forged = [*WHOLE]
    for _ in range(data.draw(st.integers(1, 3))):
        place = data.draw(st.integers(0, max(0, len(forged) - 1)))
        match data.draw(st.sampled_from(["byte", "field", "cut", "double", "move"])):
            case "byte" if forged and forged[place]:
                one = bytearray(forged[place])
                one[data.draw(st.integers(0, len(one) - 1))] = data.draw(st.integers(0, 255))
                forged[place] = bytes(one)
            case "field" if forged:
                try:
                    value = json.loads(forged[place])
                    key = data.draw(st.sampled_from(sorted(value)))
                except (ValueError, TypeError):
                    continue
                forged[place] = line(value | {key: data.draw(st.sampled_from(OTHERS))})
            case "cut":
                del forged[place : place + 1]
            case "double" if forged:
                forged.insert(data.draw(st.integers(0, len(forged))), forged[place])
            case "move" if forged:
                forged.insert(data.draw(st.integers(0, len(forged) - 1)), forged.pop(place))
    assert bool(THEIRS(forged)) == bool(ours(forged))


@given(st.text(max_size=20), st.dictionaries(st.text(max_size=4), st.floats() | st.integers(), max_size=2))
def test_both_judges_agree_on_a_chain_that_was_computed_anew(at: str, body: dict[str, Any]) -> None:
    """A forger who knows the algorithm: what is whole in itself is so to both, and a moment is a moment."""
    fields = ["a", 1, at, "kind", "me", body, "0" * 64]
    try:
        digest = canonical(fields)
    except ValueError:
        digest = "no JSON"
    digest = hashlib.sha256(digest.encode()).hexdigest()
    names = KEYS["entry"].split()
    entry = {"type": "entry", **dict(zip(names, [*fields, digest], strict=True))}
    head = {"type": "head", "chain": "a", "seq": 1, "hash": digest}
    leaf = hashlib.sha256(b"\0" + canonical(["a", 1, digest]).encode()).hexdigest()
    file = [line(one) for one in (entry, head, {"type": "end", "chains": 1, "entries": 1, "root": leaf})]
    assert bool(THEIRS(file)) == bool(ours(file))


def test_a_made_up_audit_is_whole_in_itself_and_the_anchor_finds_it() -> None:
    digest = entry_hash(
        chain="a", seq=1, at=NOW, kind="kind", actor="nobody", body={}, previous="0" * 64
    )  # fmt: skip
    store = MemoryStore()
    store.transact([Audit("a", NOW, "kind", "nobody")])
    assert store.audit("a")[0].hash == digest
    file = [line.encode() for line in lines(store)]
    assert (THEIRS(file), ours(file)) == ([], [])
    assert len(THEIRS(file, ANCHOR.to_text().encode())) == 3
    assert len(verify_anchors(read_export(file), [Anchored("a1", ANCHOR.to_text())])) == 3


def forged_anchors() -> Iterator[tuple[str, bytes]]:
    whole = json.loads(ANCHOR.to_text())
    for key in whole:
        for other in OTHERS:
            if line(other) != line(whole[key]) and (key != "at" or not isinstance(other, str)):
                yield f"{key} is {other!r}", line(whole | {key: other})
        yield f"{key} is gone", line({name: one for name, one in whole.items() if name != key})
        yield f"{key} stands there twice", line(whole)[:-2] + f',"{key}":{json.dumps(whole[key])}}}'.encode()
    first, *rest = whole["heads"]
    for name, heads in {
        "a head twice": [first, first, *rest], "a head gone": rest, "out of order": [*rest, first],
        "a head at 0": [[first[0], 0, first[2]], *rest],
        "a head at true": [[first[0], True, first[2]], *rest],
        "a head at 3.0": [[first[0], 3.0, first[2]], *rest], "a longer head": [[*first, 1], *rest],
        "a head that is a text": ["abc", *rest],
    }.items():  # fmt: skip
        yield name, line(whole | {"heads": heads})
    yield "one more key", line(whole | {"note": 1})
    yield "no JSON", b"what?"
    yield "nothing", b""


@pytest.mark.parametrize("how", dict(forged_anchors()))
def test_no_forged_anchor_is_compared(how: str) -> None:
    text = dict(forged_anchors())[how]
    assert THEIRS(WHOLE, text)
    assert verify_anchors(read_export(WHOLE), [Anchored("a1", text.decode())])


def test_the_command_says_what_is_wrong_with_a_file(tmp_path: Path) -> None:
    file = tmp_path / "audit.jsonl"
    file.write_bytes(b"".join(WHOLE))
    done = CliRunner().invoke(command, ["audit", "verify", "--file", str(file)])
    assert (done.exit_code, done.output) == (0, "3 chains, 0 faults\n")
    file.write_bytes(b"".join(invented()))
    done = CliRunner().invoke(command, ["audit", "verify", "--file", str(file)])
    assert (done.exit_code, done.output.splitlines()[0]) == (1, "Line 1 is no line of an export.")
    gone = CliRunner().invoke(command, ["audit", "verify", "--file", str(tmp_path / "none")])
    assert gone.exit_code == 2
