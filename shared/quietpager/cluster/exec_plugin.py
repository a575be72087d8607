"""Runs the program that a kubeconfig's user names (`exec`) to get credentials.

Who calls it: `credentials`. The protocol is Kubernetes' own
(https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins); what
kubectl makes of it is in client-go, `plugin/pkg/client/auth/exec/exec.go`. A program that is missing, fails,
or gives nothing is an error here: without its credentials the call would be anonymous.
"""

import json
import os
import shutil
import subprocess
import sys
from base64 import b64encode
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from quietpager.cluster.kubeconfig_files import Part
from quietpager.model.cluster import ClusterUnavailable

VERSIONS: Final = ("client.authentication.k8s.io/v1", "client.authentication.k8s.io/v1beta1")
MODES: Final = ("Never", "IfAvailable", "Always")
LONGEST: Final = 120.0
"""Seconds that a program may take where nobody can answer it."""
_INFO: Final = "KUBERNETES_EXEC_INFO"
_SETTINGS: Final = "client.authentication.k8s.io/exec"
"""The cluster's extension that holds the program's own settings."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a program gave: a token, a certificate with its key (PEM), or both; and until when it is good."""

    token: str = ""
    certificate: str = ""
    key: str = ""
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Plugin:
    """A program of a kubeconfig's user."""

    user: Part
    cluster: Part
    command: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    version: str
    mode: str
    hint: str
    tells_cluster: bool

    def ask(self) -> Given:
        """Run it once.

        Raises:
            ClusterUnavailable: it gave no credentials; the sentence says why, and has its `installHint`.
        """
        program = self._program()
        talks = self.mode != "Never" and sys.stdin is not None and sys.stdin.isatty()
        if self.mode == "Always" and not talks:
            raise self.failed("it must ask somebody (interactiveMode: Always), and this is no terminal")
        info = {"apiVersion": self.version, "kind": "ExecCredential", "spec": self._spec(talks=talks)}
        try:
            done = subprocess.run(  # noqa: S603 (the kubeconfig's owner names it, as for kubectl)
                [program, *self.arguments], stdin=None if talks else subprocess.DEVNULL,
                stdout=subprocess.PIPE, env=os.environ | self.environment | {_INFO: json.dumps(info)},
                timeout=None if talks else LONGEST, check=False,
            )  # fmt: skip
        except OSError as no:
            raise self.failed(f"it cannot be run ({no.strerror})") from no
        except subprocess.TimeoutExpired as no:
            raise self.failed(f"it did not end within {LONGEST:.0f} s") from no
        if done.returncode:
            raise self.failed(f"it ended with the code {done.returncode}")
        return self._given(done.stdout)

    def failed(self, why: str) -> ClusterUnavailable:
        """Say that it gave no credentials."""
        hint = f". {self.hint.strip()}" if self.hint.strip() else ""
        return ClusterUnavailable(
            f"{self.command} (exec) gave no credentials: {why}; without any, the call would be "
            f"anonymous{hint}".rstrip(".")
        )

    def _program(self) -> str:
        """Find it: a path counts from the kubeconfig's folder on, a bare name is looked for on PATH."""
        if os.sep in self.command:
            return str(self.user.folder / self.command)
        found = shutil.which(self.command, path=self.environment.get("PATH"))
        if found is None:
            raise self.failed("there is no such program on PATH")
        return found

    def _spec(self, *, talks: bool) -> dict[str, Any]:
        spec: dict[str, Any] = {"interactive": talks}
        if self.tells_cluster:
            spec["cluster"] = _cluster(self.cluster)
        return spec

    def _given(self, output: bytes) -> Given:
        try:
            answer = json.loads(output)
        except ValueError as no:
            raise self.failed("what it printed is not JSON") from no
        if no_use := fault_of(answer, self.version):
            raise self.failed(no_use)
        status = answer.get("status") or {}
        until = status.get("expirationTimestamp")
        try:
            moment = None if until is None else datetime.fromisoformat(str(until))
        except ValueError as no:
            raise self.failed("its expirationTimestamp is no time") from no
        return Given(
            token=str(status.get("token") or ""),
            certificate=str(status.get("clientCertificateData") or ""),
            key=str(status.get("clientKeyData") or ""),
            until=moment if moment is None or moment.tzinfo else moment.replace(tzinfo=UTC),
        )


