"""The local ApiServerSource: a watch on Events that posts each as Knative's adapter would.

Like the original it never sends what was there before it began, and loses what happens while it is
down (knative/eventing v0.49.2, pkg/adapter/apiserver) and what the broker does not take within six tries
and about three seconds; the sweep is there for all three.
"""

import threading
from collections.abc import Callable
from uuid import uuid4

import structlog
from cloudevents.core.v1.event import CloudEvent

from quietpager.cluster.port import Cluster, ClusterUnavailable, Rejected
from quietpager.model.message import EVENT_ADD, EVENT_UPDATE
from quietpager.model.time import system_clock

log = structlog.get_logger()

WATCH_SECONDS = 30
"""How long one watch lasts before it is begun again from where it was."""

TRIES = 6
"""How often an Event is posted before it is lost (ContextWithRetriesExponentialBackoff(50ms, 5))."""

FIRST_PAUSE = 0.1
"""Seconds after the first try; each later pause is twice as long."""

_TYPES = {"ADDED": EVENT_ADD, "MODIFIED": EVENT_UPDATE}


class EventSource:
    """A thread that follows Events. `post` gets each CloudEvent and may block."""

    def __init__(self, cluster: Cluster, name: str, post: Callable[[CloudEvent], None]) -> None:
        """Nothing is watched before `start`."""
        self._cluster, self._name, self._post = cluster, name, post
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-source", daemon=True)
        self.started = threading.Event()

    def start(self) -> None:
        """Begin to watch, in a thread of its own."""
        self._thread.start()

    def stop(self) -> None:
        """End with the next Event, or with the watch."""
        self._ended.set()

    def _run(self) -> None:
        while not self._ended.is_set():
            try:
                self._follow(self._cluster.listing("Event").resource_version)
            except (ClusterUnavailable, Rejected) as away:
                log.warning("the watch on Events broke; it begins again", error=str(away))
                self._ended.wait(0.5)

    def _follow(self, version: str) -> None:
        self.started.set()
        while not self._ended.is_set():
            for change in self._cluster.watch("Event", None, version, WATCH_SECONDS):
                meta = change.object["metadata"]
                version = meta["resourceVersion"]
                if change.type in _TYPES and not self._ended.is_set():
                    self._say(self._cloud_event(_TYPES[change.type], change.object))

    def _say(self, event: CloudEvent) -> None:
        for attempt in range(TRIES):
            try:
                self._post(event)
            except OSError as away:
                if attempt == TRIES - 1 or self._ended.wait(FIRST_PAUSE * 2**attempt):
                    log.error("an Event is lost: the broker did not take it", error=str(away))  # noqa: TRY400
                    return
            else:
                return

    def _cloud_event(self, kind: str, obj: dict[str, object]) -> CloudEvent:
        meta = obj["metadata"]
        assert isinstance(meta, dict)  # noqa: S101 (an API object)
        attributes = {
            "id": str(uuid4()), "source": f"/{self._name}", "type": kind, "specversion": "1.0",
            "time": system_clock(), "datacontenttype": "application/json", "kind": "Event",
            "apiversion": "v1", "name": meta["name"], "namespace": meta["namespace"],
            "cluster": self._name,
            "subject": f"/apis/v1/namespaces/{meta['namespace']}/events/{meta['name']}",
        }  # fmt: skip
        return CloudEvent(attributes, obj)
