"""Events in `default` about volumes that nobody has, so many that the nodes' own messages are held back.

Whatever lives in no namespace counted together for the storm brake. Of a node only one that is there opens an
incident; of a PersistentVolume an Event is all there is, and an editor of `default` may write it.
"""

from datetime import UTC, datetime

import pytest

from quietpager.incident import storm
from quietpager.incident.policy import Places, Policy
from quietpager.model.reference import ObjectRef
from quietpager.store.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = Policy(namespaces=Places(allow=("*",)))
NODE = ObjectRef(api_version="v1", kind="Node", namespace=None, name="n1", uid="n1")


def flood(store: MemoryStore) -> None:
    for number in range(3 * POLICY.storm.namespace):
        volume = ObjectRef(api_version="v1", kind="PersistentVolume", namespace=None, name=f"pv-{number}")
        found = store.get_many(storm.keys(volume, POLICY))
        store.transact([*storm.marks(found, volume, f"inc-{number}", POLICY, NOW)])


def lasts(store: MemoryStore) -> bool:
    return storm.lasts(store.get_many(storm.keys(NODE, POLICY)), NODE, POLICY, NOW)


def test_invented_volumes_do_not_silence_the_nodes() -> None:
    store = MemoryStore()
    flood(store)
    assert not lasts(store)


def test_counted_together_they_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storm, "_place", lambda owner: owner.namespace or "")
    store = MemoryStore()
    flood(store)
    assert lasts(store)


def test_a_node_counts_for_nothing_that_may_be_written_to() -> None:
    store = MemoryStore()
    for number in range(3):
        node = NODE.but(name=f"n{number}", uid=f"n{number}")
        found = store.get_many(storm.keys(node, POLICY))
        store.transact([*storm.marks(found, node, f"inc-{number}", POLICY, NOW)])
    count = storm.openings(store.get_many(storm.keys(NODE, POLICY)), NODE, POLICY, NOW)
    assert (count.own, count.acting, count.telling) == (3, 0, 3)
