"""All manifests of the product, in the order in which they are applied."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from infra.render.folders import function_folders
from infra.render.rights import roles, service_accounts
from infra.render.triggers import triggers
from infra.render.workloads import rules, workload
from quietpager.actions.schema import load_actions
from quietpager.safety.policy import Policy

Json = dict[str, Any]

PART_OF: Final = "app.kubernetes.io/part-of"
EVENTING: Final = Path(__file__).parents[2] / "eventing"


@dataclass(frozen=True, slots=True)
class Settings:
    """What an installation chooses: names, the policy, and where images come from."""

    namespace: str = "quietpager"
    cluster: str = "default"
    policy: str = "autonomy: analyze\n"
    images: Mapping[str, str] = field(default_factory=dict)
    """Function name → image reference; a function that is not in it gets its own name as image."""


DEFAULTS: Final = Settings()


def manifests(functions: Path, settings: Settings = DEFAULTS) -> list[Json]:
    """Render everything, labelled as ours. Write bindings and the store's Secret are not among it.

    Raises:
        ValueError: a folder, or the policy, is wrong; the text says which.
    """
    folders, namespace = function_folders(functions), settings.namespace
    policy = Policy.model_validate(yaml.safe_load(settings.policy) or {})
    config = rules(functions, settings.policy, namespace)
    found: list[Json] = [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}},
        *service_accounts(folders, namespace),
        *roles(folders, load_actions(functions), namespace),
        config,
        *_static(settings),
        *_ticks(policy, namespace),
    ]
    for folder in folders:
        image = settings.images.get(folder.name, folder.name)
        found += workload(folder, image, config, settings.cluster, namespace)
    return [_labelled(one) for one in [*found, *triggers(folders, namespace)]]


def _static(settings: Settings) -> list[Json]:
    """Read `eventing/`: Broker, source, PostgreSQL. Only namespace and cluster name are filled in."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(EVENTING.glob("*.yaml"))]
    objects = [one for text in texts for one in yaml.safe_load_all(text) if one]
    for one in objects:
        if one["kind"] not in {"ClusterRole", "ClusterRoleBinding"}:
            one["metadata"]["namespace"] = settings.namespace
        for subject in one.get("subjects", ()):
            subject["namespace"] = settings.namespace
        if one["kind"] == "ApiServerSource":
            one["spec"]["ceOverrides"] = {"extensions": {"cluster": settings.cluster}}
    return objects


def _ticks(policy: Policy, namespace: str) -> list[Json]:
    return [
        _tick("clock", policy.tick, namespace),
        _tick("sweep", policy.sweep, namespace),
    ]


def _tick(job: str, seconds: float, namespace: str) -> Json:
    """Render a PingSource. Its schedule may begin with seconds (knative/eventing v0.49.2, robfig/cron)."""
    every = max(1, round(seconds))
    schedule = f"*/{every} * * * * *" if every < 60 else f"*/{round(every / 60)} * * * *"
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": {"name": job, "namespace": namespace},
        "spec": {
            "schedule": schedule,
            "ceOverrides": {"extensions": {"job": job}},
            "sink": {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": "default"}},
        },
    }


def _labelled(one: Json) -> Json:
    meta = one["metadata"]
    return one | {"metadata": meta | {"labels": meta.get("labels", {}) | {PART_OF: "quietpager"}}}
