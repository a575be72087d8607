"""ResourceQuota: what a namespace uses, and the admission that refuses a pod.

Called by `registry` at a pod's creation and by `controllers` to write the quota's status. Wording
as recorded (kube-apiserver 1.35, plugin/pkg/admission/resourcequota).
"""

from collections.abc import Iterable
from decimal import Decimal
from typing import Any

from quietpager.model.quantity import memory_text, quantity
from quietpager.sandbox import answers
from quietpager.sandbox.kinds import KINDS
from quietpager.sandbox.validation import containers

Json = dict[str, Any]


def _tracked(what: str) -> tuple[str, str] | None:
    """Split a quota's resource: `limits.memory` into field and resource; None where not counted."""
    if what in {"cpu", "memory"}:
        return "requests", what
    field, _, resource = what.partition(".")
    known = field in {"requests", "limits"} and resource in {"cpu", "memory"}
    return (field, resource) if known else None


def _amount(pod: Json, what: str) -> Decimal:
    if what == "pods":
        return Decimal(1)
    tracked = _tracked(what)
    if tracked is None:
        return Decimal(0)
    field, resource = tracked
    amounts = (((c.get("resources") or {}).get(field) or {}) for _, c in containers(pod))
    return sum((quantity(a[resource]) for a in amounts if resource in a), Decimal(0))


def used(quota: Json, pods: Iterable[Json]) -> dict[str, str]:
    """Count what the pods of the quota's namespace use."""
    living = [p for p in pods if p.get("status", {}).get("phase") not in {"Succeeded", "Failed"}]
    hard = quota["spec"].get("hard") or {}
    return {what: _text(what, sum((_amount(p, what) for p in living), Decimal(0))) for what in hard}


def _text(what: str, amount: Decimal) -> str:
    if what.endswith("memory"):
        return memory_text(amount)
    return str(int(amount)) if amount == int(amount) else f"{int(amount * 1000)}m"


def admit(pod: Json, quotas: Iterable[Json], pods: list[Json]) -> None:
    """Let a pod in, or raise Problem 403."""
    name = pod["metadata"]["name"]
    for quota in quotas:
        title, hard = quota["metadata"]["name"], quota["spec"].get("hard") or {}
        missing = [what for what in sorted(hard) if _unset(pod, what)]
        if missing:
            which = ",".join(c["name"] for _, c in containers(pod))
            wants = "; ".join(f"{what} for: {which}" for what in missing)
            raise answers.forbidden(KINDS["Pod"], name, f"failed quota: {title}: must specify {wants}")
        now = used(quota, pods)
        over = [w for w in sorted(hard) if quantity(now[w]) + _amount(pod, w) > quantity(hard[w])]
        if over:
            asked = ",".join(f"{what}={_text(what, _amount(pod, what))}" for what in over)
            has = ",".join(f"{what}={now[what]}" for what in over)
            limit = ",".join(f"{what}={hard[what]}" for what in over)
            text = f"exceeded quota: {title}, requested: {asked}, used: {has}, limited: {limit}"
            raise answers.forbidden(KINDS["Pod"], name, text)


def _unset(pod: Json, what: str) -> bool:
    tracked = _tracked(what)
    if tracked is None:
        return False
    field, resource = tracked
    return not all(resource in ((c.get("resources") or {}).get(field) or {}) for _, c in containers(pod))
