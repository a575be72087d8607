"""Renders what follows from the function folders: the Triggers, each with its whole delivery.

Who calls it: the local host (the same Triggers drive the local broker) and `quietpager render`.
Nothing rendered is committed.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from quietpager.model.yaml import read_yaml

Json = dict[str, Any]

DEAD_LETTER = "ingest-dead-letter"


@dataclass(frozen=True, slots=True)
class FunctionFolder:
    """One function: its Knative name, its module, and the filters of its Triggers."""

    name: str
    module: str
    filters: tuple[dict[str, str], ...]


def function_folders(functions: Path) -> tuple[FunctionFolder, ...]:
    """Find all functions, in path order."""
    return tuple(_folder(path) for path in sorted(functions.glob("*/*/func.yaml")))


def _folder(path: Path) -> FunctionFolder:
    spec = read_yaml(path)
    wanted = spec["deploy"].get("subscriptions") or []
    return FunctionFolder(
        name=spec["name"],
        module=f"functions.{path.parent.parent.name}.{path.parent.name}",
        filters=tuple({k: str(v) for k, v in one["filters"].items()} for one in wanted),
    )


def triggers(folders: tuple[FunctionFolder, ...], namespace: str = "quietpager") -> list[Json]:
    """Render one Trigger for each subscription.

    A Trigger's `delivery` replaces the Broker's and is never merged with it, and without a back-off
    retries are immediate (knative/eventing v0.49.2), so each one states everything.
    """
    return [
        _trigger(folder, number, wanted, namespace)
        for folder in folders
        for number, wanted in enumerate(folder.filters)
    ]


def _trigger(folder: FunctionFolder, number: int, wanted: dict[str, str], namespace: str) -> Json:
    def service(name: str) -> Json:
        return {"ref": {"apiVersion": "v1", "kind": "Service", "name": name, "namespace": namespace}}

    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": f"{folder.name}-{number}", "namespace": namespace},
        "spec": {
            "broker": "default",
            "filters": [{"exact": wanted}],
            "subscriber": service(folder.name),
            "delivery": {
                "retry": 5,
                "backoffPolicy": "exponential",
                "backoffDelay": "PT0.2S",
                "timeout": "PT10S",
                "deadLetterSink": service(DEAD_LETTER),
            },
        },
    }
