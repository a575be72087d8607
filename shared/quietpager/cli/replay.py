"""`quietpager replay`: offline diagnosis of recorded cases, by the code that runs in the functions.

A case is a folder (event.json, objects/*.json, related_events.json, expected.yaml); nothing outside
it is read, and what is not in it does not exist. Pure: no store, no network, no clock but the case's.
"""

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quietpager.actions.plan import rehearse
from quietpager.cli.catalogue import actions, ground, planner, routes, rule, verdict_on
from quietpager.cluster.recorded import Recorded, case_event
from quietpager.deciding import guards
from quietpager.errors import BadMessage
from quietpager.functions.analyze.unknown.analyse import analyse
from quietpager.incident.machine import step
from quietpager.incident.moves import dwell_met
from quietpager.incident.news import Input, News
from quietpager.incident.ownership import with_owner
from quietpager.incident.planning import PROPOSE
from quietpager.incident.policy import Places, Policy
from quietpager.model.cluster import Json
from quietpager.model.event import read_event
from quietpager.model.finding import Diagnosis, Finding, NotYet, Remedy
from quietpager.model.incident import Autonomy, Fleet, Incident, Rehearsal, lowest
from quietpager.model.signal import UNKNOWN_FAMILY, Signal
from quietpager.model.text import clean
from quietpager.objects.live import Live
from quietpager.rules.routing import Observation
from quietpager.runtime.detecting import finding_of

BENIGN, INVALID = "benign_no_action", "invalid_input"
ASSUMED = (
    "the namespace is opted in",
    "the fleet is healthy, nothing is cordoned or upgraded",
    "no freeze window is open, nothing else has opened an incident",
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
        "known": False, "owner": None, "remedies": [], "would_act": [], "would_propose": [], "assumed": [],
        "evidence": [], "why": why, **more,
    }  # fmt: skip


def _replay(folder: Path) -> Json:
    raw = case_event(folder)
    if raw is None:
        return _answer(folder, INVALID, why="event.json is missing or no JSON.")
    received = _newest(raw)
    try:
        event = read_event(raw, received=received)
    except BadMessage as no:
        return _answer(folder, INVALID, why=str(no))
    reader = Recorded(folder)
    family = routes().family_of(Observation.of(event))
    if family is None:
        return _answer(folder, BENIGN, why="No route: a Normal Event of no interest, or benign by rule.")
    now = event.last_seen
    signal, verdict = verdict_on(event.signal(family), reader, now)
    if isinstance(verdict, Diagnosis):
        return _known(folder, signal, verdict, reader, now)
    if signal.family != UNKNOWN_FAMILY and not isinstance(verdict, NotYet):
        why = verdict.why if verdict is not None else "nothing found"
        return _answer(folder, BENIGN, why=why, family=signal.family)
    # How long it lasted is not asked: a folder shows one moment of something that may go on.
    verdict = analyse(signal, Live(reader, signal.target, now=now, told=signal.event), reader, now, dwell=0.0)
    if not isinstance(verdict, Diagnosis):
        return _answer(folder, BENIGN, why=f"{verdict.why}.")
    return _unknown(folder, verdict)


def _unknown(folder: Path, verdict: Diagnosis) -> Json:
    """Answer with the analyst's page. Nothing is ever done about it without a person."""
    known = rule(UNKNOWN_FAMILY)
    dial = known.classes[verdict.failure_class].autonomy
    remedies = known.candidates(verdict.failure_class, verdict.facts)
    return _answer(
        folder,
        verdict.failure_class,
        why=verdict.evidence[0].text,
        owner=str(verdict.owner),
        remedies=[{"action": r.action, "params": r.params, "autonomy": dial.value} for r in remedies],
        evidence=[e.to_json() for e in verdict.evidence],
        page=None if verdict.page is None else verdict.page.to_json(),
    )


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


def _known(folder: Path, signal: Signal, verdict: Diagnosis, reader: Recorded, now: datetime) -> Json:
    known = rule(signal.family)
    finding = finding_of(signal.target, verdict, known, "replay", now)
    dial = known.classes[verdict.failure_class].autonomy
    acts, proposes = _would_act(finding, reader)
    return _answer(
        folder,
        verdict.failure_class,
        why=finding.why,
        family=signal.family,
        known=True,
        owner=str(verdict.owner),
        remedies=[
            {"action": r.action, "params": r.params, "autonomy": _dial(r, dial).value}
            for r in finding.remedies
        ],
        would_act=acts,
        would_propose=proposes,
        assumed=list(ASSUMED),
        evidence=[e.to_json() for e in verdict.evidence],
    )


def _dial(remedy: Remedy, dial: Autonomy) -> Autonomy:
    action = actions().get(remedy.action)
    return dial if action is None else lowest(dial, action.autonomy_at_most)


def _would_act(finding: Finding, reader: Recorded) -> tuple[list[str], list[str]]:
    """Walk the incident's own state machine at autonomy auto until it would act, ask or propose.

    Gives the action that it would carry out, or the one whose plan a person would get to read.
    """
    policy = Policy(autonomy=Autonomy.AUTO, namespaces=Places(allow=("*",)))
    now = finding.at
    if not dwell_met(finding, policy, now):
        return [], []
    taken = step(None, Input(News.SYMPTOM, finding=finding.but(autonomy="auto")), policy, now)
    planned: dict[str, str] = {}
    while taken.incident is not None and taken.incident.remedy is not None:
        incident, remedy = taken.incident, taken.incident.remedy
        if remedy.action == PROPOSE:
            return [], [planned[str(remedy.params["of"])]]
        news = _rehearsed(incident, remedy, reader, policy, now)
        if news.kind is News.ALLOWED:
            return [remedy.action], []
        if news.kind is News.ASK:
            return [], []
        planned[incident.rehearsal or ""] = remedy.action
        taken = step(incident, news, policy, now)
    return [], []


def _rehearsed(incident: Incident, remedy: Remedy, reader: Recorded, policy: Policy, now: datetime) -> Input:
    action, plans = actions().get(remedy.action), planner(remedy.action)
    if action is None or plans is None:
        return Input(News.REFUSED, sentence="There is no such action.")
    asked = Rehearsal(
        id=incident.rehearsal or "",
        incident=incident.id,
        remedy=remedy,
        owner=incident.owner,
        asked_at=now,
    )
    live = Live(reader, incident.owner)
    plan = rehearse(
        asked, action, plans, live,
        opt_in_label=policy.opt_in_label, ignore_annotation=policy.ignore_annotation, dry_run=None,
    )  # fmt: skip
    if plan.facts is None:
        kind = News.BEYOND if plan.beyond else News.REFUSED
        return Input(kind, rehearsal=plan, sentence=plan.refusal or "refused")
    # A case holds the nodes that matter to it, not the fleet; so the fleet is assumed (see ASSUMED).
    fleet = Fleet(nodes=max(1, plan.facts.fleet.nodes if plan.facts.fleet else 0))
    plan = with_owner(plan.but(facts=plan.facts.but(opted_in=True, fleet=fleet)), live, policy)
    seen = ground(incident, plan, policy, now, action.autonomy_at_most)
    refusal = guards.check(seen)
    if refusal is not None:
        return Input(News.REFUSED, rehearsal=plan, sentence=refusal.sentence)
    allowed = guards.autonomy(seen) is Autonomy.AUTO
    return Input(News.ALLOWED if allowed else News.ASK, rehearsal=plan)
