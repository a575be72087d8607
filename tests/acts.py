"""An incident that is about to act, for what guards and budgets say of it.

Who uses it: the tests of the guards, and the bench that lets processes race for a budget.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from quietpager.actions.schema import load_actions
from quietpager.functions.govern.decide.handler import handle
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.finding import Remedy
from quietpager.model.incident import (
    Applies,
    Autonomy,
    Edit,
    Fleet,
    Incident,
    Intent,
    PlanFacts,
    Rehearsal,
    State,
)
from quietpager.model.message import REHEARSED, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import ABSENT, Put, Store
from quietpager.runtime.context import Context, Lazy, functions_folder, make_context

RAISE_MEMORY = load_actions(functions_folder())["raise-memory"]
NOW = datetime(2026, 1, 1, tzinfo=UTC)
OLD = NOW - timedelta(hours=1)


def facts_of(number: int = 0) -> PlanFacts:
    return PlanFacts(
        namespace="shop", opted_in=True, ignored=False, dry_run="admitted", targets=(owner(number),),
        guards=Applies(fraction=False, rollout_of_others="refuse", pdb=False),
        fleet=Fleet(nodes=10, kubelets=("v1.35.4",)),
    )  # fmt: skip


def owner(number: int = 0) -> ObjectRef:
    return ObjectRef(
        api_version="apps/v1", kind="Deployment", namespace="shop", name=f"web-{number}", uid=f"u{number}"
    )


def incident(number: int = 0) -> Incident:
    return Incident(
        id=f"inc-{number}", cause=f"workload:u{number}", episode=1, cluster="c", family="crash",
        failure_class="oom_killed", owner=owner(number), state=State.PLANNING, opened_at=NOW,
        state_since=NOW, autonomy=Autonomy.AUTO, since=OLD,
        remedies=(Remedy(action="raise-memory"),),
        rehearsal=f"inc-{number}-r1", rehearsals=1, deadline_at=NOW, recheck_every=10.0,
    )  # fmt: skip


def rehearsal(number: int = 0) -> Rehearsal:
    return Rehearsal(
        id=f"inc-{number}-r1", incident=f"inc-{number}", remedy=Remedy(action="raise-memory"),
        owner=owner(number), state="rehearsed", asked_at=NOW, generation=1, facts=facts_of(number),
        edits=(Edit(path="/spec/x", had=1, gets=2),),
    )  # fmt: skip


def add(store: Store, numbers: range) -> None:
    """Put incidents with their finished rehearsals into a store."""
    for number in numbers:
        store.transact(
            [
                Put(records.incident(f"inc-{number}"), incident(number).to_json(), ABSENT),
                Put(records.rehearsal(f"inc-{number}-r1"), rehearsal(number).to_json(), ABSENT),
            ]
        )


def context(store: Store, policy: Policy, clock: Callable[[], datetime]) -> Context:
    """What `govern/decide` gets; it reads no cluster."""

    def nowhere() -> Any:
        raise AssertionError("decide reads no cluster")

    return make_context("govern-decide", Lazy(lambda: store, nowhere), policy=policy, clock=clock)


def tell(ctx: Context, number: int) -> None:
    """Tell decide that a rehearsal is done: the guards are asked, and an intent is written or not."""
    handle(Message(id="m", type=REHEARSED, data={"rehearsal": f"inc-{number}-r1"}), ctx)


def intents(store: Store) -> list[Intent]:
    return [Intent.from_json(record.body) for record in store.scan("INTENT")]
