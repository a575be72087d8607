"""Makes workers by forking: everything is imported once, so that a new one costs a few milliseconds.

    python -m tests.crash.points.nursery '{"socket": …, "api": …, "store": …, "begun": …, "policy": …}'

Each line on its standard input is a child to make: `worker` or `clock`. A child connects to the
controller's socket, says who it is, and ends when the controller hangs up.
"""

import json
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from unittest.mock import patch

import psycopg_pool  # noqa: F401 (imported here so that no child has to)

from quietpager.errors import Retry
from quietpager.incident.policy import Policy
from quietpager.model.message import APPLY, DUE, INCIDENT, OUTCOME, REHEARSE, REHEARSED, UNDO, Message
from quietpager.model.store import DueDone, StoreUnavailable
from quietpager.model.time import system_clock
from quietpager.runtime.context import Lazy, make_context
from quietpager.runtime.loading import handler, name_of
from quietpager.store import postgres
from quietpager.store.migrate import migrate  # noqa: F401 (see above)
from tests.crash.points.ports import Scoped, ScopedCluster, Strikes, open_store
from tests.crash.points.schedules import Fault
from tests.model.mutants import MUTANTS
from tests.model.world import START

Json = dict[str, Any]

ROLE: Final = {REHEARSED: 0, OUTCOME: 0, DUE: 0, REHEARSE: 1, APPLY: 1, UNDO: 1}
"""Which of the two functions reads a message."""


@dataclass(frozen=True)
class Setup:
    """What the controller says once."""

    socket: str
    api: str
    store: str
    begun: datetime
    policy: Policy
    mutant: str

    @classmethod
    def read(cls, text: str) -> "Setup":
        """Read it from the command line."""
        raw = json.loads(text)
        begun = datetime.fromisoformat(raw["begun"])
        policy = Policy.from_json(raw["policy"])
        return cls(raw["socket"], raw["api"], raw["store"], begun, policy, raw["mutant"])

    def clock(self) -> datetime:
        """Tell the time: the recorded case happened just before the run began."""
        return START + (system_clock() - self.begun)


class Line:
    """The child's end of its connection to the controller."""

    def __init__(self, path: str, who: str) -> None:
        """Connect and say who is there."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(path)
        self.file = self._socket.makefile("rb")
        self.tell({"hello": who, "pid": os.getpid()})

    def tell(self, line: Json) -> None:
        """Say one thing."""
        self._socket.sendall(json.dumps(line).encode() + b"\n")

    def quiet_for(self, seconds: float) -> list[Json]:
        """Hear what is said within some time; raises EOFError at the end."""
        self._socket.settimeout(seconds)
        heard = b""
        try:
            heard = self._socket.recv(1 << 16)
            if not heard:
                raise EOFError
            while not heard.endswith(b"\n"):
                heard += self._socket.recv(1 << 16)
        except TimeoutError:
            pass
        self._socket.settimeout(None)
        return [json.loads(line) for line in heard.splitlines()]


def worker(setup: Setup, make: Callable[[Lazy], list[Any]]) -> None:
    """Handle messages until the controller hangs up, or a signal comes."""
    line = Line(setup.socket, "worker")
    strikes = Strikes(line.tell)
    store = Scoped(open_store(setup.store), strikes=strikes)
    cluster = ScopedCluster(setup.api, strikes)
    handlers = make(Lazy(lambda: store, lambda: cluster))  # type: ignore[arg-type,return-value]
    store.get("SWITCH#warm")
    real = postgres._write

    def write(*known: Any) -> None:
        real(*known)
        strikes.within()

    with patch.object(postgres, "_write", write):
        line.tell({"ready": True})
        _handle(line, store, cluster, handlers)


def _handle(line: Line, store: Scoped, cluster: ScopedCluster, handlers: list[Any]) -> None:
    strikes = store.strikes
    for text in line.file:
        order = json.loads(text)
        if "begin" in order:
            store.scope = cluster.scope = order["begin"]
            strikes.begin([Fault(*fault) for fault in order["faults"]])
            continue
        message = Message.from_json(order["handle"])
        try:
            said = handlers[ROLE[message.type]](message)
            line.tell({"done": [one.to_json() for one in said]})
        except (Retry, StoreUnavailable) as later:
            line.tell({"later": str(later)})


def clock(setup: Setup) -> None:
    """Say whatever is due, as `govern/clock` does; what is only meant for people is told at once."""
    line, store = Line(setup.socket, "clock"), open_store(setup.store)
    while True:
        told = []
        for item in store.claim_due(setup.clock(), 200):
            if str(item.message["type"]).startswith(INCIDENT):
                told.append(DueDone(item.id))
            else:
                line.tell({"due": item.id, "message": item.message})
        told += [DueDone(heard["forget"]) for heard in line.quiet_for(setup.policy.tick / 4)]
        for start in range(0, len(told), 50):
            # A stopped worker may hold them; what is not taken away speaks again.
            with suppress(StoreUnavailable):
                store.transact(list({one.id: one for one in told[start : start + 50]}.values()))


def contexts(setup: Setup) -> Callable[[Lazy], list[Any]]:
    """Read rules, actions and routes once; gives what puts the ports in."""
    never = Lazy(lambda: None, lambda: None)  # type: ignore[arg-type,return-value]
    made = [
        (handler(place), make_context(name_of(place), never, policy=setup.policy, clock=setup.clock))
        for place in ("govern/decide", "remediate/raise_memory")
    ]

    def make(lazy: Lazy) -> list[Any]:
        def bound(handle: Any, context: Any) -> Any:
            here = replace(context, lazy=lazy)
            return lambda message: handle(message, here)

        return [bound(handle, context) for handle, context in made]

    return make


def main(text: str) -> None:
    """Make children until told no more."""
    setup = Setup.read(text)
    make = contexts(setup)
    if setup.store.startswith("dynamodb:"):  # a client reads its service's description; once is enough
        known = open_store(setup.store)
        known.get("SWITCH#warm")
        known.close()
    logging.getLogger("psycopg").setLevel(logging.ERROR)  # a lock that was waited for in vain is no news
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for them
    mutant = next((one for one in MUTANTS if one.mechanism == setup.mutant), None)
    with nullcontext() if mutant is None else mutant.without():
        for order in sys.stdin:
            if os.fork():
                continue
            code = 1
            try:
                worker(setup, make) if order.strip() == "worker" else clock(setup)
                code = 0
            except (EOFError, BrokenPipeError, ConnectionError):
                code = 0
            except BaseException:  # noqa: BLE001 (a child never comes back to the loop)
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)


if __name__ == "__main__":
    main(sys.argv[1])
