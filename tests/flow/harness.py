"""The whole product in one thread: real handlers, real store port, a queue instead of a broker.

Time is the machine's, shortened by the policy; nothing here asserts on how long anything takes.
"""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from quietpager.cluster.client import ApiServer
from quietpager.errors import GiveUp, Retry
from quietpager.incident import records
from quietpager.incident.policy import Budget, Places, Policy
from quietpager.model.cluster import Cluster
from quietpager.model.incident import Autonomy, Incident
from quietpager.model.message import EVENT_ADD, PING, Message
from quietpager.model.store import Put, Store
from quietpager.model.time import Clock, system_clock
from quietpager.render import FunctionFolder, function_folders, triggers
from quietpager.render.triggers import wanted
from quietpager.runtime.context import Context, Lazy, functions_folder, handled, make_context
from quietpager.runtime.loading import handler

QUICK = Policy(
    autonomy=Autonomy.AUTO, namespaces=Places(allow=("*",)),
    tick=0.2, sweep=0.5, recheck=0.3, healthy_rechecks=3, window=1.5,
    rollout=3.0, dwell_seconds=0.3, dwell_unknown=0.3, dwell_restarts=2, cool_down=30.0, act=2.0, claim=10.0,
    planning=3.0, budget=Budget(target=1, namespace=3, cluster=20),
)  # fmt: skip


@dataclass
class Product:
    """Functions, triggers and a queue. `drop` lets a test lose messages."""

    store: Store
    cluster: Cluster
    policy: Policy = QUICK
    clock: Clock = system_clock
    drop: Callable[[Message], bool] = lambda _message: False
    queue: deque[Message] = field(default_factory=deque)
    seen: list[Message] = field(default_factory=list)
    refused: list[tuple[Message, Exception]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Import every function and render its triggers."""
        self.folders = tuple(one for one in function_folders(functions_folder()) if not one.web)
        self.handlers = {f.name: handler(f.place) for f in self.folders}
        self.contexts: dict[str, Context] = {
            f.name: make_context(f.name, self._lazy(f), policy=self.policy, clock=self.clock)
            for f in self.folders
        }
        self.triggers = triggers(self.folders)

    def _lazy(self, folder: FunctionFolder) -> Lazy:
        """Let what writes come as its own account, so that the API server holds it to its promise."""

        def cluster() -> Cluster:
            if folder.action is None or not isinstance(self.cluster, ApiServer):
                return self.cluster
            return self.cluster.acting_as("product", f"system:serviceaccount:quietpager:{folder.name}")

        return Lazy(lambda: self.store, cluster)

    def resume(self) -> None:
        """Let it write."""
        self.store.transact([Put(records.SWITCH, {"stopped": False, "by": "test"}, 0)])

    def event(self, event: dict[str, Any]) -> None:
        """Let an Event come in, as ApiServerSource sends it."""
        attributes = {"kind": "Event", "name": str((event.get("metadata") or {}).get("name"))}
        self.queue.append(Message(id="e", type=EVENT_ADD, attributes=attributes, data=event))

    def deliver(self) -> None:
        """Deliver until nothing is left."""
        while self.queue:
            message = self.queue.popleft()
            self.seen.append(message)
            if self.drop(message):
                continue
            known = message.attributes | {"type": message.type}
            for trigger in self.triggers:
                if any(one.items() <= known.items() for one in wanted(trigger)):
                    self._call(trigger["spec"]["subscriber"]["ref"]["name"], message)

    def _call(self, name: str, message: Message) -> None:
        try:
            said = handled(self.handlers[name], message, self.contexts[name])
        except (GiveUp, Retry) as no:
            self.refused.append((message, no))
            return
        folder = next(one for one in self.folders if one.name == name)
        if undeclared := {one.type for one in said} - set(folder.says):
            raise AssertionError(f"{name} said {undeclared}, and its func.yaml does not say so.")
        if len(said) > 1 and not folder.posts:
            raise AssertionError(
                f"{name} said {len(said)} messages, and its func.yaml does not say it posts."
            )
        self.queue.extend(said)

    def ping(self, job: str) -> None:
        """Tick."""
        self.queue.append(Message(id=job, type=PING, attributes={"job": job}))
        self.deliver()

    def run_until(self, done: Callable[[], bool], seconds: float = 25.0, *, sweep: bool = True) -> bool:
        """Tick until `done`, or until the time is over; says which."""
        end = time.monotonic() + seconds
        last_sweep = 0.0
        while time.monotonic() < end:
            self.deliver()
            if done():
                return True
            if sweep and time.monotonic() - last_sweep > self.policy.sweep:
                last_sweep = time.monotonic()
                self.ping("sweep")
            self.ping("clock")
            time.sleep(0.05)
        return False

    def incidents(self) -> list[Incident]:
        """All incidents, in key order."""
        return [Incident.from_json(r.body) for r in self.store.scan("INCIDENT")]
