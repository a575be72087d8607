"""A reader over objects that a test holds, and builders of pods and owners."""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from quietpager.cluster.snapshot import with_labels
from quietpager.model.cluster import Json, Kind
from quietpager.model.reference import ObjectRef
from quietpager.objects import table
from quietpager.objects.live import Live

WAITS: Final = {"waiting": {"reason": "CrashLoopBackOff"}}
RUNS: Final = {"running": {"startedAt": "2026-11-25T00:00:00Z"}}


class Held:
    """A `Reader`; an object that a test changes is changed here."""

    def __init__(self, *objects: Json) -> None:
        """Hold these."""
        self.objects = [*objects]

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        """Read one object."""
        return next((o for o in self.list(kind, namespace) if o["metadata"]["name"] == name), None)

    def list(self, kind: Kind, namespace: str | None = None, labels: str = "") -> list[Json]:
        """Read all objects of a kind."""
        assert not labels
        place = namespace if table.namespaced(kind) else None
        return [
            o for o in self.objects if o["kind"] == kind and place in (None, o["metadata"].get("namespace"))
        ]

    def each(
        self, kind: Kind, namespace: str | None = None, labels: Mapping[str, str] | None = None
    ) -> Iterator[Json]:
        """Read all objects of a kind that carry the labels."""
        return with_labels(self.list(kind, namespace), labels)

    def live(self, one: Json) -> Live:
        """Look at one of them."""
        return Live(self, ref(one))


def ref(one: Json) -> ObjectRef:
    """Point at an object."""
    meta = one["metadata"]
    return ObjectRef(
        api_version=one["apiVersion"], kind=one["kind"], namespace=meta.get("namespace"), name=meta["name"],
        uid=meta["uid"],
    )  # fmt: skip


def made(kind: str, spec: Json | None = None, status: Json | None = None, **meta: Any) -> Json:
    """Make an object of a known kind, named after it, in namespace `shop`."""
    found = table.resource(kind)
    place = {"namespace": "shop"} if found.namespaced else {}
    about = {"name": kind.lower(), "uid": f"uid-{kind.lower()}", "generation": 2, **place, **meta}
    return {
        "apiVersion": found.api_version, "kind": kind, "metadata": about, "spec": spec or {},
        "status": status or {},
    }  # fmt: skip


def owned_by(owner: Json) -> list[Json]:
    """Give the owner reference of what a controller makes."""
    meta = owner["metadata"]
    return [
        {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": meta["name"], "uid": meta["uid"],
         "controller": True}
    ]  # fmt: skip


def template(*containers: str, sidecars: tuple[str, ...] = (), image: str = "app:1") -> Json:
    """Make a pod template; `sidecars` are native ones."""
    spec: Json = {"containers": [{"name": name, "image": image} for name in containers]}
    if sidecars:
        spec["initContainers"] = [{"name": name, "restartPolicy": "Always"} for name in sidecars]
    return {"metadata": {"labels": {"app": "web"}}, "spec": spec}


def pod(owner: Json | None, name: str = "web-1", *, ill: str = "", labels: Json | None = None,
        phase: str = "Running", containers: tuple[str, ...] = ("app",),
        sidecars: tuple[str, ...] = ()) -> Json:  # fmt: skip
    """Make a pod; `ill` names the container that crashes again and again."""
    every = template(*containers, sidecars=sidecars)["spec"]

    def status(one: str) -> Json:
        state = WAITS if one == ill else RUNS
        return {"name": one, "ready": one != ill, "restartCount": 3 if one == ill else 0, "state": state}

    return made(
        "Pod", every,
        {
            "phase": phase, "conditions": [{"type": "Ready", "status": "False" if ill else "True"}],
            "containerStatuses": [status(one) for one in containers],
            "initContainerStatuses": [status(one) for one in sidecars],
        },
        name=name, uid=f"uid-{name}", labels={"app": "web"} | (labels or {}),
        ownerReferences=[] if owner is None else owned_by(owner),
    )  # fmt: skip
