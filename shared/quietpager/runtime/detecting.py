"""What all detectors share: read the live object, let the rule judge, keep the finding, say so once.

    signal ─▶ the live object ─▶ the rule's verdict
                 not yet   ──▶ one due item for this target: a few looks more, counted here, not by the sender
                 failing   ──▶ one record for (target, family, class, cause), told where it says something new
                 not mine  ──▶ the same hint to another family
                 healthy   ──▶ nothing

Nothing here depends on who sent the signal, how often, or under which id: its record is named by what was
read. So a signal that is forged or repeated costs reads.

Who calls it: `runtime.loading`, with the `diagnose` of a detector's folder; analyze/unknown.
"""

from datetime import datetime, timedelta
from typing import Final

from quietpager.errors import Retry
from quietpager.incident import records
from quietpager.incident.findings import MOST_SYMPTOMS
from quietpager.model.cluster import ClusterUnavailable, Rejected
from quietpager.model.data import digest
from quietpager.model.finding import Diagnosis, Finding, NotMine, NotYet
from quietpager.model.incident import Incident, State
from quietpager.model.message import Message
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import UNKNOWN_FAMILY, EventRef, Recheck, Signal, read_signal
from quietpager.model.store import ABSENT, Conflict, Delete, Due, DueDone, Put, Record
from quietpager.model.time import to_text
from quietpager.objects.health import health_of
from quietpager.objects.live import Live
from quietpager.rules.judging import Diagnose, judge
from quietpager.rules.judging import forwarded as forwarded_to
from quietpager.rules.schema import Rule
from quietpager.runtime.context import Context
from quietpager.runtime.places import place_for, taken_place
from quietpager.runtime.rechecking import Looker, finding_message, look, recheck

MOST_LOOKS: Final = 3
"""An Event arrives before the status does (recorded); so a detector looks again this often."""

SAY_AGAIN: Final = timedelta(minutes=10)
"""After so long a failure that still stands is told once more although its incident was closed."""

TRIES: Final = 3
"""How often a lost race for a finding's record is tried again at once."""


def detect(
    message: Message, ctx: Context, family: str, diagnose: Diagnose, looker: Looker | None = None
) -> list[Message]:
    """Handle one signal. `looker` takes the place of `look` where a family judges more kinds of owners.

    Raises:
        BadMessage: it is no signal.
        Retry: the cluster cannot be read just now.
    """
    hint = read_signal(message.data)
    if isinstance(hint, Recheck):
        return recheck(hint.incident, ctx, family, diagnose, looker or look)
    now = ctx.clock()
    live = Live(ctx.cluster, hint.target, now=now, told=hint.event)
    try:
        verdict = judge(hint, live, diagnose)
        said = _said(verdict, live, family, ctx) if isinstance(verdict, Diagnosis) else []
    except (ClusterUnavailable, Rejected) as away:
        raise Retry(f"{hint.target} cannot be read: {away}") from away
    if isinstance(verdict, NotYet):
        _look_again(hint, live, verdict, family, ctx)
        return []
    if isinstance(verdict, NotMine):
        said = [forwarded_to(hint, verdict, ctx.routes).to_message()]
    _look_no_more(hint, live, family, ctx)
    return said


def finding_of(target: ObjectRef, verdict: Diagnosis, rule: Rule, cluster: str, now: datetime) -> Finding:
    """Make the finding of a diagnosis, with the remedies that the rule has for it.

    Its id is made of what is wrong with what; `rests_on` of what a newer look would know better.
    """
    known = rule.classes[verdict.failure_class]
    kept = (verdict.restarts, verdict.last_failure, verdict.since, sorted(verdict.facts))
    return Finding(
        id=digest(rule.family, verdict.failure_class, verdict.cause, *_place(target)),
        cluster=cluster,
        outcome="failing",
        at=now,
        family=rule.family,
        target=target,
        why=verdict.evidence[0].text if verdict.evidence else "",
        diagnosis=verdict,
        remedies=rule.candidates(verdict.failure_class, verdict.facts),
        autonomy=known.autonomy.value,
        dwell=known.dwell,
        rests_on=digest(*kept, *_place(verdict.owner)),
    )


def _place(target: ObjectRef) -> tuple[str | None, ...]:
    return target.kind, target.namespace, target.name, target.uid


