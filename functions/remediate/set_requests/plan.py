"""Plan: lower the request that keeps a pod off every node. Only requests change, and only downwards.

A limit stays as it is, so it stays at or above its request.
"""

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from quietpager.actions.plan import Planned
from quietpager.change.patch_fields import PatchFields
from quietpager.errors import Refused
from quietpager.model.incident import Edit
from quietpager.model.quantity import memory_text, quantity
from quietpager.objects.live import Live
from quietpager.objects.room import COUNTED, Asked, asked, closest, fits, offers, request
from quietpager.objects.types import Container, PodSpec

_MEBI: Final = 1 << 20
_LEAST: Final[Asked] = {"memory": Decimal(16 * _MEBI), "cpu": Decimal("0.01")}
"""Below this a request says nothing any more; the same as the least in action.yaml."""


def plan(live: Live, params: dict[str, str | float]) -> Planned:
    """Lower the largest request of each resource that is too large for every node.

    The whole pod may then ask for `share` of the node that comes closest. `memory` or `cpu`, where a
    person gives one, is the container's new request, within the same share.

    Raises:
        Refused: some node could hold the pod as it is, or lowering one request cannot help.
    """
    template, spec = live.template, live.pod_spec
    if template is None or spec is None:
        raise Refused(f"{live.owner} is gone, or has no pod template.")
    wanted = asked(spec)
    if any(fits(wanted, node) for node in live.nodes):
        raise Refused(f"A pod of {live.owner} is not too large: a node could hold it, were it empty.")
    node = closest(wanted, live.nodes)
    if node is None:
        raise Refused("No node takes pods just now, so there is nothing to measure the request by.")
    room, share = offers(node), Decimal(str(params["share"]))
    edits: list[Edit] = []
    said: list[str] = []
    for name in COUNTED:
        if wanted[name] > room[name]:
            edit, text = _lower(live, spec, name, _whole(name, room[name] * share), params.get(name))
            edits.append(edit)
            said.append(f"{text} (node {node.metadata.name} has {_text(name, _whole(name, room[name]))})")
        elif name in params:
            raise Refused(
                f"Its {name} is not what keeps the pod off {node.metadata.name}; it stays as it is."
            )
    before: list[dict[str, Any]] = template["spec"]["containers"]
    lowered = {edit.path for edit in edits if edit.path.endswith("/memory")}
    after = wanted["memory"] if not lowered else _after(spec, edits)
    limits = memory_text(sum((_limit(one) for one in before), Decimal(0)))
    return Planned(
        change=PatchFields(edits=tuple(edits)),
        summary=f"set requests of {live.owner}: {'; '.join(said)}",
        pod_memory=memory_text(after),
        pod_memory_before=memory_text(wanted["memory"]),
        pod_limit=limits,
        pod_limit_before=limits,
    )


def _lower(
    live: Live, spec: PodSpec, name: str, most: Decimal, chosen: str | float | None
) -> tuple[Edit, str]:
    index, largest = max(enumerate(spec.containers), key=lambda one: request(one[1], name))
    had = largest.resources.requests.get(name)
    if had is None or name in spec.resources.requests:
        where = "the pod as a whole" if name in spec.resources.requests else f"the limit of {largest.name}"
        raise Refused(
            f"The {name} of {live.owner} is asked for by {where}, which set-requests may not change."
        )
    others = asked(_with(spec, index, name, Decimal(0)))[name]
    room = most - others
    gets = room if chosen is None else quantity(chosen)
    if gets > room:
        raise Refused(
            f"{largest.name} may ask for at most {_text(name, room)} of {name}; {_text(name, gets)} is more."
        )
    if gets < _LEAST[name]:
        raise Refused(
            f"The rest of the pod asks for {_text(name, others)} of {name} already, and the pod may ask for "
            f"{_text(name, most)}; lowering {largest.name} alone cannot help."
        )
    text = _text(name, gets)
    path = f"/spec/template/spec/containers/{index}/resources/requests/{name}"
    return Edit(path=path, had=had, gets=text), f"{largest.name} {name} {had} -> {text}"


def _with(spec: PodSpec, index: int, name: str, amount: Decimal) -> PodSpec:
    """Give the spec with one container's request changed, to be counted again."""
    one: Container = spec.containers[index]
    requests = {**one.resources.requests, name: str(amount)}
    changed = one.model_copy(update={"resources": one.resources.model_copy(update={"requests": requests})})
    containers = (*spec.containers[:index], changed, *spec.containers[index + 1 :])
    return spec.model_copy(update={"containers": containers})


def _after(spec: PodSpec, edits: list[Edit]) -> Decimal:
    for edit in edits:
        *_, index, _resources, _requests, name = edit.path.split("/")
        spec = _with(spec, int(index), name, quantity(edit.gets))
    return asked(spec)["memory"]


def _limit(container: Mapping[str, Any]) -> Decimal:
    return quantity(((container.get("resources") or {}).get("limits") or {}).get("memory", "0"))


_WHOLE: Final[Mapping[str, Callable[[Decimal], Decimal]]] = {
    "memory": lambda size: Decimal(int(size) // _MEBI * _MEBI),
    "cpu": lambda cores: Decimal(int(cores * 1000)) / 1000,
}


def _whole(name: str, amount: Decimal) -> Decimal:
    """Round down to whole MiB, or whole thousandths of a core."""
    return _WHOLE[name](amount)


def _text(name: str, amount: Decimal) -> str:
    """Write it as the API server gives it back, so that an undo finds what was written."""
    if name == "memory":
        return memory_text(amount)
    thousandths = int(amount * 1000)
    for unit, suffix in ((1_000_000, "k"), (1000, "")):
        if thousandths and thousandths % unit == 0:
            return f"{thousandths // unit}{suffix}"
    return f"{thousandths}m"
