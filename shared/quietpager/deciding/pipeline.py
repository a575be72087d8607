"""The whole way from a finding to a verdict, in one go: candidates, ground, guards, verdict.

    finding ─▶ candidate 1 ─ plan ─ judge ─ refused ─▶ candidate 2 ─ … ─▶ act | ask | propose | tell

In production the same way goes through messages: `govern/decide` asks a remediator for each plan and judges
it with `verdict.judge` when it comes back. Which candidate comes next, and what a verdict leads to, says the
incident's state machine here as there. Pure but for its two ports: `plan` reads the cluster, `look` the
ground.

Who calls it: replay and scan, through `deciding.offline`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from quietpager.actions.schema import Action
from quietpager.deciding.candidates import Candidate, candidates_of
from quietpager.deciding.verdict import Judged, Look, judge
from quietpager.incident.machine import step
from quietpager.incident.moves import start_planning
from quietpager.incident.news import Input, News, Rehearse, Step, Tell
from quietpager.incident.policy import Policy
from quietpager.model.finding import Finding
from quietpager.model.incident import Rehearsal, State

Plan = Callable[[Rehearsal], Rehearsal]
"""Plans a remedy that is asked for; gives the rehearsal under the same id, refused where there is no plan."""

Says = Literal["act", "ask", "propose", "tell", "wait"]
_SAYS: Final[Mapping[State, Says]] = {
    State.ACTING: "act", State.APPROVAL: "ask", State.PROPOSED: "propose",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Decided:
    """What would be done about a finding, and why.

    `says`: `act` without asking, `ask` a person first, `propose` the change to whoever owns the object,
    `tell` a person, `wait`: the symptom has not lasted long enough for a plan. `judged` are the plans that
    were judged, in order, with every guard's answer; `sentence` is what people would be told.
    """

    says: Says
    candidates: tuple[Candidate, ...]
    judged: tuple[Judged, ...]
    sentence: str

    @property
    def chosen(self) -> Judged | None:
        """The plan that would be carried out, asked for or proposed; None where every one was refused."""
        last = self.judged[-1] if self.judged else None
        if last is None or last.news.kind not in (News.ALLOWED, News.ASK, News.PROPOSED):
            return None
        of = last.plan.remedy.params.get("of")
        return next((one for one in self.judged if one.plan.id == of), last)


def decide(
    finding: Finding,
    *,
    policy: Policy,
    actions: Mapping[str, Action],
    now: datetime,
    plan: Plan,
    look: Look,
) -> Decided:
    """Go the whole way for a finding that is failing.

    Raises:
        ValueError: the finding has no diagnosis.
        Whatever the two ports raise.
    """
    taken = step(None, Input(News.SYMPTOM, finding=finding), policy, now)
    if taken.incident is None:
        raise ValueError(f"finding {finding.id} has no diagnosis, so there is nothing to decide")
    opened = taken.incident
    if opened.state is State.WAITING:
        taken = start_planning(opened, policy, now)
    judged: list[Judged] = []
    while (asked := _asked(taken)) is not None and taken.incident is not None:
        one = judge(plan(asked), taken.incident, look)
        judged.append(one)
        taken = step(taken.incident, one.news, policy, now)
    says = "wait" if opened.state is State.WAITING else _says(taken)
    candidates = candidates_of(finding.remedies, opened.autonomy, actions)
    told = next((one.text for one in taken.effects if isinstance(one, Tell)), taken.note)
    return Decided(says, candidates, tuple(judged), told)


def _asked(taken: Step) -> Rehearsal | None:
    return next((one.rehearsal for one in taken.effects if isinstance(one, Rehearse)), None)


def _says(taken: Step) -> Says:
    return "tell" if taken.incident is None else _SAYS.get(taken.incident.state, "tell")
