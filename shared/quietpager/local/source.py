"""The local ApiServerSource: a watch on Events that posts each as Knative's adapter would.

Like the original it never sends what was there before it began, and loses what happens while it is
down or after its version has become too old (knative/eventing v0.49.2, pkg/adapter/apiserver); the
sweep is there for both. Who starts it: the local host, in the demo and in `quietpager run`.
"""

import random
import threading
from collections.abc import Callable
from uuid import uuid4

import structlog
from cloudevents.core.v1.event import CloudEvent

from quietpager.model.cluster import Cluster, ClusterUnavailable, Json, Rejected
from quietpager.model.message import EVENT_ADD, EVENT_UPDATE
from quietpager.model.time import system_clock

log = structlog.get_logger()

WATCH_SECONDS = 30
"""How long one watch lasts before it is begun again from where it was."""
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0
"""Seconds before the next try after an error; doubled each time until something works again."""
GONE = 410
"""The version is too old to go on from: list again (a real API server keeps about five minutes)."""

_TYPES = {"ADDED": EVENT_ADD, "MODIFIED": EVENT_UPDATE}


class EventSource:
    """A thread that follows Events. `post` gets each CloudEvent and may block; it raises OSError."""

    def __init__(
        self,
        cluster: Cluster,
        name: str,
        post: Callable[[CloudEvent], None],
        say: Callable[[str], None] = lambda _sentence: None,
    ) -> None:
        """Nothing is watched before `start`. `say` gets a sentence when it stops or goes on seeing Events."""
        self._cluster, self._name, self._post, self._say = cluster, name, post, say
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="event-source", daemon=True)
        self._version: str | None = None
        self._failures = 0
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
                self._follow()
            except Rejected as no:
                if no.code == GONE:
                    log.info("the watch on Events fell behind; it begins again from now", error=str(no))
                    self._version = None
                self._rest(no, at_once=no.code == GONE)
            # OSError: the broker has not taken the Event; the watch goes on from the one before it.
            except (ClusterUnavailable, OSError) as away:
                self._rest(away)

    def _follow(self) -> None:
        """Go on from where it was, or from now, until the watch ends."""
        if self._version is None:
            self._version = self._cluster.listing("Event")
            self.started.set()
        for change in self._cluster.watch("Event", None, self._version, WATCH_SECONDS, bookmarks=True):
            if self._ended.is_set():
                return
            if change.type in _TYPES:
                self._post(self._cloud_event(_TYPES[change.type], change.object))
            self._version = change.object["metadata"]["resourceVersion"]
            self._works()
        self._works()

    def _works(self) -> None:
        if self._failures > 1:
            self._say("Events are seen again.")
        self._failures = 0

    def _rest(self, error: Exception, *, at_once: bool = False) -> None:
        """Wait before the next try: longer each time, and not all clients of a server at the same moment."""
        self._failures += 1
        if at_once and self._failures == 1:
            return
        if self._failures == 2:
            self._say(f"Events are not seen just now, and what is wrong is found by the sweep alone: {error}")
        log.warning("the watch on Events broke; it begins again", error=str(error), failures=self._failures)
        pause = min(FIRST_PAUSE * 2 ** min(self._failures - 1, 10), LONGEST_PAUSE)
        self._ended.wait(pause * random.uniform(0.8, 1.2))  # noqa: S311 (no secret)

    def _cloud_event(self, kind: str, obj: Json) -> CloudEvent:
        meta = obj["metadata"]
        attributes = {
            "id": str(uuid4()), "source": f"/{self._name}", "type": kind, "specversion": "1.0",
            "time": system_clock(), "datacontenttype": "application/json", "kind": "Event",
            "apiversion": "v1", "name": meta["name"], "namespace": meta["namespace"],
            "cluster": self._name,
            "subject": f"/apis/v1/namespaces/{meta['namespace']}/events/{meta['name']}",
        }  # fmt: skip
        return CloudEvent(attributes, obj)
