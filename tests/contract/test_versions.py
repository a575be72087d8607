"""A rolling upgrade: version N and version N+1 work at once on one store. No message and no field is lost.

N+1 is made here by its store: whatever it writes has one field more, `new`, in the record, in the objects in
it, and in the data of each scheduled message, and says a version one higher. N is the product as it is.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pydantic import ValidationError

from quietpager.actions.schema import load_actions
from quietpager.deciding import decisions
from quietpager.errors import BadMessage, Retry, TooNew
from quietpager.incident import records
from quietpager.incident.policy import Budget, Policy
from quietpager.incident.policy import Storm as StormLimits
from quietpager.model.data import MARK, VERSION, Data, Json, readable
from quietpager.model.finding import Finding
from quietpager.model.incident import IntentState, State
from quietpager.model.message import OUTCOME, PING, SIGNAL, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import Signal, read_signal
from quietpager.model.store import ABSENT, Due, Put, Record, Store, Write
from quietpager.model.time import system_clock
from quietpager.runtime.context import Context, Lazy, function_roots, handled, make_context
from quietpager.runtime.edge import Function
from quietpager.runtime.wire import event_from_http, event_from_message, http_from_event, message_from_event
from quietpager.store.audit import verify_all
from quietpager.store.memory import MemoryStore
from quietpager.store.versions import Versioned
from tests.asked import POLICY, Asked
from tests.backends import empty_store, on_every_back_end

ACTIONS = load_actions(function_roots())
NEXT = VERSION + 1
MANY = 12
ROOM = POLICY.but(
    budget=Budget(target=1, namespace=1000, cluster=1000),
    storm=StormLimits(incidents=1000, namespace=1000),
)
GROWN = ("owner", "target", "dwell", "diagnosis", "evidence", "symptoms", "owners", "facts")
"""Fields whose objects have a new field in the next version, too."""


@on_every_back_end
def raw(request: pytest.FixtureRequest) -> Iterator[Store]:
    yield from empty_store(request)


class Next(Versioned):
    """A store as the next version has it.

    `wrote` is what it wrote last of each record, and as which version; `lost` names what N took out of that.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.wrote: dict[str, tuple[int, Json]] = {}
        self.lost: list[str] = []

    def transact(self, writes: Iterable[Write]) -> None:
        marked = [self._marked(one) for one in writes]
        self._store.transact(marked)
        for one in marked:
            if isinstance(one, Put) and one.expect >= self.wrote.get(one.key, (0, {}))[0]:
                self.wrote[one.key] = (one.expect + 1, one.body)

    def _marked(self, write: Write) -> Write:
        match write:
            case Put(body=body):
                return replace(write, body=grow(body) | {MARK: NEXT})
            case Due(message=message):
                data = dict(message.get("data") or {}) | {"new": 1, MARK: NEXT}
                return replace(write, message=dict(message) | {"data": data})
            case _:
                return write

    def _read(self, record: Record) -> Record:
        version, wrote = self.wrote.get(record.key, (0, {}))
        if 0 < version <= record.version:
            self.lost += missing(record.key, wrote, record.body)
        return replace(record, body=dict(record.body))


def grow(body: Mapping[str, Any]) -> Json:
    grown: Json = {"new": {"deep": [1]}, **body}
    for name in GROWN:
        match body.get(name):
            case dict() as one if one:
                grown[name] = grow(one)
            case list() as some:
                grown[name] = [grow(one) if isinstance(one, dict) else one for one in some]
    return grown


def missing(where: str, wrote: Mapping[str, Any], found: Mapping[str, Any]) -> list[str]:
    """Name each object of a record that had the new field, is there, and has it no more."""
    gone = [where] if found.get("new") != {"deep": [1]} else []
    for name in ("owner", "dwell", "diagnosis", "target"):
        before, after = wrote.get(name), found.get(name)
        if isinstance(before, dict) and isinstance(after, dict):
            gone += missing(f"{where}.{name}", before, after)
    return gone


class Delivered(Asked):
    """As the broker does it: what is answered 503 is delivered again."""

    def hear(self, kind: str, **data: str) -> None:
        while True:
            try:
                super().hear(kind, **data)
            except TooNew:
                raise
            except Retry:
                continue
            return


