"""Attack: the store grows without bound; 14,000 findings in eight minutes, kept for ever.

And the attack on the cure: a purge that takes away what is still needed would give a fresh budget, a second
incident, or an intent's mark that was used before.
"""

import re
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from inspect import getsource
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quietpager.functions.govern.clock.handler import handle as tick
from quietpager.incident import records, retention
from quietpager.incident.policy import Policy, Retention, Storm
from quietpager.incident.retention import KEPT, RULES, longest_window, purge
from quietpager.model.finding import Finding
from quietpager.model.incident import State
from quietpager.model.message import FINDING, PING, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Conflict, Due, Put, Record, Store, StoreUnavailable, Write
from quietpager.store.audit import verify_all
from quietpager.store.delegate import Wrapped
from quietpager.store.memory import MemoryStore
from tests.acts import NOW, add, intents, tell
from tests.asked import POLICY, Asked
from tests.backends import empty_store, on_every_back_end
from tests.deciding import POLICY as BUDGETED
from tests.deciding import world

DAY = timedelta(days=1)
SHORT = POLICY.but(
    retention=Retention(incidents=2 * 86400, past=4 * 86400, limits=2 * 86400), storm=Storm(incidents=3)
)
KINDS = {rule.kind for rule in RULES} | set(KEPT)


store = on_every_back_end(empty_store)


def everything(store: Store) -> dict[str, Record]:
    return {record.key: record for kind in sorted(KINDS) for record in store.scan(kind)}


def walk(store: Store, policy: Policy, now: datetime, most: int = retention.PAGE) -> Counter[str]:
    """Let the purge go once over all records, page by page."""
    gone = Counter[str]()
    for _ in range(1000):
        gone += purge(store, policy, now, most)
        place = store.get(records.PURGE)
        if place is not None and place.body["kind"] == "":
            return gone
    raise AssertionError("the walk does not end")


def finding(store: Store, name: str, at: datetime, incident: str | None = None) -> None:
    """Write a finding: of an incident's own look, or one that opened nothing."""
    target = ObjectRef(api_version="v1", kind="Pod", namespace="shop", name=name, uid=name)
    body = Finding(
        id=name, outcome="gone" if incident else "failing", at=at, family="crash", target=target, why="x",
        incident=incident, serial=99,
    ).to_json()  # fmt: skip
    store.transact([Put(records.finding(name), body, 0)])


def close(asked: Asked, incident: str) -> None:
    finding(asked.store, f"{incident}.look", asked.now, incident)
    asked.hear(FINDING, finding=f"{incident}.look")
    assert asked.the(incident).state is State.CLOSED


def days(asked: Asked, first: int, last: int) -> list[int]:
    """Let days pass, each with two incidents and stray findings; gives how many records there are."""
    sizes = []
    for day in range(first, last):
        for number, one in enumerate((asked.ask(f"a{day}"), asked.fail(f"b{day}"))):
            finding(asked.store, f"stray{day}-{number}", asked.now)
            asked.wait(60)
            close(asked, one)
        for _ in range(4):
            asked.wait(DAY.total_seconds() / 4)
            tick(Message(id="t", type=PING), asked.ctx)
        sizes.append(len(everything(asked.store)) - len(asked.store.scan("CHAIN")))
        sizes[-1] += len(asked.store.due_items())
    return sizes


def test_over_simulated_days_the_number_of_records_stays_flat(store: Store) -> None:
    sizes = days(Asked(store, SHORT), 0, 10)
    assert max(sizes[-4:]) <= max(sizes[3:6]), sizes
    assert verify_all(store) == []
    assert len(store.audit_chains()) == 20, "the audit is never purged"


