"""The pods: one Deployment and one Service for each function, and the rules they all read."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from infra.render.folders import FunctionFolder
from infra.render.rights import needs_token

Json = dict[str, Any]

RULES: Final = "quietpager-rules"
"""ConfigMap of every rule.yaml, action.yaml and func.yaml, and of the policy."""
STORE: Final = "quietpager-store"
"""Secret with the store's `url`; made once by whoever installs, never rendered."""
TELEMETRY: Final = "quietpager-telemetry"
"""ConfigMap with OpenTelemetry's variables (`OTEL_EXPORTER_OTLP_ENDPOINT` …); never rendered. Without it
functions record no metrics."""
CONSOLE: Final = "quietpager-console"
"""Secret with the console's `users.json`, and optionally `url`, its address as people reach it; made by
whoever installs. Without it the console runs, and nobody can sign in."""
ACCOUNTS: Final = "/etc/quietpager-console"
MOUNT: Final = "/etc/quietpager"
POLICY: Final = "policy.yaml"
DIGEST: Final = "quietpager.dev/rules"
"""Annotation of a pod template: it changes with the rules, so pods that read them are replaced."""
NONROOT: Final = 1000


def rules(functions: Path, policy: str, namespace: str) -> Json:
    """Render the ConfigMap of all that functions read from files.

    A key of a ConfigMap may hold no slash, so `detect/crash/rule.yaml` becomes `detect.crash.rule.yaml`
    and the mount puts it back where it belongs.
    """
    files = sorted(path for name in ("rule", "action") for path in functions.glob(f"*/*/{name}.yaml"))
    data = {_key(path.relative_to(functions)): path.read_text(encoding="utf-8") for path in files}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": RULES, "namespace": namespace},
        "data": data | {POLICY: policy},
    }


def _key(path: Path) -> str:
    return ".".join(path.parts)


def _path(key: str) -> str:
    if key == POLICY:
        return POLICY
    stage, function, file = key.split(".", 2)
    return f"functions/{stage}/{function}/{file}"


def digest(config: Json) -> str:
    """Give a short digest of the rules' content."""
    text = "\0".join(f"{key}\0{value}" for key, value in sorted(config["data"].items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def workload(folder: FunctionFolder, image: str, config: Json, cluster: str, namespace: str) -> list[Json]:
    """Render Deployment and Service of one function."""
    labels = {"app": folder.name}
    template = {
        "metadata": {"labels": labels, "annotations": {DIGEST: digest(config)}},
        "spec": {
            "serviceAccountName": folder.name,
            "automountServiceAccountToken": needs_token(folder),
            "enableServiceLinks": False,
            # Work in flight ends within a few seconds; whatever does not is resumed by a due item.
            "terminationGracePeriodSeconds": 10,
            "securityContext": {
                "runAsNonRoot": True,
                "runAsUser": NONROOT,
                "runAsGroup": NONROOT,
                **({"fsGroup": NONROOT} if folder.web else {}),
                "seccompProfile": {"type": "RuntimeDefault"},
            },
            "containers": [_container(folder, image, cluster, namespace)],
            "volumes": [
                {"name": "rules", "configMap": {"name": RULES, "items": _items(config)}},
                *([{"name": "scratch", "emptyDir": {"sizeLimit": folder.scratch}}] if folder.scratch else []),
                *([_ACCOUNTS_VOLUME] if folder.web else []),
            ],
        },
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": folder.name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": labels},
            # The old pod goes when the new one answers: a message in between is answered by one of them.
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
            "template": template,
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": folder.name, "namespace": namespace, "labels": labels},
        "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080}]},
    }
    return [deployment, service]


def wall(folders: Iterable[FunctionFolder], namespace: str) -> Json:
    """Render the NetworkPolicy: only Knative and our own namespace reach the functions.

    The node itself always does (probes), and a cluster whose network plug-in knows no policies ignores it.
    """
    name = "kubernetes.io/metadata.name"
    allowed = [{"key": name, "operator": "In", "values": ["knative-eventing", namespace]}]
    mine = {"key": "app", "operator": "In", "values": [folder.name for folder in folders]}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "functions", "namespace": namespace},
        "spec": {
            "podSelector": {"matchExpressions": [mine]},
            "policyTypes": ["Ingress"],
            "ingress": [
                {
                    "from": [{"namespaceSelector": {"matchExpressions": allowed}}],
                    "ports": [{"port": 8080, "protocol": "TCP"}],
                }
            ],
        },
    }


_ACCOUNTS_VOLUME: Final[Json] = {
    "name": "accounts",
    # 0440 and the group: the pod is not root, and the file holds password hashes.
    "secret": {"secretName": CONSOLE, "optional": True, "defaultMode": 0o440},
}


def _items(config: Json) -> list[Json]:
    return [{"key": key, "path": _path(key)} for key in sorted(config["data"])]


def _container(folder: FunctionFolder, image: str, cluster: str, namespace: str) -> Json:
    sink = f"http://broker-ingress.knative-eventing.svc.cluster.local/{namespace}/default"
    env = {
        "QUIETPAGER_FUNCTIONS": f"{MOUNT}/functions",
        "QUIETPAGER_POLICY": f"{MOUNT}/{POLICY}",
        "QUIETPAGER_CLUSTER": cluster,
        "K_SINK": sink,
    }
    if folder.web:
        env["QUIETPAGER_CONSOLE_USERS"] = f"{ACCOUNTS}/users.json"
    store = {"secretKeyRef": {"name": STORE, "key": "url"}}
    mounts: list[Json] = [{"name": "rules", "mountPath": MOUNT, "readOnly": True}]
    if folder.web:
        mounts.append({"name": "accounts", "mountPath": ACCOUNTS, "readOnly": True})
    if folder.scratch:
        mounts.append({"name": "scratch", "mountPath": "/tmp"})  # noqa: S108 (its own)
    return {
        "name": "function",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 8080}],
        "envFrom": [{"configMapRef": {"name": TELEMETRY, "optional": True}}],
        "env": [{"name": "QUIETPAGER_STORE", "valueFrom": store}, *_pairs(env.items()), *_given(folder)],
        "resources": folder.resources,
        "readinessProbe": _probe("readiness", period=1, failures=3),
        "livenessProbe": _probe("liveness", period=10, failures=3),
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _pairs(env: Iterable[tuple[str, str]]) -> list[Json]:
    return [{"name": name, "value": value} for name, value in env]


def _given(folder: FunctionFolder) -> list[Json]:
    """Render what comes from Secrets; a pod starts without them, and the function says what it lacks."""
    return [
        {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key, "optional": True}}}
        for name, secret, key in folder.secrets
    ]


def _probe(which: str, *, period: int, failures: int) -> Json:
    return {
        "httpGet": {"path": f"/health/{which}", "port": 8080},
        "periodSeconds": period,
        "timeoutSeconds": 2,  # the default, one second, has killed busy functions
        "failureThreshold": failures,
    }
