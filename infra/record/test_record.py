"""The pure parts of recording; the rest is proven by the cases that it made."""

import gzip
import json
from typing import Any

import pytest
import yaml

from infra.record import case
from infra.record.case import Seen
from infra.record.recording import LAG, QUIET, at_rest, present, settled
from quietpager.cli.replay import replay

Json = dict[str, Any]


def obj(kind: str, name: str, **fields: Any) -> Json:
    """Make an object with an identity."""
    return {"kind": kind, "metadata": {"name": name, "uid": f"uid-{name}", "generation": 1}} | fields


def event(name: str, reason: str, type_: str, about: Json, path: str = "") -> Json:
    """Make an Event about an object."""
    involved = {"kind": about["kind"], "name": about["metadata"]["name"], "uid": about["metadata"]["uid"]}
    return obj("Event", name, reason=reason, type=type_, involvedObject=involved | {"fieldPath": path})


POD = obj("Pod", "p", status={})
PULLED = Seen(1.0, "ADDED", event("e1", "Pulled", "Normal", POD))
FAILED = Seen(2.0, "ADDED", event("e2", "Failed", "Warning", POD))
BACK_OFF = Seen(3.0, "ADDED", event("e3", "BackOff", "Warning", POD))


def test_an_object_that_comes_again_begins_the_next_step() -> None:
    """A rollout in one file."""
    one, two = obj("Deployment", "a"), obj("Service", "a")
    text = yaml.safe_dump_all([one, two, one, obj("Job", "b"), one, None])
    assert case.steps(text) == [[one, two], [one, obj("Job", "b")], [one]]


@pytest.mark.parametrize("text", ["", "---\n", "kind: Pod", "[1]", "- {}"])
def test_a_manifest_without_objects_is_none(text: str) -> None:
    """And says so in a sentence."""
    with pytest.raises(SystemExit, match=r"The manifest holds"):
        case.steps(text)


def test_the_first_warning_is_the_trigger_unless_a_reason_is_named() -> None:
    """Order of arrival decides."""
    seen = [PULLED, FAILED, BACK_OFF]
    assert case.trigger(seen, "") == FAILED.object
    assert case.trigger(seen, "BackOff") == BACK_OFF.object
    assert case.trigger(seen, "Pulled") == PULLED.object
    assert case.trigger(seen, "Unhealthy") is None


def test_a_status_gets_its_time_to_follow_its_event() -> None:
    """Not settled before the object has changed once more, or had its time, and rested."""
    old = Seen(1.5, "MODIFIED", POD)
    told = FAILED.at
    assert not settled([old, FAILED], FAILED.object, told + QUIET)
    assert settled([old, FAILED], FAILED.object, told + LAG + 0.1)
    followed = [old, FAILED, Seen(told + 1, "MODIFIED", POD)]
    assert not settled(followed, FAILED.object, told + QUIET)
    assert settled(followed, FAILED.object, told + 1 + QUIET)
    other = [*followed, Seen(told + 4, "MODIFIED", obj("Deployment", "d"))]
    assert not settled(other, FAILED.object, told + 1 + QUIET)


def test_events_are_no_unrest() -> None:
    """A back-off repeats itself for ever."""
    assert at_rest([BACK_OFF], BACK_OFF.at)
    assert not at_rest([Seen(3.0, "ADDED", POD)], 3.5)


def test_what_went_is_not_present() -> None:
    """The last word about each object counts."""
    job = obj("Job", "j")
    seen = [Seen(1, "ADDED", POD), Seen(2, "ADDED", job), Seen(3, "DELETED", POD)]
    assert present(seen) == [job]


DEPLOYMENT: Json = {
    "spec": {"replicas": 2},
    "status": {"observedGeneration": 1, "replicas": 2, "updatedReplicas": 2, "availableReplicas": 2},
}


