"""The pipeline where there is no store: for a recorded case, or a look at a cluster from outside.

What the guards look at beside the cluster is assumed then, and each answer lists what was. The ground comes
from the same code as in production, over a store in which nothing has happened but this one incident.

Who calls it: replay and scan.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from quietpager.actions.plan import Planner
from quietpager.actions.schema import Action
from quietpager.deciding.ground import Conditions, Ground
from quietpager.deciding.pipeline import Decided, decide
from quietpager.deciding.planning import planned
from quietpager.deciding.verdict import stored
from quietpager.incident import records, storm
from quietpager.incident.planning import PROPOSE
from quietpager.incident.policy import Places, Policy
from quietpager.model.cluster import Reader, Rejected
from quietpager.model.finding import Finding, Remedy
from quietpager.model.incident import Autonomy, Fleet, Incident, PlanFacts, Proposal, Rehearsal
from quietpager.model.store import Record
from quietpager.objects.live import Live


@dataclass(frozen=True, slots=True)
class Assumed:
    """What is taken for granted: said in words for people, and put in the place of what cannot be known."""

    says: tuple[str, ...]
    policy: Callable[[Policy], Policy]
    facts: Callable[[PlanFacts], PlanFacts]


_BUDGETS: Final = "budgets are fresh, no act and no breaker before"
_DRY_RUN: Final = "the API server's dry run admits the change"


def _case_policy(policy: Policy) -> Policy:
    return policy.but(autonomy=Autonomy.AUTO, dials=(), namespaces=Places(allow=("*",)))


def _case_facts(facts: PlanFacts) -> PlanFacts:
    # A case holds the nodes that matter to it, not the fleet.
    nodes = max(1, facts.fleet.nodes if facts.fleet else 0)
    return facts.but(opted_in=True, fleet=Fleet(nodes=nodes))


def _scan_policy(policy: Policy) -> Policy:
    return policy.but(autonomy=Autonomy.AUTO, dials=())


def _as_read(facts: PlanFacts) -> PlanFacts:
    return facts


IN_A_CASE: Final = Assumed(
    says=(
        "the namespace is opted in",
        "the fleet is healthy, nothing is cordoned or upgraded",
        "no freeze window is open, nothing else has opened an incident",
        _BUDGETS,
        _DRY_RUN,
    ),
    policy=_case_policy,
    facts=_case_facts,
)
"""For a case's folder, which holds neither the fleet nor a policy."""

FROM_OUTSIDE: Final = Assumed(
    says=(
        "writing is not stopped, and the policy's autonomy is auto: rule and action say who is asked",
        "nothing else has opened an incident",
        _BUDGETS,
        _DRY_RUN,
    ),
    policy=_scan_policy,
    facts=_as_read,
)
"""For a live cluster that is only read: namespaces and nodes are as they are, the store is not asked."""


class NoRight(Exception):  # noqa: N818 (a word, not a fault)
    """A plan cannot be made, for what it depends on may not be read with these credentials."""

    def __init__(self, remedy: Remedy) -> None:
        """Say of which remedy."""
        super().__init__(f"the plan of {remedy.action} needs what may not be read")
        self.remedy = remedy


def decide_offline(
    finding: Finding,
    reader: Reader,
    *,
    policy: Policy,
    now: datetime,
    actions: Mapping[str, Action],
    planner: Callable[[str], Planner | None],
    assumed: Assumed,
) -> Decided:
    """Say what decide would make of a finding, had only this one incident ever opened.

    `planner` finds an action's `plan`.

    Raises:
        NoRight: a plan needs what may not be read.
        Whatever else the reader raises.
    """
    policy = assumed.policy(policy)

    def plan(asked: Rehearsal) -> Rehearsal:
        action, plans = actions.get(asked.remedy.action), planner(asked.remedy.action)
        if action is not None and action.name == PROPOSE:
            return asked.but(state="rehearsed", proposal=Proposal(kind="patch"))
        if action is None or plans is None:
            return asked.but(state="refused", refusal="There is no such action.")
        try:
            done = planned(asked, action, plans, Live(reader, asked.owner), policy, dry_run=None)
        except Rejected as no:
            if no.code != 403:
                raise
            raise NoRight(asked.remedy) from no
        return done if done.facts is None else done.but(facts=assumed.facts(done.facts))

    def look(plan: Rehearsal, incident: Incident) -> tuple[Ground, Conditions]:
        return stored(_Fresh(incident, policy, now), policy, now, actions)(plan, incident)

    return decide(finding, policy=policy, actions=actions, now=now, plan=plan, look=look)


class _Fresh:
    """The records of a store in which writing is allowed and one incident has just opened."""

    def __init__(self, incident: Incident, policy: Policy, now: datetime) -> None:
        opened = storm.marks({}, incident.owner, incident.id, policy, now)
        self._records = {one.key: Record(one.key, 1, one.body) for one in opened}
        self._records[records.SWITCH] = Record(records.SWITCH, 1, {"stopped": False})

    def get_many(self, keys: Sequence[str]) -> dict[str, Record]:
        return {key: self._records[key] for key in keys if key in self._records}
