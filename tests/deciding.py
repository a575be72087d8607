"""A store with incidents that are about to act, and the decider over it.

Who uses it: the tests of what decide makes of guards, budgets and undo.
"""

from datetime import datetime
from typing import Any

from quietpager.incident import records
from quietpager.incident.policy import Budget, Places, Policy
from quietpager.model.incident import Autonomy, Incident, Rehearsal
from quietpager.model.store import Put
from quietpager.runtime.context import Context
from quietpager.store.memory import MemoryStore
from tests.acts import NOW, add, context, rehearsal

POLICY = Policy(
    autonomy=Autonomy.AUTO, namespaces=Places(allow=("*",)), budget=Budget(target=1, namespace=100, cluster=4)
)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


def world(count: int = 15, policy: Policy = POLICY) -> tuple[MemoryStore, Context, Clock]:
    store, clock = MemoryStore(), Clock()
    store.transact([Put(records.SWITCH, {"stopped": False}, 0)])
    add(store, range(count))

    ctx = context(store, policy, clock)
    return store, ctx, clock


def put(store: MemoryStore, *ones: Incident, plan: Rehearsal | None = None) -> None:
    for one in ones:
        body = (plan or rehearsal()).to_json()
        store.transact(
            [Put(records.incident(one.id), one.to_json(), 0), Put(records.rehearsal(f"{one.id}-r1"), body, 0)]
        )


def change(store: MemoryStore, key: str, **body: Any) -> None:
    record = store.get(key)
    store.transact(
        [Put(key, ({} if record is None else record.body) | body, record.version if record else 0)]
    )
