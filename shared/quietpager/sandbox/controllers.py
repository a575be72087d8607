"""The controllers of kube-controller-manager that the product meets.

`Controllers.run()` is one task: a change of an object puts its owner into a queue, and each turn
brings one object closer to what its spec says. Rules and wording follow k8s.io/kubernetes
`pkg/controller/{deployment,replicaset}` 1.35 and the recorded streams. Objects that were loaded are
adopted through their ownerReferences and names; a hash is read from a label, never computed anew.
"""

import asyncio
from collections.abc import Callable
from typing import Any

from quietpager.model.time import Clock
from quietpager.sandbox import quota
from quietpager.sandbox.answers import Problem
from quietpager.sandbox.deployments import Deployments
from quietpager.sandbox.kinds import KINDS
from quietpager.sandbox.owners import controller_of
from quietpager.sandbox.patching import clone
from quietpager.sandbox.recorder import Recorder
from quietpager.sandbox.registry import Registry
from quietpager.sandbox.replica_sets import ReplicaSets
from quietpager.sandbox.store import Change

Json = dict[str, Any]
Key = tuple[str, str, str]


class Controllers:
    """The queue of Deployment and ReplicaSet controller, quota status and garbage collection."""

    def __init__(self, registry: Registry, recorder: Recorder, clock: Clock, speed: float = 1.0) -> None:
        """Work on a registry; `speed` divides retries and deadlines."""
        self._registry, self._store, self._speed = registry, registry.store, speed
        self._dirty: dict[Key, None] = {}
        self._wake = asyncio.Event()
        self._work: dict[str, Callable[[Json], None]] = {
            "Deployment": Deployments(registry, recorder, clock, speed, self._later).sync,
            "ReplicaSet": ReplicaSets(registry, recorder, self._later).sync,
            "ResourceQuota": self._quota,
        }
        self._store.listen(self._noticed)

    async def run(self) -> None:
        """Work until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._dirty:
                key = next(iter(self._dirty))
                del self._dirty[key]
                try:
                    self._sync(key)
                except Problem:  # the object or its namespace went in the meantime
                    self._queue_later(key, 1.0)
                await asyncio.sleep(0)  # requests come first

    def _noticed(self, change: Change) -> None:
        obj, metadata = change.object, change.object["metadata"]
        namespace = metadata.get("namespace") or ""
        if change.kind in {"Deployment", "ReplicaSet", "ResourceQuota"}:
            self._queue((change.kind, namespace, metadata["name"]))
        owner = controller_of(obj)
        if owner.get("kind") in {"Deployment", "ReplicaSet"}:
            self._queue((owner["kind"], namespace, owner["name"]))
        if change.kind == "Pod":
            for one in self._store.select("ResourceQuota", namespace):
                self._queue(("ResourceQuota", namespace, one["metadata"]["name"]))
        if change.type == "DELETED":
            self._queue(("Orphans", namespace, metadata["uid"]))

    def _queue(self, key: Key) -> None:
        self._dirty.setdefault(key)
        self._wake.set()

    def _queue_later(self, key: Key, seconds: float) -> None:
        asyncio.get_running_loop().call_later(seconds / self._speed, self._queue, key)

    def _later(self, obj: Json, seconds: float) -> None:
        self._queue_later((obj["kind"], obj["metadata"]["namespace"], obj["metadata"]["name"]), seconds)

    def _sync(self, key: Key) -> None:
        kind, namespace, name = key
        if kind == "Orphans":
            self._collect(namespace, name)
            return
        obj = self._store.get(kind, namespace, name)
        if obj is None:
            return
        self._work[kind](obj)

    def _collect(self, namespace: str, uid: str) -> None:
        """Delete what an object that is gone has owned (a load may have brought it back)."""
        owners = [o for kind in KINDS for o in self._store.select(kind, namespace)]
        if any(owner["metadata"]["uid"] == uid for owner in owners):
            return
        for kind in ("ReplicaSet", "Pod"):
            for obj in self._store.select(kind, namespace):
                if any(o["uid"] == uid for o in obj["metadata"].get("ownerReferences") or ()):
                    self._registry.delete(KINDS[kind], namespace, obj["metadata"]["name"])

    def _quota(self, quota_: Json) -> None:
        pods = self._store.select("Pod", quota_["metadata"]["namespace"])
        hard = clone(quota_["spec"].get("hard") or {})
        self._registry.set_status(quota_, {"hard": hard, "used": quota.used(quota_, pods)})
