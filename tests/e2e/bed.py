"""What the end-to-end tests do to the test bed, and what they see of it."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from infra.deploy import store_url
from infra.testbed import layout, machine
from infra.testbed.addons import kubectl
from quietpager.change.marks import MARK, pointer
from quietpager.cluster.client import connect
from quietpager.model.cluster import Cluster, ClusterUnavailable, Kind, Rejected
from quietpager.model.incident import Incident, Intent, State
from quietpager.model.store import AuditEntry, Store, StoreUnavailable

Json = dict[str, Any]
T = TypeVar("T")

NAMESPACE = "quietpager"
METRICS_PORT = 9092
"""Of Knative's broker filter (its Deployment names the port `metrics`)."""
FAULTS = Path(__file__).parent / "faults"
MANIFESTS = Path(__file__).parents[2] / "infra" / "record" / "manifests"
ENDED = {State.CLOSED, State.HANDOVER, State.BLOCKED}


def now() -> datetime:
    return datetime.fromtimestamp(time.time(), UTC)


def until(what: str, ask: Callable[[], T | None], seconds: float, every: float = 0.1) -> T:
    """Ask until there is an answer that counts; fails with a sentence after so many seconds.

    A store that is away just now, because a test killed it, is no answer.
    """
    end = time.monotonic() + seconds
    while True:
        with suppress(StoreUnavailable):
            if answer := ask():
                return answer
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds:.0f} s")
        time.sleep(every)


# What is seen


@dataclass(frozen=True)
class Write:
    """One line of the API server's audit log: somebody of the product asked for a change."""

    at: datetime
    verb: str
    actor: str
    namespace: str
    name: str
    code: int
    dry_run: bool
    intent: str | None


def api_writes(since: datetime) -> list[Write]:
    """Read every change that the product's service accounts asked for, from the API server's own log."""
    found = []
    for line in _logged(since):
        if NAMESPACE not in line:
            continue  # most of it is the cluster's own, and reading JSON takes its time
        entry = json.loads(line)
        if entry["verb"] not in {"create", "update", "patch", "delete", "deletecollection"}:
            continue
        at = datetime.fromisoformat(entry["requestReceivedTimestamp"])
        user = entry["user"]["username"]
        if at < since or not user.startswith(f"system:serviceaccount:{NAMESPACE}:"):
            continue
        about = entry.get("objectRef") or {}
        found.append(
            Write(
                at, entry["verb"], user.rpartition(":")[2], about.get("namespace", ""), about.get("name", ""),
                entry["responseStatus"]["code"], "dryRun=All" in entry["requestURI"], _mark_in(entry),
            )
        )  # fmt: skip
    return found


def _logged(since: datetime) -> Iterator[str]:
    """Give the lines of the log and of those before it: at 100 MB the API server begins a new one."""
    log = layout.AUDIT_LOG
    for path in [*sorted(log.parent.glob(f"{log.stem}-*{log.suffix}")), log]:
        if path.stat().st_mtime >= since.timestamp():
            with path.open(encoding="utf-8") as lines:
                yield from lines


def _mark_in(entry: Json) -> str | None:
    """Find the intent that a JSON Patch names; the source's adapter sends objects: it asks for its token."""
    sent = entry.get("requestObject")
    for change in sent if isinstance(sent, list) else ():
        if change["path"].endswith(pointer(MARK)) and change["op"] == "add":
            return str(change["value"])
        if change["path"] == "/metadata/annotations" and MARK in change["value"]:
            return str(change["value"][MARK])
    return None


def answers() -> Counter[tuple[str, str]]:
    """Count what functions answered, by Trigger and status, from the metrics of Knative's broker filter.

    The filter asks a subscriber once for each attempt of the channel, so an answer that is no 2xx (or
    none at all, status `none`) is what the broker delivers again.
    """
    [pod] = pods("mt-broker-filter", "knative-eventing")
    url = f"http://{pod['status']['podIP']}:{METRICS_PORT}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    found = Counter[tuple[str, str]]()
    for line in text.splitlines():
        if not line.startswith("http_client_request_body_size_bytes_count"):
            continue
        labels = dict(re.findall(r'(\w+)="([^"]*)"', line))
        trigger = labels.get("messaging_destination_name", "").removeprefix("trigger:")
        if trigger.endswith(f".{NAMESPACE}"):
            status = labels.get("http_response_status_code", "none")
            found[trigger, status] += int(float(line.rpartition(" ")[2]))
    return found


