"""The Triggers: one for each function that has subscriptions, each with its whole delivery.

A Broker asks the filter of every Trigger about every message, so three subscriptions of a function are one
Trigger that wants any of them, and not three.
"""

from typing import Any, Final

from quietpager.render.folders import FunctionFolder
from quietpager.render.senders import audience_of

Json = dict[str, Any]

DEAD_LETTER: Final = "ingest-dead-letter"
"""The function that undeliverable messages go to; its own undeliverable messages go nowhere."""


SERVICE: Final = "v1"
"""Our own Deployments' Services."""
KNATIVE_SERVICE: Final = "serving.knative.dev/v1"
"""What Knative's func makes of a function."""


def triggers(
    folders: tuple[FunctionFolder, ...],
    namespace: str = "quietpager",
    service: str = SERVICE,
    *,
    authentication: bool = False,
) -> list[Json]:
    """Render one Trigger for each function that subscribes to something.

    With `authentication` each delivers with a token for its function, or for that of dead letters.
    Of the Broker's `delivery` a Trigger with its own inherits at most the dead letter sink, and without
    a back-off retries are immediate (knative/eventing v0.49.2), so each one states everything.
    """
    return [_trigger(one, namespace, service, named=authentication) for one in folders if one.filters]


def wanted(trigger: Json) -> list[Json]:
    """Give the sets of attributes that a Trigger of ours wants: any one of them, exactly."""
    [one] = trigger["spec"]["filters"]
    return [each["exact"] for each in one.get("any", [one])]


def _trigger(folder: FunctionFolder, namespace: str, service: str, *, named: bool) -> Json:
    each = [{"exact": wants} for wants in folder.filters]

    def to(name: str) -> Json:
        ref = {"apiVersion": service, "kind": "Service", "name": name, "namespace": namespace}
        return {"ref": ref} | ({"audience": audience_of(name, namespace)} if named else {})

    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": folder.name, "namespace": namespace},
        "spec": {
            "broker": "default",
            "filters": each if len(each) == 1 else [{"any": each}],
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