def test_without_the_purge_it_grows_with_each_day(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("quietpager.functions.govern.clock.handler.purge", lambda *_: Counter())
    sizes = days(Asked(MemoryStore(), SHORT), 0, 10)
    assert sizes == sorted(sizes)
    assert max(sizes[-4:]) > 1.5 * max(sizes[3:6])


def test_every_kind_of_record_has_a_rule_or_does_not_grow() -> None:
    kinds = set(re.findall(r'"([A-Z]+)#', getsource(records)))
    assert len(kinds) > 15
    assert kinds | {"CHAIN"} == KINDS


def test_a_walk_ends_and_rests(store: Store) -> None:
    asked = Asked(store)
    for n in range(7):
        finding(store, f"f{n}", asked.now)
    store.transact([Due(records.talk("f1"), asked.now, DAY, {})])
    assert walk(store, POLICY, asked.now, most=2) == {}
    later = asked.now + 2 * DAY
    assert purge(store, POLICY, asked.now + timedelta(seconds=POLICY.retention.pause - 1)) == {}
    assert walk(store, POLICY, later, most=2) == {"FINDING": 7}
    assert (store.scan("FINDING"), store.due_items()) == ([], []), "what was still to be said of it goes too"


def test_what_was_written_while_it_was_judged_stays() -> None:
    inner = MemoryStore()
    asked = Asked(inner)
    finding(inner, "f", asked.now)

    class Seen(Wrapped):
        def transact(self, writes: Iterable[Write]) -> None:
            some = list(writes)
            if any(getattr(w, "key", "") == records.finding("f") for w in some):
                record = inner.get(records.finding("f"))
                assert record is not None
                inner.transact([Put(record.key, record.body, record.version)])
            inner.transact(some)

    assert walk(Seen(inner), POLICY, asked.now + 3 * DAY) == {}
    assert len(inner.scan("FINDING")) == 1


class Broken(Wrapped):
    """A store of which no page can be read."""

    def __init__(self, store: Store, wrong: Exception) -> None:
        super().__init__(store)
        self.wrong = wrong

    def page(self, kind: str, after: str, limit: int) -> list[Record]:
        del kind, after, limit
        raise self.wrong


def test_two_clocks_do_not_walk_twice_and_a_store_that_is_away_holds_up_nothing() -> None:
    inner = MemoryStore()
    asked = Asked(inner)
    incident = asked.fail()

    class Other(Wrapped):
        def transact(self, writes: Iterable[Write]) -> None:
            raise Conflict(records.PURGE, len(list(writes)), None)

    other = Other(inner)
    assert purge(other, POLICY, asked.now + 100 * DAY) == {}
    for wrong in (StoreUnavailable("away"), KeyError("a record that nobody expected")):
        asked.wait(60)
        said = tick(Message(id="t", type=PING), Asked(Broken(inner, wrong), now=asked.now).ctx)
        assert any(one.subject == incident for one in said), "what is due is said all the same"


# --- the purge takes nothing that is needed ------------------------------------------------------

OTHERS = ["REHEARSAL", "INTENT", "APPROVAL", "FINDING", "TELL", "SLOT", "BREAKER", "TARGET", "PAST"]
ago = st.integers(0, 400).map(lambda n: timedelta(days=n))
ids = st.integers(0, 3).map(lambda n: f"inc-{n}")
bodies = st.lists(
    st.one_of(
        st.tuples(st.just("INCIDENT"), ids, st.sampled_from(["CLOSED", "WAITING", "VERIFYING"]), ago),
        st.tuples(st.sampled_from(OTHERS), ids, st.just(""), ago),
    ), max_size=14,
)  # fmt: skip


def body_of(kind: str, name: str, state: str, at: datetime) -> dict[str, Any]:
    moment = at.isoformat()
    bodies: dict[str, dict[str, Any]] = {
        "INCIDENT": {"state": state, "state_since": moment, "cause": f"workload:{name}"},
        "REHEARSAL": {"incident": name, "asked_at": moment},
        "INTENT": {"incident": name, "created_at": moment, "expires_at": moment, "state": "CLAIMED"},
        "APPROVAL": {"incident": name, "expires": moment, "decision": None},
        "FINDING": {"incident": name, "at": moment},
        "TELL": {"what": "opened", "text": ""},
        "SLOT": {"at": moment, "holder": name},
        "BREAKER": {"until": (at + timedelta(days=60)).isoformat()},
        "TARGET": {"at": moment},
        "PAST": {"closed_at": moment, "words": ""},
    }
    return bodies[kind]


def filled(story: list[tuple[str, str, str, timedelta]], now: datetime) -> MemoryStore:
    """Write records of all kinds, of incidents that are open, closed, or not there any more."""
    store = MemoryStore()
    for number, (kind, name, state, old) in enumerate(story):
        rest = {"INCIDENT": name, "PAST": name, "TELL": f"{name}.{number}.0"}.get(kind, f"{name}-{number}")
        if store.get(f"{kind}#{rest}") is not None:
            continue
        body = body_of(kind, name, state, now - old)
        lock = Put(records.cause(f"workload:{name}"), {"incident": name, "episode": 3}, 0)
        store.transact([Put(f"{kind}#{rest}", body, 0), *([lock] if kind == "INCIDENT" else [])])
    return store


def must_stay(there: dict[str, Record], policy: Policy, now: datetime) -> set[str]:
    """Say, without the rules, what an open incident, a live question, a slot or a breaker refers to."""
    kept = set()
    on_record = {key.partition("#")[2]: one.body["state"] for key, one in there.items() if "INCIDENT#" in key}
    for key, one in there.items():
        kind, _, rest = key.partition("#")
        name = str(one.body.get("incident") or one.body.get("holder") or rest.split(".")[0])
        times = {n: datetime.fromisoformat(t) for n, t in one.body.items() if n in ("at", "until", "expires")}
        open_ = on_record.get(name, "CLOSED") != "CLOSED"
        window = timedelta(seconds=longest_window(policy))
        live = (
            open_
            or (kind == "SLOT" and now - times["at"] <= window)
            or (kind == "TARGET" and now - times["at"] <= timedelta(seconds=policy.cool_down))
            or (kind == "BREAKER" and now < times["until"])
            or (kind == "APPROVAL" and now < times["expires"])
        )
        if live and kind in {"CAUSE", *(rule.kind for rule in RULES)}:
            kept.add(key)
    return kept


def lost(story: list[tuple[str, str, str, timedelta]], window: float) -> set[str]:
    """Purge everything that may go, and give what was needed and is gone."""
    now = datetime(2026, 1, 1, tzinfo=UTC)
    policy = POLICY.but(budget=POLICY.budget.but(window=window))
    store = filled(story, now)
    there = everything(store)
    for _ in range(2):
        walk(store, policy, now, most=3)
        now += timedelta(seconds=policy.retention.pause)
    return must_stay(there, policy, now) - set(everything(store))


@settings(deadline=None)
@given(bodies, st.sampled_from([3600.0, 100 * 86400.0]))
def test_the_purge_takes_nothing_that_an_open_incident_a_question_a_slot_or_a_breaker_refers_to(
    story: list[tuple[str, str, str, timedelta]], window: float
) -> None:
    assert lost(story, window) == set()


STORY = [
    ("INCIDENT", "inc-1", "WAITING", 200 * DAY),
    ("REHEARSAL", "inc-1", "", 200 * DAY),
    ("APPROVAL", "inc-1", "", 200 * DAY),
    ("SLOT", "inc-1", "", 200 * DAY),
    ("SLOT", "inc-2", "", 40 * DAY),
    ("BREAKER", "inc-2", "", 0 * DAY),
]


def test_without_asking_what_is_needed_the_purge_takes_an_open_incidents_records(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert lost(STORY, 100 * 86400.0) == set()
    monkeypatch.setattr(retention, "needed", lambda *_: False)
    assert len(lost(STORY, 100 * 86400.0)) == 7


def acts_after_a_purge() -> tuple[int, int]:
    """Use the budget up, purge, and try again inside the window; gives the acts before and after."""
    store, ctx, clock = world()
    for number in range(15):
        tell(ctx, number)
    before = len(intents(store))
    clock.now = NOW + timedelta(seconds=BUDGETED.budget.window)
    for record in store.scan("INCIDENT"):
        closed = record.body | {"state": "CLOSED"}
        store.transact([Put(record.key, closed, record.version)])
    walk(store, BUDGETED, clock.now)
    add(store, range(15, 30))
    for number in range(15, 30):
        tell(ctx, number)
    return before, len(intents(store))


def test_a_purge_gives_no_fresh_budget() -> None:
    before, after = acts_after_a_purge()
    assert before == after == BUDGETED.budget.cluster


def test_without_the_slots_own_time_a_purge_gives_a_fresh_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    real = retention.needed
    monkeypatch.setattr(
        retention, "needed", lambda rule, *rest: rule.kind not in ("SLOT", "TARGET") and real(rule, *rest)
    )
    _, after = acts_after_a_purge()
    assert after > BUDGETED.budget.cluster


def names_over_a_purge(store: Store) -> tuple[str, str, str]:
    """Let one cause fail, be closed and purged, and fail again, twice; gives the three incidents."""
    asked = Asked(store, SHORT)
    names = []
    for _ in range(3):
        names.append(asked.ask())
        close(asked, names[-1])
        for wait in (5 * 86400, 7200):  # what belongs to an incident goes with the walk after its own
            asked.wait(wait)
            walk(store, SHORT, asked.now)
        kinds = ("INCIDENT", "CAUSE", "REHEARSAL", "APPROVAL", "FINDING")
        assert [record for kind in kinds for record in store.scan(kind)] == []
        assert store.due_items() == []
    return names[0], names[1], names[2]


def test_what_fails_again_after_a_purge_is_an_incident_of_its_own(store: Store) -> None:
    """An id that is used twice would make an intent's old mark on the object look like a new one's."""
    names = names_over_a_purge(store)
    assert len(set(names)) == 3
    assert verify_all(store) == []


def test_without_the_purged_episodes_an_incidents_id_is_used_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    real = retention._unlocked

    def forgetful(record: Record, store: Store) -> list[Write]:
        return [w for w in real(record, store) if not (isinstance(w, Put) and w.key == records.EPISODES)]

    monkeypatch.setattr(retention, "_unlocked", forgetful)
    assert len(set(names_over_a_purge(MemoryStore()))) == 1


def test_an_incident_that_is_open_keeps_its_lock_so_there_is_no_second_one(store: Store) -> None:
    asked = Asked(store, SHORT)
    first = asked.ask()
    asked.wait(300 * 86400)
    walk(store, SHORT, asked.now)
    assert asked.fail() == first
    assert len(asked.incidents()) == 1
