"""Attack: ids. Whoever said a signal's id first made the true one vanish; and a message that names another
cluster was believed."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from quietpager.model.data import Json
from quietpager.model.event import read_event
from quietpager.model.message import EVENT_ADD, Message
from quietpager.runtime.context import Context, Handler
from tests.attack.pod import CRASH, Place, beside, posted, ref_of, signal

ANOTHER = "detect/crash/cases/30-oom-bounded"


@pytest.fixture
def place() -> Iterator[Place]:
    with beside() as made:
        made.load(CRASH, told=False)
        yield made


def take_the_id_first(place: Place) -> None:
    """Say the id of the true signal before it comes: about another that fails, about none, about the same."""
    event = place.events[-1]
    true = read_event(event, received=place.now)
    data = true.signal("crash").to_json()
    place.load(ANOTHER, told=False)
    another = place.cluster.list("Pod", "team-45")[0] | {"kind": "Pod", "apiVersion": "v1"}
    gone = data | {"target": data["target"] | {"name": "gone", "uid": "gone"}}
    same = (data | {"event": None}, data | {"target": data["target"] | {"uid": None}})
    for forged in (signal(another, "crash"), gone, *same):
        place.calls("detect-crash", forged, name=f"{true.id}.0")
    place.product.event(event)
    place.product.deliver()


def test_saying_a_signals_id_first_does_not_make_the_true_one_vanish(place: Place) -> None:
    take_the_id_first(place)
    place.wait(place.product.policy.tick)  # the pod kept the answer; the outbox says it again
    [incident] = [one for one in place.product.incidents() if one.owner.namespace == "team-25"]
    assert incident.failure_class == "oom_killed"
    assert incident.symptom_count == len(incident.symptoms) == 1, "and it is one pod, however it is named"


def test_where_the_id_counts_the_true_one_vanishes(place: Place) -> None:
    real: Handler = place.product.handlers["detect-crash"]
    seen = set[str]()

    def by_id(message: Message, ctx: Context) -> list[Message]:
        if message.id in seen:
            return []
        seen.add(message.id)
        return real(message, ctx)

    place.product.handlers["detect-crash"] = by_id
    take_the_id_first(place)
    place.wait(place.product.policy.tick)
    assert [one.owner.namespace for one in place.product.incidents()] == ["team-45"]


def another_cluster(place: Place) -> Json:
    """Say that it is about another cluster, in every place where a message could."""
    event = place.events[-1]
    place.says(
        event | {"metadata": event["metadata"] | {"clusterName": "prod-2"}},
        type_=EVENT_ADD, cluster="prod-2", kind="Event",
    )  # fmt: skip
    data = read_event(event, received=place.now).signal("crash").to_json()
    assert place.calls("detect-crash", data | {"cluster": "prod-2"}).status == 400
    return data


def test_the_cluster_is_the_functions_own_whatever_a_message_says(place: Place) -> None:
    another_cluster(place)
    assert place.the_incident().cluster == "default"
    assert "prod-2" not in place.kept


def test_where_the_message_names_the_cluster_it_is_believed(place: Place) -> None:
    real: Handler = place.product.handlers["detect-crash"]

    def named(message: Message, ctx: Context) -> list[Message]:
        return real(message, replace(ctx, cluster_name=message.attributes.get("cluster", "default")))

    place.product.handlers["detect-crash"] = named
    data = read_event(place.events[-1], received=place.now).signal("crash").to_json()
    place.product.queue.append(posted(data, family="crash", origin="event", cluster="prod-2"))
    place.product.deliver()
    assert place.the_incident().cluster == "prod-2"


def test_a_signal_about_another_kind_or_another_uid_is_nothing(place: Place) -> None:
    pod = place.cluster.list("Pod", "team-25")[0] | {"kind": "Pod", "apiVersion": "v1"}
    for change in ({"uid": "another"}, {"kind": "Deployment"}, {"name": "another"}):
        data = signal(pod, "crash", event=ref_of(place.events[-1]))
        data["target"] |= change
        place.says(data, family="crash", origin="event")
    assert place.product.incidents() == []
    assert place.product.store.scan("FINDING") == []


def test_a_finding_whose_answer_was_kept_by_the_pod_still_opens_its_incident(place: Place) -> None:
    data = read_event(place.events[-1], received=place.now).signal("crash").to_json()
    assert place.calls("detect-crash", data).status == 200
    assert place.product.incidents() == []
    place.wait(place.product.policy.tick)
    assert place.the_incident().failure_class == "oom_killed"
