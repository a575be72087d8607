"""The names of the fields that Kubernetes publishes for workloads, level by level.

An admission policy that compares "everything else" must not be written from memory: a field that nobody
thought of would be open. So the names come from the API server's own OpenAPI document. `make deploy` asks
the server it deploys to; `quietpager render` has no cluster and takes `fields.json`, made from Kubernetes
1.35 by

    kubectl get --raw /openapi/v3/apis/apps/v1 | python -m quietpager.render > fields.json

A test compares that file with what a real API server says.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from quietpager.objects.table import KINDS

Json = dict[str, Any]
Fields = Mapping[str, tuple[str, ...]]
"""Type (`PodSpec`) to the names of its fields."""

OPENAPI: Final = "/openapi/v3/apis/apps/v1"
"""Where the API server publishes the schemas of apps/v1, those of pods and metadata included."""
COMMITTED: Final = Path(__file__).with_name("fields.json")

WORKLOADS: Final = tuple(
    kind.name for kind in KINDS.values() if kind.has_template and kind.resource.group == "apps"
)
_CORE: Final = "io.k8s.api.core.v1"
LEVELS: Final = (
    *(f"io.k8s.api.apps.v1.{kind}{part}" for kind in WORKLOADS for part in ("", "Spec")),
    "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
    *(
        f"{_CORE}.{name}"
        for name in (
            "PodTemplateSpec", "PodSpec", "Container", "ResourceRequirements", "EnvVar", "Probe",
            "HTTPGetAction", "TCPSocketAction", "GRPCAction",
        )
    ),
)  # fmt: skip
"""The types that a policy looks into; whatever lies deeper is compared as a whole."""


NODE_OPENAPI: Final = "/openapi/v3/api/v1"
NODE_SPEC: Final = (
    "configSource", "externalID", "podCIDR", "podCIDRs", "providerID", "taints", "unschedulable",
)  # fmt: skip
"""The fields of a Node's spec, as Kubernetes 1.35 publishes them at `NODE_OPENAPI`; a test compares."""


def fields_of(openapi: Json) -> Fields:
    """Read the names out of an OpenAPI v3 document of apps/v1.

    Raises:
        ValueError: a type is not in it, or has no fields; then nothing may be rendered from it.
    """
    schemas = (openapi.get("components") or {}).get("schemas") or {}
    found: dict[str, tuple[str, ...]] = {}
    for level in LEVELS:
        names = tuple(sorted((schemas.get(level) or {}).get("properties") or ()))
        if not names:
            raise ValueError(f"The API server's OpenAPI document of apps/v1 tells no fields of {level}.")
        found[level.rpartition(".")[2]] = names
    return found


def committed_fields() -> Fields:
    """Give the names as of Kubernetes 1.35."""
    found = json.loads(COMMITTED.read_text(encoding="utf-8"))
    return {level: tuple(names) for level, names in found.items()}
