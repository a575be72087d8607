"""Bad and forged input, line by line: what is made of it, and that nothing is written for it."""

import json
from copy import deepcopy
from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest

from quietpager.errors import BadMessage
from quietpager.incident import records
from quietpager.model.event import CLOCK_SKEW, Event, read_event
from quietpager.model.message import (
    APPLY,
    DECISION,
    DUE,
    EVENT_ADD,
    FINDING,
    OUTCOME,
    REHEARSE,
    REHEARSED,
    SIGNAL,
    UNDO,
    Message,
)
from quietpager.model.signal import Recheck
from quietpager.model.store import Put
from quietpager.model.text import LONGEST_MESSAGE
from quietpager.runtime import loading
from quietpager.runtime.context import Context, Handler, Lazy, functions_folder, make_context
from quietpager.store.memory import MemoryStore

Json = dict[str, Any]
NOW = datetime(2026, 11, 25, tzinfo=UTC)
UID = "fc5b5da3-dca6-469e-823b-96c4f811d577"


@cache
def _recorded() -> str:
    path = functions_folder() / "detect/crash/cases/30-oom-bounded/event.json"
    return path.read_text(encoding="utf-8")


def event(**changes: Any) -> Json:
    """Give the recorded Event with changes; `involvedObject__uid=..` reaches inside, `...` removes."""
    raw: Json = deepcopy(json.loads(_recorded()))
    for name, value in changes.items():
        *way, last = name.split("__")
        place = raw
        for key in way:
            place = place[key]
        if value is ...:
            place.pop(last, None)
        else:
            place[last] = value
    return raw


def signal(raw: Any) -> Event:
    return read_event(raw, received=NOW)


@pytest.mark.parametrize(
    ("raw", "word"),
    [
        (None, "JSON object"),
        ([], "JSON object"),
        ("Event", "JSON object"),
        ({}, "apiVersion"),
        (event(kind=...), "kind"),
        (event(apiVersion=None), "apiVersion"),
        (event(metadata=...), "metadata"),
        (event(metadata=[]), "metadata"),
        (event(involvedObject=...), "involvedObject"),
        (event(involvedObject=None), "involvedObject"),
        (event(involvedObject={}), "involvedObject"),
        (event(involvedObject__name=...), "name"),
        (event(involvedObject__kind=None), "kind"),
        (event(involvedObject__name="../../etc"), "cannot be a name"),
        (event(involvedObject__name="a\x1b[31m"), "cannot be a name"),
        (event(involvedObject__name="a" * 300), "cannot be a name"),
        (event(involvedObject__namespace="kube-system"), "never stores"),
        (event(metadata__namespace="other"), "never stores"),
        (event(count="4"), "count"),
        (event(count=-1), "count"),
        (event(count=True), "count"),
        (event(message=7), "message"),
        (event(reason=["BackOff"]), "reason"),
        (event(firstTimestamp="yesterday"), "firstTimestamp"),
        (event(lastTimestamp="2026-11-22T19:29:36"), "lastTimestamp"),
        (event(series=[1]), "series"),
        (event(source="kubelet"), "source"),
        (event(kind="Pod"), "not an Event"),
        (event(apiVersion="apps/v1"), "not an Event"),
        (event(apiVersion="v2"), "not an Event"),
    ],
)
def test_what_is_no_event_is_refused_with_a_sentence(raw: Any, word: str) -> None:
    with pytest.raises(BadMessage, match=word) as caught:
        signal(raw)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    "name",
    ["count", "firstTimestamp", "lastTimestamp", "message", "reason", "reportingComponent", "source",
     "type", "eventTime", "series", "metadata__uid", "metadata__resourceVersion", "metadata__name",
     "metadata__namespace", "metadata__creationTimestamp", "involvedObject__uid",
     "involvedObject__apiVersion", "involvedObject__fieldPath", "involvedObject__namespace"],
)  # fmt: skip
@pytest.mark.parametrize("value", [None, ...])
def test_an_event_that_says_less_is_still_a_signal(name: str, value: Any) -> None:
    found = signal(event(**{name: value}))
    assert found.target.name == "cache-767f6f8c67-vgnlq"
    assert found.target.namespace == "team-45"
    assert found.count >= 1


