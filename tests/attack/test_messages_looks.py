"""Attack: signals whose numbers say for ever. `looks=-10**9` left 600 due items that spoke with every tick,
and rechecks of live incidents fell from 3 a second to 0.4."""

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from quietpager.model.data import Json
from quietpager.model.message import SIGNAL
from quietpager.model.signal import MOST_HOPS, Recheck, Signal
from quietpager.runtime import detecting
from quietpager.runtime.detecting import MOST_LOOKS
from tests.attack.pod import CONFIG_MAP, Place, beside, signal

FORGED = 600
NUMBERS: list[Any] = [-1, -(10**9), 10**9, 10**400, "1", 1.0, True, None, [], MOST_HOPS + 1]


@pytest.fixture
def place() -> Iterator[Place]:
    with beside() as made:
        made.load(CONFIG_MAP, told=False)
        yield made


def waiting_pod(place: Place) -> Json:
    """Give a pod of which family `crash` cannot tell yet: none of its containers has ended."""
    pod = place.cluster.list("Pod", "team-12")[0]
    return pod | {"kind": "Pod", "apiVersion": "v1"}


def flood(place: Place) -> list[str]:
    """Send one pod's name over and over, each time written another way; gives the due second looks."""
    pod = waiting_pod(place)
    for n in range(FORGED):
        data = signal(pod, "crash", hops=n % (MOST_HOPS + 1))
        data["target"] |= {"api_version": f"v{n}", "uid": None if n % 2 else pod["metadata"]["uid"]}
        data["event"] = {"namespace": "team-12", "name": f"made-up-{n}", "uid": f"u{n}"}
        assert place.calls("detect-crash", data, name=f"m{n}").status == 204
    return second_looks(place)


def second_looks(place: Place) -> list[str]:
    return [item.id for item in place.product.store.due_items() if item.message["type"] == SIGNAL]


def test_one_target_has_one_second_look_whatever_the_sender_says(place: Place) -> None:
    assert len(flood(place)) == 1
    for _ in range(MOST_LOOKS):
        place.wait(place.product.policy.tick)
    assert second_looks(place) == [], "and after a few of them there is none"


def test_named_by_what_is_said_there_are_hundreds(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def named(_family: str, _target: object) -> str:
        return uuid4().hex

    monkeypatch.setattr(detecting, "_looker", named)
    assert len(flood(place)) > 100


def test_looks_cannot_be_used_up_by_asking_early(place: Place) -> None:
    """The next look is planned by us: a hundred signals before it change nothing about it."""
    pod = waiting_pod(place)
    assert place.calls("detect-crash", signal(pod, "crash")).status == 204
    before = place.written, place.product.store.due_items()
    for _ in range(100):
        place.calls("detect-crash", signal(pod, "crash"))
    assert (place.written, place.product.store.due_items()) == before


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
def test_a_number_out_of_bounds_is_refused(place: Place, number: Any) -> None:
    before = place.written
    for field in ("hops", "looks", "count"):
        answer = place.calls("detect-crash", signal(waiting_pod(place), "crash", **{field: number}))
        assert answer.status == 400
    assert (place.written, second_looks(place)) == (before, [])


def test_without_bounds_a_signal_may_go_from_family_to_family_a_billion_times(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unbounded(data: Json) -> Signal | Recheck:
        known = Signal.from_json(data | {"hops": 0})
        return known.but(hops=data["hops"])

    monkeypatch.setattr(Signal, "but", lambda self, **changes: self.model_copy(update=changes))
    monkeypatch.setattr(detecting, "read_signal", unbounded)
    [owner] = place.cluster.list("Deployment", "team-12")
    data = signal(owner | {"kind": "Deployment", "apiVersion": "apps/v1"}, "crash", hops=-(10**9))
    assert b'"hops": -999999999' in place.calls("detect-crash", data).body.replace(b'":-', b'": -')


@pytest.mark.parametrize(
    "change",
    [
        {"target": {"api_version": "v1", "kind": "Pod", "namespace": "x" * 300, "name": "a"}},
        {"target": {"api_version": "v1", "kind": "Pod", "namespace": "a", "name": "../a"}},
        {"target": {"api_version": "v" * 300, "kind": "Pod", "namespace": "a", "name": "a"}},
        {"target": {"api_version": "v1", "kind": "Pod", "namespace": "a", "name": "a", "uid": "u" * 300}},
        {"family": "x" * 300},
        {"origin": "recheck"},
        {"origin": "god"},
        {"event": {"namespace": "a", "name": "b" * 300, "uid": "c"}},
        {"event": {"namespace": "a", "name": "b"}},
        {"cluster": "another"},
        {"reason": "BackOff", "message": "curl … | sh"},
    ],
    ids=str,
)
def test_what_is_too_long_or_not_a_signals_is_refused(place: Place, change: Json) -> None:
    before = place.written
    assert place.calls("detect-crash", signal(waiting_pod(place), "crash") | change).status == 400
    assert place.written == before
