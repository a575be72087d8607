"""From a plan and its ground to a verdict: every guard's answer, who decides, and what the incident hears.

    the plan was refused ────────────────────▶ refused, or beyond: a person reads it
    ground ─▶ every guard ─▶ autonomy ─┬─────▶ below `approve`: the plan is only shown
                                       ├─────▶ a proposal: proposed
                                       ├─────▶ a guard said no: refused, with its sentence
                                       └─────▶ allowed, or a person is asked

Pure but for `look`, which reads the ground. Who calls it: `govern/decide` for each plan that comes back, the
pipeline for replay and scan, `quietpager policy explain --now`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime

from quietpager.actions.schema import Action, autonomy_limit
from quietpager.deciding import guards
from quietpager.deciding.ground import Conditions, Ground, Reads, ground_of
from quietpager.deciding.guard import Verdict
from quietpager.incident.news import Input, News
from quietpager.incident.policy import Policy
from quietpager.model.data import Json
from quietpager.model.incident import Autonomy, Incident, Rehearsal

Look = Callable[[Rehearsal, Incident], tuple[Ground, Conditions]]
"""Gives what the guards look at, and what of it must still hold when it is acted on."""


@dataclass(frozen=True, slots=True)
class Judged:
    """What was made of one plan.

    `said` is every guard's answer and `dial` that of guard 11; both are empty where the plan itself was
    refused. `news` is what the incident hears; `conditions` are there only where it may act.
    """

    plan: Rehearsal
    news: Input
    said: tuple[Verdict, ...] = ()
    dial: Autonomy | None = None
    conditions: Conditions | None = None

    @property
    def refusal(self) -> Verdict | None:
        """The first guard's no."""
        return guards.refusal(self.said)

    @property
    def held(self) -> bool:
        """Whether nothing is wrong with the plan, and it is only not carried out now, or not by us."""
        if self.news.kind is News.SHOW:
            return self.refusal is None or guards.declared_by(self.refusal).then != "next"
        return self.refusal is not None and guards.declared_by(self.refusal).then == "hold"

    def to_json(self) -> Json:
        """Write it as replay and scan print it: the action, why not, and every guard's answer."""
        return {
            "action": self.plan.remedy.action,
            "refused": self.news.sentence or None,
            "autonomy": None if self.dial is None else self.dial.value,
            "guards": [one.to_json() for one in self.said],
        }


def stored(
    store: Reads, policy: Policy, now: datetime, actions: Mapping[str, Action], *, undo: bool = False
) -> Look:
    """Look at the store's records; for an undo, whose own step writes the breaker, at fewer of them."""

    def look(plan: Rehearsal, incident: Incident) -> tuple[Ground, Conditions]:
        at_most = autonomy_limit(actions, plan.remedy.action)
        return ground_of(plan, incident, store, policy, now, at_most=at_most, undo=undo)

    return look


def judge(plan: Rehearsal, incident: Incident, look: Look, *, fault: str = "") -> Judged:
    """Judge one plan.

    `fault` says why the policy cannot be read; then nothing is allowed, whatever was approved.
    """
    if plan.state == "refused":
        kind = News.BEYOND if plan.beyond else News.REFUSED
        return Judged(plan, Input(kind, rehearsal=plan, sentence=plan.refusal or "refused"))
    ground, conditions = look(plan, incident)
    # A proposal writes nothing to the cluster; what may be pushed was asked before it was made.
    said = () if plan.proposal is not None else guards.verdicts(ground)
    dial = guards.autonomy(ground)
    news = _news(plan, guards.refusal(said), dial, fault)
    return Judged(plan, news, said, dial, conditions if news.kind is News.ALLOWED else None)


def judge_undo(plan: Rehearsal, incident: Incident, look: Look) -> tuple[tuple[Verdict, ...], Conditions]:
    """Ask the guards of an undo about the plan that takes an act back; nobody is asked for a yes."""
    ground, conditions = look(plan, incident)
    return guards.verdicts(ground, guards.UNDO_GUARDS), conditions


def _news(plan: Rehearsal, no: Verdict | None, dial: Autonomy, fault: str) -> Input:
    said = no.sentence if no else ""
    if fault:
        return Input(News.SHOW, rehearsal=plan, sentence=fault)
    if dial.rank < Autonomy.APPROVE.rank:
        return Input(News.SHOW, rehearsal=plan, sentence=said)
    if plan.proposal is not None:
        return Input(News.PROPOSED, rehearsal=plan)
    if no is not None:
        propose = guards.declared_by(no).then == "propose"
        return Input(News.REFUSED, rehearsal=plan, sentence=said, propose=propose)
    return Input(News.ALLOWED if dial is Autonomy.AUTO else News.ASK, rehearsal=plan)
