"""Events, as components send them: a repeat raises the count of the Event that is there.

Used by `controllers` and `kubelet`. Follows k8s.io/client-go/tools/record: the same text is one
Event with a count; more than ten texts of one reason are combined.
"""

from collections import Counter, defaultdict
from typing import Any, Final

from quietpager.model.time import Clock, to_text
from quietpager.sandbox.kinds import KINDS
from quietpager.sandbox.registry import Registry
from quietpager.sandbox.store import Change

Json = dict[str, Any]
Key = tuple[str, ...]

_COMBINED: Final = "(combined from similar events): "
_SEPARATE: Final = 9
"""So many Events of one reason stand alone, as recorded, before they are combined."""


class Recorder:
    """Sends Events about objects."""

    def __init__(self, registry: Registry, clock: Clock) -> None:
        """Send into a registry."""
        self._registry, self._clock = registry, clock
        self._known: dict[Key, tuple[str, str]] = {}
        self._texts: dict[Key, set[str]] = defaultdict(set)
        self._serial: Counter[str] = Counter()
        registry.store.listen(self._learn)

    def _learn(self, change: Change) -> None:
        """Know the Events that others posted too, so that their counts go on from there."""
        if change.kind == "Event":
            key, metadata = _key(change.object), change.object["metadata"]
            if change.type == "DELETED":
                self._known.pop(key, None)
            else:
                self._known[key] = (metadata["namespace"], metadata["name"])

    def send(
        self,
        about: Json,
        kind: str,
        reason: str,
        message: str,
        component: str,
        *,
        container: str = "",
        host: str = "",
    ) -> None:
        """Send an Event of the old kind, with count and times (kubelet, controllers)."""
        involved = _reference(about, container)
        source = {"component": component} | ({"host": host} if host else {})
        similar = (involved["uid"], container, kind, reason, component)
        texts = self._texts[similar]
        texts.add(message)
        combined = len(texts) > _SEPARATE and reason == "FailedCreate"
        event: Json = {
            "involvedObject": involved,
            "reason": reason,
            "message": _COMBINED + message if combined else message,
            "source": source,
            "type": kind,
            "eventTime": None,
            # A combined Event has neither, as recorded.
            "reportingComponent": "" if combined else component,
            "reportingInstance": "" if combined else host,
        }
        now = self._registry.now()
        key = (*similar, _COMBINED) if combined else _key(event)
        known = self._known.get(key)
        found = known and self._registry.store.get("Event", *known)
        if found:
            event = found | {
                "count": (found.get("count") or 1) + 1,
                "lastTimestamp": now,
                "message": event["message"],
            }
            self._registry.store.put(event | {"metadata": dict(found["metadata"])})
            return
        event |= {"firstTimestamp": now, "lastTimestamp": now, "count": 1}
        self._known[key] = self._create(about, event)

    def send_new_style(self, about: Json, kind: str, reason: str, message: str, action: str) -> None:
        """Send an Event as the scheduler does: null times, no count and an empty source."""
        event: Json = {
            "action": action,
            "involvedObject": _reference(about, ""),
            "reason": reason,
            "message": message,
            "source": {},
            "type": kind,
            "eventTime": to_text(self._clock()),
            "firstTimestamp": None,
            "lastTimestamp": None,
            "reportingComponent": "default-scheduler",
            "reportingInstance": "default-scheduler-sandbox",
        }
        self._create(about, event)

    def _create(self, about: Json, event: Json) -> tuple[str, str]:
        metadata = about["metadata"]
        self._serial[metadata["name"]] += 1
        nanoseconds = int(self._clock().timestamp() * 1e6) * 1000 + self._serial[metadata["name"]]
        namespace = metadata.get("namespace") or "default"
        event["metadata"] = {"name": f"{metadata['name']}.{nanoseconds:x}", "namespace": namespace}
        self._registry.create(KINDS["Event"], event, namespace)
        return namespace, event["metadata"]["name"]


def _reference(about: Json, container: str) -> Json:
    metadata = about["metadata"]
    reference = {
        "apiVersion": about["apiVersion"],
        "kind": about["kind"],
        "name": metadata["name"],
        "uid": metadata["uid"],
        "resourceVersion": metadata["resourceVersion"],
    }
    if metadata.get("namespace"):
        reference["namespace"] = metadata["namespace"]
    if container:
        reference["fieldPath"] = f"spec.containers{{{container}}}"
    return reference


def _key(event: Json) -> Key:
    """Tell which Events are repeats of each other."""
    involved, source = event.get("involvedObject") or {}, event.get("source") or {}
    parts = (
        involved.get("uid"), involved.get("fieldPath"), involved.get("name"), event.get("type"),
        event.get("reason"), event.get("message"), source.get("component"), source.get("host"),
    )  # fmt: skip
    return tuple(str(part or "") for part in parts)