def _said(diagnosis: Diagnosis, live: Live, family: str, ctx: Context) -> list[Message]:
    """Keep a finding in its one record and tell of it, unless it says nothing that decide does not know."""
    finding = finding_of(live.named, diagnosis, ctx.rule(family), ctx.cluster_name, live.now)
    key, lock = records.finding(finding.id), records.cause(diagnosis.cause)
    for _ in range(TRIES):
        found = ctx.store.get_many([key, lock])
        record = found.get(key)
        before = None if record is None else Finding.from_json(record.body)
        incident = _incident(ctx, found.get(lock))
        if (
            before is not None
            and before.rests_on == finding.rests_on
            and _known(finding, before, incident, ctx)
        ):
            return []
        told = finding.but(
            serial=0 if before is None else before.serial + 1, closing=_closing(incident),
            available=health_of(live, None).available,
        )  # fmt: skip
        message, tick = finding_message(told), timedelta(seconds=ctx.policy.tick)
        try:
            ctx.store.transact(
                [
                    Put(key, told.to_json(), ABSENT if record is None else record.version),
                    Due(records.talk(told.id), told.at + tick, tick, message.to_json()),
                ]
            )
        except Conflict:
            continue
        return [message]
    raise Retry(f"other looks at {finding.target} were faster {TRIES} times")


def _incident(ctx: Context, lock: Record | None) -> Incident | None:
    record = None if lock is None else ctx.store.get(records.incident(str(lock.body["incident"])))
    return None if record is None else Incident.from_json(record.body)


def _known(finding: Finding, before: Finding, incident: Incident | None, ctx: Context) -> bool:
    """Tell whether decide has, or will get, all that a finding says: it was told before of the same look.

    What was told and not taken up yet speaks again by its own due item.
    """
    if incident is None:
        return ctx.store.due_item(records.talk(before.id)) is not None
    if incident.state is State.CLOSED:
        return before.closing == _closing(incident) and finding.at - before.at < SAY_AGAIN
    if incident.state is State.WAITING and incident.family == UNKNOWN_FAMILY != finding.family:
        return False
    return finding.target in incident.symptoms or len(incident.symptoms) >= MOST_SYMPTOMS


def _closing(incident: Incident | None) -> str:
    if incident is None or incident.state is not State.CLOSED:
        return ""
    return f"{incident.id} {to_text(incident.state_since)}"


def _look_again(hint: Signal, live: Live, verdict: NotYet, family: str, ctx: Context) -> None:
    """Plan another look at a target whose status does not say enough yet, unless all have been made.

    Its place says how many looks are planned by now, when the next one is, and which Event was read: what a
    sender says of that counts for nothing, and a signal that comes before the next look changes nothing.
    """
    place = place_for(ctx, hint.origin, _looker(family, live.named))
    if place is None:
        return
    every = timedelta(seconds=ctx.policy.tick)
    at = live.now + (every if verdict.again_in is None else timedelta(seconds=verdict.again_in))
    looks, event = 1, live.confirmed
    if place.version != ABSENT:
        kept = None if place.body["event"] is None else EventRef.from_json(place.body["event"])
        looks, planned = int(place.body["looks"]), datetime.fromisoformat(place.body["at"])
        if live.now < planned:
            if kept is not None or event is None:
                return
            at = planned
        elif looks >= MOST_LOOKS:
            _write(ctx, Delete(place.key, place.version), DueDone(records.look_again(place.key)))
            return
        else:
            looks += 1
        event = kept or event
    later = Signal(target=live.named, family=family, origin=hint.origin, event=event, hops=hint.hops)
    kept_event = None if event is None else event.to_json()
    body = place.body | {"looks": looks, "at": to_text(at), "event": kept_event}
    due = Due(records.look_again(place.key), at, every, later.to_message().to_json())
    _write(ctx, Put(place.key, body, place.version), due)


def _look_no_more(hint: Signal, live: Live, family: str, ctx: Context) -> None:
    """Take away the look that was planned, for its target is judged."""
    place = taken_place(ctx, hint.origin, _looker(family, live.named))
    if place is not None:
        _write(ctx, Delete(place.key, place.version), DueDone(records.look_again(place.key)))


def _looker(family: str, target: ObjectRef) -> str:
    return f"{family} {target} {target.uid}"


def _write(ctx: Context, write: Put | Delete, due: Due | DueDone) -> None:
    try:
        ctx.store.transact([write, due])
    except Conflict:
        return  # somebody else has just looked, and plans the next one
