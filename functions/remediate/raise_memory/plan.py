"""Plan: more memory for the containers that were killed for it, within a factor and a ceiling."""

from collections.abc import Callable
from copy import deepcopy
from decimal import Decimal
from typing import Any

from quietpager.actions.plan import Planned
from quietpager.change.patch_fields import PatchFields
from quietpager.errors import Refused
from quietpager.model.incident import Edit
from quietpager.model.quantity import memory_text, quantity
from quietpager.objects.live import Live

_MEBI = 1 << 20


def plan(live: Live, params: dict[str, str | float]) -> Planned:
    """Raise limit and request of each killed container by the factor, up to the ceiling.

    The request grows by the same factor and never beyond the limit, so that the scheduler knows.

    Raises:
        Refused: nothing was killed for memory, there is no limit, or it is at the ceiling.
    """
    template = live.template
    if template is None:
        raise Refused(f"{live.owner} is gone, or has no pod template.")
    killed = {
        one.name
        for pod in live.newest_pods
        for one in pod.containers
        if one.ended is not None and one.ended.reason == "OOMKilled"
    }
    factor, ceiling = Decimal(str(params["factor"])), quantity(params["ceiling"])
    containers: list[dict[str, Any]] = template["spec"]["containers"]
    edits: list[Edit] = []
    said: list[str] = []
    for index, container in enumerate(containers):
        if container["name"] in killed:
            more, text = _raise(index, container, factor, ceiling)
            edits += more
            said.append(text)
    if not edits:
        raise Refused(f"No container of {live.owner} that its template declares was killed for memory.")
    after = _edited(containers, edits)
    return Planned(
        change=PatchFields(edits=tuple(edits)),
        summary=f"raise memory of {live.owner}: {'; '.join(said)}",
        pod_memory=_sum(after, _asks),
        pod_memory_before=_sum(containers, _asks),
        pod_limit=_sum(after, _limit),
        pod_limit_before=_sum(containers, _limit),
    )


def _raise(
    index: int, container: dict[str, Any], factor: Decimal, ceiling: Decimal
) -> tuple[list[Edit], str]:
    resources = container.get("resources") or {}
    limit = (resources.get("limits") or {}).get("memory")
    if limit is None:
        raise Refused(f"Container {container['name']} has no memory limit; its node ran out, not it.")
    wanted = _whole(min(quantity(limit) * factor, ceiling))
    if wanted <= quantity(limit):
        raise Refused(
            f"Container {container['name']} has {limit} already; the ceiling is {memory_text(ceiling)}."
        )
    base = f"/spec/template/spec/containers/{index}/resources"
    edits = [Edit(path=f"{base}/limits/memory", had=limit, gets=memory_text(wanted))]
    request = (resources.get("requests") or {}).get("memory")
    if request is not None:
        more = _whole(min(quantity(request) * factor, wanted))
        if more > quantity(request):
            edits.append(Edit(path=f"{base}/requests/memory", had=request, gets=memory_text(more)))
    return edits, f"{container['name']} {limit} -> {memory_text(wanted)}"


def _whole(size: Decimal) -> Decimal:
    """Round down to whole MiB where there is more than one, else to whole bytes."""
    return Decimal(int(size) // _MEBI * _MEBI) if size >= 2 * _MEBI else Decimal(int(size))


def _edited(containers: list[dict[str, Any]], edits: list[Edit]) -> list[dict[str, Any]]:
    """Give the containers as they will be; edits are of limits and requests that are there."""
    after = deepcopy(containers)
    for edit in edits:
        *_, index, _resources, kind, name = edit.path.split("/")
        after[int(index)]["resources"][kind][name] = edit.gets
    return after


def _sum(containers: list[dict[str, Any]], what: Callable[[dict[str, Any]], Decimal]) -> str:
    return memory_text(sum((what(one) for one in containers), Decimal(0)))


def _limit(container: dict[str, Any]) -> Decimal:
    return quantity(((container.get("resources") or {}).get("limits") or {}).get("memory", "0"))


def _asks(container: dict[str, Any]) -> Decimal:
    """What the scheduler counts for a container: its request, or its limit where it has none."""
    request = ((container.get("resources") or {}).get("requests") or {}).get("memory")
    return _limit(container) if request is None else quantity(request)
