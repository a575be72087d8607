"""The Triggers: one for each subscription of a func.yaml, each with its whole delivery."""

from typing import Any, Final

from infra.render.folders import FunctionFolder

Json = dict[str, Any]

DEAD_LETTER: Final = "ingest-dead-letter"
"""The function that undeliverable messages go to; its own undeliverable messages go nowhere."""


SERVICE: Final = "v1"
"""Our own Deployments' Services."""
KNATIVE_SERVICE: Final = "serving.knative.dev/v1"
"""What Knative's func makes of a function."""


def triggers(
    folders: tuple[FunctionFolder, ...], namespace: str = "quietpager", service: str = SERVICE
) -> list[Json]:
    """Render one Trigger for each subscription.

    Of the Broker's `delivery` a Trigger with its own inherits at most the dead letter sink, and without
    a back-off retries are immediate (knative/eventing v0.49.2), so each one states everything.
    """
    return [
        _trigger(folder, number, wanted, namespace, service)
        for folder in folders
        for number, wanted in enumerate(folder.filters)
    ]


def _trigger(
    folder: FunctionFolder, number: int, wanted: dict[str, str], namespace: str, service: str
) -> Json:
    def to(name: str) -> Json:
        return {"ref": {"apiVersion": service, "kind": "Service", "name": name, "namespace": namespace}}

    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": f"{folder.name}-{number}", "namespace": namespace},
        "spec": {
            "broker": "default",
            "filters": [{"exact": wanted}],
            "subscriber": to(folder.name),
            "delivery": {
                "retry": 5,
                "backoffPolicy": "exponential",
                "backoffDelay": "PT0.2S",
                "timeout": "PT10S",
                "deadLetterSink": to(DEAD_LETTER),
            },
        },
    }
