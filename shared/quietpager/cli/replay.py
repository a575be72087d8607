"""`quietpager replay`: offline diagnosis of recorded cases, by the code that runs in the functions.

A case is a folder (event.json, objects/*.json, related_events.json, expected.yaml); nothing outside
it is read, and what is not in it does not exist. Pure: no store, no network, no clock but the case's.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

from quietpager.analysis.analyse import analyse
from quietpager.cli.catalogue import actions, planner, routes, rule, verdict_on
from quietpager.cluster.recorded import Recorded, case_event, case_moment
from quietpager.deciding.candidates import candidates_of
from quietpager.deciding.offline import IN_A_CASE, decide_offline
from quietpager.deciding.pipeline import Decided
from quietpager.errors import BadMessage
from quietpager.incident.policy import Policy
from quietpager.model.cluster import Json
from quietpager.model.event import read_event
from quietpager.model.finding import Diagnosis, NotYet
from quietpager.model.incident import Autonomy
from quietpager.model.signal import UNKNOWN_FAMILY, Signal
from quietpager.model.text import clean
from quietpager.objects.live import Live
from quietpager.rules.routing import Observation
from quietpager.runtime.detecting import finding_of

BENIGN, INVALID = "benign_no_action", "invalid_input"


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
    received = case_moment(raw)
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
        remedies=[one.to_json() for one in candidates_of(remedies, dial, actions())],
        evidence=[e.to_json() for e in verdict.evidence],
        page=None if verdict.page is None else verdict.page.to_json(),
    )


def _known(folder: Path, signal: Signal, verdict: Diagnosis, reader: Recorded, now: datetime) -> Json:
    known = rule(signal.family)
    finding = finding_of(signal.target, verdict, known, "replay", now)
    dial = known.classes[verdict.failure_class].autonomy
    # The contract of `would_act`: what would be done, were the rule's autonomy auto.
    at_auto = finding.but(autonomy=Autonomy.AUTO.value)
    decided = decide_offline(
        at_auto, reader, policy=Policy(), now=now, actions=actions(), planner=planner, assumed=IN_A_CASE
    )
    acts, proposes = _would_act(decided)
    return _answer(
        folder,
        verdict.failure_class,
        why=finding.why,
        family=signal.family,
        known=True,
        owner=str(verdict.owner),
        remedies=[one.to_json() for one in candidates_of(finding.remedies, dial, actions())],
        would_act=acts,
        would_propose=proposes,
        assumed=list(IN_A_CASE.says),
        verdict=decided.says,
        judged=[one.to_json() for one in decided.judged],
        evidence=[e.to_json() for e in verdict.evidence],
    )


def _would_act(decided: Decided) -> tuple[list[str], list[str]]:
    """Name the action that it would carry out unasked, or the one whose plan a person would get to read."""
    named = [] if decided.chosen is None else [decided.chosen.plan.remedy.action]
    return named if decided.says == "act" else [], named if decided.says == "propose" else []
