"""The eviction of a pod, as kube-apiserver 1.35.4 answers it (registry/core/pod/rest/eviction.go; measured).

Nothing here keeps a budget's status: whoever makes one says what it allows, as its controller would. Called
by `api`.
"""

from typing import Any, Final

from quietpager.objects.selector import selects
from quietpager.sandbox import answers
from quietpager.sandbox.answers import Problem
from quietpager.sandbox.kinds import KINDS
from quietpager.sandbox.registry import Registry

Json = dict[str, Any]

_IGNORES_BUDGETS: Final = frozenset({"Pending", "Succeeded", "Failed"})
"""Phases of pods that no budget protects; nor one that is on its way out."""
_TWO: Final = (
    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
)
_NONE_LEFT: Final = "Cannot evict pod as it would violate the pod's disruption budget."


def evict(registry: Registry, namespace: str, name: str, body: Any, *, dry_run: bool) -> Json:
    """Remove a pod if its budget allows; a wrong precondition uses the budget up all the same."""
    if not isinstance(body, dict):
        raise answers.bad_request("the body is no Eviction")
    pods = KINDS["Pod"]
    pod = registry.read(pods, namespace, name)
    if (body.get("metadata") or {}).get("name") != name:
        raise answers.bad_request("name in URL does not match name in Eviction object")
    leaving = "deletionTimestamp" in pod["metadata"]
    if not leaving and pod.get("status", {}).get("phase") not in _IGNORES_BUDGETS:
        _use_budget(registry, pod, dry_run=dry_run)
    options = body.get("deleteOptions") or {}
    wanted = options.get("preconditions") or {}
    for field in ("uid", "resourceVersion"):
        if wanted.get(field) not in {None, pod["metadata"][field]}:
            raise answers.conflict(pods, name)
    if not dry_run:
        registry.delete(pods, namespace, name, options.get("gracePeriodSeconds"))
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201}


def _use_budget(registry: Registry, pod: Json, *, dry_run: bool) -> None:
    labels = pod["metadata"].get("labels") or {}
    every = registry.store.select("PodDisruptionBudget", pod["metadata"]["namespace"])
    mine = [one for one in every if selects((one.get("spec") or {}).get("selector"), labels)]
    if len(mine) > 1:
        raise Problem(500, "InternalError", f"Internal error occurred: {_TWO}")
    for budget in mine:
        status, meta = budget.get("status") or {}, budget["metadata"]
        counted = status.get("observedGeneration", 0) >= meta.get("generation", 0)
        if not counted or status.get("disruptionsAllowed", 0) < 1:
            wanted, has = status.get("desiredHealthy", 0), status.get("currentHealthy", 0)
            why = f"The disruption budget {meta['name']} needs {wanted} healthy pods and has {has} currently"
            causes = [{"reason": "DisruptionBudget", "message": why}]
            raise Problem(429, "TooManyRequests", _NONE_LEFT, {"causes": causes})
        if not dry_run:
            left = status | {"disruptionsAllowed": status["disruptionsAllowed"] - 1}
            registry.set_status(budget, left)
