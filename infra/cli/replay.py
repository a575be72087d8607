"""`quietpager replay`: offline diagnosis of recorded cases, by the code that runs in the functions.

A case is a folder (event.json, objects/*.json, related_events.json, expected.yaml); nothing outside
it is read, and what is not in it does not exist. Pure: no store, no network, no clock but the case's.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from infra.cli.catalogue import actions, planner, routes, rule, verdict_on
from infra.cli.unwell import unwell
from quietpager.actions.plan import rehearse
from quietpager.cluster.port import Json
from quietpager.errors import BadMessage
from quietpager.model.event import signal_from_event
from quietpager.model.finding import Diagnosis, Finding, NotYet, Remedy
from quietpager.model.incident import Autonomy, Incident, Rehearsal
from quietpager.model.signal import UNKNOWN_FAMILY, Signal
from quietpager.model.text import clean
from quietpager.rules.live import Live
from quietpager.rules.recorded import Recorded, read_json
from quietpager.runtime.detecting import finding_of
from quietpager.safety import guards
from quietpager.safety.machine import Input, News, dwell_met, step
from quietpager.safety.policy import Policy

BENIGN, INVALID = "benign_no_action", "invalid_input"
ASSUMED = (
    "the namespace is opted in",
    "the fleet is healthy",
    "budgets are fresh, no act and no breaker before",
    "the API server's dry run admits the change",
)
_EPOCH = datetime.fromtimestamp(0, UTC)


def replay(folders: Iterable[Path]) -> Iterator[Json]:
    """Replay cases; one answer for each folder, in order. Never raises."""
    for folder in folders:
        try:
            yield _replay(folder)
        except Exception as broken:  # noqa: BLE001 (hostile input may never end a run of hundreds)
            yield _answer(folder, INVALID, why=f"The case cannot be read: {clean(str(broken), 300)}")


def _answer(folder: Path, failure_class: str, *, why: str, **more: Any) -> Json:
    return {
        "case": folder.name, "failure_class": failure_class, "family": UNKNOWN_FAMILY,
        "known": False, "owner": None, "remedies": [], "would_act": [], "assumed": [],
        "evidence": [], "why": why, **more,
    }  # fmt: skip


def _replay(folder: Path) -> Json:
    raw = read_json(folder / "event.json")
    if raw is None:
        return _answer(folder, INVALID, why="event.json is missing or no JSON.")
    received = _newest(raw)
    try:
        signal = signal_from_event(raw, cluster="replay", received=received)
    except BadMessage as no:
        return _answer(folder, INVALID, why=str(no))
    reader = Recorded(folder)
    family = routes().family_of(signal)
    if family is None:
        return _answer(folder, BENIGN, why="No route: a Normal Event of no interest, or benign by rule.")
    signal = signal.but(family=family)
    signal, verdict = verdict_on(signal, reader)
    if isinstance(verdict, Diagnosis):
        return _known(folder, signal, verdict, reader)
    if signal.family != UNKNOWN_FAMILY and not isinstance(verdict, NotYet):
        why = verdict.why if verdict is not None else "nothing found"
        return _answer(folder, BENIGN, why=why, family=signal.family)
    trouble = unwell(signal, reader)
    if trouble is None:
        return _answer(folder, BENIGN, why=f"{signal.target} and its owner are well, gone, or starting.")
    return _answer(
        folder, "unknown", why=trouble,
        evidence=[{"text": trouble, "source": str(signal.target)}],
        remedies=[], owner=_owner(signal, reader),
    )  # fmt: skip


def _owner(signal: Signal, reader: Recorded) -> str | None:
    try:
        owner = Live(reader, signal.target).owner
    except ValidationError:
        return None
    return None if owner is None else str(owner)


def _newest(raw: Any) -> datetime:
    """The case's own clock: the newest time its Event tells, or the epoch."""
    times: list[datetime] = []
    fields = raw if isinstance(raw, dict) else {}
    for name in ("lastTimestamp", "eventTime", "firstTimestamp", "deprecatedLastTimestamp"):
        try:
            moment = datetime.fromisoformat(str(fields.get(name)))
        except ValueError:
            continue
        if moment.tzinfo is not None:
            times.append(moment.astimezone(UTC))
    return max(times, default=_EPOCH)


def _known(folder: Path, signal: Signal, verdict: Diagnosis, reader: Recorded) -> Json:
    known = rule(signal.family)
    finding = finding_of(signal, verdict, known, "replay", signal.last_seen, None)
    dial = known.classes[verdict.failure_class].autonomy
    return _answer(
        folder,
        verdict.failure_class,
        why=finding.why,
        family=signal.family,
        known=True,
        owner=str(verdict.owner),
        remedies=[{"action": r.action, "params": r.params, "autonomy": dial.value} for r in finding.remedies],
        would_act=_would_act(finding, reader),
        assumed=list(ASSUMED),
        evidence=[e.to_json() for e in verdict.evidence],
    )


def _would_act(finding: Finding, reader: Recorded) -> list[str]:
    """Walk the incident's own state machine at autonomy auto until it would act or ask."""
    policy = Policy(autonomy=Autonomy.AUTO)
    now = finding.at
    if not dwell_met(finding, policy, now):
        return []
    taken = step(None, Input(News.SYMPTOM, finding=finding.but(autonomy="auto")), policy, now)
    while taken.incident is not None and taken.incident.remedy is not None:
        incident = taken.incident
        news = _rehearsed(incident, incident.remedy, reader, policy, now)
        if news.kind is News.ALLOWED:
            return [news.rehearsal.remedy.action] if news.rehearsal else []
        taken = step(incident, news, policy, now)
    return []


def _rehearsed(
    incident: Incident, remedy: Remedy | None, reader: Recorded, policy: Policy, now: datetime
) -> Input:
    action = None if remedy is None else actions().get(remedy.action)
    plans = None if remedy is None else planner(remedy.action)
    if remedy is None or action is None or plans is None:
        return Input(News.REFUSED, sentence="There is no such action.")
    asked = Rehearsal(
        id=incident.rehearsal or "",
        incident=incident.id,
        remedy=remedy,
        owner=incident.owner,
        asked_at=now,
    )
    plan = rehearse(
        asked, action, plans, Live(reader, incident.owner),
        opt_in_label=policy.opt_in_label, ignore_annotation=policy.ignore_annotation, dry_run=None,
    )  # fmt: skip
    if plan.facts is None:
        return Input(News.REFUSED, rehearsal=plan, sentence=plan.refusal or "refused")
    plan = plan.but(facts=plan.facts.but(opted_in=True))
    ground = guards.Ground(incident=incident, rehearsal=plan, policy=policy, now=now, stopped=False)
    refusal = guards.check(ground)
    if refusal is not None:
        return Input(News.REFUSED, rehearsal=plan, sentence=refusal.sentence)
    return Input(News.ALLOWED, rehearsal=plan)
