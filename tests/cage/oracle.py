"""What an action promises, judged by itself: neither the rules in CEL nor those of the product are asked.

base   the object as the last other writer left it
now    the object after a write that the API server took
"""

import re
from copy import deepcopy
from decimal import Decimal
from typing import Any, Final

Json = dict[str, Any]

FACTOR, CEILING, NEAR = Decimal(2), Decimal(64 << 30), Decimal(4)
LEAST: Final = {"memory": Decimal(16 << 20), "cpu": Decimal("0.01")}
UNITS: Final[dict[str, Decimal | int]] = {
    "": 1, "m": Decimal("0.001"), "k": 10**3, "M": 10**6, "G": 10**9, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30,
}  # fmt: skip
MAY: Final = {
    "raise-memory": [("limits", "memory"), ("requests", "memory")],
    "set-requests": [("requests", "memory"), ("requests", "cpu")],
    "rollout-undo": [(kind, name) for kind in ("limits", "requests") for name in ("cpu", "memory")],
}
PROBES: Final = ("livenessProbe", "readinessProbe", "startupProbe")


def size(text: str) -> Decimal:
    number, unit = re.fullmatch(r"([0-9.]+)([A-Za-z]*)", text).groups()  # type: ignore[union-attr]
    return Decimal(number) * UNITS[unit]


def violations(action: str, base: Json, now: Json, acts: int) -> list[str]:
    """Say everything that is not as promised, after `acts` forward writes since the base."""
    found = [] if frozen(action, base) == frozen(action, now) else ["something else differs"]
    for was, is_ in zip(listed(base), listed(now), strict=False):
        for kind, name in MAY[action]:
            a, b = (((one.get("resources") or {}).get(kind) or {}).get(name) for one in (was, is_))
            if (a is None) is not (b is None):
                found.append(f"{kind}.{name} is {b}, it was {a}")
            elif a is not None and b is not None and not fits(action, name, size(a), size(b), acts):
                found.append(f"{kind}.{name} is {b}, it was {a}, after {acts} acts")
        if action == "rollout-undo" and repository(was["image"]) != repository(is_["image"]):
            found.append(f"the image is {is_['image']}, it was {was['image']}")
        if action == "rollout-undo":
            found += [
                f"{probe} has gained {new}"
                for probe in PROBES
                if (new := reach(is_, probe) - reach(was, probe))
            ]
    return found


def fits(action: str, name: str, was: Decimal, now: Decimal, acts: int) -> bool:
    if action == "raise-memory":
        return was <= now <= was * FACTOR**acts and now <= max(CEILING, was)
    if action == "set-requests":
        return min(LEAST[name], was) <= now <= was
    return was <= now * NEAR and now <= was * NEAR


def listed(obj: Json) -> list[Json]:
    found: list[Json] = obj["spec"]["template"]["spec"]["containers"]
    return found


def frozen(action: str, obj: Json) -> Json:
    """Give everything that must not differ at all."""
    kept = deepcopy(obj)
    kept.pop("status", None)
    for one in ("generation", "resourceVersion", "managedFields"):
        kept["metadata"].pop(one, None)
    for note in ("quietpager.dev/intent", "quietpager.dev/wrote", "quietpager.dev/rolled-back"):
        (kept["metadata"].get("annotations") or {}).pop(note, None)
    if not kept["metadata"].get("annotations"):
        kept["metadata"].pop("annotations", None)
    for container in listed(kept):
        for kind, name in MAY[action]:
            ((container.get("resources") or {}).get(kind) or {}).pop(name, None)
        for field in ("image", *PROBES) if action == "rollout-undo" else ():
            container.pop(field, None)
    return kept


def repository(image: str) -> str:
    head, slash, last = image.partition("@")[0].rpartition("/")
    return head + slash + last.partition(":")[0]


def reach(container: Json, probe: str) -> set[str]:
    """Name what a probe could do beyond asking its own pod."""
    found = container.get(probe) or {}
    http, tcp = found.get("httpGet") or {}, found.get("tcpSocket") or {}
    could = {
        "command": found.get("exec"),
        "host": http.get("host") or tcp.get("host"),
        "headers": http.get("httpHeaders"),
    }
    return {f"{name} {value}" for name, value in could.items() if value}
