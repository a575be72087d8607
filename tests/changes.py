"""A cluster to which the kinds of change are sent, an intent about each, and the sender around them.

Two sides: the sandbox, and a real kube-apiserver without controllers (`tests.apiserver`). Who uses it: the
contract of the changes, and the attacks on them.
"""

import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from quietpager.actions.schema import Action
from quietpager.change.send import carry_out
from quietpager.change.write import Write
from quietpager.cluster.client import ApiServer, connect
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.cluster import Kind
from quietpager.model.incident import Intent
from quietpager.model.message import Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Put
from quietpager.objects.types import Pod
from quietpager.sandbox.server import running
from quietpager.store.memory import MemoryStore
from tests import apiserver
from tests.contract.cluster.support import until

Json = dict[str, Any]

START: Final = datetime(2026, 1, 1, tzinfo=UTC)
POLICY: Final = Policy()
NO_GUARDS: Final = {"fraction": False, "rollout_of_others": "refuse", "pdb": False}
_BASE: Final[Json] = {
    "summary": "s", "inverse": "none", "undo_when": "never", "read": (), "may_change": (), "approvals": 2,
    "promise": {"says": "p"}, "verify": {"goal": "owner_healthy"}, "guards": NO_GUARDS,
}  # fmt: skip


def action(name: str, right: tuple[str, str, str], kinds: Sequence[str], **more: Any) -> Action:
    group, resource, verb = right
    write = ({"group": group, "resources": (resource,), "verbs": (verb,)},)
    return Action.model_validate(_BASE | {"name": name, "applies_to": (*kinds,), "write": write} | more)


EVICT: Final = action(
    "evict-pod", ("", "pods/eviction", "create"), ["Deployment"],
    guards=NO_GUARDS | {"fraction": True, "pdb": True},
)  # fmt: skip
CORDON: Final = action(
    "cordon", ("", "nodes", "patch"), ["Node"], inverse="restore", undo_when="unchanged"
)  # fmt: skip
RERUN: Final = action("rerun-job", ("batch", "jobs", "create"), ["Job"], approvals=1)


@contextmanager
def on_sandbox() -> Iterator[ApiServer]:
    with running(speed=50) as url:
        client = connect(url, manager="changes")
        yield client
        client.close()


@contextmanager
def on_real() -> Iterator[ApiServer]:
    with apiserver.shared() as server, tempfile.TemporaryDirectory() as folder:
        client = connect(kubeconfig=server.kubeconfig(Path(folder)), manager="changes")
        yield client
        client.close()


SIDES: Final = {"sandbox": on_sandbox, "real": on_real}


