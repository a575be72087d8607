"""Clocks that differ by minutes: of a function, of the API server, of whoever answers a question.

Time is a number here. Each function has a clock of its own, up to five minutes from the true time, and so
has the API server with its kubelets. A whole product walks through a fault that a change heals, and one that
it does not; then the budget, an approval, a heartbeat and the judgement after a write, each by itself.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.change import patch_fields, send
from quietpager.change.marks import MARK
from quietpager.change.send import carry_out
from quietpager.cluster.recorded import Recorded
from quietpager.deciding import ground
from quietpager.deciding.decisions import answer
from quietpager.functions.govern.decide.handler import handle
from quietpager.incident import records
from quietpager.incident.policy import Budget, Places, Policy
from quietpager.model.cluster import ClusterUnavailable, Json, Kind, Rejected
from quietpager.model.incident import WITH_PERSON, Autonomy, Intent, IntentState, State
from quietpager.model.message import DECISION, Message
from quietpager.model.time import to_text
from quietpager.runtime.context import functions_folder
from quietpager.runtime.pulse import judge
from quietpager.sandbox import patching
from quietpager.store.memory import MemoryStore
from tests.acts import RAISE_MEMORY, incident, intents, tell
from tests.deciding import put, world
from tests.flow.harness import Product

SKEW: Final = 300.0
EVERYWHERE: Final = Places(allow=("*",))
TOLERANT: Final = Policy(autonomy=Autonomy.AUTO, namespaces=EVERYWHERE)
CASE = functions_folder() / "detect/crash/cases/30-oom-bounded"
BEGAN = datetime(2026, 11, 22, 19, 30, tzinfo=UTC)
PARTS: Final = ("govern-decide", "govern-clock", "ingest-intake", "ingest-sweep", "detect-crash",
                "remediate-raise-memory", "people-notify", "api-server")  # fmt: skip


class Town(Recorded):
    """The recorded case, alive: a change of memory heals it, or does not; its times are its own clock's."""

    def __init__(self, clock: Callable[[], datetime], *, heals: bool) -> None:
        super().__init__(CASE)
        self.objects = deepcopy(self.objects)
        self.clock, self.heals = clock, heals
        self.writes: list[str] = []
        shift = clock() - BEGAN
        for one in self.objects:
            _shift(one, shift)
        labels = {TOLERANT.opt_in_label: "true"}
        about = {"name": "team-45", "uid": "uid-team-45", "labels": labels}
        self.objects.append({"apiVersion": "v1", "kind": "Namespace", "metadata": about})

    def json_patch(
        self, kind: Kind, namespace: str | None, name: str, patch: Sequence[Json], *, dry_run: bool = False,
        subresource: str = "",
    ) -> Json:  # fmt: skip
        del subresource
        found = self.get(kind, namespace, name)
        assert found is not None
        try:
            after = patching.apply(found, list(patch))
        except patching.PatchError as no:
            raise Rejected(422, "Invalid", str(no)) from no
        if dry_run:
            return after
        meta = after["metadata"]
        meta["generation"] += 1
        meta["managedFields"] = [{"manager": "us", "operation": "Update", "time": _second(self.clock())}]
        self.writes.append(meta["annotations"][MARK])
        found.clear()
        found.update(after)
        if self.heals:
            self.heal()
        return after

    def heal(self) -> None:
        for one in self.objects:
            if one["kind"] == "Deployment":
                wanted = one["spec"]["replicas"]
                one["status"] = {
                    "observedGeneration": one["metadata"]["generation"], "replicas": wanted,
                    "updatedReplicas": wanted, "availableReplicas": wanted, "readyReplicas": wanted,
                }  # fmt: skip
            if one["kind"] == "Pod":
                one["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
                for status in one["status"]["containerStatuses"]:
                    running = {"running": {"startedAt": _second(self.clock())}}
                    status |= {"ready": True, "state": running, "lastState": {}}

    def crash(self) -> None:
        """Let what is still ill crash once more."""
        for one in self.objects:
            for status in (
                one.get("status", {}).get("containerStatuses") or () if one["kind"] == "Pod" else ()
            ):
                if not status["ready"]:
                    ended = status["lastState"].get("terminated")
                    if ended is not None:
                        ended["finishedAt"] = _second(self.clock())
                    status["restartCount"] += 1
            if one["kind"] == "Deployment" and not self.heals:
                one["status"]["observedGeneration"] = one["metadata"]["generation"]


def _second(moment: datetime) -> str:
    return to_text(moment.replace(microsecond=0))


def _shift(value: Any, by: timedelta) -> None:
    """Move every time of an object."""
    for key, one in value.items() if isinstance(value, dict) else enumerate(value):
        if isinstance(one, dict | list):
            _shift(one, by)
        elif isinstance(one, str) and len(one) == 20 and one.endswith("Z") and one[10] == "T":
            value[key] = _second(datetime.fromisoformat(one) + by)


class Walk:
    """A product whose parts have clocks of their own, and the true time."""

    def __init__(self, skew: Mapping[str, float], *, heals: bool, policy: Policy = TOLERANT) -> None:
        self.true = BEGAN
        self.skew = skew
        self.town = Town(self.clock_of("api-server"), heals=heals)
        self.product = Product(MemoryStore(), self.town, clock=self.clock_of("rest"), policy=policy)  # type: ignore[arg-type]
        for name, ctx in self.product.contexts.items():
            self.product.contexts[name] = replace(ctx, clock=self.clock_of(name))
        self.product.resume()
        [event] = [one for one in self.town.objects if one["kind"] == "Event"][:1]
        self.product.event(event)

    def clock_of(self, part: str) -> Callable[[], datetime]:
        return lambda: self.true + timedelta(seconds=self.skew.get(part, 0.0))

    def run(self, hours: float) -> "Walk":
        """Let time pass, in steps that get longer, until the incident is at rest."""
        end, step = self.true + timedelta(hours=hours), 5.0
        while self.true < end and not (self.at_rest and self.true - BEGAN > timedelta(minutes=40)):
            self.product.ping("sweep")
            self.product.ping("clock")
            self.town.crash()
            self.true += timedelta(seconds=step)
            step = min(step * 1.05, 40.0)
        return self

    @property
    def at_rest(self) -> bool:
        found = self.product.incidents()
        return bool(found) and all(one.state is State.CLOSED or one.state in WITH_PERSON for one in found)


ALONE: Final = [{part: sign * SKEW} for part in PARTS for sign in (1, -1)]
TOGETHER: Final = [
    {part: (SKEW if number % 2 else -SKEW) for number, part in enumerate(PARTS)},
    {part: (-SKEW if number % 2 else SKEW) for number, part in enumerate(PARTS)},
    {"govern-decide": SKEW, "remediate-raise-memory": -SKEW, "api-server": -SKEW},
    {"govern-decide": -SKEW, "remediate-raise-memory": SKEW, "api-server": SKEW},
    {"govern-decide": -SKEW, "govern-clock": SKEW}, {"govern-decide": SKEW, "govern-clock": -SKEW},
]  # fmt: skip


@pytest.mark.parametrize(
    ("skew", "heals"),
    [*((one, True) for one in ({}, *ALONE, *TOGETHER)), *((one, False) for one in ({}, *TOGETHER))],
    ids=str,
)
def test_no_clock_makes_it_act_twice_or_leaves_an_incident_behind(
    skew: dict[str, float], heals: bool
) -> None:
    walk = Walk(skew, heals=heals).run(hours=3)
    [found] = walk.product.incidents()
    assert walk.at_rest, f"{found.id} is {found.state}"
    forward = [one for one in walk.town.writes if not one.endswith("-undo")]
    assert len(walk.town.writes) == len(set(walk.town.writes)), "an intent was written twice"
    assert len(forward) <= 1, "the budget of the target is one act an hour"
    assert walk.product.refused == []
    if forward and heals:
        assert found.state is State.CLOSED
        assert walk.town.writes == forward, "a change that helped was undone"
    if not skew:
        assert forward


# --- the budget


def acts_of(moves: list[tuple[int, float, float, float]], policy: Policy) -> list[float]:
    """Let incidents act one after the other; gives the true moments at which a patch may have been sent."""
    store, ctx, clock = world(len(moves), policy)
    begin, sent = clock.now, []
    true = 0.0
    for number, (pause, decides, waits, claims) in enumerate(moves):
        true += pause
        clock.now = begin + timedelta(seconds=true + decides)
        tell(ctx, number)
        mine = [one for one in intents(store) if one.incident == f"inc-{number}"]
        if not mine:
            continue
        claimed = begin + timedelta(seconds=true + waits + claims)
        with suppress(ClusterUnavailable):
            carry_out(
                mine[0].id, cage=RAISE_MEMORY.cage, store=store, cluster=_Away(), policy=policy,  # type: ignore[arg-type]
                clock=lambda at=claimed: at,  # type: ignore[misc]
                still_failing=lambda _: True, actor="test",
            )  # fmt: skip
        record = store.get(records.intent(mine[0].id))
        assert record is not None
        if Intent.from_json(record.body).state is IntentState.CLAIMED:
            sent.append(true + waits)
        true += waits
    return sent


class _Away:
    def get(self, *_: Any) -> Any:
        raise ClusterUnavailable("away")


def most_in_a_window(sent: list[float], window: float) -> int:
    return max((sum(one <= other < one + window for other in sent) for one in sent), default=0)


SMALL: Final = TOLERANT.but(budget=Budget(target=1, namespace=100, cluster=2))
skews = st.sampled_from([-SKEW, -SKEW / 2, 0.0, SKEW / 2, SKEW])


@given(
    st.lists(st.tuples(st.integers(0, 2000), skews, st.sampled_from([0.0, 60.0, 250.0]), skews), max_size=9)
)
def test_in_no_true_window_are_there_more_acts_than_the_budget(
    moves: list[tuple[int, float, float, float]],
) -> None:
    assert most_in_a_window(acts_of(moves, SMALL), SMALL.budget.window) <= 2


FAST_THEN_SLOW = [(0, SKEW, 0.0, -SKEW), (0, SKEW, 0.0, -SKEW), (3100, SKEW, 0.0, 0.0)]
"""Two acts whose slots a slow clock stamps; the third is asked for by a fast one, before the hour is over."""


def test_without_the_padding_a_slow_clock_spends_a_budget_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutants: the padding of one second, and a claim that sets its slot back."""
    assert most_in_a_window(acts_of(FAST_THEN_SLOW, SMALL), 3600.0) == 2
    monkeypatch.setattr(ground, "stamp", lambda _record, now: now)
    monkeypatch.setattr(send, "stamp", lambda _record, now: now)
    assert most_in_a_window(acts_of(FAST_THEN_SLOW, SMALL.but(skew=1.0)), 3600.0) == 3


# --- an approval


@pytest.mark.parametrize(
    ("asks", "answers", "late"),
    [(0, 0, 1), (0, -SKEW, 1), (0, SKEW, -2 * SKEW), (SKEW, -SKEW, SKEW + 1), (-SKEW, -SKEW, -SKEW + 1)],
)
def test_no_approval_is_used_after_its_expiry_by_the_clock_of_who_uses_it(
    asks: float, answers: float, late: float
) -> None:
    """`late`: seconds after the question's expiry, in true time, at which decide takes the answer up."""
    policy = SMALL.but(autonomy=Autonomy.APPROVE)
    store, ctx, clock = world(0, policy)
    put(store, incident().but(autonomy=Autonomy.APPROVE))
    begin = clock.now
    clock.now = begin + timedelta(seconds=asks)
    tell(ctx, 0)
    [record] = store.scan("APPROVAL")
    expires = datetime.fromisoformat(record.body["expires"])
    true = begin + timedelta(seconds=policy.approval + late)
    given_at = true + timedelta(seconds=answers)
    said = answer(store, "inc-0", "approve", by="ann", via="console", now=given_at, actions=ctx.actions)
    assert said.used == (given_at <= expires)
    clock.now = true + timedelta(seconds=asks)
    handle(Message(id="d", type=DECISION, data={"approval": record.key.partition("#")[2]}), ctx)
    used = said.used and clock.now <= expires
    state = ctx.store.get(records.incident("inc-0"))
    assert state is not None
    assert (state.body["state"] == State.APPROVAL.value) == (not used)
    assert intents(store) == [] or used


# --- heartbeats


@pytest.mark.parametrize("ahead", [-2 * SKEW, -SKEW, SKEW, 2 * SKEW])
def test_a_beat_of_another_clock_is_never_taken_for_life(ahead: float) -> None:
    policy = Policy(namespaces=EVERYWHERE)
    beats = dict.fromkeys(("store", "broker", "clock", "sweep", "source"), BEGAN)
    reading = judge(beats | {"clock": BEGAN + timedelta(seconds=ahead)}, None, BEGAN, policy)
    [clock] = [one for one in reading.parts if one.part == "clock"]
    assert clock.verdict == "stale"
    assert not reading.ok
    assert ("in the future" in clock.say) == (ahead > 0)


def test_without_a_look_at_the_future_a_part_that_stopped_seems_alive(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mutant: an age that is never negative, and nothing else."""
    fast = BEGAN + timedelta(seconds=SKEW)
    beats = dict.fromkeys(("store", "broker", "sweep", "source"), BEGAN) | {"clock": fast}
    monkeypatch.setattr("quietpager.runtime.pulse._seconds_ahead", lambda _last, _now: 0.0)
    assert judge(beats, None, BEGAN, Policy()).ok


# --- what is compared with the kubelets' times


def until_written(walk: Walk) -> datetime:
    """Let time pass until something was written; gives the true time of it."""
    wrote = walk.true
    while not walk.town.writes and walk.true - BEGAN < timedelta(hours=1):
        walk.product.ping("sweep")
        walk.product.ping("clock")
        wrote = walk.true
        walk.true += timedelta(seconds=5)
    return wrote


@pytest.mark.parametrize("slow", [0.0, -SKEW, SKEW - 30])
def test_when_a_change_was_made_the_api_server_says(slow: float) -> None:
    walk = Walk({"remediate-raise-memory": slow}, heals=True)
    wrote = until_written(walk)
    [intent] = intents(walk.product.store)
    assert intent.applied_at == wrote.replace(microsecond=0)


def test_without_the_api_servers_time_a_slow_clock_blames_a_change_for_older_crashes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The mutant: the moment of a write is that of the worker's own clock."""
    monkeypatch.setattr(patch_fields, "_edited", lambda _meta: iter(()))
    walk = Walk({"remediate-raise-memory": -SKEW}, heals=True)
    wrote = until_written(walk)
    [intent] = intents(walk.product.store)
    assert intent.applied_at is not None
    assert intent.applied_at < wrote - timedelta(seconds=SKEW - 10)


def test_the_default_policy_tolerates_five_minutes() -> None:
    assert Policy().skew >= SKEW
