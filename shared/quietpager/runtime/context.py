"""Everything that a handler works with comes in its `Context`; nothing is global."""

import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import cached_property
from pathlib import Path
from threading import Lock

from quietpager.actions.schema import Action, load_actions
from quietpager.incident.policy import Policy, load_policy
from quietpager.incident.refusals import Refusals
from quietpager.model.cluster import Cluster
from quietpager.model.data import readable
from quietpager.model.message import PING, Message
from quietpager.model.store import Store
from quietpager.model.time import Clock, system_clock
from quietpager.rules.routing import RouteTable, load_routes, render_routes
from quietpager.rules.schema import Rule, load_rules
from quietpager.runtime.metrics import OFF, Metrics, metered
from quietpager.runtime.trace import TRACE, TracedStore, new_trace, next_hop, traced
from quietpager.store.anchors import LogAnchor
from quietpager.store.opening import CLUSTER_NAME

FUNCTIONS = "QUIETPAGER_FUNCTIONS"
"""Environment variable: folders of functions, separated as in PATH: rules, actions and code are read there.
They count in place of the product's own, which the word `builtin` names: `builtin:/home/me/functions`."""

BUILT_IN = "builtin"
"""What names the product's own function folders in `QUIETPAGER_FUNCTIONS`."""

ROUTES = "QUIETPAGER_ROUTES"
"""Environment variable: path of the rendered route table of all rules. Without it a function makes the
table from the rules it finds, which are all of them in a checkout, and in a build only its own."""


UNDELIVERABLE = 20
"""Undeliverable messages of one type that are audited in full in each hour; the others are counted."""


class Lazy:
    """Opens store and cluster when first asked, so that a function answers its probes at once."""

    def __init__(self, store: Callable[[], Store], cluster: Callable[[], Cluster]) -> None:
        """Nothing is opened yet.

        `beaten`: part → when this process last wrote its heartbeat; `refusals`: what it has refused;
        `undeliverable`: what it has seen at the dead letter; `log_anchor`: where the audit is anchored if no
        place is named, which remembers what this process wrote; `turn`: held by whoever sweeps.
        """
        self._store, self._cluster = store, cluster
        self.beaten: dict[str, datetime] = {}
        self.refusals, self.undeliverable = Refusals(), Refusals(UNDELIVERABLE)
        self.log_anchor = LogAnchor()
        self.turn = Lock()

    @cached_property
    def store(self) -> Store:
        """The store."""
        return self._store()

    @cached_property
    def cluster(self) -> Cluster:
        """The cluster."""
        return self._cluster()


def random_part() -> str:
    """Give sixteen random characters."""
    return secrets.token_hex(8)


@dataclass(frozen=True)
class Context:
    """Clock, store, cluster, policy, rules and actions of one function."""

    name: str
    lazy: Lazy
    policy: Policy
    rules: tuple[Rule, ...]
    routes: RouteTable
    actions: dict[str, Action]
    cluster_name: str = "default"
    clock: Clock = field(default=system_clock)
    trace: str | None = None
    """The `traceparent` of the message at hand; what the store's due items say later stays in it."""
    metrics: Metrics = OFF
    nonce: Callable[[], str] = random_part
    """What nobody can guess of an intent's id: who could, could write its mark before we do."""
    policy_fault: str = ""
    """Why the policy's file cannot be read just now; then nothing may be written to the cluster."""

    @property
    def store(self) -> Store:
        """Where records are kept."""
        store = metered(self.lazy.store, self.metrics)
        return store if self.trace is None else TracedStore(store, self.trace)

    @property
    def cluster(self) -> Cluster:
        """The API server."""
        return self.lazy.cluster

    def rule(self, family: str) -> Rule:
        """Find the rule of a family."""
        return next(rule for rule in self.rules if rule.family == family)


Handler = Callable[[Message, Context], list[Message]]
"""What handles a function's messages (`runtime.loading`). The first answer is the reply, the rest is posted.
"""


def handled(handler: Handler, message: Message, ctx: Context) -> list[Message]:
    """Run a handler so that its answers, and the due items it writes, stay in the message's trace.

    A tick is about nothing: what a sweep finds, and what the clock says, is in traces of its own.

    Raises:
        TooNew: the message is of a version that this one cannot follow.
    """
    here = next_hop(message.attributes.get(TRACE, ""))
    data = readable(message.data) if message.ours and not message.undeliverable else message.data
    message = message.but(attributes={**message.attributes, TRACE: here}, data=data)
    answers = handler(message, replace(ctx, trace=here))
    if message.type == PING:
        return [traced(answer, new_trace()) for answer in answers]
    return [traced(answer, here) for answer in answers]


def functions_folder() -> Path:
    """Give the product's own function folders, inside the library (docs/adr/0008)."""
    return Path(__file__).parents[1] / "functions"


def function_roots() -> tuple[Path, ...]:
    """Give the folders whose functions count: those that the environment names, else the product's own."""
    given = [one for one in os.environ.get(FUNCTIONS, "").split(os.pathsep) if one]
    if not given:
        return (functions_folder(),)
    return tuple(functions_folder() if one == BUILT_IN else Path(one).absolute() for one in given)


def routes_of(rules: tuple[Rule, ...]) -> RouteTable:
    """Give the route table: the rendered one where a file is named, else that of these rules.

    Raises:
        ValueError: the file holds no route table, or the rules' routes overlap.
    """
    given = os.environ.get(ROUTES)
    return load_routes(Path(given)) if given else render_routes(rules)


def make_context(
    name: str,
    lazy: Lazy,
    *,
    policy: Policy | None = None,
    clock: Clock = system_clock,
    metrics: Metrics = OFF,
) -> Context:
    """Make the context of one function from the files in the function folders.

    Raises:
        ValueError: a rule, action or policy file is wrong; the function must not start.
    """
    roots = function_roots()
    rules = load_rules(roots)
    return Context(
        name=name,
        lazy=lazy,
        policy=policy or load_policy(),
        rules=rules,
        routes=routes_of(rules),
        actions=load_actions(roots),
        cluster_name=os.environ.get(CLUSTER_NAME, "default"),
        clock=clock,
        metrics=metrics,
    )