class Spy:
    """Everything that goes through the broker, with its time of arrival."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def messages(self) -> list[Json]:
        """Give every message so far, in the order of arrival; `at` is in seconds since the epoch."""
        lines = self.file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]


@contextmanager
def spying(file: Path, port: int = 18080) -> Iterator[Spy]:
    """Subscribe to everything for a while."""
    file.touch()
    script = str(Path(__file__).with_name("spy.py"))
    command = machine.inside(sys.executable, script, layout.NODE_ADDRESS, str(port), str(file))
    trigger = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": "e2e-spy", "namespace": NAMESPACE},
        "spec": {"broker": "default", "subscriber": {"uri": f"http://{layout.NODE_ADDRESS}:{port}/"}},
    }
    with subprocess.Popen(command) as process:
        try:
            apply(trigger)
            kubectl("-n", NAMESPACE, "wait", "--for=condition=Ready", "trigger/e2e-spy", "--timeout=180s")
            yield Spy(file)
        finally:
            kubectl("-n", NAMESPACE, "delete", "trigger/e2e-spy", "--ignore-not-found", check=False)
            process.terminate()


@dataclass
class Watch:
    """Everything a watch delivered: (time of arrival, object)."""

    cluster: Cluster
    kind: Kind
    namespace: str
    seen: list[tuple[datetime, Json]] = field(default_factory=list)

    def start(self) -> None:
        version = self.cluster.listing(self.kind, self.namespace)
        threading.Thread(target=self._follow, args=(version,), daemon=True).start()

    def _follow(self, version: str) -> None:
        end = time.monotonic() + 600
        while time.monotonic() < end:
            try:
                for event in self.cluster.watch(self.kind, self.namespace, version, 60):
                    version = event.object["metadata"]["resourceVersion"]
                    self.seen.append((now(), event.object))
            except Rejected:  # 410: the version is too old to go on from; nothing of ours happened since
                version = self.cluster.listing(self.kind, self.namespace)
            except ClusterUnavailable:
                time.sleep(0.2)

    def first(self, fits: Callable[[Json], bool], after: datetime | None = None) -> datetime | None:
        return next((at for at, o in self.seen if (after is None or at >= after) and fits(o)), None)


# What is done


def apply(*objects: Json) -> None:
    """Apply objects as the administrator."""
    text = "\n---\n".join(json.dumps(one) for one in objects)
    path = layout.RUN / f"e2e-{uuid.uuid4().hex}.json"
    path.write_text(text, encoding="utf-8")
    try:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", str(path))
    finally:
        path.unlink()


@dataclass(frozen=True)
class Bed:
    """The cluster as its administrator sees it, the product's store, and the spy."""

    cluster: Cluster
    store: Store
    spy: Spy

    @contextmanager
    def team(self, prefix: str) -> Iterator[str]:
        """Make an opted-in namespace for one story, and remove it afterwards."""
        name = f"{prefix}-{uuid.uuid4().hex[:6]}"
        labels = {"quietpager.dev/enabled": "true"}
        self.cluster.create("Namespace", {"metadata": {"name": name, "labels": labels}})
        try:
            until("the namespace's service account", lambda: not _get(name, "serviceaccount/default"), 20)
            yield name
        finally:
            kubectl("delete", "namespace", name, "--wait=false", check=False)

    def incidents(self, namespace: str) -> list[Incident]:
        found = [Incident.from_json(record.body) for record in self.store.scan("INCIDENT")]
        return sorted((i for i in found if i.owner.namespace == namespace), key=lambda i: i.opened_at)

    def intents(self, namespace: str) -> list[Intent]:
        found = [Intent.from_json(record.body) for record in self.store.scan("INTENT")]
        return sorted((i for i in found if i.target.namespace == namespace), key=lambda i: i.created_at)

    def ended(self, namespace: str, seconds: float = 180) -> Incident:
        """Wait until the namespace's one incident is closed or with a person."""

        def look() -> Incident | None:
            found = self.incidents(namespace)
            return found[-1] if found and found[-1].state in ENDED else None

        try:
            return until(f"the end of the incident in {namespace}", look, seconds)
        except AssertionError as late:
            raise AssertionError(f"{late}\n{self.story(namespace)}") from late

    def story(self, namespace: str) -> str:
        """Tell everything that was audited, for a failure's text."""
        lines = [f"incidents in {namespace}: {[(i.id, str(i.state)) for i in self.incidents(namespace)]}"]
        for incident in self.incidents(namespace):
            lines += [f"{e.at} {e.actor} {e.kind} {e.body.get('note', '')}" for e in self.audit(incident)]
            lines += list(incident.refusals)
        return "\n".join(lines)

    def audit(self, incident: Incident) -> Sequence[AuditEntry]:
        return self.store.audit(incident.id)

    def deployment(self, namespace: str, name: str) -> Json:
        found = self.cluster.get("Deployment", namespace, name)
        assert found is not None, f"Deployment {namespace}/{name} is gone"
        return found

    def wait_healthy(self, namespace: str, name: str, seconds: float = 60) -> None:
        until(f"{namespace}/{name} healthy", lambda: healthy(self.deployment(namespace, name)), seconds)


