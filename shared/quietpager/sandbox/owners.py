"""Who owns what, and what an object's status says: facts that several controllers read."""

from collections.abc import Iterable
from typing import Any

Json = dict[str, Any]


def owned(objects: Iterable[Json], owner: Json) -> list[Json]:
    """Pick the objects whose controller `owner` is."""
    uid = owner["metadata"]["uid"]
    return [obj for obj in objects if controller_of(obj).get("uid") == uid]


def controller_of(obj: Json) -> Json:
    """Give the owner reference that manages the object, or nothing."""
    references: list[Json] = obj["metadata"].get("ownerReferences") or []
    return next((one for one in references if one.get("controller")), {})


def is_ready(pod: Json) -> bool:
    """Read a pod's Ready condition."""
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def is_active(pod: Json) -> bool:
    """Say whether a ReplicaSet counts the pod."""
    finished = pod.get("status", {}).get("phase") in {"Succeeded", "Failed"}
    return not finished and not pod["metadata"].get("deletionTimestamp")


def owner_reference(obj: Json) -> Json:
    """Make the reference of an object that `obj` manages."""
    return {
        "apiVersion": obj["apiVersion"],
        "kind": obj["kind"],
        "name": obj["metadata"]["name"],
        "uid": obj["metadata"]["uid"],
        "controller": True,
        "blockOwnerDeletion": True,
    }


def condition(status: Json, kind: str) -> Json | None:
    """Find a condition by its type."""
    return next((c for c in status.get("conditions") or () if c["type"] == kind), None)
