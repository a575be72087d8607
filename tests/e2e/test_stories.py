"""The stories of the spine, on a real cluster, three times each; and the benign ones, silent."""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from statistics import median

import pytest

from quietpager.model.incident import Incident, IntentState, State
from tests.e2e.bed import Bed, Watch, answers, api_writes, apply_fault, now, set_image
from tests.e2e.stages import Story, measure, table

ROUNDS = 3
OWN_SHARE = 2.0
"""Seconds; the median of our own share that was promised. Printed, and compared in docs/measured.md."""

pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Told:
    """How one story went."""

    incident: Incident
    story: Story
    namespace: str
    begun: datetime


@dataclass(frozen=True)
class Stories:
    """How all went, and what functions answered to the broker meanwhile, by Trigger and status."""

    of: dict[str, list[Told]]
    answers: Counter[tuple[str, str]]


def break_it(bed: Bed, name: str, namespace: str) -> datetime:
    """Make the fault of a story; gives when."""
    if name == "bad tag":
        apply_fault("bad-tag", namespace)
        bed.wait_healthy(namespace, "web")
        begun = now()
        set_image(namespace, "web", "web", "registry.example.com/good/app:missing")
        return begun
    begun = now()
    apply_fault({"bounded OOM": "oom-bounded", "hopeless OOM": "oom-hopeless"}[name], namespace)
    return begun


def tell(bed: Bed, name: str, namespace: str) -> Told:
    """Let one story happen, from fault to end, watching."""
    watches = [Watch(bed.cluster, kind, namespace) for kind in ("Event", "Pod", "Deployment")]
    for watch in watches:
        watch.start()
    begun = break_it(bed, name, namespace)
    incident = bed.ended(namespace)
    return Told(incident, measure(bed, name, incident, begun, watches), namespace, begun)


@pytest.fixture(scope="module")
def told(bed: Bed) -> Iterator[Stories]:
    """Let every story happen, one of each kind at a time, so that each can be measured."""
    names = ("bounded OOM", "hopeless OOM", "bad tag")
    before = answers()
    found: dict[str, list[Told]] = {name: [] for name in names}
    with ExitStack() as stack:
        for _ in range(ROUNDS):
            places = {name: stack.enter_context(bed.team(name.replace(" ", "-").lower())) for name in names}
            with ThreadPoolExecutor(len(names)) as pool:
                done = {name: pool.submit(tell, bed, name, place) for name, place in places.items()}
                for name, one in done.items():
                    found[name].append(one.result())
        yield Stories(found, answers() - before)


def test_a_bounded_oom_is_healed(bed: Bed, told: Stories) -> None:
    for one in told.of["bounded OOM"]:
        assert (one.incident.state, one.incident.reason) == (State.CLOSED, "fixed"), bed.story(one.namespace)
        assert [t.action for t in one.incident.tried] == ["raise-memory"]
        assert memory_limit(bed, one.namespace, "cache") == "64Mi"
        bed.wait_healthy(one.namespace, "cache")


def test_a_bad_tag_is_rolled_back(bed: Bed, told: Stories) -> None:
    for one in told.of["bad tag"]:
        assert (one.incident.state, one.incident.reason) == (State.CLOSED, "fixed"), bed.story(one.namespace)
        assert [t.action for t in one.incident.tried] == ["rollout-undo"]
        container = bed.deployment(one.namespace, "web")["spec"]["template"]["spec"]["containers"][0]
        assert container["image"] == "registry.example.com/good/app:1"
        bed.wait_healthy(one.namespace, "web")


def test_a_hopeless_oom_is_undone_and_handed_over(bed: Bed, told: Stories) -> None:
    for one in told.of["hopeless OOM"]:
        assert one.incident.state is State.HANDOVER, bed.story(one.namespace)
        assert memory_limit(bed, one.namespace, "app") == "32Mi"
        # Between two kills it runs for a moment; an intent that comes just then writes nothing.
        results = {(intent.state, intent.result) for intent in bed.intents(one.namespace)}
        acted = results - {(IntentState.REFUSED, "it healed before the write")}
        assert {state for state, _ in acted} == {IntentState.APPLIED, IntentState.UNDONE}, results
        assert "undone" in str([e.body for e in bed.audit(one.incident)])


def test_every_write_has_its_intent_and_only_one(bed: Bed, told: Stories) -> None:
    for some in told.of.values():
        for one in some:
            check_writes(bed, one.namespace, one.begun)


def test_no_function_answers_what_the_broker_would_deliver_again(told: Stories) -> None:
    """Zero retries in the happy path, by the broker's own metrics."""
    assert sum(told.answers.values()) > 100, "the metrics show no deliveries: this test sees nothing"
    bad = {key: n for key, n in told.answers.items() if not key[1].startswith("2")}
    assert {key: n for key, n in bad.items() if not key[0].startswith("e2e-spy")} == {}


def test_seconds_for_each_stage(told: Stories, capsys: pytest.CaptureFixture[str]) -> None:
    stories = [one.story for some in told.of.values() for one in some]
    with capsys.disabled():
        print(f"\n{table(stories)}\n")
        own = median(story.own() for story in stories)
        print(f"our own share: p50 {own:.2f} s over {len(stories)} stories (promised: {OWN_SHARE} s)\n")
    for story in stories:
        assert all(seconds > -1 for seconds in story.stages().values()), story.stages()


def memory_limit(bed: Bed, namespace: str, name: str) -> str:
    container = bed.deployment(namespace, name)["spec"]["template"]["spec"]["containers"][0]
    return str(container["resources"]["limits"]["memory"])


def check_writes(bed: Bed, namespace: str, since: datetime) -> int:
    """Join the API server's audit log to ours: one write for one intent, each after its intent."""
    writes = [w for w in api_writes(since) if w.namespace == namespace and w.code == 200 and not w.dry_run]
    intents = {intent.id: intent for intent in bed.intents(namespace)}
    assert len({w.intent for w in writes}) == len(writes), f"an intent was written twice: {writes}"
    for write in writes:
        assert write.intent in intents, f"a write without an intent: {write}"
        assert intents[write.intent].created_at < write.at
    carried = {i.id for i in intents.values() if i.state in {IntentState.APPLIED, IntentState.UNDONE}}
    assert carried <= {w.intent for w in writes}, "the store says applied, the API server never saw it"
    return len(writes)