def test_without_any_time_it_is_dated_to_its_arrival() -> None:
    found = signal(event(firstTimestamp=..., lastTimestamp=..., metadata__creationTimestamp=...))
    assert found.first_seen == found.last_seen == NOW


def test_an_event_of_the_newer_api_says_the_same() -> None:
    old = event()
    new = event(
        apiVersion="events.k8s.io/v1", regarding=old["involvedObject"], note=old["message"],
        deprecatedCount=4, deprecatedFirstTimestamp=old["firstTimestamp"],
        deprecatedLastTimestamp=old["lastTimestamp"], deprecatedSource=old["source"],
        reportingController="kubelet",
        **dict.fromkeys(
            ["involvedObject", "message", "count", "firstTimestamp", "lastTimestamp", "source",
             "reportingComponent"], ...,
        ),
    )  # fmt: skip
    assert signal(new) == signal(old)


def test_the_schedulers_mixture_with_series_is_read() -> None:
    found = signal(
        event(
            count=None, firstTimestamp=None, lastTimestamp=None, eventTime="2026-11-22T19:00:00.123456Z",
            series={"count": 7, "lastObservedTime": "2026-11-22T19:30:00.5Z"},
        )
    )  # fmt: skip
    assert found.count == 7
    assert found.first_seen == datetime(2026, 11, 22, 19, 0, 0, 123456, tzinfo=UTC)
    assert found.last_seen == datetime(2026, 11, 22, 19, 30, 0, 500000, tzinfo=UTC)


@pytest.mark.parametrize(("uid", "kept"), [(UID, UID), ("another", "another"), ("", None), (None, None)])
def test_the_uid_is_what_the_event_says_or_nothing(uid: str | None, kept: str | None) -> None:
    assert signal(event(involvedObject__uid=uid)).target.uid == kept


def test_an_event_of_the_future_is_dated_to_its_arrival() -> None:
    found = signal(event(lastTimestamp="2099-01-01T00:00:00Z"))
    assert found.last_seen == NOW
    assert found.first_seen < NOW
    near = NOW + CLOCK_SKEW
    assert signal(event(lastTimestamp=near.isoformat())).last_seen == near


HOSTILE = "a\x00b\x1b[31mred\x1b]0;title\x07\x9b\u202ecba\x7f"


def test_terminal_escapes_and_control_characters_do_not_survive() -> None:
    found = signal(
        event(message=HOSTILE, reason=HOSTILE, type=HOSTILE, source__component=HOSTILE,
              involvedObject__uid=HOSTILE, involvedObject__apiVersion=HOSTILE, metadata__uid=HOSTILE)
    )  # fmt: skip
    kept = json.dumps(found.to_json(), ensure_ascii=False)
    assert "red" in found.message
    assert "red" in found.reason
    assert not set("\x00\x1b\x07\x9b\u202e\x7f") & set(kept)


@pytest.mark.parametrize("field", ["message", "reason", "type", "source__component", "involvedObject__uid"])
def test_a_mebibyte_of_text_is_bounded(field: str) -> None:
    found = signal(event(**{field: "x" * (1 << 20)}))
    assert len(json.dumps(found.to_json())) < LONGEST_MESSAGE + 2000


@pytest.mark.parametrize("path", ["spec.containers{a}{b}", "spec.containers{../x}", "x" * 10000, "metadata"])
def test_a_field_path_that_names_no_container_names_none(path: str) -> None:
    assert signal(event(involvedObject__fieldPath=path)).container is None


def test_of_a_cluster_scoped_object_the_namespace_is_none() -> None:
    node = {"kind": "Node", "name": "node-1", "apiVersion": "v1"}
    found = signal(event(involvedObject=node, metadata__namespace="default"))
    assert found.target.namespace is None


# --- messages ----------------------------------------------------------------------------------------

FORGED: list[Any] = ["none", "", "../x", "SWITCH#writes", "\x00", "x" * 5000, None, 7, [], {"a": 1}]


