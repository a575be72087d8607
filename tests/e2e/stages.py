"""How long each stage of a story took, and whose time it was.

fault → hint        the cluster: until an Event or a status says so for the first time
hint → signal       ours: source, broker, intake (or the sweep, where there is no Event)
signal → finding    ours: broker, detector, decide; the incident is open
finding → planning  waited for: Kubernetes' restarts and back-off, the rule's dwell, the next recheck
planning → intent   ours: rehearsal with the API server's dry run, guards, the write-ahead transaction
intent → patch      ours: claim, last look, the write
patch → healthy     the cluster: rollout
healthy → closed    waited for: the window that a fix must hold

Where a person is asked before anything is written, planning → intent is three stages:

planning → asked    ours: rehearsal and guards (without a plan finding → asked: the dwell)
asked → answered    the person's, with another remedy planned in between if they wanted one
answered → intent   ours: the clock's next tick, the silent rehearsal, guards, the transaction
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from statistics import median
from typing import Final

from quietpager.model.incident import Incident, State
from quietpager.model.store import AuditEntry
from tests.e2e.bed import Bed, Json, Watch, api_writes, healthy

OURS: Final = (
    "hint → signal", "signal → finding", "planning → intent", "planning → asked", "answered → intent",
    "intent → patch",
)  # fmt: skip
POINTS: Final = (
    "fault", "hint", "signal", "finding", "planning", "asked", "answered", "intent", "patch", "healthy",
    "closed",
)  # fmt: skip
ANSWERS: Final = frozenset({"approve", "modify", "reject", "take over"})
"""What a person's entries in the audit are called."""


@dataclass(frozen=True)
class Story:
    """One story's name and when each point was reached; a point that never came is missing."""

    name: str
    points: Mapping[str, datetime]

    def stages(self) -> dict[str, float]:
        """Give seconds from each point to the next one that was reached."""
        reached = [point for point in POINTS if point in self.points]
        pairs = pairwise(reached)
        return {f"{a} → {b}": (self.points[b] - self.points[a]).total_seconds() for a, b in pairs}

    def own(self) -> float:
        """Add up our own share."""
        return sum(seconds for stage, seconds in self.stages().items() if stage in OURS)


def measure(
    bed: Bed,
    name: str,
    incident: Incident,
    fault: datetime,
    watches: Sequence[Watch],
) -> Story:
    """Put a story's points together: from the spy, both audits, and watches of Events, pods, Deployments."""
    events, pods, deployments = watches
    namespace = incident.owner.namespace or ""
    points = {"fault": fault, "finding": incident.opened_at}
    hints = [events.first(_is_warning, fault), pods.first(_shows_a_fault, fault)]
    if known := [at for at in hints if at is not None]:
        points["hint"] = min(known)
    signals = [
        m["at"] for m in bed.spy.messages()
        if m["type"] == "dev.quietpager.signal" and m.get("namespace") == namespace
        and m["at"] >= fault.timestamp()
    ]  # fmt: skip
    if signals:
        points["signal"] = datetime.fromtimestamp(min(signals), UTC)
    for point, state in (("planning", "PLANNING"), ("intent", "ACTING")):
        # An incident whose dwell is met when it is found opens in PLANNING.
        reached = [e.at for e in bed.audit(incident) if e.kind.endswith(f"-> {state}")]
        if reached:
            points[point] = reached[0]
    writes = [w for w in api_writes(fault) if w.namespace == namespace and w.code == 200 and not w.dry_run]
    if writes:
        points["patch"] = writes[0].at
        if (well := deployments.first(healthy, writes[0].at)) is not None:
            points["healthy"] = well
    points |= _person(bed.audit(incident))
    if incident.state is State.CLOSED or "asked" not in points:
        points["closed"] = incident.state_since
    return Story(name, points)


def _person(audit: Iterable[AuditEntry]) -> dict[str, datetime]:
    """Find when a person was first asked, and last answered, before anything was written."""
    found: dict[str, datetime] = {}
    for entry in audit:
        if entry.kind.endswith("-> ACTING"):
            break
        if "-> WITH_PERSON(" in entry.kind:
            found.setdefault("asked", entry.at)
        if entry.kind in ANSWERS:
            found["answered"] = entry.at
    return found


def _is_warning(event: Json) -> bool:
    return event.get("type") == "Warning"


def _shows_a_fault(pod: Json) -> bool:
    containers = pod.get("status", {}).get("containerStatuses", ())
    waiting = {(one.get("state", {}).get("waiting") or {}).get("reason") for one in containers}
    ended = [one for one in containers if "terminated" in one.get("lastState", {}) | one.get("state", {})]
    return bool(ended) or bool(waiting & {"ErrImagePull", "ImagePullBackOff", "CrashLoopBackOff"})


def table(stories: Iterable[Story], *, own: bool = True) -> str:
    """Write the medians, one column a story; the last row, if wanted, is our own share."""
    by_name: dict[str, list[Story]] = {}
    for story in stories:
        by_name.setdefault(story.name, []).append(story)
    rows = [f"{'seconds, median':22}" + "".join(f"{n + f' ({len(s)})':>18}" for n, s in by_name.items())]
    there = {stage for some in by_name.values() for story in some for stage in story.stages()}
    for stage in sorted(there, key=lambda stage: [POINTS.index(point) for point in stage.split(" → ")]):
        cells = [[v for s in some if (v := s.stages().get(stage)) is not None] for some in by_name.values()]
        rows.append(f"{stage:22}" + "".join(f"{median(c):18.2f}" if c else f"{'-':>18}" for c in cells))
    if own:
        shares = [median(story.own() for story in some) for some in by_name.values()]
        rows.append(f"{'our own share':22}" + "".join(f"{share:18.2f}" for share in shares))
    return "\n".join(rows)