def _get(namespace: str, what: str) -> int:
    return kubectl("-n", namespace, "get", what, check=False).returncode


def healthy(deployment: Json) -> bool:
    """Tell whether a rollout is complete, as `kubectl rollout status` would."""
    status, wanted = deployment.get("status", {}), deployment["spec"]["replicas"]
    counts = {status.get(name, 0) for name in ("replicas", "updatedReplicas", "availableReplicas")}
    return status.get("observedGeneration") == deployment["metadata"]["generation"] and counts == {wanted}


def apply_fault(name: str, namespace: str) -> None:
    """Apply a manifest of `faults/` in a namespace."""
    kubectl("-n", namespace, "apply", "-f", str(FAULTS / f"{name}.yaml"))


def set_image(namespace: str, deployment: str, container: str, image: str) -> None:
    kubectl("-n", namespace, "set", "image", f"deployment/{deployment}", f"{container}={image}")


# Processes


def pods(workload: str, namespace: str = NAMESPACE) -> list[Json]:
    """List the pods of a Deployment, or of PostgreSQL's StatefulSet, by its selector."""
    kind = "statefulset" if workload == "postgres" else "deployment"
    labels = _json(namespace, f"{kind}/{workload}")["spec"]["selector"]["matchLabels"]
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    found: list[Json] = _json(namespace, "pods", "--selector", selector)["items"]
    return found


def _json(namespace: str, *what: str) -> Json:
    found: Json = json.loads(kubectl("-n", namespace, "get", *what, "-o", "json").stdout)
    return found


def process_ids(workload: str, namespace: str = NAMESPACE, pod_uid: str = "") -> list[int]:
    """Find the first process of every container of a workload, or of one pod of it, on this machine."""
    wanted = {
        one["containerID"].rpartition("/")[2]
        for pod in pods(workload, namespace)
        if pod_uid in ("", pod["metadata"]["uid"])
        for one in pod["status"].get("containerStatuses", ())
        if "containerID" in one and "running" in one["state"]
    }
    tasks = machine.run(
        "ctr", "--address", str(layout.CONTAINERD_SOCKET), "--namespace", "k8s.io", "tasks", "list"
    )
    rows = [line.split() for line in tasks.stdout.splitlines()[1:]]
    return [int(pid) for container, pid, state in rows if container in wanted and state == "RUNNING"]


def kill(workload: str, namespace: str = NAMESPACE) -> int:
    """End the process of a workload's pods as the kernel would; says how many there were."""
    found = process_ids(workload, namespace)
    for pid in found:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    return len(found)


@contextmanager
def frozen(pids: Sequence[int]) -> Iterator[None]:
    """Stop processes where they stand, for a while."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def quietpager(*arguments: str, check: bool = True) -> str:
    """Run the command as a person would, with the administrator's kubeconfig."""
    env = os.environ | {"KUBECONFIG": str(layout.KUBECONFIG), "QUIETPAGER_STORE": store_url()}
    command = (sys.executable, "-m", "quietpager.cli.main", *arguments)
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=env)
    assert not (check and done.returncode), done.stdout + done.stderr
    return done.stdout


def admin() -> Cluster:
    return connect(kubeconfig=layout.KUBECONFIG, manager="e2e")
