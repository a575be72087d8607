"""One tick: what is kept, what is not, and what is cried out."""

import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from quietpager.errors import BadMessage, Retry
from quietpager.functions.govern.anchor.handler import handle
from quietpager.model.message import FINDING, PING, Message
from quietpager.model.store import Audit, Record
from quietpager.runtime.context import Context, Lazy, make_context
from quietpager.store.anchor import verify_anchors
from quietpager.store.anchors import PLACE, open_anchor
from quietpager.store.audit import verify_all
from quietpager.store.memory import MemoryStore

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
TICK = Message(id="anchor-1", type=PING, attributes={"job": "anchor"})


def context(store: MemoryStore) -> Context:
    def no_cluster() -> object:
        raise AssertionError("anchor touches no cluster")

    return make_context("govern-anchor", Lazy(lambda: store, no_cluster), clock=lambda: NOW)  # type: ignore[arg-type]


@pytest.fixture
def store() -> MemoryStore:
    made = MemoryStore()
    made.transact([Audit(chain, NOW, "k", "me") for chain in ("a", "b", "a")])
    return made


def test_a_tick_anchors_and_one_that_comes_twice_does_not(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path))
    for _ in range(3):
        assert handle(TICK, context(store)) == []
    [one] = open_anchor(tmp_path).all()
    assert verify_anchors(store, [one]) == []
    assert json.loads(one.text)["chains"] == 2


def test_without_a_place_the_anchor_is_a_line_of_standard_output(
    store: MemoryStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv(PLACE, raising=False)
    ctx = context(store)
    with capture_logs() as logs:
        for _ in range(3):
            assert handle(TICK, ctx) == []
    assert [line["kept"] for line in logs] == [True, False, False]
    assert (logs[0]["chains"], len(logs[0]["root"])) == (2, 64)
    # What a stranger does with the log: cut the lines out, and hold the store against them.
    (tmp_path / "anchors.jsonl").write_text(capsys.readouterr().out)
    kept = open_anchor(tmp_path).all()
    assert (len(kept), verify_anchors(store, kept)) == (1, [])
    store._audit.pop("b")  # noqa: SLF001 (what nobody can by the port)
    store._state.pop("CHAIN#b")  # noqa: SLF001 (the same)
    with capture_logs() as logs:
        handle(TICK, ctx)
    assert [line["what"] for line in logs if line["log_level"] == "error"] == [
        "Chain b is gone: at the last anchor it had 1 entries."
    ]
    assert "chain b is gone, head and all" in verify_anchors(store, kept)[0]


def test_a_chain_that_went_is_cried_out_and_the_old_anchor_stays(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path))
    handle(TICK, context(store))
    store._audit.pop("b")  # noqa: SLF001 (what nobody can by the port)
    store._state.pop("CHAIN#b")  # noqa: SLF001 (the same)
    with capture_logs() as logs:
        handle(TICK, context(store))
    assert [line["what"] for line in logs if line["log_level"] == "error"] == [
        "Chain b is gone: at the last anchor it had 1 entries."
    ]
    [said] = verify_anchors(store, open_anchor(tmp_path).all())
    assert "chain b is gone, head and all" in said


def test_what_cannot_be_anchored_is_tried_again(
    store: MemoryStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PLACE, str(tmp_path / "nowhere"))
    with pytest.raises(Retry, match=r"not anchored: .* is no folder"):
        handle(TICK, context(store))
    monkeypatch.setenv(PLACE, str(tmp_path))
    store._state["CHAIN#a"] = Record("CHAIN#a", 9, {"seq": "x"})  # noqa: SLF001 (the same)
    with pytest.raises(Retry, match="CHAIN#a is damaged"):
        handle(TICK, context(store))
    with pytest.raises(BadMessage):
        handle(Message(id="m", type=FINDING), context(store))


def test_without_an_anchor_a_chain_that_went_with_its_head_is_not_missed(store: MemoryStore) -> None:
    """The mutant: what the chains tell by themselves."""
    store._audit.pop("b")  # noqa: SLF001 (what nobody can by the port)
    store._state.pop("CHAIN#b")  # noqa: SLF001 (the same)
    assert verify_all(store) == []
