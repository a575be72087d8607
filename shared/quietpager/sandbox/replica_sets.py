"""The ReplicaSet controller: as many pods as the spec says, created and deleted."""

import contextlib
from collections.abc import Callable
from datetime import datetime
from typing import Any, Final

from quietpager.sandbox.answers import Problem
from quietpager.sandbox.kinds import KINDS
from quietpager.sandbox.owners import condition, is_active, is_ready, owned, owner_reference
from quietpager.sandbox.patching import clone
from quietpager.sandbox.recorder import Recorder
from quietpager.sandbox.registry import Registry

Json = dict[str, Any]

_FIRST_RETRY: Final = 0.005  # client-go's workqueue: doubled at each failure
_LAST_RETRY: Final = 1000.0


class ReplicaSets:
    """Bring one ReplicaSet closer to its spec at each call. `Controllers` calls it."""

    def __init__(self, registry: Registry, recorder: Recorder, later: Callable[[Json, float], None]) -> None:
        """Work on a registry; `later` asks to be called again for an object."""
        self._registry, self._recorder = registry, recorder
        self._store, self._later = registry.store, later
        self._failures: dict[str, int] = {}

    def sync(self, rs: Json) -> None:
        """Create or delete pods, and write the status; what cannot be created is tried again later."""
        recorded = condition(rs.get("status") or {}, "ReplicaFailure")
        if recorded and "quota" not in recorded["message"]:
            return  # loaded, and refused by an admission that the sandbox does not have
        metadata = rs["metadata"]
        namespace, uid = metadata["namespace"], metadata["uid"]
        mine = owned(self._store.select("Pod", namespace), rs)
        active = [pod for pod in mine if is_active(pod)]
        missing = rs["spec"]["replicas"] - len(active)
        failure: Problem | None = None
        for _ in range(max(0, missing)):
            failure = self._create_pod(rs)
            if failure:
                break
        for pod in sorted(active, key=_last_to_go)[: max(0, -missing)]:
            name = pod["metadata"]["name"]
            self._registry.delete(KINDS["Pod"], namespace, name)
            text, component = f"Deleted pod: {name}", "replicaset-controller"
            self._recorder.send(rs, "Normal", "SuccessfulDelete", text, component)
        self._replica_set_status(rs, failure)
        if failure:
            tries = self._failures[uid] = self._failures.get(uid, 0) + 1
            self._later(rs, min(_LAST_RETRY, _FIRST_RETRY * 2.0 ** min(tries, 20)))
        else:
            self._failures.pop(uid, None)

    def _create_pod(self, rs: Json) -> Problem | None:
        template, metadata = clone(rs["spec"]["template"]), rs["metadata"]
        pod = {
            "metadata": {
                **{k: v for k, v in template["metadata"].items() if k in {"labels", "annotations"}},
                "generateName": metadata["name"] + "-",
                "ownerReferences": [owner_reference(rs)],
            },
            "spec": template["spec"],
        }
        component = "replicaset-controller"
        try:
            created = self._registry.create(KINDS["Pod"], pod, metadata["namespace"])
        except Problem as problem:
            text = f"Error creating: {problem}"
            self._recorder.send(rs, "Warning", "FailedCreate", text, component)
            return problem
        text = f"Created pod: {created['metadata']['name']}"
        self._recorder.send(rs, "Normal", "SuccessfulCreate", text, component)
        return None

    def _replica_set_status(self, rs: Json, failure: Problem | None) -> None:
        mine = owned(self._store.select("Pod", rs["metadata"]["namespace"]), rs)
        active = [pod for pod in mine if is_active(pod)]
        ready = sum(map(is_ready, active))
        status: Json = {"replicas": len(active)}
        counts = {
            "fullyLabeledReplicas": len(active),
            "readyReplicas": ready,
            "availableReplicas": ready,
        }
        status |= {key: value for key, value in counts.items() if value}
        status["terminatingReplicas"] = sum(1 for pod in mine if pod["metadata"].get("deletionTimestamp"))
        status["observedGeneration"] = rs["metadata"].get("generation", 1)
        before = condition(rs.get("status") or {}, "ReplicaFailure")
        if failure:
            status["conditions"] = [
                before
                or {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "lastTransitionTime": self._registry.now(),
                    "reason": "FailedCreate",
                    "message": str(failure),
                }
            ]
        self._registry.set_status(rs, status)


def _last_to_go(pod: Json) -> tuple[bool, bool, bool, float, str]:
    """Order pods for deletion: unscheduled, pending, not ready, youngest first."""
    metadata = pod["metadata"]
    age = 0.0
    with contextlib.suppress(ValueError):
        age = -datetime.fromisoformat(metadata["creationTimestamp"]).timestamp()
    running = pod.get("status", {}).get("phase") == "Running"
    return bool(pod["spec"].get("nodeName")), running, is_ready(pod), age, metadata["name"]
