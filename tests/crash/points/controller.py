"""Runs schedules: delivers each message to both workers of its role, wakes the stopped, replaces the dead.

One process, one thread; it sends no message of its own but what a broker and a clock would.
"""

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, Final

from quietpager.incident import records
from quietpager.incident.policy import Budget, Places, Policy
from quietpager.model.incident import Autonomy, Incident, State
from quietpager.model.message import REHEARSED, Message
from quietpager.model.store import Audit, Due, Put, Record, Store
from quietpager.model.time import system_clock, to_text
from tests.crash.points.judge import CRASHED, OPEN, STOP, judge
from tests.crash.points.nursery import ROLE
from tests.crash.points.ports import Api, Scoped, open_store
from tests.crash.points.schedules import DECIDERS, REMEDIATORS, WORKERS, Fault, Schedule
from tests.model.moves import Bounds, Moves
from tests.model.scenarios import HELPS
from tests.model.world import START, World

Json = dict[str, Any]
ROOT: Final = Path(__file__).parents[3]
PATIENCE: Final = 60
"""Seconds after which a schedule that has not come to its end counts as broken."""

_UNDECIDED: Final = frozenset({State.PLANNING, State.ACTING, State.UNDOING})


def policy_of(act: float) -> Policy:
    """Give a policy whose act deadline is so many seconds, with the rest to match."""
    return Policy(
        autonomy=Autonomy.AUTO, namespaces=Places(allow=("*",)),
        tick=act / 2, act=act, claim=6 * act, planning=6 * act, skew=0,
        recheck=3600, window=3600, cool_down=3600, budget=Budget(target=1),
    )  # fmt: skip


@cache
def template() -> tuple[tuple[Record, ...], Message]:
    """Take the story up to the plan from the model: the records, and the message that has come so far."""

    def planned(world: World) -> bool:
        return any(message.type == REHEARSED for message in world.flight.values())

    moves = Moves.of(Bounds())
    world = moves.fair(moves.first(HELPS), until=planned)
    kept = [record for key in world.store if (record := world.record(key)) is not None]
    kinds = ("SWITCH", "CAUSE", "REHEARSAL", "INCIDENT")
    [message] = [one for one in world.flight.values() if one.type == REHEARSED]
    return tuple(one for one in kept if one.key.startswith(kinds)), message


@dataclass
class Worker:
    """One process: what it is called, and who hears what it says."""

    pid: int
    writer: asyncio.StreamWriter
    heard: "asyncio.Queue[tuple[Worker | None, Json | None]] | None" = None
    dismissed: bool = False

    def tell(self, line: Json) -> None:
        """Say one thing; a worker that died meanwhile is seen by whoever reads."""
        self.writer.write(json.dumps(line).encode() + b"\n")


@dataclass
class Place:
    """One of the four workers of a schedule, whichever process it is by now."""

    number: int
    process: Worker
    faults: list[Fault]
    inbox: deque[Message] = field(default_factory=deque)
    busy: Message | None = None
    stopped: str = ""
    settled: bool = False
    dying: bool = False
    wake_at: float = 0.0
    handled: set[str] = field(default_factory=set)

    @property
    def idle(self) -> bool:
        """Tell whether it has nothing to do."""
        return self.busy is None and not self.inbox


@dataclass
class Figures:
    """What a run has to show."""

    schedules: int = 0
    kills: int = 0
    stops: int = 0
    writes: int = 0
    refused: int = 0
    seconds: float = 0.0
    states: Counter[str] = field(default_factory=Counter)
    where: Counter[str] = field(default_factory=Counter)
    wrong: list[tuple[str, str]] = field(default_factory=list)


