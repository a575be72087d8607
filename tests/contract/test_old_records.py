"""What the version of 25 November 2026 left in the store is read, and said in a form that functions read.

`old_records.json` was written by that version's own models: one open incident with its recheck and deadline,
two looks that were still planned (the target of one cannot be a name), three findings that carry the signal
they were made of, and one of them still to be told.
"""

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from quietpager.errors import BadMessage
from quietpager.functions.govern.clock import handler as clock
from quietpager.functions.govern.decide.handler import handle as decide
from quietpager.incident.policy import Policy
from quietpager.model.finding import Diagnosis, Outcome, Verdict
from quietpager.model.message import DUE, FINDING, PING, SIGNAL, Message
from quietpager.model.signal import Recheck, Signal, read_signal
from quietpager.model.store import Due, Put
from quietpager.objects.health import Health
from quietpager.runtime import old_due
from quietpager.runtime.context import Context, Lazy, handled, make_context
from quietpager.runtime.rechecking import recheck
from quietpager.store.memory import MemoryStore
from quietpager.store.versions import Versioned

OLD: dict[str, Any] = json.loads((Path(__file__).parent / "old_records.json").read_text(encoding="utf-8"))
START = datetime.fromisoformat("2026-11-25T10:02:00Z")
INCIDENT = "inc-d18019bb6b2a"
TICK = timedelta(minutes=1)


class Upgraded:
    """The clock of this version over the store that the old one left."""

    def __init__(self) -> None:
        raw = MemoryStore()
        raw.transact(Put(key, body, 0) for key, body in OLD["records"].items())
        raw.transact(
            Due(one["id"], datetime.fromisoformat(one["at"]), timedelta(seconds=one["every"]), one["message"])
            for one in OLD["due"]
        )
        self.store, self.now = Versioned(raw), START

    def ctx(self, name: str) -> Context:
        nowhere: Any = object()  # whoever asks this cluster fails
        return make_context(
            name, Lazy(lambda: self.store, lambda: nowhere), policy=Policy(), clock=lambda: self.now
        )

    def tick(self) -> dict[str, Message]:
        """Let time pass, and give what is said now by its scheduled item."""
        self.now += TICK
        said = handled(
            clock.handle, Message(id="t", type=PING, attributes={"job": "clock"}), self.ctx("govern-clock")
        )
        return {one.id.partition("@")[0]: one for one in said[:-1]}


@pytest.fixture
def upgraded() -> Upgraded:
    return Upgraded()


def refused(said: dict[str, Message]) -> list[str]:
    """Name the items whose signal a detector answers with 400."""
    found = []
    for name, one in said.items():
        try:
            if one.type == SIGNAL:
                read_signal(one.data)
        except BadMessage:
            found.append(name)
    return found


def test_no_scheduled_signal_is_refused_and_none_repeats_for_ever(upgraded: Upgraded) -> None:
    first = upgraded.tick()
    looked = read_signal(first["again/e1.7"].data)
    assert isinstance(looked, Signal)
    assert (looked.family, looked.target.name, looked.target.uid, looked.event) == (
        "crash",
        "web-1",
        "p-web",
        None,
    )
    ticks = [first, *(upgraded.tick() for _ in range(4))]
    assert [refused(said) for said in ticks] == [[]] * 5
    assert ["again/e1.7" in said for said in ticks] == [True, True, False, False, False], (
        "once more, then never"
    )
    assert not any(name.startswith("again/") for name in (one.id for one in upgraded.store.due_items()))


def test_the_words_of_an_event_go_into_no_message(upgraded: Upgraded) -> None:
    said = upgraded.tick()
    assert "Back-off" not in json.dumps(said["again/e1.7"].to_json())
    assert old_due.CONVERTED not in upgraded.tick()["again/e1.7"].attributes


def test_what_cannot_be_converted_is_taken_away_with_one_audit_entry(upgraded: Upgraded) -> None:
    ticks = [upgraded.tick() for _ in range(4)]
    assert not any("again/e3.1" in said for said in ticks)
    [entry] = upgraded.store.audit(old_due.CHAIN)
    assert (entry.kind, entry.body["id"]) == ("taken away unsaid", "again/e3.1")
    assert "name" in entry.body["why"]


def test_an_open_incident_still_gets_its_recheck_and_its_deadline(upgraded: Upgraded) -> None:
    said = upgraded.tick()
    assert read_signal(said[f"{INCIDENT}/recheck"].data) == Recheck(incident=INCIDENT)
    while f"{INCIDENT}/deadline" not in said:
        said = upgraded.tick()
    assert (said[f"{INCIDENT}/deadline"].type, said[f"{INCIDENT}/deadline"].data) == (
        DUE,
        {"incident": INCIDENT},
    )
    assert f"{INCIDENT}/recheck" in upgraded.tick()


def test_a_recheck_reads_the_finding_that_carries_a_signal(upgraded: Upgraded) -> None:
    upgraded.tick()

    def never(*_: object) -> Verdict:
        raise AssertionError("what is well is not diagnosed")

    def well(*_: object) -> tuple[Outcome, Health, Diagnosis | None]:
        return "healthy", Health(healthy=True, why="well"), None

    [message] = recheck(INCIDENT, upgraded.ctx("detect-crash"), "crash", never, well)
    assert message.type == FINDING
    handled(decide, message, upgraded.ctx("govern-decide"))
    record = upgraded.store.get(f"INCIDENT#{INCIDENT}")
    assert record is not None
    assert (record.body["serial"], record.body["healthy_streak"]) == (3, 1)


def test_a_finding_that_was_still_to_be_told_opens_its_incident_once(upgraded: Upgraded) -> None:
    said = upgraded.tick()["talk/f2"]
    handled(decide, said, upgraded.ctx("govern-decide"))
    assert len(upgraded.store.scan("INCIDENT")) == 2
    assert "talk/f2" not in upgraded.tick()


def test_a_clock_that_says_items_as_they_stand_is_refused_at_every_tick(
    upgraded: Upgraded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the conversion every look of that time is refused at each tick."""
    as_it_stands: Callable[[Due, Context], Message] = lambda item, _: Message.from_json(item.message)  # noqa: E731
    monkeypatch.setattr(clock, "said", as_it_stands)
    assert [refused(upgraded.tick()) for _ in range(5)] == [["again/e1.7", "again/e3.1"]] * 5


def test_records_without_room_for_old_fields_cannot_be_read(
    upgraded: Upgraded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Refusing what an old record has too much loses the finding that it was to tell."""
    from quietpager.model.data import Data  # noqa: PLC0415 (what the mutant changes)

    monkeypatch.setattr(Data, "from_json", classmethod(lambda cls, body: cls.model_validate(body)))
    with pytest.raises(ValueError, match="signal"):
        decide(upgraded.tick()["talk/f2"], upgraded.ctx("govern-decide"))
