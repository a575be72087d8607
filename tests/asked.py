"""An incident that asks a person, made by the real decide; what the remediators would say is put in.

Who uses it: the tests of decisions and of the console, over any store and a clock of their own.
"""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from quietpager.functions.govern.decide.handler import handle
from quietpager.incident import records
from quietpager.incident.policy import Dial, Places, Policy
from quietpager.model.finding import Diagnosis, Evidence, Finding, Remedy
from quietpager.model.incident import Applies, Autonomy, Edit, Fleet, Incident, Intent, PlanFacts, Rehearsal
from quietpager.model.message import DECISION, DUE, FINDING, REHEARSED, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Put, Store
from quietpager.runtime.context import Context, Lazy, make_context

START = datetime(2026, 1, 1, 2, 0, tzinfo=UTC)
POLICY = Policy(
    autonomy=Autonomy.APPROVE,
    namespaces=Places(allow=("*",)),
    dials=(
        Dial(namespace="shop", failure_class="oom_killed", autonomy=Autonomy.APPROVE),
        Dial(namespace="bank", autonomy=Autonomy.ALERT),
    ),
)
OWNER = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web", uid="u")
LIMIT = "/spec/template/spec/containers/0/resources/limits/memory"


def nowhere() -> Any:
    raise AssertionError("nobody here may ask the cluster")


@dataclass
class Asked:
    """One product without a cluster: its store, its clock, and decide."""

    store: Store
    policy: Policy = POLICY
    now: datetime = START
    seen: int = field(default=0)

    def __post_init__(self) -> None:
        self.ctx: Context = make_context(
            "govern-decide", Lazy(lambda: self.store, nowhere), policy=self.policy, clock=lambda: self.now
        )
        if self.store.get(records.SWITCH) is None:
            self.store.transact([Put(records.SWITCH, {"stopped": False, "by": "test"}, 0)])

    def fail(self, name: str = "web", *, text: str = "", remedies: tuple[Remedy, ...] | None = None) -> str:
        """Let a workload fail; gives the incident's id. It is PLANNING, or with a person at once."""
        self.seen += 1
        owner = ObjectRef(
            api_version="apps/v1", kind="Deployment", namespace="shop", name=name, uid=f"u-{name}"
        )
        pod = owner.but(api_version="v1", kind="Pod", name=f"{name}-1", uid=f"p-{name}")
        evidence = text or "container app was killed for memory (OOMKilled, exit code 137) at 64Mi"
        finding = Finding(
            id=f"f-{name}-{self.seen}", outcome="failing", at=self.now, family="crash", target=pod,
            why="killed", cluster="c", autonomy="auto",
            remedies=(Remedy(action="raise-memory", params={"factor": 2, "ceiling": "4Gi"}),)
            if remedies is None else remedies,
            diagnosis=Diagnosis(
                failure_class="oom_killed", cause=f"workload:{owner.uid}", owner=owner, restarts=7,
                evidence=(
                    Evidence(text=evidence, source=f"Pod shop/{name}-1 status.containerStatuses"),
                    Evidence(text="7 restarts in 12 minutes", source=f"Pod shop/{name}-1"),
                ),
                since=self.now - timedelta(minutes=12), last_failure=self.now, time_to_failure=40.0,
            ),
        )  # fmt: skip
        self.store.transact([Put(records.finding(finding.id), finding.to_json(), 0)])
        self.hear(FINDING, finding=finding.id)
        return next(i.id for i in self.incidents() if i.owner == owner)

    def plan(self, name: str, gets: str = "128Mi", *, refusal: str | None = None, **other: Any) -> None:
        """Answer as the remediator would that was asked for a plan last; `other` replaces what it says."""
        found = self.store.get(records.rehearsal(self.the(name).rehearsal or ""))
        assert found is not None
        asked = Rehearsal.from_json(found.body)
        done = asked.but(
            state="rehearsed", generation=3, edits=(Edit(path=LIMIT, had="64Mi", gets=gets),), available=1,
            summary=f"raise memory of {asked.owner}: app 64Mi -> {gets}", undo_when="unchanged",
            facts=PlanFacts(
                namespace="shop", opted_in=True, ignored=False, dry_run="admitted", targets=(asked.owner,),
                guards=Applies(fraction=False, rollout_of_others="refuse", pdb=False),
                fleet=Fleet(nodes=3, kubelets=("v1.35.4",)),
            ),
        ).but(**other)  # fmt: skip
        if refusal is not None:
            done = asked.but(state="refused", refusal=refusal)
        self.store.transact([Put(found.key, done.to_json(), found.version)])
        self.hear(REHEARSED, rehearsal=done.id)

    def ask(self, name: str = "web", **how: Any) -> str:
        """Fail, and plan: the incident asks for an approval."""
        incident = self.fail(name, **how)
        self.plan(incident)
        return incident

    def blocked(self, name: str = "web") -> str:
        """Fail, and have every plan refused."""
        incident = self.fail(name)
        self.plan(incident, refusal="Container app has 64Mi already; the ceiling is 64Mi.")
        return incident

    def hear(self, kind: str, **data: str) -> None:
        """Deliver one message to decide."""
        handle(Message(id="m", type=kind, data=data), self.ctx)

    def tick(self) -> None:
        """Be the clock: say whatever is due that decide listens to."""
        for item in self.store.claim_due(self.now, 200):
            message = Message.from_json(item.message)
            if message.type in (DECISION, DUE):
                handle(message, self.ctx)

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def the(self, name: str) -> Incident:
        found = self.store.get(records.incident(name))
        assert found is not None
        return Incident.from_json(found.body)

    def incidents(self) -> list[Incident]:
        return [Incident.from_json(r.body) for r in self.store.scan("INCIDENT")]

    def intents(self) -> list[Intent]:
        return [Intent.from_json(r.body) for r in self.store.scan("INTENT")]