def fault_of(answer: Any, version: str) -> str:
    """Say why what a program printed gives no credentials; empty where it does."""
    if not isinstance(answer, dict) or answer.get("kind") != "ExecCredential":
        return "what it printed is no ExecCredential"
    if answer.get("apiVersion") != version:
        return f"it answered as {answer.get('apiVersion')}, and {version} was asked for"
    status = answer.get("status")
    if not isinstance(status, dict):
        return "what it printed has no status"
    certificate, key = bool(status.get("clientCertificateData")), bool(status.get("clientKeyData"))
    if certificate != key:
        return "it gave a certificate without a key, or a key without a certificate"
    if not status.get("token") and not certificate:
        return "it gave neither a token nor a certificate"
    return ""


def plugin_of(user: Part, cluster: Part) -> Plugin:
    """Read a user's `exec`.

    Raises:
        ClusterUnavailable: a field is missing, or holds what kubectl would not take either.
    """
    fields = user.fields["exec"]
    if not isinstance(fields, dict):
        raise ClusterUnavailable(f"exec of {user.name} holds no fields")
    part = Part(f"exec of {user.name}", fields, user.folder)
    command, version = part.text("command"), part.text("apiVersion")
    if not command:
        raise ClusterUnavailable(f"exec of {user.name} has no command")
    if version not in VERSIONS:
        raise ClusterUnavailable(
            f"exec of {user.name} has the apiVersion {version!r}; supported are {' and '.join(VERSIONS)}"
        )
    mode = part.text("interactiveMode") or ("IfAvailable" if version.endswith("v1beta1") else "")
    if mode not in MODES:
        raise ClusterUnavailable(
            f"exec of {user.name} has the interactiveMode {mode!r}; it must be one of {', '.join(MODES)}"
        )
    return Plugin(
        user, cluster, command, tuple(_texts(part, "args")), _environment(part), version, mode,
        part.text("installHint"), part.flag("provideClusterInfo"),
    )  # fmt: skip


def _texts(part: Part, key: str) -> list[str]:
    found = part.fields.get(key) or []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ClusterUnavailable(f"{key} of {part.name} must be a list of texts")
    return found


def _environment(part: Part) -> dict[str, str]:
    found = part.fields.get("env") or []
    given = dict[str, str]()
    for one in found if isinstance(found, list) else [None]:
        name, value = (one.get("name"), one.get("value", "")) if isinstance(one, dict) else (None, None)
        if not isinstance(name, str) or not isinstance(value, str):
            raise ClusterUnavailable(f"env of {part.name} must be a list of names and values, both texts")
        given[name] = value
    return given


def _cluster(cluster: Part) -> dict[str, Any]:
    """Describe the cluster to the program (`Cluster` of client.authentication.k8s.io)."""
    told: dict[str, Any] = {"server": cluster.text("server")}
    for key in ("tls-server-name", "proxy-url", "certificate-authority-data"):
        if text := cluster.text(key):
            told[key] = text
    if cluster.flag("insecure-skip-tls-verify"):
        told["insecure-skip-tls-verify"] = True
    authority = cluster.path("certificate-authority")
    if authority is not None and "certificate-authority-data" not in told:
        told["certificate-authority-data"] = b64encode(authority.read_bytes()).decode("ascii")
    for one in cluster.fields.get("extensions") or ():
        if isinstance(one, dict) and one.get("name") == _SETTINGS:
            told["config"] = one.get("extension")
    return told
