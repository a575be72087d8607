"""The cluster that is recorded, through kubectl: apply, read, watch and forget one namespace.

Called by `recording`. Secrets are never asked for.
"""

import json
import shutil
import subprocess
from pathlib import Path
from queue import SimpleQueue
from threading import Thread
from typing import Any, Final, Self

from infra.record.case import Seen
from infra.testbed.layout import BIN
from quietpager.model.time import system_clock

Json = dict[str, Any]

WATCHED: Final = {
    "events": "/api/v1", "pods": "/api/v1", "replicasets": "/apis/apps/v1",
    "deployments": "/apis/apps/v1", "jobs": "/apis/batch/v1",
}  # fmt: skip
KEPT: Final = (
    "pods", "replicasets", "deployments", "statefulsets", "daemonsets", "jobs", "cronjobs",
    "horizontalpodautoscalers", "persistentvolumeclaims", "poddisruptionbudgets", "resourcequotas",
    "limitranges",
)  # fmt: skip
"""Kinds whose objects a case holds. No Secret, no ConfigMap."""
_LOG_LINES: Final = 50


class Kubectl:
    """One namespace of one cluster."""

    def __init__(self, kubeconfig: Path, namespace: str) -> None:
        """Nothing is made yet."""
        built = BIN / "kubectl"
        command = str(built) if built.exists() else shutil.which("kubectl")
        if command is None:
            raise SystemExit("There is no kubectl: `make cluster` builds one, or put one into the PATH.")
        self._kubectl = (command, f"--kubeconfig={kubeconfig}")
        self.namespace = namespace
        self._watches: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        """Make the namespace and begin to watch it."""
        self._run("create", "namespace", self.namespace)
        self.seen: SimpleQueue[Seen] = SimpleQueue()
        for plural, root in WATCHED.items():
            path = f"{root}/namespaces/{self.namespace}/{plural}?watch=1"
            process = subprocess.Popen(  # noqa: S603 (a command of ours)
                (*self._kubectl, "get", "--raw", path), stdout=subprocess.PIPE, text=True
            )
            self._watches.append(process)
            Thread(target=self._follow, args=(process,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """End the watches and delete the namespace with all that is in it."""
        for process in self._watches:
            process.terminate()
            process.wait()
        self._run("delete", "namespace", self.namespace, "--timeout=120s")

    def _follow(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None  # noqa: S101 (it was asked for)
        for line in process.stdout:
            told = json.loads(line)
            if told["type"] in {"ADDED", "MODIFIED", "DELETED"}:
                self.seen.put(Seen(system_clock().timestamp(), told["type"], told["object"]))

    @property
    def watching(self) -> bool:
        """Whether no watch has broken off."""
        return all(process.poll() is None for process in self._watches)

    def apply(self, objects: list[Json]) -> None:
        """Apply objects into the namespace."""
        listed = {"apiVersion": "v1", "kind": "List", "items": objects}
        self._run("-n", self.namespace, "apply", "-f", "-", given=json.dumps(listed))

    def objects(self) -> list[Json]:
        """Read what a case holds of the namespace, and the nodes that its pods are on."""
        text = self._run("-n", self.namespace, "get", ",".join(KEPT), "-o", "json")
        found: list[Json] = json.loads(text)["items"]
        names = sorted({obj["spec"].get("nodeName", "") for obj in found if obj["kind"] == "Pod"} - {""})
        return found + [json.loads(self._run("get", "node", name, "-o", "json")) for name in names]

    def events(self) -> list[Json]:
        """Read all Events, by name, with their managedFields."""
        text = self._run("-n", self.namespace, "get", "events", "-o", "json", "--show-managed-fields")
        found: list[Json] = json.loads(text)["items"]
        return sorted(found, key=lambda event: str(event["metadata"]["name"]))

    def logs(self, pod: str, container: str, *, previous: bool) -> str:
        """Read a container's last lines; empty where the node has none."""
        again = ("--previous",) if previous else ()
        text = self._run("-n", self.namespace, "logs", pod, "-c", container, f"--tail={_LOG_LINES}", *again,
                         check=False)  # fmt: skip
        # So says the kubelet, as if it were the log, once the container's log file is gone.
        return "" if text.startswith("unable to retrieve container logs") else text

    def _run(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        done = subprocess.run(  # noqa: S603 (a command of ours)
            (*self._kubectl, *arguments), input=given, check=False, capture_output=True, text=True
        )
        if check and done.returncode:
            raise SystemExit(f"`kubectl {' '.join(arguments)}` failed: {done.stderr.strip()}")
        return done.stdout if not done.returncode else ""
