"""One suite over the table of kinds: each is read, finds its pods, and says when it is well and when not."""

import json
from pathlib import Path

import pytest

from quietpager.model.cluster import Json
from quietpager.model.reference import ObjectRef
from quietpager.objects import table
from quietpager.objects.health import health_of
from quietpager.objects.live import Live
from quietpager.objects.opaque import OPAQUE
from quietpager.runtime.context import functions_folder
from tests.objects.examples import EXAMPLES
from tests.objects.held import Held, made, owned_by, pod, ref

HERE = Path(__file__).parent
RECORDED = sorted([*functions_folder().glob("*/*/cases/*/objects/*.json"), *HERE.glob("recorded/*.json")])
ILL = [(kind, how) for kind, example in EXAMPLES.items() for how in example().ill]
ALSO_WELL = [(kind, how) for kind, example in EXAMPLES.items() for how in example().also_well]
OWNERS = [kind.name for kind in table.owner_kinds() if kind.name != "Pod"]


def test_every_kind_that_can_be_judged_has_its_examples() -> None:
    assert {kind.name for kind in table.targets()} == set(EXAMPLES)


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_what_a_real_cluster_has_can_be_read(path: Path) -> None:
    raw = json.loads(path.read_text())
    kind = table.KINDS[raw["kind"]]
    one = kind.read(raw)
    assert one.ref.but(uid=None) == ref(raw).but(uid=None)
    assert kind.template(raw) is None or kind.template(raw)["spec"]["containers"]  # type: ignore[index]


@pytest.mark.parametrize("kind", ["Job", "HorizontalPodAutoscaler", "ResourceQuota", "PersistentVolumeClaim"])
def test_recorded_objects_are_judged_as_they_were(kind: str) -> None:
    """A Job beyond its limit, an autoscaler without metrics, a pending claim; a quota unused."""
    raw = json.loads((HERE / "recorded" / f"{kind.lower()}.json").read_text())
    assert health_of(Held(raw).live(raw), None).healthy is (kind == "ResourceQuota")


@pytest.mark.parametrize("kind", EXAMPLES)
def test_it_is_well_and_its_pods_revisions_and_counts_are_found(kind: str) -> None:
    example = EXAMPLES[kind]()
    live = Held(*example.objects).live(example.objects[0])
    health = health_of(live, None)
    assert health.healthy, health.why
    assert live.kind is table.KINDS[kind]
    assert {one.metadata.name for one in live.pods} == example.pods
    assert tuple(one.ref.name for one in live.revisions) == example.revisions
    if example.revisions:
        assert {one.metadata.name for one in live.newest_pods} <= example.pods
        assert live.revisions[0].template["spec"]["containers"]
        assert "$patch" not in live.revisions[0].template
    if example.counts is not None:
        assert (live.wanted, live.updated, live.ready, live.available) == example.counts


@pytest.mark.parametrize(("kind", "how"), ILL)
def test_it_is_not_well_and_says_why(kind: str, how: str) -> None:
    example = EXAMPLES[kind]()
    change, why = example.ill[how]
    change(example.objects[0])
    health = health_of(Held(*example.objects).live(example.objects[0]), None)
    assert not health.healthy
    assert why in health.why


@pytest.mark.parametrize(("kind", "how"), ALSO_WELL)
def test_what_looks_like_a_fault_and_is_none(kind: str, how: str) -> None:
    example = EXAMPLES[kind]()
    example.also_well[how](example.objects[0])
    health = health_of(Held(*example.objects).live(example.objects[0]), None)
    assert health.healthy, health.why


@pytest.mark.parametrize("kind", OWNERS)
def test_one_pod_that_fails_makes_its_owner_ill(kind: str) -> None:
    example = EXAMPLES[kind]()
    running = [o for o in example.objects if o["kind"] == "Pod" and o["status"]["phase"] == "Running"]
    ill = next(one for one in running if one["metadata"]["name"] in example.pods)
    ill["status"]["containerStatuses"][0]["state"] = {"waiting": {"reason": "CrashLoopBackOff"}}
    health = health_of(Held(*example.objects).live(example.objects[0]), None)
    assert (health.healthy, health.why) == (False, f"{ill['metadata']['name']}: app waits: CrashLoopBackOff")


