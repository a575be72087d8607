"""Whatever is done to a kept chain, `verify` says so."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.model.store import Audit, AuditEntry, Record
from quietpager.store.audit import canonical, verify, verify_all
from quietpager.store.codec import dump, escape, load, unescape
from quietpager.store.memory import MemoryStore

text = st.text(st.characters(exclude_categories=()), max_size=12)
scalars = st.none() | st.booleans() | st.integers() | text | st.floats(allow_nan=False, allow_infinity=False)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
bodies = st.dictionaries(text, json_values, max_size=4)
epoch = datetime(1970, 1, 1, tzinfo=UTC)
times = st.integers(0, 4 * 10**15).map(lambda us: epoch + timedelta(microseconds=us))
audits = st.builds(Audit, chain=st.just("c"), at=times, kind=text, actor=text, body=bodies)


@st.composite
def chains(draw: st.DrawFn, least: int = 1) -> tuple[list[AuditEntry], Record]:
    store = MemoryStore()
    store.transact(draw(st.lists(audits, min_size=least, max_size=5)))
    head = store.get("CHAIN#c")
    assert head is not None
    return store.audit("c"), head


@given(chains())
def test_a_whole_chain_has_no_fault(made: tuple[list[AuditEntry], Record]) -> None:
    assert verify(*made) == []


def other(draw: st.DrawFn, value: Any) -> Any:
    """Give another value of the same kind, often one that differs in a single character."""
    match value:
        case str() if value and draw(st.booleans()):
            at = draw(st.integers(0, len(value) - 1))
            return value[:at] + chr(ord(value[at]) ^ 1) + value[at + 1 :]
        case str():
            return draw(text.filter(lambda new: new != value))
        case int():
            return value + draw(st.integers(-3, 3).filter(bool))
        case datetime():
            return value + draw(st.sampled_from([1, -1])) * timedelta(
                microseconds=draw(st.integers(1, 10**12))
            )
        case dict():
            return draw(bodies.filter(lambda new: canonical(new) != canonical(value)))
        case _:
            raise AssertionError(value)


@given(st.data(), chains())
def test_any_edit_of_any_field_is_found(data: st.DataObject, made: tuple[list[AuditEntry], Record]) -> None:
    entries, head = made
    place = data.draw(st.integers(0, len(entries) - 1))
    name = data.draw(st.sampled_from([field.name for field in fields(AuditEntry)]))
    new = data.draw(st.composite(lambda draw: other(draw, getattr(entries[place], name)))())
    entries[place] = replace(entries[place], **{name: new})
    assert verify(entries, head, "c")


@given(st.data(), chains())
def test_any_edit_of_a_stored_byte_is_found(
    data: st.DataObject, made: tuple[list[AuditEntry], Record]
) -> None:
    entries, head = made
    place = data.draw(st.integers(0, len(entries) - 1))
    stored = bytearray(dump(entries[place].body).encode())
    stored[data.draw(st.integers(0, len(stored) - 1))] ^= 1 << data.draw(st.integers(0, 6))
    try:
        body = load(bytes(stored).decode())
    except (ValueError, RecursionError):
        return  # no JSON any more; PostgreSQL would not have taken it
    faults = verify([*entries[:place], replace(entries[place], body=body), *entries[place + 1 :]], head)
    # A byte of white space, or another way to write the same character, is not another body.
    try:
        edited = canonical(body) != canonical(entries[place].body)
    except ValueError:
        edited = True  # a digit more makes 1e308 an infinity, which no entry ever holds
    assert bool(faults) == edited


@given(st.data(), chains())
def test_any_deletion_is_found(data: st.DataObject, made: tuple[list[AuditEntry], Record]) -> None:
    entries, head = made
    gone = data.draw(st.sets(st.integers(0, len(entries) - 1), min_size=1))
    kept = [entry for place, entry in enumerate(entries) if place not in gone]
    assert verify(kept, head, "c")


@given(st.data(), chains(least=2))
def test_any_reorder_is_found(data: st.DataObject, made: tuple[list[AuditEntry], Record]) -> None:
    entries, head = made
    order = data.draw(st.permutations(entries).filter(lambda new: new != entries))
    assert verify(order, head, "c")


@given(st.data(), chains())
def test_any_inserted_row_is_found(data: st.DataObject, made: tuple[list[AuditEntry], Record]) -> None:
    entries, head = made
    copied = data.draw(st.sampled_from(entries))
    place = data.draw(st.integers(0, len(entries)))
    seq = data.draw(st.integers(1, len(entries) + 2))
    assert verify([*entries[:place], replace(copied, seq=seq), *entries[place:]], head, "c")
    assert verify([*entries[:place], copied, *entries[place:]], head, "c")


@given(st.data(), chains())
def test_any_edit_of_the_head_is_found(data: st.DataObject, made: tuple[list[AuditEntry], Record]) -> None:
    entries, head = made
    name = data.draw(st.sampled_from(["seq", "hash"]))
    new = data.draw(st.composite(lambda draw: other(draw, head.body[name]))())
    assert verify(entries, Record(head.key, head.version, head.body | {name: new}), "c")
    assert verify(entries, Record(head.key, head.version, {}), "c")
    assert verify(entries, None, "c")


@given(chains(), audits)
def test_a_chain_computed_anew_does_not_fit_the_head(
    made: tuple[list[AuditEntry], Record], more: Audit
) -> None:
    """A forger who knows the algorithm, but not where the head is kept."""
    _, head = made
    forger = MemoryStore()
    forger.transact([replace(more, kind=f"{more.kind}!")] * head.body["seq"])
    assert verify(forger.audit("c"), head, "c")


def test_a_missing_chain_is_found_and_the_sentences_help() -> None:
    store = MemoryStore()
    now = datetime(2026, 1, 1, tzinfo=UTC)
    store.transact([Audit("c", now, "k", "me", {"n": n}) for n in range(5)])
    store.transact([Audit("d", now, "k", "me")])
    assert verify_all(store) == []
    entries, head = store.audit("c"), store.get("CHAIN#c")
    assert verify([], head) == ["Chain c: all its 5 entries are missing."]
    assert verify(entries[:3], head) == [
        "Chain c: its tail is cut: the head knows 5 entries, the last one found is 3."
    ]
    assert verify([*entries[:1], *entries[3:]], head) == [
        "Chain c: entries 2 to 3 are missing before entry 4; deleted or moved.",
        "Chain c: entry 4 does not follow the entry before it.",
    ]
    edited = [*entries[:2], replace(entries[2], actor="somebody"), *entries[3:]]
    assert verify(edited, head) == [
        "Chain c: entry 3 was edited after it was written; its hash does not fit."
    ]
    store._audit.pop("d")
    assert verify_all(store) == ["Chain d: all its 1 entries are missing."]
    store._state.pop("CHAIN#c")
    store._audit["c"].reverse()
    faults = verify_all(store)
    assert any("head record is missing" in fault for fault in faults)
    assert any("reordered" in fault for fault in faults)
    assert verify([], None, "none") == []


@given(bodies)
def test_stored_json_is_reversible_and_holds_nothing_that_postgresql_refuses(
    body: dict[str, Any],
) -> None:
    stored = dump(body)
    assert canonical(load(stored)) == canonical(body)
    assert "\\u0000" not in stored.replace("\\\\", "")


@given(text)
def test_escaped_text_is_reversible(some: str) -> None:
    assert unescape(escape(some)) == some
    escape(some).encode()
    assert "\x00" not in escape(some)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_no_json_is_refused(bad: float) -> None:
    with pytest.raises(ValueError, match="JSON"):
        dump({"x": bad})