def carry(stores: tuple[Store, Store]) -> tuple[list[Any], Counter[str], Asked]:
    """Let many incidents live, each step of each by the one version or the other, eight at a time.

    Gives how each ended, and how many messages of which kind are still to be said of it.
    """
    one, two = (Delivered(store, ROOM) for store in stores)

    def whose(number: int, step: int) -> Asked:
        return (one, two)[(number + step) % 2]

    def until_answered(number: int) -> str:
        name = whose(number, 0).fail(f"app-{number}")
        whose(number, 1).plan(name)
        asked = whose(number, 2)
        answer = decisions.answer(
            asked.store, name, "approve", by="ann", via="test", now=asked.now, actions=ACTIONS
        )
        assert answer.used, answer.sentence
        return name

    def until_applied(given: tuple[int, str]) -> None:
        number, name = given
        whose(number, 3).plan(name)
        asked = whose(number, 4)
        [intent] = [kept for kept in asked.intents() if kept.incident == name]
        record = asked.store.get(records.intent(intent.id))
        assert record is not None
        done = intent.but(state=IntentState.APPLIED, applied_at=asked.now, generation_after=4)
        asked.store.transact([Put(record.key, done.to_json(), record.version)])
        whose(number, 5).hear(OUTCOME, intent=intent.id)

    with ThreadPoolExecutor(8) as pool:
        names = list(pool.map(until_answered, range(MANY)))
        for asked in (one, two, one, two):
            asked.tick()
        list(pool.map(until_applied, enumerate(names)))
    ended = [(kept.owner.name, kept.state, kept.decided_by, len(kept.tried)) for kept in one.incidents()]
    # A message to people is named by its incident's version, which depends on who was faster.
    return ended, Counter(item.id.partition(".")[0] for item in one.store.due_items()), one


def test_both_versions_at_once_lose_nothing_and_come_to_the_same(raw: Store) -> None:
    alone, waits, _ = carry(same())
    newer = Next(raw)
    together, waiting, asked = carry((Versioned(raw), newer))
    assert sorted(together) == sorted(alone)
    assert {state for _, state, _, _ in together} == {State.VERIFYING}
    for kind in ("INCIDENT", "REHEARSAL", "INTENT", "FINDING", "APPROVAL", "SLOT"):
        newer.scan(kind)  # compares each with what it wrote
    assert len(newer.wrote) > 5 * MANY // 2
    assert newer.lost == []
    assert {record.body[MARK] for record in raw.scan("INCIDENT")} == {NEXT}
    assert waiting == waits, "whatever one version alone would still say is still to be said"
    assert verify_all(asked.store) == []


def same() -> tuple[Store, Store]:
    store = Versioned(MemoryStore())
    return store, store


def test_dropping_unknown_fields_loses_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that reads past what it does not know takes it out of every record that it changes."""
    monkeypatch.setattr(
        Data, "from_json", classmethod(lambda cls, body: cls.model_validate(readable(body), extra="ignore"))
    )
    monkeypatch.setattr("quietpager.store.versions.MOST_KEPT", 0)
    raw = MemoryStore()
    newer = Next(raw)
    carry((Versioned(raw), newer))
    assert any(where.startswith("INCIDENT#") for where in newer.lost)
    assert any(where.endswith(".owner") for where in newer.lost)


def test_refusing_unknown_fields_loses_the_message(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version that is strict about fields refuses the next one's records, and their messages are lost."""
    monkeypatch.setattr(
        Data, "from_json", classmethod(lambda cls, body: cls.model_validate(readable(body), extra="forbid"))
    )
    raw = MemoryStore()
    with pytest.raises(ValidationError, match="Extra inputs are not permitted"):
        carry((Versioned(raw), Next(raw)))


def test_a_plain_record_that_is_written_anew_keeps_what_a_newer_version_put_into_it(raw: Store) -> None:
    Next(raw).transact([Put(records.SWITCH, {"stopped": True}, ABSENT)])
    ours = Versioned(raw)
    found = ours.get(records.SWITCH)
    assert found is not None
    ours.transact([Put(records.SWITCH, {"stopped": False, "by": "ann"}, found.version)])
    kept = raw.get(records.SWITCH)
    assert kept is not None
    assert kept.body == {"stopped": False, "by": "ann", "new": {"deep": [1]}, MARK: NEXT}


def test_what_this_version_wrote_looks_as_it_was_written(raw: Store) -> None:
    ours = Versioned(raw)
    ours.transact([Put("SLOT#a#0", {"at": "x"}, ABSENT)])
    assert [one.body for one in ours.scan("SLOT")] == [{"at": "x"}]
    assert [one.body for one in raw.scan("SLOT")] == [{"at": "x", MARK: VERSION}]


# -- too new --------------------------------------------------------------------------------------


def test_a_record_of_the_version_after_next_is_answered_503_with_a_sentence(raw: Store) -> None:
    asked = Asked(Versioned(raw))
    name = asked.ask()
    record = raw.get(records.incident(name))
    assert record is not None
    raw.transact([Put(record.key, record.body | {MARK: VERSION + 2}, record.version)])
    answer = call(
        asked.ctx, Message(id="m", type="dev.quietpager.due", subject=name, data={"incident": name})
    )
    assert answer[0] == 503
    assert b"upgrade this function" in answer[2]
    after = raw.get(record.key)
    assert after is not None
    assert after.version == record.version + 1