@pytest.mark.parametrize("kind", OWNERS)
def test_a_pod_leads_to_its_owner_and_one_that_is_gone_is_not_there(kind: str) -> None:
    example = EXAMPLES[kind]()
    held = Held(*example.objects)
    own = next(o for o in example.objects if o["kind"] == "Pod" and o["metadata"]["name"] in example.pods)
    assert held.live(own).owner == ref(example.objects[0])
    gone = held.live(example.objects[0])
    held.objects = []
    assert health_of(gone, None).why == "it is not there"


@pytest.mark.parametrize("kind", [kind for kind in OWNERS if kind not in {"ReplicaSet", "Job"}])
def test_an_evicted_pod_is_its_owners_to_replace(kind: str) -> None:
    """It stays as Failed until the garbage collector takes it, while the owner has another one long since."""
    example = EXAMPLES[kind]()
    own = next(o for o in example.objects if o["kind"] == "Pod" and o["metadata"]["name"] in example.pods)
    evicted = own | {
        "metadata": own["metadata"] | {"name": "evicted", "uid": "uid-evicted"},
        "status": {"phase": "Failed", "reason": "Evicted"},
    }
    assert health_of(Held(*example.objects, evicted).live(example.objects[0]), None).healthy


def crd() -> Json:
    return {"apiVersion": "example.com/v1", "kind": "Database",
            "metadata": {"name": "db", "namespace": "shop", "uid": "uid-db"}}  # fmt: skip


def test_an_owner_that_nobody_describes_is_known_by_its_pods() -> None:
    one = crd()
    held = Held(pod(one, "db-0"), pod(one, "db-1", ill="app"), pod(None, "other"))
    live = held.live(held.objects[0])
    assert live.kind is OPAQUE
    assert live.owner == ref(one)
    assert {found.metadata.name for found in live.pods} == {"db-0", "db-1"}
    assert (live.template, live.revisions, live.injected) == (None, (), frozenset())
    assert health_of(live, None).why == "db-1: app waits: CrashLoopBackOff"


def test_pods_that_a_stranger_owns_through_a_replica_set_are_found() -> None:
    between = made("ReplicaSet", ownerReferences=owned_by(crd()))
    held = Held(between, pod(between, "db-0"), pod(between, "db-1"))
    live = held.live(held.objects[1])
    assert live.owner == ref(crd())
    assert len(live.pods) == 2


def test_another_groups_kind_of_the_same_name_is_none_of_ours() -> None:
    """Knative has a Service of its own, often beside one of Kubernetes with the same name."""
    example = EXAMPLES["Service"]()
    knative = ref(example.objects[0]).but(api_version="serving.knative.dev/v1", uid=None)
    assert Live(Held(*example.objects), knative).raw_target is None
    assert Live(Held(*example.objects), knative.but(api_version="v1")).raw_target is not None


def test_a_static_pod_is_its_own_owner_and_not_its_nodes() -> None:
    """The kubelet names the node as the controller of the pods that it makes by itself."""
    held = Held(made("Node", status={"conditions": [{"type": "Ready", "status": "True"}]}))
    held.objects.append(pod(held.objects[0], "etcd", ill="app"))
    live = held.live(held.objects[1])
    assert live.owner == ref(held.objects[1])
    assert not health_of(live, None).healthy


def test_owners_in_a_ring_have_an_end() -> None:
    one, two = made("ReplicaSet", name="a", uid="a"), made("ReplicaSet", name="b", uid="b")
    one["metadata"]["ownerReferences"], two["metadata"]["ownerReferences"] = owned_by(two), owned_by(one)
    owner = Held(one, two).live(one).owner
    assert isinstance(owner, ObjectRef)
    assert owner.kind == "ReplicaSet"
