"""The product's own changes, sent exactly as the effect sends them."""

from datetime import UTC, datetime

import pytest

from quietpager.change.marks import MARK, WROTE
from quietpager.change.patch_fields import patch_of, reversed_edits
from quietpager.functions.remediate.raise_memory.plan import plan as raise_memory
from quietpager.functions.remediate.rollout_undo.plan import plan as rollout_undo
from quietpager.model.cluster import Cluster
from quietpager.model.incident import Edit, Intent
from quietpager.model.reference import ObjectRef
from quietpager.objects.health import health_of
from quietpager.objects.live import Live
from quietpager.objects.revision import revision_facts
from tests.contract.cluster.support import (
    REVISION,
    Json,
    containers_of,
    done,
    patch,
    read,
    refused,
    running_deployment,
    sizes,
    until,
    waiting_for,
)

CONTRACT = "cluster"


def ref(obj: Json) -> ObjectRef:
    metadata = obj["metadata"]
    return ObjectRef(
        api_version=obj["apiVersion"], kind=obj["kind"], namespace=metadata["namespace"],
        name=metadata["name"], uid=metadata["uid"],
    )  # fmt: skip


def intent(id_: str, obj: Json, edits: tuple[Edit, ...], undoes: str | None = None) -> Intent:
    long_ago = datetime(2026, 1, 1, tzinfo=UTC)
    return Intent(
        id=id_, incident="c", rehearsal="r", action="a", target=ref(obj), edits=edits, undoes=undoes,
        generation=obj["metadata"]["generation"], created_at=long_ago, expires_at=long_ago,
    )  # fmt: skip


def send(cluster: Cluster, what: Intent, seen: Json, *, dry_run: bool = False) -> Json:
    """Send an intent's patch exactly as the effect does; `seen` is the object as it was looked at."""
    operations = patch_of(what, seen)
    return cluster.json_patch("Deployment", what.target.namespace, "web", operations, dry_run=dry_run)


@pytest.mark.timeout(150)
def test_more_memory_is_given_once_and_taken_back_once(cluster: Cluster, namespace: str) -> None:
    body = running_deployment(namespace, command=["tail", "/dev/zero"])
    cluster.create("Deployment", body)

    def killed() -> Json | None:
        statuses = [one for p in cluster.list("Pod", namespace) for one in containers_of(p)]
        ends = [(one["state"].get("terminated") or one["lastState"].get("terminated")) for one in statuses]
        known = any(end and end["reason"] == "OOMKilled" for end in ends)
        return read(cluster, "Deployment", namespace) if known else None

    seen = until(killed, "a container to be killed", 120)
    change = raise_memory(Live(cluster, ref(seen)), {"factor": 2, "ceiling": "4Gi"})
    assert {edit.path.partition("resources/")[2]: (edit.had, edit.gets) for edit in change.edits} == {
        "limits/memory": ("32Mi", "64Mi"),
        "requests/memory": ("16Mi", "32Mi"),
    }
    forward = intent("i-1", seen, change.edits)
    dry = send(cluster, forward, seen, dry_run=True)
    after = send(cluster, forward, seen)
    assert dry["spec"] == after["spec"]
    assert after["metadata"]["generation"] == seen["metadata"]["generation"] + 1
    assert after["metadata"]["annotations"][MARK] == "i-1"
    with refused(422, "Invalid"):
        send(cluster, forward, seen)  # a worker that stalled sends once more

    back = intent("i-2", after, reversed_edits(change.edits), undoes="i-1")
    restored = send(cluster, back, after)
    assert restored["spec"] == seen["spec"]
    assert restored["metadata"]["annotations"][MARK] == "i-2"
    with refused(422, "Invalid"):
        send(cluster, back.but(generation=restored["metadata"]["generation"]), restored)


def test_a_rollout_is_undone_to_the_revision_that_is_well(cluster: Cluster, namespace: str) -> None:
    cluster.create("Deployment", running_deployment(namespace))
    first = until(lambda: done(cluster, namespace), "the first rollout")
    image = "/spec/template/spec/containers/0/image"
    missing = "registry.example.com/missing/app:1.2.3"
    patch(cluster, namespace, {"op": "replace", "path": image, "value": missing})
    waiting_for(cluster, namespace, "ErrImagePull")
    seen = read(cluster, "Deployment", namespace)
    facts, _ = revision_facts(Live(cluster, ref(seen)))
    assert facts == {"started_with_new_revision", "previous_revision_healthy"}
    change = rollout_undo(Live(cluster, ref(seen)), {})
    assert [(edit.path, edit.had, edit.gets) for edit in change.edits] == [
        (image, missing, "localhost/busybox:1")
    ]
    after = send(cluster, intent("i-1", seen, change.edits), seen)
    assert after["spec"] == first["spec"]
    healed = until(lambda: done(cluster, namespace), "the way back")
    assert health_of(Live(cluster, ref(healed)), None).healthy
    record = f"a/{seen['metadata']['uid']}/{seen['metadata']['generation'] + 1}:"
    assert healed["metadata"]["annotations"] == {REVISION: "3", MARK: "i-1", WROTE: record}
    assert sizes(cluster, namespace) == {"2": 0, "3": 1}
    versions = {one["metadata"]["annotations"].get(MARK) for one in cluster.list("ReplicaSet", namespace)}
    assert versions == {"i-1", None}  # its controller has copied the mark to the newest
