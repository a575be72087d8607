"""One tenant with many broken workloads, and what becomes of everybody else's.

A tenant who is not even opted in had 22 broken Deployments: more than the storm brake allows, so that
healing stopped in the whole cluster, and people were told of a storm and of nothing else. Now a namespace
stops itself; and where it is asked about by the sweep, the others have their turn.
"""

from datetime import UTC, datetime
from typing import Any

import pytest

from quietpager.cli.catalogue import routes
from quietpager.cluster.recorded import Recorded
from quietpager.incident import storm
from quietpager.incident.policy import Places, Policy, Storm
from quietpager.model.incident import State
from quietpager.runtime.context import functions_folder
from quietpager.runtime.sweeping import MOST_ASKED, find
from tests.flow.harness import QUICK
from tests.flow.test_stories import OOM, World, memory
from tests.flow.test_stories import world as _world

world = _world
POLICY = QUICK.but(
    namespaces=Places(allow=("team-*",)), storm=Storm(incidents=6, each=2, namespace=4), recheck=5.0
)
BROKEN = 8
"""Workloads of the tenant: more than stop the cluster."""


def break_many(world: World, namespace: str, labels: dict[str, str]) -> None:
    """What the tenant does: workloads whose image is nowhere."""
    world.cluster.create("Namespace", {"metadata": {"name": namespace, "labels": labels}})
    for number in range(BROKEN):
        name = f"bad-{number}"
        container = {"name": "c", "image": "registry.example.com/missing/app:1.2.3"}
        spec = {
            "replicas": 1, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}},
        }  # fmt: skip
        world.cluster.create("Deployment", {"metadata": {"name": name, "namespace": namespace}, "spec": spec})


def opened(world: World, namespace: str) -> int:
    return sum(one.owner.namespace == namespace for one in world.product.incidents())


def told(world: World, namespace: str) -> list[str]:
    """What people were told, or are about to be, of a namespace."""
    ids = {one.id for one in world.product.incidents() if one.owner.namespace == namespace}
    entries = (entry for name in ids for entry in world.product.store.audit(name))
    return [entry.kind for entry in entries if entry.kind in ("told", "not told")]


@pytest.fixture
def stormy(world: World) -> World:
    """Give the product, with a policy of its own."""
    world.product.policy = POLICY
    world.product.__post_init__()
    return world


TENANTS = [("noisy", {}), ("noisy", {"quietpager.dev/enabled": "true"}),
           ("team-noisy", {"quietpager.dev/enabled": "true"})]  # fmt: skip


@pytest.mark.parametrize(("namespace", "labels"), TENANTS)
def test_a_tenants_storm_stops_neither_healing_nor_messages_elsewhere(
    stormy: World, namespace: str, labels: dict[str, str]
) -> None:
    break_many(stormy, namespace, labels)
    assert stormy.product.run_until(lambda: opened(stormy, namespace) == BROKEN, 40)
    assert "not told" in told(stormy, namespace)
    stormy.load(OOM, events=False)
    assert stormy.product.run_until(stormy.ended("cache"), 40)
    assert (stormy.the("cache").state, stormy.the("cache").reason) == (State.CLOSED, "fixed")
    assert memory(stormy.deployment("team-45", "cache")) == "64Mi"
    assert set(told(stormy, "team-45")) == {"told"}
    assert {one["namespace"] for one in stormy.writes()} == {"team-45"}


def test_where_shares_do_not_count_it_stops_everybody(stormy: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same, with a namespace that counts whole, whoever it is."""
    monkeypatch.setattr(storm, "_share", lambda policy: policy.storm.incidents + 1)
    monkeypatch.setattr(Policy, "may_write", lambda _policy, _namespace: True)
    stormy.product.policy = POLICY.but(storm=Storm(incidents=6, each=2, namespace=20))
    stormy.product.__post_init__()
    break_many(stormy, "noisy", {})
    assert stormy.product.run_until(lambda: opened(stormy, "noisy") == BROKEN, 40)
    stormy.load(OOM, events=False)
    assert stormy.product.run_until(stormy.ended("cache"), 40)
    assert stormy.the("cache").state is State.BLOCKED
    assert "Guard 6 (storm brake)" in " ".join(stormy.the("cache").refusals)
    assert stormy.writes() == []


# --- the sweep's questions ---------------------------------------------------------------------------------


class Waiting(Recorded):
    """Pods that wait for a Secret: many in one namespace, one in another; who was asked about."""

    def __init__(self, noisy: int) -> None:
        super().__init__(functions_folder() / "detect/config/cases/21-secret-volume-missing")
        one = next(o for o in self.objects if o["kind"] == "Pod")
        self.asked: list[str] = []
        self.objects = [self._like(one, "a-noisy", number) for number in range(noisy)]
        self.objects.append(self._like(one, "z-quiet", 0))

    @staticmethod
    def _like(one: Any, namespace: str, number: int) -> Any:
        meta = one["metadata"] | {
            "namespace": namespace,
            "name": f"p-{number}",
            "uid": f"{namespace}{number}",
        }
        return one | {"metadata": meta}

    def events(self, kind: str, namespace: str, name: str) -> Any:
        del kind, name
        self.asked.append(namespace)
        return []


NOW = datetime(2026, 12, 1, tzinfo=UTC)


def test_a_tenants_waiting_pods_do_not_take_the_others_turn() -> None:
    cluster = Waiting(10 * MOST_ASKED)
    list(find(cluster, routes(), NOW))
    assert len(cluster.asked) == MOST_ASKED
    assert cluster.asked.count("z-quiet") == 1


def test_without_turns_the_first_namespace_takes_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def first_come(waiting: Any, _turn: int) -> Any:
        return iter([ref for place in sorted(waiting) for ref in waiting[place]][:MOST_ASKED])

    monkeypatch.setattr("quietpager.runtime.sweeping._in_turns", first_come)
    cluster = Waiting(10 * MOST_ASKED)
    list(find(cluster, routes(), NOW))
    assert "z-quiet" not in cluster.asked