class Nowhere:
    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"a forged message made somebody ask the cluster for {name}")


def world(name: str) -> tuple[Handler, Context, MemoryStore]:
    store = MemoryStore()
    store.transact([Put(records.SWITCH, {"stopped": False}, 0)])
    ctx = make_context(name, Lazy(lambda: store, Nowhere), clock=lambda: NOW)
    handler: Handler = loading.handler(name)
    return handler, ctx, store


def everything(store: MemoryStore) -> Any:
    return dict(store._state), dict(store._audit), dict(store._due)


@pytest.mark.parametrize(
    ("function", "kind", "field"),
    [
        ("govern/decide", FINDING, "finding"),
        ("govern/decide", REHEARSED, "rehearsal"),
        ("govern/decide", OUTCOME, "intent"),
        ("govern/decide", DECISION, "approval"),
        ("govern/decide", DUE, "incident"),
        ("remediate/raise_memory", REHEARSE, "rehearsal"),
        ("remediate/raise_memory", APPLY, "intent"),
        ("remediate/rollout_undo", REHEARSE, "rehearsal"),
        ("remediate/rollout_undo", UNDO, "intent"),
    ],
)
def test_a_forged_message_with_an_unknown_id_does_nothing(function: str, kind: str, field: str) -> None:
    handle, ctx, store = world(function)
    before = everything(store)
    for forged in FORGED:
        assert handle(Message(id="m", type=kind, data={field: forged}), ctx) == []
    assert handle(Message(id="m", type=kind), ctx) == []
    assert everything(store) == before


@pytest.mark.parametrize("function", ["ingest/intake", "govern/decide"])
@pytest.mark.parametrize("kind", ["", "x", SIGNAL, "dev.quietpager.finding.x", "\x1b[31m"])
def test_a_type_that_nobody_sends_is_refused(function: str, kind: str) -> None:
    handle, ctx, store = world(function)
    before = everything(store)
    with pytest.raises(BadMessage):
        handle(Message(id="m", type=kind), ctx)
    assert everything(store) == before


def test_a_recheck_of_an_unknown_incident_reads_and_writes_nothing() -> None:
    handle, ctx, store = world("detect/crash")
    forged = Recheck(incident="inc-none").to_message("crash", signal(event()).target)
    before = everything(store)
    assert handle(forged, ctx) == []
    assert everything(store) == before


def test_a_repeated_event_of_the_recorded_kind_is_routed_and_not_written() -> None:
    handle, ctx, store = world("ingest/intake")
    before = everything(store)
    beat = records.heartbeat("source")
    [said] = handle(Message(id="m", type=EVENT_ADD, data=event()), ctx)
    assert said.attributes["family"] == "crash"
    assert "Back-off" not in json.dumps(said.to_json())
    assert said.data["event"]["uid"] == event()["metadata"]["uid"]
    assert store._state.pop(beat).body.keys() == {"at", "seen"}
    assert everything(store) == before
    assert handle(Message(id="m", type=EVENT_ADD, data=event()), ctx) == [said]


@pytest.mark.parametrize("edge", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00"])
def test_an_event_made_at_the_edge_of_the_calendar_is_a_beat_like_any(edge: str) -> None:
    handle, ctx, _ = world("ingest/intake")
    odd = event()
    odd["metadata"]["creationTimestamp"] = edge
    [said] = handle(Message(id="m", type=EVENT_ADD, data=odd), ctx)
    assert said.attributes["family"] == "crash"


@pytest.mark.parametrize("edge", ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-01:00"])
def test_a_time_at_the_edge_of_the_calendar_counts_as_its_arrival(edge: str) -> None:
    seen = signal(event(firstTimestamp=edge, lastTimestamp=edge, eventTime=None))
    assert seen.first_seen == seen.last_seen
    assert seen.last_seen.year not in (1, 9999)


def test_an_event_nested_too_deeply_to_name_is_refused() -> None:
    deep: Any = {}
    for _ in range(5000):
        deep = {"a": deep}
    raw = event(extra=deep)
    raw["metadata"].pop("uid")
    with pytest.raises(BadMessage):
        signal(raw)
