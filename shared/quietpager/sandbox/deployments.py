"""The Deployment controller: which ReplicaSet is the newest, how many pods each has, and the status."""

import hashlib
import json
import math
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from quietpager.model.time import Clock
from quietpager.sandbox.kinds import KINDS
from quietpager.sandbox.owners import condition, owned, owner_reference
from quietpager.sandbox.patching import clone, same
from quietpager.sandbox.recorder import Recorder
from quietpager.sandbox.registry import SAFE_LETTERS, Registry

Json = dict[str, Any]

HASH: Final = "pod-template-hash"
REVISION: Final = "deployment.kubernetes.io/revision"
_HISTORY: Final = "deployment.kubernetes.io/revision-history"
_DESIRED: Final = "deployment.kubernetes.io/desired-replicas"
_MAX: Final = "deployment.kubernetes.io/max-replicas"
_NOT_COPIED: Final = {REVISION, _HISTORY, _DESIRED, _MAX,
                      "kubectl.kubernetes.io/last-applied-configuration"}  # fmt: skip


class Deployments:
    """Bring one Deployment closer to its spec at each call. `Controllers` calls it."""

    def __init__(
        self,
        registry: Registry,
        recorder: Recorder,
        clock: Clock,
        speed: float,
        later: Callable[[Json, float], None],
    ) -> None:
        """Work on a registry; `later` asks to be called again for an object; `speed` divides deadlines."""
        self._registry, self._recorder, self._clock = registry, recorder, clock
        self._store, self._speed, self._later = registry.store, speed, later
        self._progress: dict[str, tuple[str, float]] = {}

    def sync(self, deployment: Json) -> None:
        """Choose the newest ReplicaSet, scale, and write the status."""
        namespace = deployment["metadata"]["namespace"]
        sets = owned(self._store.select("ReplicaSet", namespace), deployment)
        if deployment["spec"].get("paused"):
            self._deployment_status(deployment, sets, None)
            return
        new = next((rs for rs in sets if _same_template(rs, deployment)), None)
        old = [rs for rs in sets if rs is not new]
        highest = max((_revision(rs) for rs in old), default=0)
        reason = ""
        if new is None:
            new, reason = self._new_set(deployment, old, highest + 1), "NewReplicaSetCreated"
        elif _revision(new) <= highest:
            new = self._reuse(new, highest + 1)
        new = self._copy_annotations(deployment, new)
        deployment = self._mark(deployment, new, reason)
        if deployment["spec"].get("strategy", {}).get("type") == "Recreate":
            self._recreate(deployment, new, old)
        else:
            self._roll(deployment, new, old)
        sets = owned(self._store.select("ReplicaSet", namespace), deployment)
        new = next((rs for rs in sets if _same_template(rs, deployment)), None)
        deployment = self._deployment_status(deployment, sets, new)
        self._forget_old(deployment, sets, new)

    def _new_set(self, deployment: Json, old: list[Json], revision: int) -> Json:
        metadata, spec = deployment["metadata"], deployment["spec"]
        template = clone(spec["template"])
        text = json.dumps([template, metadata["uid"]], sort_keys=True).encode()
        number = int.from_bytes(hashlib.sha256(text).digest()[:8], "big")
        digits = (number // len(SAFE_LETTERS) ** place for place in range(10))
        hash_ = "".join(SAFE_LETTERS[digit % len(SAFE_LETTERS)] for digit in digits)
        labels = {**(template["metadata"].get("labels") or {}), HASH: hash_}
        template["metadata"]["labels"] = labels
        selector = {"matchLabels": {**spec["selector"]["matchLabels"], HASH: hash_}}
        name = f"{metadata['name']}-{hash_}"
        recreate = spec.get("strategy", {}).get("type") == "Recreate"
        room = spec["replicas"] if not old else _room(deployment, old, 0)
        replicas = 0 if recreate and any(rs["spec"]["replicas"] for rs in old) else room
        annotations = {
            key: value for key, value in (metadata.get("annotations") or {}).items() if key not in _NOT_COPIED
        }
        annotations |= _sizes(deployment) | {REVISION: str(revision)}
        created = self._registry.create(
            KINDS["ReplicaSet"],
            {
                "metadata": {
                    "name": name,
                    "labels": dict(labels),
                    "annotations": annotations,
                    "ownerReferences": [owner_reference(deployment)],
                },
                "spec": {"replicas": replicas, "selector": selector, "template": template},
            },
            metadata["namespace"],
        )
        if replicas:
            self._scaled(deployment, name, 0, replicas)
        return created

    def _copy_annotations(self, deployment: Json, new: Json) -> Json:
        """Give the newest ReplicaSet the Deployment's annotations, which is why they count there."""
        given = deployment["metadata"].get("annotations") or {}
        copied = {key: value for key, value in given.items() if key not in _NOT_COPIED}
        return self._change_set(new, annotations={**new["metadata"]["annotations"], **copied})

    def _reuse(self, new: Json, revision: int) -> Json:
        """Give an earlier revision's ReplicaSet the newest number, as after an undo."""
        past = [new["metadata"]["annotations"].get(_HISTORY, ""), str(_revision(new))]
        annotations = {
            **new["metadata"]["annotations"],
            REVISION: str(revision),
            _HISTORY: ",".join(filter(None, past)),
        }
        return self._change_set(new, annotations=annotations)

    def _mark(self, deployment: Json, new: Json, reason: str) -> Json:
        """Write the revision on the Deployment, through /status: that is no new generation."""
        annotations = {
            **(deployment["metadata"].get("annotations") or {}),
            REVISION: str(_revision(new)),
        }
        status, name = clone(deployment.get("status") or {}), new["metadata"]["name"]
        if reason:
            self._set_condition(status, "Progressing", "True", reason, f'Created new replica set "{name}"')
        elif condition(status, "Progressing") is None:
            text = f'Found new replica set "{name}"'
            self._set_condition(status, "Progressing", "True", "FoundNewReplicaSet", text)
        return self._registry.set_status(deployment, status, annotations)

    def _roll(self, deployment: Json, new: Json, old: list[Json]) -> None:
        desired, available = deployment["spec"]["replicas"], _available(new)
        size = new["spec"]["replicas"]
        wanted = desired if size > desired else size + _room(deployment, [new, *old], size)
        new = self._scale(deployment, new, wanted)
        running = [rs for rs in old if rs["spec"]["replicas"]]
        total = sum(rs["spec"]["replicas"] for rs in [new, *running])
        _, unavailable = _limits(deployment)
        floor = desired - unavailable
        new_unavailable = new["spec"]["replicas"] - available
        spare = total - floor - new_unavailable
        if spare <= 0:
            return
        running.sort(key=lambda rs: (rs["metadata"]["creationTimestamp"], rs["metadata"]["name"]))
        for index, rs in enumerate(running):  # first those that serve nobody
            size = rs["spec"]["replicas"]
            gone = min(spare, size - min(size, _available(rs)))
            if gone > 0:
                running[index] = self._scale(deployment, rs, size - gone)
                spare -= gone
        count = available + sum(_available(rs) for rs in running) - floor
        for rs in running:
            size = rs["spec"]["replicas"]
            gone = min(count, size)
            if gone > 0:
                self._scale(deployment, rs, size - gone)
                count -= gone

    def _recreate(self, deployment: Json, new: Json, old: list[Json]) -> None:
        for rs in old:
            self._scale(deployment, rs, 0)
        left = [self._store.get("ReplicaSet", rs["metadata"]["namespace"], rs["metadata"]["name"])
                for rs in old]  # fmt: skip
        pods = self._store.select("Pod", deployment["metadata"]["namespace"])
        if not any(owned(pods, rs) for rs in left if rs):
            self._scale(deployment, new, deployment["spec"]["replicas"])

    def _scale(self, deployment: Json, rs: Json, replicas: int) -> Json:
        size = rs["spec"]["replicas"]
        annotations = {**(rs["metadata"].get("annotations") or {}), **_sizes(deployment)}
        changed = self._change_set(rs, annotations=annotations, replicas=replicas)
        if replicas != size:
            self._scaled(deployment, rs["metadata"]["name"], size, replicas)
        return changed

    def _scaled(self, deployment: Json, name: str, before: int, after: int) -> None:
        way = "up" if after > before else "down"
        text = f"Scaled {way} replica set {name} from {before} to {after}"
        component = "deployment-controller"
        self._recorder.send(deployment, "Normal", "ScalingReplicaSet", text, component)

    def _change_set(self, rs: Json, *, annotations: Json, replicas: int | None = None) -> Json:
        def change(obj: Json) -> Json:
            obj["metadata"]["annotations"] = annotations
            if replicas is not None:
                obj["spec"]["replicas"] = replicas
            return obj

        metadata = rs["metadata"]
        return self._registry.update(KINDS["ReplicaSet"], metadata["namespace"], metadata["name"], change)

    def _forget_old(self, deployment: Json, sets: list[Json], new: Json | None) -> None:
        limit = deployment["spec"].get("revisionHistoryLimit", 10)
        old = sorted((rs for rs in sets if rs is not new and not rs["spec"]["replicas"]), key=_revision)
        for rs in old[: max(0, len(old) - limit)]:
            if not rs.get("status", {}).get("replicas"):
                metadata = rs["metadata"]
                kind = KINDS["ReplicaSet"]
                self._registry.delete(kind, metadata["namespace"], metadata["name"])

    def _deployment_status(self, deployment: Json, sets: list[Json], new: Json | None) -> Json:
        before = deployment.get("status") or {}
        counts = _counts(sets, new)
        status: Json = {key: value for key, value in counts.items() if value}
        status["terminatingReplicas"] = sum(rs.get("status", {}).get("terminatingReplicas", 0) for rs in sets)
        status["observedGeneration"] = deployment["metadata"].get("generation", 1)
        if "collisionCount" in before:
            status["collisionCount"] = before["collisionCount"]
        status["conditions"] = clone(before.get("conditions") or [])
        _, unavailable = _limits(deployment)
        if counts["availableReplicas"] >= deployment["spec"]["replicas"] - unavailable:
            reason, text = "MinimumReplicasAvailable", "Deployment has minimum availability."
            self._set_condition(status, "Available", "True", reason, text)
        else:
            reason, text = (
                "MinimumReplicasUnavailable",
                "Deployment does not have minimum availability.",
            )
            self._set_condition(status, "Available", "False", reason, text)
        if new is not None:
            self._progressing(deployment, status, before, new["metadata"]["name"])
        failed = [condition(rs.get("status") or {}, "ReplicaFailure") for rs in sets]
        if failure := next(filter(None, failed), None):
            self._set_condition(status, "ReplicaFailure", "True", failure["reason"], failure["message"])
        else:
            status["conditions"] = [c for c in status["conditions"] if c["type"] != "ReplicaFailure"]
        return self._registry.set_status(deployment, status)

    def _progressing(self, deployment: Json, status: Json, before: Json, name: str) -> None:
        current = condition(status, "Progressing")
        if current is None:
            return
        complete = all(
            status.get(field, 0) == deployment["spec"]["replicas"]
            for field in ("replicas", "updatedReplicas", "availableReplicas")
        )
        settled = current["reason"] == "NewReplicaSetAvailable"
        if settled and status.get("replicas") == status.get("updatedReplicas"):
            return  # a rollout that has ended stays so, whatever happens to its pods
        if complete:
            text = f'ReplicaSet "{name}" has successfully progressed.'
            self._set_condition(status, "Progressing", "True", "NewReplicaSetAvailable", text)
        elif _progressed(status, before):
            text = f'ReplicaSet "{name}" is progressing.'
            self._set_condition(status, "Progressing", "True", "ReplicaSetUpdated", text, renew=True)
        elif not settled and current["status"] == "True" and self._timed_out(deployment, current):
            text = f'ReplicaSet "{name}" has timed out progressing.'
            self._set_condition(status, "Progressing", "False", "ProgressDeadlineExceeded", text)

    def _timed_out(self, deployment: Json, condition: Json) -> bool:
        """Compare the age of the last progress with the deadline, in the sandbox's own fast time.

        The age of a condition that was loaded passed at ordinary speed.
        """
        uid, updated, now = (
            deployment["metadata"]["uid"],
            condition["lastUpdateTime"],
            time.monotonic(),
        )
        known = self._progress.get(uid)
        if known is None or known[0] != updated:
            age = (self._clock() - datetime.fromisoformat(updated)).total_seconds()
            known = self._progress[uid] = (updated, now - max(0.0, age - 1) / self._speed)
        left = deployment["spec"].get("progressDeadlineSeconds", 600)
        left -= (now - known[1]) * self._speed
        if left > 0:
            self._later(deployment, left + 0.01 * self._speed)
        return bool(left <= 0)

    def _set_condition(
        self, status: Json, kind: str, value: str, reason: str, message: str, *, renew: bool = False
    ) -> None:
        """Set a condition as the deployment controller does: the changed one goes to the end."""
        now, current = self._registry.now(), condition(status, kind)
        if current and (current["status"], current["reason"]) == (value, reason) and not renew:
            return
        same_status = current is not None and current["status"] == value
        status["conditions"] = [c for c in status.get("conditions") or () if c["type"] != kind]
        status["conditions"].append(
            {
                "type": kind,
                "status": value,
                "lastUpdateTime": now,
                "lastTransitionTime": current["lastTransitionTime"] if same_status and current else now,
                "reason": reason,
                "message": message,
            }
        )


def _same_template(rs: Json, deployment: Json) -> bool:
    return same(_plain(rs["spec"]["template"]), _plain(deployment["spec"]["template"]))


def _plain(template: Json) -> Json:
    metadata = template.get("metadata") or {}
    labels = {k: v for k, v in (metadata.get("labels") or {}).items() if k != HASH}
    annotations = metadata.get("annotations") or {}
    return {"labels": labels, "annotations": annotations, "spec": template.get("spec")}


def _revision(rs: Json) -> int:
    text = (rs["metadata"].get("annotations") or {}).get(REVISION, "0")
    return int(text) if text.isdecimal() else 0


def _available(rs: Json) -> int:
    return int(rs.get("status", {}).get("availableReplicas", 0))


def _limits(deployment: Json) -> tuple[int, int]:
    """Read maxSurge and maxUnavailable as numbers of pods."""
    spec = deployment["spec"]
    rolling = (spec.get("strategy") or {}).get("rollingUpdate")
    if not rolling:
        return 0, spec["replicas"]

    def number(value: Any, rounded: Callable[[float], int]) -> int:
        if isinstance(value, str):
            return rounded(int(value.rstrip("%")) * spec["replicas"] / 100)
        return int(value)

    surge = number(rolling.get("maxSurge", "25%"), math.ceil)
    unavailable = number(rolling.get("maxUnavailable", "25%"), math.floor)
    if not surge and not unavailable:
        unavailable = 1
    return surge, min(unavailable, spec["replicas"])


def _room(deployment: Json, sets: list[Json], size: int) -> int:
    """Say how many pods the new ReplicaSet may get on top of its `size`."""
    surge, _ = _limits(deployment)
    desired = int(deployment["spec"]["replicas"])
    total = sum(rs["spec"]["replicas"] for rs in sets)
    return max(0, min(desired + surge - int(total), desired - size))


def _sizes(deployment: Json) -> Json:
    surge, _ = _limits(deployment)
    desired = deployment["spec"]["replicas"]
    return {_DESIRED: str(desired), _MAX: str(desired + surge)}


def _counts(sets: list[Json], new: Json | None) -> dict[str, int]:
    def total(field: str) -> int:
        return int(sum(rs.get("status", {}).get(field, 0) for rs in sets))

    wanted = sum(rs["spec"]["replicas"] for rs in sets)
    return {
        "replicas": total("replicas"),
        "updatedReplicas": (new or {}).get("status", {}).get("replicas", 0),
        "readyReplicas": total("readyReplicas"),
        "availableReplicas": total("availableReplicas"),
        "unavailableReplicas": max(0, wanted - total("availableReplicas")),
    }


def _progressed(status: Json, before: Json) -> bool:
    def old(one: Json) -> int:
        return int(one.get("replicas", 0)) - int(one.get("updatedReplicas", 0))

    grown = ("updatedReplicas", "readyReplicas", "availableReplicas")
    return old(status) < old(before) or any(status.get(f, 0) > before.get(f, 0) for f in grown)
