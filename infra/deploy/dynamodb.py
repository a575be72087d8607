"""A DynamoDB on the test bed: dynoxide in a pod, in PostgreSQL's place.

Who calls it: `make deploy ARGS="--store dynamodb"`; the next `make deploy` takes it away again. Its file lies
on a volume of the pod, so its container may be killed as PostgreSQL's may.
"""

from typing import Any, Final

from infra.images.dynoxide import PORT, REFERENCE
from infra.testbed import layout
from quietpager.render.folders import PART_OF
from quietpager.render.walls import Network

Json = dict[str, Any]

NAME: Final = "dynoxide"
TABLES: Final = "quietpager"


def network(api_server: tuple[str, ...]) -> Network:
    """Say where the store is to the walls: with it, PostgreSQL is not rendered."""
    return Network(api_server=api_server, store=(layout.PODS,), store_port=PORT)


def url(host: str) -> str:
    """Give the store's URL, as seen from wherever `host` leads to it."""
    return f"dynamodb://local/{TABLES}?endpoint=http://{host}:{PORT}"


def objects(namespace: str) -> list[Json]:
    """Render its Deployment, its Service, and the way through the wall round our pods."""
    labels = {"app": NAME}
    container = {
        "name": NAME,
        "image": REFERENCE,
        "imagePullPolicy": "IfNotPresent",
        "ports": [{"name": "http", "containerPort": PORT}],
        "resources": {"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"memory": "512Mi"}},
        "readinessProbe": {"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        "securityContext": {
            "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "data", "mountPath": "/data"}, {"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
    }  # fmt: skip
    pod = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True, "runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [container],
        "volumes": [{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}],
    }  # fmt: skip
    meta = {"name": NAME, "namespace": namespace, "labels": labels | {PART_OF: "quietpager"}}
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": meta,
        "spec": {
            "replicas": 1,
            "strategy": {"type": "Recreate"},
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": meta,
        "spec": {"selector": labels, "ports": [{"name": "http", "port": PORT, "targetPort": PORT}]},
    }
    wall = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": meta,
        "spec": {
            "podSelector": {"matchLabels": labels},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"ports": [{"protocol": "TCP", "port": PORT}]}],
        },
    }
    return [service, deployment, wall]
