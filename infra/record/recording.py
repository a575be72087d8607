"""The order of a recording: apply, wait for the Event, wait for the status, read everything at once.

    apply step 1 ─ well? ─ apply step 2 …   Event ── status follows ── QUIET seconds of rest ── read

Called by `__main__`. An Event arrives before the status that it speaks of (recorded: at
Failed/ErrImagePull a GET still said ContainerCreating), so nothing is read before its object has changed
once more, or has had `LAG` seconds to do so, and then rested.
"""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty
from time import monotonic
from typing import Any, Final

from infra.record import case
from infra.record.case import Seen
from infra.record.kube import Kubectl
from quietpager.model.time import system_clock

Json = dict[str, Any]

UNTIL: Final = ("settled", "well")
QUIET: Final = 3.0
"""Seconds without a change of the target or of a workload, after which things count as settled."""
LAG: Final = 5.0
"""Seconds that a status may come after its Event; a kubelet's is there within two (recorded)."""
_LOOK: Final = 0.25


@dataclass(frozen=True, slots=True)
class Recording:
    """What was there at one moment, and all that was told up to it."""

    trigger: Json
    objects: list[Json]
    related: list[Json]
    previous_logs: str
    seen: list[Seen]


def settled(seen: Sequence[Seen], event: Json, now: float) -> bool:
    """Say whether the status has had its time to follow the Event, and rests now."""
    told = next(
        s for s in seen if s.kind == "Event" and s.object["metadata"]["uid"] == event["metadata"]["uid"]
    )
    about = event["involvedObject"]
    of_target = [s.at for s in seen if s.key == (about["kind"], about["name"])]
    followed = any(at > told.at for at in of_target) or now - told.at > LAG
    return followed and at_rest(seen, now)


def at_rest(seen: Sequence[Seen], now: float) -> bool:
    """Say whether no object but Events has changed for a while."""
    return all(now - one.at >= QUIET for one in seen if one.kind != "Event")


def present(seen: Sequence[Seen]) -> list[Json]:
    """Give the objects as they were last told, without those that went."""
    last = {one.key: one for one in seen}
    return [one.object for one in last.values() if one.type != "DELETED"]


def record(
    cluster: Kubectl, steps: Sequence[list[Json]], *, reason: str, until: str, seconds: float
) -> Recording:
    """Apply the steps in a new namespace and give what there is when it is time.

    Raises:
        SystemExit: no such Event came, or it was not time within so many seconds.
    """
    seen: list[Seen] = []
    begun = 0
    with cluster:
        end = monotonic() + seconds
        for number, step in enumerate(steps):
            while number and not (case.is_well(present(seen)) and at_rest(seen, _now())):
                _listen(cluster, seen, end, "What was applied first has not come right.")
            begun = len(seen)
            cluster.apply(step)
        while (event := _due(seen, begun, reason, until)) is None:
            _listen(cluster, seen, end, _missing(seen, begun, reason, until))
        return _read(cluster, event, seen)


def _due(seen: list[Seen], begun: int, reason: str, until: str) -> Json | None:
    """Give the Event once it is time to read; Events from before the last step do not count."""
    event = case.trigger(seen[begun:], reason)
    if event is None or not settled(seen, event, _now()):
        return None
    return event if until == "settled" or case.is_well(present(seen)) else None


def _missing(seen: list[Seen], begun: int, reason: str, until: str) -> str:
    if case.trigger(seen[begun:], reason) is None:
        told = sorted({str(one.object.get("reason")) for one in seen if one.kind == "Event"})
        return f"No {reason or 'Warning'} Event came; --reason may name one of {', '.join(told)}."
    return "It goes on changing." if until == "settled" else "Not all has come right."


def _listen(cluster: Kubectl, seen: list[Seen], end: float, missing: str) -> None:
    """Take what the watches have told by now, or end with a sentence."""
    if not cluster.watching:
        raise SystemExit("A watch broke off: is the cluster up?")
    if monotonic() > end:
        raise SystemExit(f"{missing} Wait longer with --seconds, or look at the manifest.")
    with suppress(Empty):
        seen.append(cluster.seen.get(timeout=_LOOK))
        while True:
            seen.append(cluster.seen.get_nowait())


def _read(cluster: Kubectl, event: Json, seen: list[Seen]) -> Recording:
    """Read everything; the Event too, for its count has gone on."""
    objects, events = cluster.objects(), cluster.events()
    uid = event["metadata"]["uid"]
    trigger = next((one for one in events if one["metadata"]["uid"] == uid), event)
    words = case.crashed(trigger, objects)
    logs = "" if words is None else cluster.logs(words[0], words[1], previous=words[2])
    related = [one for one in events if one["metadata"]["uid"] != uid]
    return Recording(trigger, objects, related, logs, seen)


def _now() -> float:
    return system_clock().timestamp()
