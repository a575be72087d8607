"""The proof that a deployed product works: something went all the way, not that something says Ready.

A warm Knative still shows Ready what has not come up yet. Who calls it: `deploy`.

    PingSource ── Broker ── Trigger ── clock, sweep ── (API server) ── store: their heartbeats
    Event ── ApiServerSource ── Broker ── Trigger ── intake: 400 ── dead letter ── store: its audit
"""

import uuid
from datetime import datetime
from time import monotonic, sleep
from typing import Final

from quietpager.functions.ingest.dead_letter.handler import CHAIN
from quietpager.incident import records
from quietpager.model.cluster import Cluster, ClusterUnavailable
from quietpager.model.store import Store, StoreUnavailable
from quietpager.model.time import system_clock

PATIENCE: Final = 90.0
AGAIN: Final = 3.0
"""Seconds after which another Event is made: a source whose watch does not stand yet loses the first."""


def prove(store: Store, cluster: Cluster, namespace: str, patience: float = PATIENCE) -> None:
    """Wait until clock and sweep have ticked, and an Event came through.

    Raises:
        SystemExit: not in time; the text says what is missing and where to look.
    """
    since, begun = system_clock(), monotonic()
    made: list[str] = []
    missing = ["?"]
    while missing and monotonic() - begun < patience:
        if monotonic() - begun >= AGAIN * len(made):
            made += _make_event(cluster, namespace)
        missing = _missing(store, since, made)
        sleep(0.1 if missing else 0)
    if missing:
        raise SystemExit(
            f"After {patience:.0f} s nothing came through of: {', '.join(missing)}. Look at "
            f"`kubectl -n {namespace} get pods,broker,trigger,apiserversource,pingsource` and at the logs of "
            "Deployments in knative-eventing."
        )


def _make_event(cluster: Cluster, namespace: str) -> list[str]:
    """Make an Event about nothing: intake refuses it, so that it leaves a trace, and no incident."""
    name = f"quietpager-deploy-{uuid.uuid4().hex[:8]}"
    event = {
        "metadata": {"name": name, "namespace": namespace},
        "involvedObject": {"namespace": namespace},
        "reason": "Deployed",
        "message": "Asks whether Events come through; ends in the dead letter, on purpose.",
        "type": "Normal",
        "source": {"component": "quietpager-deploy"},
    }
    try:
        cluster.create("Event", {"apiVersion": "v1", "kind": "Event", **event})
    except ClusterUnavailable:
        return []
    return [name]


def _missing(store: Store, since: datetime, events: list[str]) -> list[str]:
    try:
        found = [part for part in ("clock", "sweep") if not _beat(store, part, since)]
        subjects = " ".join(str(entry.body.get("subject")) for entry in store.audit(CHAIN))
    except StoreUnavailable as away:
        return [f"the store ({away})"]
    if not any(name in subjects for name in events):
        found.append("an Event, from its source to the dead letter")
    return found


def _beat(store: Store, part: str, since: datetime) -> bool:
    record = store.get(records.heartbeat(part))
    return record is not None and datetime.fromisoformat(str(record.body["at"])) > since