class Pool:
    """The processes, and the connections to them."""

    def __init__(self, folder: Path, url: str, policy: Policy, mutant: str) -> None:
        """Nothing is started yet; see `pool`."""
        self.folder, self.url, self.policy, self.mutant = folder, url, policy, mutant
        self.begun = system_clock()
        self.store: Store = open_store(url)
        self.spare: asyncio.Queue[Worker] = asyncio.Queue()
        self.pids: set[int] = set()
        self.scopes: dict[str, asyncio.Queue[tuple[Worker | None, Json | None]]] = {}
        self.clock: Worker | None = None
        self.programs: list[subprocess.Popen[str]] = []
        self.readers: set[asyncio.Task[None]] = set()
        self.ending = False
        self.complaints: list[str] = []

    @property
    def now(self) -> datetime:
        """Tell the workers' time."""
        return START + (system_clock() - self.begun)

    def start(self) -> None:
        """Start the API server and the nursery."""
        folder = str(self.folder)
        setup = {
            "socket": f"{folder}/controller", "api": f"{folder}/api", "store": self.url,
            "begun": to_text(self.begun), "policy": self.policy.to_json(), "mutant": self.mutant,
        }  # fmt: skip
        words = [sys.executable, "-m", "tests.crash.points.apiserver", f"{folder}/api", f"{folder}/log"]
        self._run([*words, self.url])
        self._run([sys.executable, "-m", "tests.crash.points.nursery", json.dumps(setup)])

    def _run(self, words: list[str]) -> None:
        paths = [str(ROOT), str(ROOT / "shared")]
        known = os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "ignore"}
        self.programs.append(subprocess.Popen(words, env=known, cwd=ROOT, stdin=subprocess.PIPE, text=True))

    def ask_for(self, what: str) -> None:
        """Let the nursery make a child."""
        nursery = self.programs[1].stdin
        if nursery is not None and not self.ending:
            nursery.write(f"{what}\n")
            nursery.flush()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Hear one child until it ends."""
        task = asyncio.current_task()
        if task is not None:
            self.readers.add(task)
        hello = json.loads(await reader.readline())
        child = Worker(hello["pid"], writer)
        self.pids.add(child.pid)
        if hello["hello"] == "clock":
            self.clock = child
        with suppress(ConnectionError):
            while line := await reader.readline():
                self._heard(child, json.loads(line))
        self.pids.discard(child.pid)
        if child.heard is not None:
            child.heard.put_nowait((child, None))
        elif not (self.ending or child.dismissed):
            self.complaints.append(f"process {child.pid} ({hello['hello']}) ended by itself")
        writer.close()

    def _heard(self, child: Worker, line: Json) -> None:
        if "due" in line:
            scope = line["due"].partition("/")[0]
            where = self.scopes.get(scope)
            if where is None:
                child.tell({"forget": line["due"]})
            else:
                where.put_nowait((None, line))
        elif "ready" in line:
            self.spare.put_nowait(child)
        elif child.heard is not None:
            child.heard.put_nowait((child, line))

    def stop(self) -> None:
        """End every process of ours, the stopped ones too."""
        self.ending = True
        for pid in self.pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for program in self.programs:
            program.kill()
            program.wait()
            if program.stdin is not None:
                with suppress(BrokenPipeError):
                    program.stdin.close()
        self.store.close()


@asynccontextmanager
async def pool(folder: Path, url: str, policy: Policy, mutant: str, workers: int) -> AsyncIterator[Pool]:
    """Start everything, and stop everything."""
    made = Pool(folder, url, policy, mutant)
    Scoped(made.store, "none").get("SWITCH#warm")  # tables first, then everybody else
    server = await asyncio.start_unix_server(made.connected, f"{folder}/controller", limit=1 << 20)
    try:
        made.start()
        made.ask_for("clock")
        for _ in range(workers):
            made.ask_for("worker")
        while not (folder / "api").exists():
            if made.programs[0].poll() is not None:
                raise AssertionError("the API server did not start")
            await asyncio.sleep(0.02)
        yield made
    finally:
        made.stop()
        server.close()
        await asyncio.gather(*made.readers, return_exceptions=True)


class Run:
    """One schedule, from the plan to the end of its last intent."""

    def __init__(self, pool: Pool, api: Api, figures: Figures, scope: str, schedule: Schedule) -> None:
        """Nothing happens yet."""
        self.pool, self.api, self.figures, self.scope, self.schedule = pool, api, figures, scope, schedule
        self.store = Scoped(pool.store, scope)
        self.places: dict[int, Place] = {}
        self.events: asyncio.Queue[Any] = asyncio.Queue()
        self.outside = schedule.outside
        self.turn = itertools.count()
        self.dirty = True
        records_, message = template()
        self.message = message
        self.incident = str(message.subject)
        writes: list[Any] = [Put(one.key, one.body, 0) for one in records_]
        tick = timedelta(seconds=pool.policy.tick)
        about = str(message.data["rehearsal"])
        self.opening = [*writes, Due(records.talk(about), pool.now + tick, tick, message.to_json())]

    async def __call__(self) -> None:
        """Run it, and judge it."""
        self.store.transact(self.opening)
        self.pool.scopes[self.scope] = self.events
        for number in WORKERS:
            faults = [fault for fault in self.schedule.faults if fault.worker == number]
            self.places[number] = Place(number, await self._hire(faults), faults)
        self._say([self.message])
        end = time.monotonic() + PATIENCE
        while not self._over():
            with suppress(TimeoutError):
                self._happened(*await asyncio.wait_for(self.events.get(), self._patience()))
                while not self.events.empty():
                    self._happened(*self.events.get_nowait())
            for place in [one for one in self.places.values() if one.process.heard is None]:
                await self._replace(place)
            self._wake()
            if time.monotonic() > end:
                self._wrong(OPEN, f"no end after {PATIENCE} s, incident {self._state()}")
                break
        self._judge()

    async def _hire(self, faults: list[Fault]) -> Worker:
        worker = await self.pool.spare.get()
        worker.heard = self.events
        order = [[f.worker, f.call, f.moment, f.kind, f.only] for f in faults]
        worker.tell({"begin": self.scope, "faults": order})
        return worker

    # What happens

    def _happened(self, worker: Worker | None, line: Json | None) -> None:
        self.dirty = True
        if worker is None:
            self._speaks(Message.from_json((line or {})["message"]))
            return
        place = next(one for one in self.places.values() if one.process is worker)
        if line is None:
            worker.heard = None
            if not place.dying:
                self._wrong(CRASHED, f"worker {place.number} ended by itself")
        elif "struck" in line:
            self._struck(place, line)
        elif "woken" in line:
            place.stopped, place.settled = "", False
        else:
            self._answered(place, line)

    def _answered(self, place: Place, line: Json) -> None:
        message, place.busy = place.busy, None
        if message is None:
            raise AssertionError(f"worker {place.number} answers what it was not asked")
        if "later" in line:
            place.inbox.append(message)
        else:
            place.handled.add(message.id)
            self._say(map(Message.from_json, line["done"]))
        self._next(place)

    def _struck(self, place: Place, line: Json) -> None:
        fault = place.faults.pop(0)
        self.figures.where[f"{fault.kind} {line['where']}"] += 1
        if fault.kind == "kill":
            self.figures.kills += 1
            place.dying = True
        else:
            self.figures.stops += 1
            place.stopped = fault.kind
            place.wake_at = time.monotonic() + self.pool.policy.act * (1.3 if fault.kind == "stop" else 8)
        outside, self.outside = self.outside, ""
        if outside in ("edit", "heal"):
            self.api.ask(scope=self.scope, do=outside)
        elif outside == "stop":
            switch = self.store.get(records.SWITCH)
            version = 0 if switch is None else switch.version
            note = Audit(self.incident, self.pool.now, STOP, "controller", {})
            self.store.transact([Put(records.SWITCH, {"stopped": True}, version), note])

    async def _replace(self, place: Place) -> None:
        """Let a new process take a dead one's place; its message goes to the other of its role."""
        message, place.busy, place.stopped, place.dying = place.busy, None, "", False
        self.pool.ask_for("worker")
        place.process = await self._hire(place.faults)
        place.handled.clear()
        if message is not None:
            other = place if self._twin(place).stopped else self._twin(place)
            other.inbox.append(message)
            self._next(other)
        self._next(place)

    # What a broker and a clock do

    def _say(self, messages: Iterable[Message]) -> None:
        """Deliver to both workers of a role, at once."""
        for message in messages:
            for place in self._readers(message):
                waiting = {one.id for one in place.inbox} | place.handled
                if message.id not in waiting and (place.busy is None or place.busy.id != message.id):
                    place.inbox.append(message)
                    self._next(place)

    def _speaks(self, message: Message) -> None:
        """Deliver what was due to one of them that can listen."""
        readers = [place for place in self._readers(message) if not place.stopped]
        if readers:
            place = readers[next(self.turn) % len(readers)]
            if all(one.id != message.id for one in place.inbox):
                place.inbox.append(message)
                self._next(place)

    def _readers(self, message: Message) -> list[Place]:
        if message.type not in ROLE:
            return []
        if ROLE[message.type] and message.attributes.get("action") != "raise-memory":
            return []
        numbers = REMEDIATORS if ROLE[message.type] else DECIDERS
        return [self.places[number] for number in numbers]

    def _next(self, place: Place) -> None:
        if place.busy is None and place.inbox and place.process.heard is not None:
            place.busy = place.inbox.popleft()
            place.process.tell({"handle": place.busy.to_json()})

    # How it ends

    def _wake(self) -> None:
        now = time.monotonic()
        for place in self.places.values():
            if place.stopped and now >= place.wake_at and self._may_wake(place):
                # Again until it says so: the signal may come before the worker has stopped itself.
                place.wake_at = now + 0.05
                with suppress(ProcessLookupError):
                    os.kill(place.process.pid, signal.SIGCONT)

    def _may_wake(self, place: Place) -> bool:
        """Let a sleeper sleep until all is settled, unless its twin cannot go on without it."""
        return place.stopped != "sleep" or place.settled or bool(self._twin(place).stopped)

    def _twin(self, place: Place) -> Place:
        return self.places[place.number ^ 1]

    def _patience(self) -> float:
        soon = [one.wake_at for one in self.places.values() if one.stopped and self._may_wake(one)]
        return max(0.001, min([0.5, *(at - time.monotonic() for at in soon)]))

    def _state(self) -> State:
        record = self.store.get(records.incident(self.incident))
        if record is None:
            raise AssertionError(f"the incident of schedule {self.scope} is gone")
        return Incident.from_json(record.body).state

    def _over(self) -> bool:
        """Tell whether nothing is under way; if only the stopped are left, let one of them go on."""
        moving = [place for place in self.places.values() if not place.idle and not place.stopped]
        if moving or not self.dirty:
            return False
        self.dirty = False
        if self._state() in _UNDECIDED:
            return False
        left = [place for place in self.places.values() if place.stopped]
        if left:
            left[0].settled, left[0].wake_at = True, min(left[0].wake_at, time.monotonic())
        return not left

    def _judge(self) -> None:
        self.pool.scopes.pop(self.scope, None)
        log = self.api.ask(scope=self.scope, do="end")
        for kind, said in judge(self.store, self.incident, log):
            self._wrong(kind, said)
        self.figures.schedules += 1
        self.figures.writes += sum(line["accepted"] for line in log)
        self.figures.refused += sum(not line["accepted"] for line in log)
        self.figures.states[str(self._state())] += 1
        for place in self.places.values():
            place.process.heard = None
            if place.idle and not place.stopped:
                self.pool.spare.put_nowait(place.process)
            else:
                place.process.dismissed = True
                with suppress(ProcessLookupError):
                    os.kill(place.process.pid, signal.SIGKILL)
                self.pool.ask_for("worker")

    def _wrong(self, kind: str, said: str) -> None:
        self.figures.wrong.append((kind, f"{said} ({self.schedule})"))