def test_a_scheduled_message_that_is_too_new_waits_and_stops_no_other(raw: Store) -> None:
    ours, every, now = Versioned(raw), timedelta(minutes=1), system_clock()
    raw.transact([Due("new", now, every, {"id": "n", "type": SIGNAL, "data": {MARK: VERSION + 2}})])
    ours.transact([Due("ours", now, every, {"id": "o", "type": SIGNAL, "data": {}})])
    assert [one.id for one in ours.claim_due(now, 9)] == ["ours"]
    assert {one.id for one in raw.claim_due(now + every, 9)} == {"new", "ours"}, "it comes again"


def handler(message: Message, _ctx: Context) -> list[Message]:
    signal = read_signal(message.data)
    assert isinstance(signal, Signal)
    return [signal.but(family="image").to_message()]


def call(ctx: Context, message: Message, data: Json | None = None) -> tuple[int, dict[str, str], bytes]:
    """Deliver a message over HTTP to a function; `data` takes the place of what we would write."""
    from quietpager.functions.govern.decide.handler import handle  # noqa: PLC0415 (one of two)

    function = Function(handler if message.type == SIGNAL else handle, lambda: ctx)
    now = system_clock()
    if data is None:
        headers, body = http_from_event(event_from_message(message, source="/c/f", now=now))
    else:  # under a type that is none of ours, so that nothing is added to it
        strange = message.but(type="x", data=data)
        headers, body = http_from_event(event_from_message(strange, source="/c/f", now=now))
        headers["ce-type"] = message.type
    return function._run({name.lower(): value for name, value in headers.items()}, body)


@pytest.fixture
def ctx() -> Context:
    return make_context("detect-crash", Lazy(MemoryStore, lambda: pytest.fail("no cluster")), policy=Policy())


POD = ObjectRef(api_version="v1", kind="Pod", namespace="shop", name="web-1", uid="p")
HINT = Signal(target=POD, family="crash").to_message("e")


def test_a_signal_of_the_next_version_goes_on_with_what_is_not_known_here(ctx: Context) -> None:
    data = HINT.data | {"new": 1, "target": HINT.data["target"] | {"new": 2}, MARK: NEXT}
    status, headers, body = call(ctx, HINT, data)
    assert status == 200
    said = message_from_event(event_from_http(headers, body)).data
    assert (said["family"], said["new"], said["target"]["new"], said[MARK]) == ("image", 1, 2, NEXT)


@pytest.mark.parametrize(
    ("mark", "status"),
    [
        ({}, 400), ({MARK: 1}, 400), ({MARK: VERSION}, 400), ({MARK: NEXT}, 200), ({MARK: NEXT + 1}, 503),
        ({MARK: "x"}, 400), ({MARK: 0}, 400), ({MARK: None}, 400),
    ],
)  # fmt: skip
def test_a_field_that_nobody_knows_is_for_the_next_version_alone(
    ctx: Context, mark: Json, status: int
) -> None:
    assert call(ctx, HINT, HINT.data | {"new": 1} | mark)[0] == status


def test_every_message_that_is_sent_says_its_version(ctx: Context) -> None:
    _, headers, body = call(ctx, HINT)
    assert message_from_event(event_from_http(headers, body)).data[MARK] == VERSION
    event = {"apiVersion": "v1", "kind": "Event"}
    sent = event_from_message(Message(id="e", type=PING, data=event), source="/c/f", now=system_clock())
    assert sent.get_data() == event, "what is not ours has no version of ours"


def test_what_was_given_up_is_put_on_record_whatever_version_it_is_of(ctx: Context) -> None:
    lost = Message(id="l", type=SIGNAL, data={MARK: 99}, attributes={"knativeerrordest": "http://x"})
    assert handled(lambda message, _: [message], lost, ctx)[0].data == {MARK: 99}
    with pytest.raises(TooNew):
        handled(lambda message, _: [message], lost.but(attributes={}), ctx)


# -- typed updates --------------------------------------------------------------------------------


def test_a_change_of_a_field_that_is_not_there_or_of_another_type_is_refused_at_once() -> None:
    with pytest.raises(TypeError, match="ObjectRef has no field nmae"):
        POD.but(nmae="x")
    with pytest.raises(ValidationError):
        POD.but(name=7)
    with pytest.raises(ValidationError):
        Signal(target=POD).but(hops="1")
    assert POD.but(uid=None).uid is None


def test_a_change_keeps_what_is_not_known() -> None:
    found = Finding.from_json(
        {"id": "f", "outcome": "gone", "at": "2026-11-29T00:00:00Z", "family": "x", "why": "", "new": 1,
         "target": POD.to_json() | {"new": 2}, MARK: NEXT}
    )  # fmt: skip
    kept = found.but(serial=3).to_json()
    assert (kept["new"], kept["target"]["new"], kept[MARK], kept["serial"]) == (1, 2, NEXT, 3)
    with pytest.raises(BadMessage):
        Finding.from_json(found.to_json() | {MARK: "3"})