@pytest.mark.parametrize(
    ("objects", "well"),
    [
        ([], False),
        ([obj("ReplicaSet", "r")], False),
        ([obj("Deployment", "d", **DEPLOYMENT)], True),
        ([obj("Deployment", "d", **DEPLOYMENT), POD], False),
        ([obj("Deployment", "d", spec={}, status={"observedGeneration": 1})], False),
        ([obj("Deployment", "d", **DEPLOYMENT | {"status": DEPLOYMENT["status"] | {"replicas": 3}})], False),
        ([obj("Job", "j", status={"conditions": [{"type": "Complete", "status": "True"}]})], True),
        ([obj("Job", "j", status={"conditions": [{"type": "Failed", "status": "True"}]})], False),
        ([obj("Pod", "p", status={"phase": "Succeeded"})], True),
        ([obj("Pod", "p", status={"conditions": [{"type": "Ready", "status": "True"}]})], True),
    ],
)
def test_well_is_rolled_out_complete_or_ready(objects: list[Json], well: bool) -> None:
    """Of what nobody owns; the rest follows from it."""
    assert case.is_well(objects) is well


def test_the_last_words_are_those_of_the_container_that_the_event_is_about() -> None:
    """Now, or the time before it was started again."""
    ended = {"terminated": {"exitCode": 1}}
    status = {
        "initContainerStatuses": [{"name": "migrate", "state": ended, "lastState": ended}],
        "containerStatuses": [
            {"name": "app", "state": {"running": {}}, "lastState": ended},
            {"name": "proxy", "state": {"terminated": {"exitCode": 0}}, "lastState": {}},
        ],
    }
    pod = obj("Pod", "p", status=status)
    paths = {
        "spec.initContainers{migrate}": ("p", "migrate", False),
        "spec.containers{app}": ("p", "app", True),
        "spec.containers{proxy}": None,
        "": ("p", "migrate", False),
    }
    for path, expected in paths.items():
        assert case.crashed(event("e", "BackOff", "Warning", pod, path), [pod]) == expected
    assert case.crashed(event("e", "BackOff", "Warning", obj("Pod", "gone")), [pod]) is None


def test_files_are_numbered_from_the_target_up() -> None:
    """As in the cases that were recorded before."""
    kinds = ["Node", "Deployment", "ReplicaSet", "Pod", "ResourceQuota", "Job"]
    objects = [obj(kind, "a") for kind in kinds]
    made = case.files(FAILED.object, objects, [], "", case.expected("unknown", []))
    assert [*made] == [
        "event.json", "expected.yaml", "objects/00-pod.json", "objects/01-replicaset.json",
        "objects/02-job.json", "objects/03-deployment.json", "objects/04-resourcequota.json",
        "objects/05-node.json",
    ]  # fmt: skip
    more = case.files(FAILED.object, objects, [PULLED.object], "said", "")
    assert json.loads(more["related_events.json"]) == [PULLED.object]
    assert more["previous_logs.txt"] == b"said"


def test_what_is_expected_forbids_every_action() -> None:
    """A person takes out what may help."""
    wanted = yaml.safe_load(case.expected("image_pull_network", ["unknown", "image_pull_network"]))
    assert wanted["acceptable_classes"] == ["image_pull_network", "unknown"]
    assert wanted["may_help"] == ["propose-change"]
    assert set(wanted["forbidden"]) == set(case.ACTIONS)
    assert yaml.safe_load(case.expected("benign_no_action", []))["may_help"] == []
    assert yaml.safe_load(case.expected(case.OPEN, []))["failure_class"] == "FILL_IN"


def test_a_stream_is_what_was_told_in_order() -> None:
    """One file for each kind; the same stream is the same file."""
    made = case.streams([PULLED, Seen(1.25, "ADDED", POD), FAILED])
    assert [*made] == ["streams/events.jsonl.gz", "streams/pods.jsonl.gz"]
    lines = gzip.decompress(made["streams/events.jsonl.gz"]).decode().splitlines()
    assert [json.loads(line)["t"] for line in lines] == [1.0, 2.0]
    assert json.loads(lines[0]).keys() == {"t", "type", "object"}
    assert made == case.streams([PULLED, Seen(1.25, "ADDED", POD), FAILED])


def test_what_is_saved_can_be_replayed(tmp_path: Any) -> None:
    """An unfinished expected.yaml does not stand in the way."""
    made = case.files(FAILED.object, [POD], [], "", case.expected(case.OPEN, []))
    for name, content in made.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    [answer] = replay([tmp_path])
    assert answer["case"] == tmp_path.name