@dataclass
class Bench:
    """A cluster whose writes are counted, a store, a clock; `before` and `after` happen around a send."""

    real: ApiServer
    namespace: str
    store: MemoryStore = field(default_factory=MemoryStore)
    now: datetime = START
    taken: list[str] = field(default_factory=list)
    before: list[Callable[[], object]] = field(default_factory=list)
    after: list[Callable[[], object]] = field(default_factory=list)

    def get(self, kind: Kind, namespace: str | None, name: str) -> Json | None:
        return self.real.get(kind, namespace, name)

    def _send(self, what: str, send: Callable[[], Json]) -> Json:
        if self.before:
            self.before.pop(0)()
        done = send()
        self.taken.append(what)
        if self.after:
            self.after.pop(0)()
        return done

    def json_patch(self, kind: Kind, namespace: str | None, name: str, patch: Sequence[Json]) -> Json:
        return self._send(f"patch {name}", lambda: self.real.json_patch(kind, namespace, name, patch))

    def evict(self, namespace: str, pod: str, eviction: Json) -> Json:
        return self._send(f"evict {pod}", lambda: self.real.evict(namespace, pod, eviction))

    def create(self, kind: Kind, obj: Json) -> Json:
        return self._send(f"create {obj['metadata']['name']}", lambda: self.real.create(kind, obj))

    def switch(self, *, stopped: bool = False) -> None:
        found = self.store.get(records.SWITCH)
        self.store.transact([Put(records.SWITCH, {"stopped": stopped}, found.version if found else 0)])

    def intent(self, change: Write, act: Action, target: ObjectRef, **more: Any) -> Intent:
        made = Intent(
            id=more.pop("id", f"int-{uuid.uuid4().hex[:8]}"), incident="inc-1", rehearsal="r",
            action=act.name, target=target, generation=0, edits=(), change=change.stored(), created_at=START,
            expires_at=START + timedelta(seconds=POLICY.claim),
        ).but(**more)  # fmt: skip
        self.store.transact([Put(records.intent(made.id), made.to_json(), 0)])
        return made

    def carry(self, intent: Intent, act: Action) -> Message | None:
        return carry_out(
            intent.id, cage=act.cage, store=self.store, cluster=self, policy=POLICY,  # type: ignore[arg-type]
            clock=lambda: self.now, still_failing=lambda _target: True, actor="test",
        )  # fmt: skip

    def kept(self, intent: Intent) -> Intent:
        record = self.store.get(records.intent(intent.id))
        assert record is not None
        return Intent.from_json(record.body)

    def done(self, intent: Intent, act: Action) -> Intent:
        """Carry it out, and give what is on record afterwards."""
        self.carry(intent, act)
        return self.kept(intent)

    def late(self) -> None:
        self.now += timedelta(seconds=POLICY.act + 1)

    # What there is to write to

    @property
    def owner(self) -> ObjectRef:
        return ObjectRef(
            api_version="apps/v1", kind="Deployment", namespace=self.namespace, name="web", uid="d"
        )

    def pod(self, name: str) -> Pod:
        """Make a running pod of nobody's: by the sandbox's kubelet, else by writing its status."""
        container = {"name": "a", "image": "localhost/busybox:1"}
        self.real.create(
            "Pod",
            {
                "metadata": {"name": name, "namespace": self.namespace, "labels": {"app": "web"}},
                "spec": {"nodeName": "away", "containers": [container]},
            },
        )
        if self.real.address.startswith("http:"):
            return until(lambda: self._running(name), "the pod to run")
        ready = [{"type": "Ready", "status": "True"}]
        status = {"status": {"phase": "Running", "conditions": ready}}
        self.real.merge_patch("Pod", self.namespace, name, status, subresource="status")
        return self.read_pod(name)

    def _running(self, name: str) -> Pod | None:
        found = self.read_pod(name)
        return found if found.ready else None

    def read_pod(self, name: str) -> Pod:
        raw = self.get("Pod", self.namespace, name)
        assert raw is not None
        return Pod.read(raw)

    def leaves(self, name: str) -> bool:
        raw = self.get("Pod", self.namespace, name)
        return raw is None or "deletionTimestamp" in raw["metadata"]

    def replace(self, name: str) -> Pod:
        """Take a pod away for good, and make another one of its name."""
        self.real._call(
            "DELETE", f"/api/v1/namespaces/{self.namespace}/pods/{name}", {}, {"gracePeriodSeconds": 0}
        )
        return self.pod(name)

    def budget(self, name: str, allowed: int) -> None:
        """Make a PodDisruptionBudget for all pods here, whose controller has counted."""
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "web"}}}
        made = self.real.create(
            "PodDisruptionBudget", {"metadata": {"name": name, "namespace": self.namespace}, "spec": spec}
        )
        status = {
            "disruptionsAllowed": allowed, "observedGeneration": made["metadata"]["generation"],
            "currentHealthy": 1 + allowed, "desiredHealthy": 1, "expectedPods": 1 + allowed,
        }  # fmt: skip
        self.real.merge_patch(
            "PodDisruptionBudget", self.namespace, name, {"status": status}, subresource="status"
        )

    def allowed(self, name: str) -> int:
        raw = self.get("PodDisruptionBudget", self.namespace, name)
        assert raw is not None
        return int(raw["status"].get("disruptionsAllowed", 0))

    def node(self) -> Json:
        return self.real.create("Node", {"metadata": {"name": f"node-{uuid.uuid4().hex[:8]}"}})

    def closed(self, node: Json) -> bool:
        raw = self.get("Node", None, node["metadata"]["name"])
        assert raw is not None
        return bool(raw.get("spec", {}).get("unschedulable"))

    def job(self) -> Json:
        """Make a Job that has failed, with a variable in it."""
        env = [{"name": "TOKEN", "value": "hunter2"}]
        container = {"name": "a", "image": "localhost/busybox:1", "env": env}
        spec = {
            "ttlSecondsAfterFinished": 60,
            "template": {"spec": {"restartPolicy": "Never", "containers": [container]}},
        }
        made = self.real.create(
            "Job", {"metadata": {"name": "load", "namespace": self.namespace}, "spec": spec}
        )
        return made | {"status": {"conditions": [{"type": "Failed", "status": "True"}]}}


def ref_of(raw: Json, kind: str) -> ObjectRef:
    meta = raw["metadata"]
    return ObjectRef(
        api_version="v1", kind=kind, namespace=meta.get("namespace"), name=meta["name"], uid=meta["uid"]
    )


@contextmanager
def bench_on(client: ApiServer) -> Iterator[Bench]:
    """Give a bench with a namespace of its own, where writing is allowed."""
    name = f"changes-{uuid.uuid4().hex[:8]}"
    client.create("Namespace", {"metadata": {"name": name}})
    made = Bench(client, name)
    made.switch()
    yield made
    client.delete("Namespace", None, name)
