"""Writes the page from the gathered facts: candidate causes in order, what is ruled out, where to look next.

Pure. The order of causes follows one thought: what is certainly broken now first, then what was changed
last before the symptom began. Nothing here guesses: a cause without a fact behind it is not named.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final

from quietpager.analysis.gather import EDITS, Gathered
from quietpager.model.event import Event
from quietpager.model.page import Changed, Page, RuledOut, Similar, Suspect
from quietpager.model.signal import UNCONFIRMED
from quietpager.model.text import clean
from quietpager.objects.table import known

SLACK: Final = timedelta(seconds=30)
"""A change so little after the symptom's first trace may still be its cause: status is written late."""
OLD: Final = timedelta(days=1)
"""A change longer before the symptom is told, but suspected of nothing."""
MOST_FACTS: Final = 40
_PLATFORM: Final = frozenset(
    {"", "kubelet", "default-scheduler", "deployment-controller", "replicaset-controller", "node-controller"}
)


def compose(found: Gathered, similar: Sequence[Similar] = (), helped: Sequence[str] = ()) -> Page:
    """Make the page."""
    changed = sorted(found.changed, key=lambda one: (one.at is not None, one.at or found.now), reverse=True)
    return Page(
        summary=_summary(found),
        at=found.now,
        since=found.trouble.since,
        causes=tuple(causes(found)),
        facts=tuple(found.facts[:MOST_FACTS]),
        ruled_out=tuple(ruled_out(found)),
        changed=tuple(one.but(what=clean(one.what, 900)) for one in changed),
        look_next=tuple(dict.fromkeys(look_next(found))),
        similar=tuple(similar),
        helped=tuple(helped),
        missing=tuple(dict.fromkeys(found.missing)),
    )


def _summary(found: Gathered) -> str:
    lasted = max((found.now - found.trouble.since).total_seconds(), 0)
    told, said = speaker(found), ""
    if told is not None and told.message:
        said = f" {told.component or 'somebody'} says {told.reason}: {told.message}"
    if found.origin in UNCONFIRMED:
        said += f" The {found.origin} that pointed here is unconfirmed."
    return clean(f"{found.owner} has been unwell for {lasted:.0f} s: {found.trouble.why}.{said}", 600)


def speaker(found: Gathered) -> Event | None:
    """Choose the Event that says most: an operator's own before what the platform says of everything.

    A kubelet is quicker than any operator, so the Event that came first is seldom the one to read. None where
    the API server holds no Event about it.
    """
    first = [] if found.told is None else [found.told]
    told = [*first, *(one for one in found.events if one.type != "Normal")]
    return next((one for one in told if one.component not in _PLATFORM), next(iter(told), None))


def causes(found: Gathered) -> Iterator[Suspect]:
    """Rank the candidate causes: broken things first, then changes, the latest before the symptom first."""
    for ref, there in found.config.items():
        if there is False and not ref.optional:
            yield Suspect(what=f"ConfigMap {ref.name} is missing", why=f"{ref.where} needs it")
    for name, wrong in found.nodes.items():
        if wrong:
            yield Suspect(what=f"Node {name} is unwell", why=wrong)
    for where in dict.fromkeys(found.oom):
        yield Suspect(what=f"memory: {where} was killed for it", why="its last state says OOMKilled")
    for one in sorted(_before(found), key=lambda one: one[0], reverse=True):
        yield Suspect(what=clean(one[1].what, 500), why=_gap(one[0], found.trouble.since))


def _before(found: Gathered) -> Iterator[tuple[datetime, Changed]]:
    since = found.trouble.since
    for one in found.changed:
        # A node that is unwell is a cause of its own already.
        if one.at is not None and since - OLD <= one.at <= since + SLACK and "Node " not in one.source:
            yield one.at, one


def _gap(at: datetime, since: datetime) -> str:
    seconds = (since - at).total_seconds()
    if abs(seconds) <= 1:
        return "in the same second as the symptom began"
    when = "before" if seconds > 0 else "after"
    return f"{abs(seconds):.0f} s {when} the first trace of the symptom"


def ruled_out(found: Gathered) -> Iterator[RuledOut]:
    """Say what it is not. Only what was read can rule anything out."""
    if found.pods_seen:
        if not found.oom:
            yield RuledOut(what="killed for memory", why="no container of it ended with OOMKilled")
        if not found.restarts:
            yield RuledOut(what="a crash", why="no container has restarted")
        if not found.unpulled:
            yield RuledOut(what="an image that cannot be pulled", why="no container waits for its image")
    if found.nodes and not any(found.nodes.values()):
        names = ", ".join(found.nodes)
        yield RuledOut(what="the node", why=f"{names}: ready and under no pressure")
    if found.config and all(found.config.values()):
        names = ", ".join(ref.name for ref in found.config)
        yield RuledOut(what="a missing ConfigMap", why=f"all that it refers to exist: {names}")
    yield from _not_a_change(found)


def _not_a_change(found: Gathered) -> Iterator[RuledOut]:
    began, since = found.newest_began, found.trouble.since
    if found.revisions == 1:
        yield RuledOut(what="a rollback", why="there is no earlier revision to go back to")
    elif began is not None and began > since + SLACK:
        yield RuledOut(what="the newest revision", why=f"it began at {began:%H:%M:%S}, after the symptom")
    elif began is not None and began < since - OLD:
        yield RuledOut(what="the newest revision", why=f"it has run since {began:%Y-%m-%d %H:%M}")
    for one in found.changed:
        if one.at is not None and one.at > since + SLACK and one.source == EDITS:
            yield RuledOut(what=clean(one.what, 200), why="it came after the symptom")


def look_next(found: Gathered) -> Iterator[str]:
    """Name the next places, the most promising first."""
    told, owner = speaker(found), found.owner
    kubectl = f"kubectl -n {owner.namespace}" if owner.namespace else "kubectl"
    it = f"{clean(owner.kind, 60).lower()}/{clean(owner.name, 253)}"
    if told is not None and told.component not in _PLATFORM:
        yield (
            f"{clean(told.component, 60)} sent the Event: read its own log around "
            f"{told.last_seen:%H:%M:%S} and what its documentation says of {clean(told.reason, 60)}."
        )
    for ref, there in found.config.items():
        if there is False and not ref.optional:
            yield f"{kubectl} get configmap {ref.name}: {ref.where} needs it; who should make it?"
    for name, wrong in found.nodes.items():
        if wrong:
            yield f"kubectl describe node {name}"
    if (kind := known(owner)) is not None and kind.revised and (found.revisions or 0) > 1:
        yield f"{kubectl} rollout history {it}: the newest revision against the one before."
    if any("log of" in sentence for sentence in found.missing):
        yield f"{kubectl} logs {it} --tail=50: quietpager could not read all of it."
    yield f"{kubectl} describe {it}"
    if found.pods_seen and not found.restarts and not found.unpulled:
        yield "It runs and is not ready: run its readiness probe by hand, and ask what the probe waits for."
