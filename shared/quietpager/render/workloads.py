"""The pods: one Deployment and one Service for each function, and the ConfigMap that they read.

A new rule changes the route table. Whoever reads rules or routes is restarted with the new one, the
others are not touched, and no image is built but that of the new rule's function.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from quietpager.actions.schema import ACTION
from quietpager.incident.policy import POLICY_FILE
from quietpager.model.folders import Roots, find
from quietpager.render.folders import FunctionFolder, named
from quietpager.render.rights import needs_token
from quietpager.render.senders import IDENTITY_FOLDER
from quietpager.rules.routing import RouteTable, render_routes
from quietpager.rules.schema import RULE, load_rules
from quietpager.runtime.connect import SINK
from quietpager.runtime.connect import STORE as STORE_URL
from quietpager.runtime.context import FUNCTIONS
from quietpager.runtime.context import ROUTES as ROUTES_FILE
from quietpager.store.opening import CLUSTER_NAME

Json = dict[str, Any]

RULES: Final = "quietpager-rules"
"""ConfigMap of every rule.yaml and action.yaml, of the route table made of them, and of the policy."""
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
ROUTES: Final = "routes.yaml"
DIGEST: Final = "quietpager.dev/rules"
"""Annotation of a pod template: it changes with what its pods read, so they are replaced."""
ROUTING: Final = frozenset({"ingest", "detect", "analyze", "people", "learn"})
"""Stages whose functions read rules or routes, people's to show them; the others get actions and policy."""
NONROOT: Final = 1000


def rules(functions: Roots, policy: str, namespace: str) -> Json:
    """Render the ConfigMap of all that functions read from files.

    A key of a ConfigMap may hold no slash, so `detect/crash/rule.yaml` becomes `detect.crash.rule.yaml`
    and the mount puts it back where it belongs.

    Raises:
        ValueError: a rule is none, or two routes overlap; the text says which.
    """
    files = sorted((path for name in (RULE, ACTION) for path in find(functions, name)), key=_key)
    homes = tuple(named(path, functions) for path in files if path.name == RULE)
    table = render_routes(load_rules(functions), homes)
    data = {_key(path): path.read_text(encoding="utf-8") for path in files}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": RULES, "namespace": namespace},
        "data": data | {POLICY: policy, ROUTES: routes(table)},
    }


def routes(table: RouteTable) -> str:
    """Write the route table as `quietpager.rules.routing.load_routes` reads it, always the same."""
    body = table.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(
        body | {"families": sorted(table.families)}, sort_keys=False, default_flow_style=None, width=110
    )


def _key(path: Path) -> str:
    return ".".join(path.parts[-3:])


def _path(key: str) -> str:
    if key in {POLICY, ROUTES}:
        return key
    stage, function, file = key.split(".", 2)
    return f"functions/{stage}/{function}/{file}"


def read_by(folder: FunctionFolder, config: Json) -> dict[str, str]:
    """Give the part of the ConfigMap that a function's pods mount: key → content."""
    everything: dict[str, str] = config["data"]
    if folder.stage in ROUTING:
        return dict(sorted(everything.items()))
    return {key: text for key, text in sorted(everything.items()) if not _routing(key)}


def _routing(key: str) -> bool:
    return key == ROUTES or key.endswith(".rule.yaml")


def digest(read: Mapping[str, str]) -> str:
    """Give a short digest of what a function's pods read."""
    text = "\0".join(f"{key}\0{value}" for key, value in sorted(read.items()))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def workload(
    folder: FunctionFolder,
    image: str,
    config: Json,
    env: Mapping[str, str],
    namespace: str,
    identity: Json | None = None,
) -> list[Json]:
    """Render Deployment and Service of one function, and a disruption budget where it has more pods.

    Args:
        folder: the function.
        image: its image.
        config: the ConfigMap of rules.
        env: where it finds things; see `environment`.
        namespace: ours.
        identity: the volume with its tokens, where the Broker authenticates.

    Most have one pod and no budget: with one, a budget could only forbid to drain a node for ever. They
    are stateless, the new pod answers before the old one goes, and the broker tries again for some seconds.
    """
    labels, read = {"app": folder.name}, read_by(folder, config)
    template = {
        "metadata": {"labels": labels, "annotations": {DIGEST: digest(read)}},
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
            "containers": [_container(folder, image, env, identity)],
            "volumes": [
                {"name": "rules", "configMap": {"name": RULES, "items": _items(read)}},
                *([{"name": "scratch", "emptyDir": {"sizeLimit": folder.scratch}}] if folder.scratch else []),
                *([_ACCOUNTS_VOLUME] if folder.web else []),
                *([identity] if identity else []),
            ],
        },
    }
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": folder.name, "namespace": namespace, "labels": labels},
        "spec": {
            "replicas": folder.pods,
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
    return [deployment, service, *_budget(folder, namespace)]


def _budget(folder: FunctionFolder, namespace: str) -> list[Json]:
    if folder.pods < 2:
        return []
    return [
        {
            "apiVersion": "policy/v1",
            "kind": "PodDisruptionBudget",
            "metadata": {"name": folder.name, "namespace": namespace},
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app": folder.name}}},
        }
    ]


_ACCOUNTS_VOLUME: Final[Json] = {
    "name": "accounts",
    # 0440 and the group: the pod is not root, and the file holds password hashes.
    "secret": {"secretName": CONSOLE, "optional": True, "defaultMode": 0o440},
}


def _items(read: Mapping[str, str]) -> list[Json]:
    return [{"key": key, "path": _path(key)} for key in sorted(read)]


def environment(folder: FunctionFolder, cluster: str, sink: str) -> dict[str, str]:
    """Tell a function where policy, routes and broker are, and what its cluster is called."""
    routing = {ROUTES_FILE: f"{MOUNT}/{ROUTES}"} if folder.stage in ROUTING else {}
    accounts = {"QUIETPAGER_CONSOLE_USERS": f"{ACCOUNTS}/users.json"} if folder.web else {}
    return {
        POLICY_FILE: f"{MOUNT}/{POLICY}",
        **routing,
        **accounts,
        CLUSTER_NAME: cluster,
        SINK: sink,
    }


def _container(folder: FunctionFolder, image: str, known: Mapping[str, str], identity: Json | None) -> Json:
    env = {FUNCTIONS: f"{MOUNT}/functions", **known}
    store = {"secretKeyRef": {"name": STORE, "key": "url"}}
    mounts: list[Json] = [{"name": "rules", "mountPath": MOUNT, "readOnly": True}]
    if folder.web:
        mounts.append({"name": "accounts", "mountPath": ACCOUNTS, "readOnly": True})
    if identity:
        mounts.append({"name": identity["name"], "mountPath": IDENTITY_FOLDER, "readOnly": True})
    if folder.scratch:
        mounts.append({"name": "scratch", "mountPath": "/tmp"})  # noqa: S108 (its own)
    return {
        "name": "function",
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": 8080}],
        "envFrom": [{"configMapRef": {"name": TELEMETRY, "optional": True}}],
        "env": [{"name": STORE_URL, "valueFrom": store}, *_pairs(env.items()), *_given(folder)],
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
