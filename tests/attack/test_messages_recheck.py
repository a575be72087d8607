"""Attack: a recheck that a pod makes up. It closed a live incident by asking the wrong family about it, and
the look that the clock had asked for was dropped as too late. Incident ids are no secret: they are guessed.
"""

from collections.abc import Iterator

import pytest

from quietpager.incident import records
from quietpager.model.incident import Incident, State
from quietpager.model.message import Message
from quietpager.model.signal import Recheck
from quietpager.model.store import Due, Put
from quietpager.rules.judging import Diagnose
from quietpager.runtime import detecting, rechecking
from quietpager.runtime.context import Context
from quietpager.runtime.rechecking import Looker
from tests.attack.pod import CONFIG_MAP, RECHECK, Place, beside, posted

FAMILIES = ("crash", "image", "scheduling", "storage", "unknown")
ROUNDS = 8
"""More than the healthy looks that close an incident."""


@pytest.fixture
def place() -> Iterator[Place]:
    with beside() as made:
        made.load(CONFIG_MAP)
        yield made


def functions_of(families: tuple[str, ...]) -> dict[str, str]:
    return {one: f"detect-{one}" if one != "unknown" else "analyze-unknown" for one in families}


def ask_the_wrong_ones(place: Place) -> Incident:
    """Send a recheck to every other family each time the clock says one, and be faster than it."""
    incident = place.the_incident()
    data = Recheck(incident=incident.id).to_json()
    for _ in range(ROUNDS):
        for family, function in functions_of(FAMILIES).items():
            place.wait(RECHECK, behind=posted(data, family=family, origin="recheck"))
            place.calls(function, data)
    return place.the_incident()


def test_a_recheck_sent_to_the_wrong_family_closes_nothing(place: Place) -> None:
    before = place.the_incident()
    assert (before.family, before.state) == ("config", State.HANDOVER)
    after = ask_the_wrong_ones(place)
    assert after.state is State.HANDOVER
    assert after.healthy_streak == 0
    [look] = [one for one in place.product.store.scan("FINDING") if one.body["incident"]]
    assert (look.body["family"], look.body["outcome"]) == ("config", "failing")


def test_without_the_comparison_of_families_it_closes_a_live_incident(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rechecking, "answers", lambda incident, _family: incident.state is not State.CLOSED)
    after = ask_the_wrong_ones(place)
    assert after.state is State.CLOSED
    assert place.cluster.get("ConfigMap", "team-12", "app-config") is None, "and nothing was mended"


@pytest.mark.parametrize("extra", [{}, {"cause": "workload:x", "looks": -(10**9), "target": {"kind": "Pod"}}])
def test_a_recheck_that_is_not_due_costs_reads(place: Place, extra: dict[str, object]) -> None:
    before = place.written, place.product.store.due_items()
    data = Recheck(incident=place.the_incident().id).to_json() | extra
    for _ in range(50):
        assert place.calls("detect-config", data).status == 204
        place.says(data, family="config", origin="recheck")
    assert (place.written, place.product.store.due_items()) == before


def test_without_that_check_each_one_is_a_look_and_a_write(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(_due: Due, _incident: Incident) -> bool:
        return True

    monkeypatch.setattr(rechecking, "has_been_said", said)
    before = place.written
    assert place.calls("detect-config", Recheck(incident=place.the_incident().id).to_json()).status == 200
    assert place.written != before


def test_a_closed_incident_and_an_unknown_one_answer_nobody(place: Place) -> None:
    open_one = place.the_incident()
    key = records.incident(open_one.id)
    version = place.written[key]
    closed = open_one.but(state=State.CLOSED, reason="fixed_by_person")
    place.product.store.transact([Put(key, closed.to_json(), version)])
    before = place.written
    for name in (closed.id, "inc-000000000000"):
        assert place.calls("detect-config", Recheck(incident=name).to_json()).status == 204
    assert place.written == before


@pytest.mark.parametrize("name", ["", "x" * 300, "../x", 7, ["inc"], {"a": 1}, "a\x00b"])
def test_what_is_no_id_is_refused(place: Place, name: object) -> None:
    assert place.calls("detect-config", {"incident": name}).status == 400


def told(place: Place) -> tuple[int, int]:
    """Give the number of the newest look on record, and of the newest that `decide` has taken up."""
    record = place.product.store.get(records.finding(f"{place.the_incident().id}.look"))
    return (0 if record is None else int(record.body["serial"])), place.the_incident().serial


def steal_the_looks(place: Place) -> None:
    """Each time the clock has said a recheck, call the detector first and keep its answer."""
    data = Recheck(incident=place.the_incident().id).to_json()
    stolen = []
    for _ in range(ROUNDS):
        held: list[Message] = []

        def hold(message: Message, held: list[Message] = held) -> bool:
            """Keep the true recheck back until the pod has asked."""
            if message.attributes.get("origin") != "recheck" or held:
                return False
            held.append(message)
            return True

        place.product.drop = hold
        place.wait(RECHECK)
        stolen.append(place.calls("detect-config", data).status)
        place.product.drop = lambda _message: False
        place.product.queue.extend(held)
        place.product.deliver()
    assert set(stolen) == {200}, "the pod was first each time"


def test_whoever_asks_first_and_keeps_the_answer_does_not_make_the_look_vanish(place: Place) -> None:
    steal_the_looks(place)
    assert told(place) == (ROUNDS, ROUNDS), "one look for each saying, and decide has had them all"


def test_without_the_second_answer_the_stolen_looks_are_lost(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = rechecking.recheck

    def once(name: str, ctx: Context, family: str, diagnose: Diagnose, looker: Looker) -> list[Message]:
        key = records.finding(f"{name}.look")
        before = ctx.store.get(key)
        said = real(name, ctx, family, diagnose, looker)
        after = ctx.store.get(key)
        return said if before is None or after is None or before.version != after.version else []

    monkeypatch.setattr(detecting, "recheck", once)
    steal_the_looks(place)
    assert told(place) == (ROUNDS, 0)
