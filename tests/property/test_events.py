"""Whatever comes in as an Event or as a case's folder, the answer is of the promised kind."""

import json
import tempfile
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from quietpager.cli.replay import replay
from quietpager.errors import BadMessage
from quietpager.model.event import CLOCK_SKEW, Event, read_event
from quietpager.model.signal import Signal
from quietpager.model.text import LONGEST_MESSAGE
from quietpager.runtime.context import functions_folder

CASE = functions_folder() / "detect/crash/cases/30-oom-bounded"
RECORDED: dict[str, Any] = json.loads((CASE / "event.json").read_text(encoding="utf-8"))
NOW = datetime(2026, 11, 25, tzinfo=UTC)
KEYS = {
    "case",
    "failure_class",
    "family",
    "known",
    "owner",
    "remedies",
    "would_act",
    "assumed",
    "evidence",
    "why",
}

text = st.text(st.characters(exclude_categories=()), max_size=12)
times = st.sampled_from(
    [
        "2026-11-22T19:28:57Z",
        "2099-01-01T00:00:00Z",
        "1970-01-01T00:00:00+14:00",
        "2026-11-22T19:28:57",
        "now",
    ]
)
scalars = (
    st.none() | st.booleans() | st.integers() | text | times
    | st.floats(allow_nan=False, allow_infinity=False)
)  # fmt: skip
fields = text | st.sampled_from(
    [*RECORDED, *RECORDED["involvedObject"], *RECORDED["metadata"], "regarding", "note", "series"]
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(fields, inner, max_size=5),
    max_leaves=12,
)


def paths(value: Any, here: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(value, dict):
        return [here]
    return [here, *(path for key, item in value.items() for path in paths(item, (*here, key)))]


PATHS = [path for path in paths(RECORDED) if path and path[:2] != ("metadata", "managedFields")]


@st.composite
def mutated(draw: st.DrawFn) -> dict[str, Any]:
    """Give the recorded Event with some of its fields replaced or taken away."""
    event = deepcopy(RECORDED)
    for path in draw(st.lists(st.sampled_from(PATHS), min_size=1, max_size=4)):
        place: Any = event
        for key in path[:-1]:
            place = place.get(key) if isinstance(place, dict) else None
        if not isinstance(place, dict):
            continue
        if draw(st.booleans()):
            place.pop(path[-1], None)
        else:
            place[path[-1]] = draw(json_values)
    return event


def check(raw: Any) -> None:
    try:
        event = read_event(raw, received=NOW)
    except BadMessage as no:
        if not str(no):
            raise AssertionError("a refusal without a sentence") from no
        return
    assert isinstance(event, Event)
    assert event.count >= 1
    assert event.first_seen <= event.last_seen <= NOW + CLOCK_SKEW or event.first_seen == NOW
    assert len(event.message) < LONGEST_MESSAGE + 60
    assert not {"\x00", "\x1b"} & set(event.message + event.reason + event.component + event.type)
    signal = event.signal("crash")
    assert Signal.from_json(json.loads(json.dumps(signal.to_json()))) == signal
    assert len(json.dumps(signal.to_json())) < 2000
    message = signal.to_message(event.id)
    assert all(key.isalnum() and key == key.lower() for key in message.attributes)
    assert read_event(raw, received=NOW + timedelta(days=1)).id == event.id


@given(json_values)
def test_any_json_gives_a_signal_or_a_refusal(raw: Any) -> None:
    check(raw)


@settings(max_examples=300)
@given(mutated())
def test_a_recorded_event_changed_anywhere_gives_a_signal_or_a_refusal(raw: dict[str, Any]) -> None:
    check(raw)


def test_the_recorded_event_itself_gives_a_signal() -> None:
    event = read_event(RECORDED, received=NOW)
    assert (event.reason, event.container, event.target.name) == (
        "BackOff", "cache", "cache-767f6f8c67-vgnlq",
    )  # fmt: skip


OBJECTS = {
    path.name: json.loads(path.read_text(encoding="utf-8"))
    for path in sorted((CASE / "objects").glob("*.json"))
}
files = st.one_of(st.binary(max_size=40), json_values.map(lambda value: json.dumps(value).encode()))


@settings(max_examples=60, deadline=None)
@given(
    st.none() | files | mutated().map(lambda event: json.dumps(event).encode()),
    st.dictionaries(st.sampled_from([*OBJECTS, "x.json", "y.txt"]), files, max_size=4),
    st.booleans(),
)
def test_replay_of_any_folder_gives_one_whole_answer_and_never_raises(
    event: bytes | None, objects: dict[str, bytes], recorded: bool
) -> None:
    kept = {name: json.dumps(raw).encode() for name, raw in OBJECTS.items()} if recorded else {}
    with tempfile.TemporaryDirectory() as home:
        folder = Path(home) / "case"
        (folder / "objects").mkdir(parents=True)
        if event is not None:
            (folder / "event.json").write_bytes(event)
        for name, body in (kept | objects).items():
            (folder / "objects" / name).write_bytes(body)
        answers = list(replay([folder, Path(home) / "none", CASE]))
    assert [set(answer) >= KEYS for answer in answers] == [True] * 3
    assert [answer["case"] for answer in answers] == ["case", "none", CASE.name]
    assert answers[1]["failure_class"] == "invalid_input"
    assert answers[2]["would_act"] == ["raise-memory"]
    json.dumps(answers)
