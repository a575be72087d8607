"""Who an object is, said by somebody else: uids that a tenant writes into Events and owner references.

The lock on a cause, the breaker and the cool-down were kept by the owner's uid alone. Whoever may create an
Event, or a pod with an owner reference, writes any uid: so an Event about an invented object with the uid of
somebody else's Deployment opened an incident that held the lock, and the Deployment was never healed.
"""

from typing import Any

import pytest

from quietpager.model.incident import State
from quietpager.model.time import system_clock, to_text
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
