"""An ordinary pod of another namespace: it reaches the broker and every function, and has no token at all."""

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from quietpager.cluster.client import ApiServer, connect
from quietpager.incident.policy import Policy
from quietpager.model.incident import Incident
from quietpager.model.message import FINDING, PING, SIGNAL, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import EventRef, Signal
from quietpager.model.time import system_clock
from quietpager.runtime.context import functions_folder
from quietpager.runtime.edge import Function
from quietpager.runtime.wire import event_from_http, message_from_event
from quietpager.sandbox.load import Case, load_case
from quietpager.sandbox.server import running
from quietpager.store.memory import MemoryStore
from tests.contract.test_edge import Answer, ask
from tests.flow.harness import QUICK, Product

Json = dict[str, Any]
RECHECK = 5.0
POLICY = QUICK.but(recheck=RECHECK, tick=1.0)
CONFIG_MAP = "detect/config/cases/02-configmap-missing"
CRASH = "detect/crash/cases/15-oomkilled"
OPERATOR = "analyze/unknown/cases/33-unknown-operator-event"


@dataclass
class Place:
    """The running product over a sandbox cluster, on a clock that a test moves; and the pod beside it."""

    url: str
    cluster: ApiServer
    product: Product
    now: datetime
    events: list[Json] = field(default_factory=list)

    def load(self, case: str, *, told: bool = True) -> Case:
        """Put a recorded fault into the cluster; where `told`, its Events reach intake as well."""
        loaded = load_case(self.url, functions_folder() / case, self.now)
        self.events = [self.cluster.create("Event", event) for event in loaded.events()]
        for event in self.events if told else ():
            self.product.event(event)
        self.product.deliver()
        return loaded

    def wait(self, seconds: float, *, behind: Message | None = None) -> None:
        """Let time pass and the clock tick; `behind` the tick comes before all that the clock says."""
        self.now += timedelta(seconds=seconds)
        self.product.queue.append(Message(id="clock", type=PING, attributes={"job": "clock"}))
        if behind is not None:
            self.product.queue.append(behind)
        self.product.deliver()

    def the_incident(self) -> Incident:
        """Give the only one there is."""
        [incident] = self.product.incidents()
        return incident

    def calls(self, function: str, data: Json, *, name: str = "forged", type_: str = SIGNAL) -> Answer:
        """Let the pod call a function's Service itself; the answer is the pod's, and goes nowhere else."""
        edge = Function(self.product.handlers[function], lambda: self.product.contexts[function])
        return asyncio.run(ask(edge, _headers(name, type_), json.dumps(data).encode()))

    def says(self, data: Json, *, name: str = "forged", type_: str = SIGNAL, **more: str) -> None:
        """Let the pod send something to the broker, which delivers it like anything else."""
        self.product.queue.append(posted(data, name=name, type_=type_, **more))
        self.product.deliver()

    @property
    def kept(self) -> str:
        """Give everything in the store as text: records, audit, due items."""
        store = self.product.store
        assert isinstance(store, MemoryStore)
        records = [[one.key, one.body] for one in store._state.values()]
        audit = [[entry.kind, entry.body] for chain in store.audit_chains() for entry in store.audit(chain)]
        return json.dumps([records, audit, [item.message for item in store.due_items()]])

    @property
    def written(self) -> dict[str, int]:
        """Give the version of every record, but for heartbeats and the clock's own walk."""
        store = self.product.store
        assert isinstance(store, MemoryStore)
        aside = ("HEARTBEAT#", "PURGE#", "REFUSED#", "CHAIN#refused")
        return {key: one.version for key, one in store._state.items() if not key.startswith(aside)}

    def findings(self) -> int:
        """Count the messages about findings that were delivered to anybody."""
        return sum(message.type == FINDING for message in self.product.seen)


def posted(data: Json, *, name: str = "forged", type_: str = SIGNAL, **more: str) -> Message:
    """Give what a broker makes of what a pod has posted."""
    head = _headers(name, type_) | {f"ce-{key}": value for key, value in more.items()}
    return message_from_event(event_from_http(head, json.dumps(data).encode()))


def _headers(name: str, type_: str) -> dict[str, str]:
    return {
        "ce-specversion": "1.0", "ce-id": name, "ce-source": "/mallory", "ce-type": type_,
        "content-type": "application/json",
    }  # fmt: skip


def signal(raw: Json, family: str, **more: Any) -> Json:
    """Name an object of the cluster in a signal, as anybody can who knows its name."""
    meta = raw["metadata"]
    target = ObjectRef(
        api_version=raw.get("apiVersion") or "v1", kind=raw["kind"], namespace=meta["namespace"],
        name=meta["name"], uid=meta["uid"],
    )  # fmt: skip
    return Signal(target=target, family=family).to_json() | more


def ref_of(event: Json) -> Json:
    """Name an Event."""
    meta = event["metadata"]
    return EventRef(namespace=meta["namespace"], name=meta["name"], uid=meta["uid"]).to_json()


@contextmanager
def beside(policy: Policy = POLICY) -> Iterator[Place]:
    """Run sandbox and product, with such a pod beside them."""
    with running(speed=1) as url:
        world, own = connect(url, manager="world"), connect(url, manager="product")
        place = Place(url, world, Product(MemoryStore(), own, policy=policy), system_clock())
        made = Product(MemoryStore(), own, policy=policy, clock=lambda: place.now)
        made.resume()
        place.product = made
        yield place
        world.close()
        own.close()
