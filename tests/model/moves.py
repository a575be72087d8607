"""Everything that can happen next: deliveries, steps of workers, people, time, a bounded number of faults."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from quietpager.deciding import decisions
from quietpager.errors import GiveUp
from quietpager.incident import records
from quietpager.incident.policy import Budget, Places, Policy
from quietpager.model.cluster import ClusterUnavailable, Rejected
from quietpager.model.event import read_event
from quietpager.model.incident import Autonomy, Incident, Intent, State
from quietpager.model.message import DECISION, INCIDENT, REHEARSE, SIGNAL, Message
from quietpager.model.store import Conflict, Put, StoreUnavailable
from quietpager.render import function_folders, triggers
from quietpager.render.triggers import wanted
from quietpager.runtime.context import Context, Lazy, functions_folder, make_context
from quietpager.runtime.loading import handler
from tests.model.tape import Answer, Call, Done, Functions, Tape, TapeCluster, TapeStore, key_of
from tests.model.world import START, Mutation, Worker, Workload, World, arrived

POLICY: Final = Policy(
    autonomy=Autonomy.AUTO, namespaces=Places(allow=("*",)),
    tick=2, recheck=6, healthy_rechecks=2, window=6, window_factor=0, rollout=3,
    cool_down=20, act=5, claim=9, planning=8, skew=0, waiting_limit=30, budget=Budget(target=1),
)  # fmt: skip
"""Short times, so that everything can happen within a few moments."""

ASKING: Final = POLICY.but(autonomy=Autonomy.APPROVE, approval=8)
"""The same, with a person asked before each act."""

ACTIVE: Final = ("detect-crash", "govern-decide", "remediate-raise-memory")
"""The functions of this story; the clock is `World.tick`, and people are told outside the model."""

PERSON: Final = "person"
"""Somebody at a browser; what the click does is the shipped `decisions.answer`."""

BY: Final = "by"
"""The attribute that makes a message a page somebody has open, and names who; no function gets it."""

FREE: Final = ("sleep", "page")
"""What is counted and is no fault."""

People = tuple[tuple[str, decisions.Decision], ...]
"""Who comes to the page, and which button they press."""


@dataclass(frozen=True)
class Bounds:
    """How much may happen: workers at once, moments that pass, faults, which ones, who gets messages.

    `people` open the page once each, and press that button, once or more, however long after.
    """

    workers: int = 2
    sleeps: int = 4
    faults: int = 2
    allowed: tuple[str, ...] = ("duplicate", "crash", "store", "cluster", "edit", "stop", "heal")
    who: tuple[str, ...] = (*ACTIVE, PERSON)
    people: People = ()


def functions(policy: Policy = POLICY, approvals: Literal[1, 2] = 1) -> Functions:
    """Make the shipped handlers, their ports on one tape."""
    tape = Tape()
    lazy = Lazy(lambda: TapeStore(tape), lambda: TapeCluster(tape))

    def clock() -> datetime:
        now: datetime = tape.ask("clock", "now")
        return now

    def context(name: str) -> Context:
        made = make_context(name, lazy, policy=policy, clock=clock)
        needs = {k: a.but(approvals=max(a.approvals, approvals)) for k, a in made.actions.items()}
        return replace(made, actions=needs, nonce=lambda: "")

    made: dict[str, tuple[object, Context]] = {}
    for folder in function_folders(functions_folder()):
        if folder.name in ACTIVE:
            made[folder.name] = (handler(folder.place), context(folder.name))
    made[PERSON] = (browse, context("people-console"))
    return Functions(tape, made)  # type: ignore[arg-type]


def browse(message: Message, ctx: Context) -> list[Message]:
    """Open the page of an incident, or, where it is open, press its button: as `people/console` does."""
    name, by = str(message.subject), message.attributes[BY]
    decision: decisions.Decision = message.data["decision"]
    if "question" not in message.data:
        record = ctx.store.get(records.incident(name))
        asked = None if record is None else decisions.question_of(ctx.store, Incident.from_json(record.body))
        if asked is None or decision not in asked.choices:
            return []
        return [message.but(data=message.data | {"question": asked.id, "diff": asked.diff})]
    seen = decisions.Seen(message.data["question"], message.data["diff"])
    decisions.answer(
        ctx.store, name, decision, by=by, via="console", now=ctx.clock(), seen=seen, actions=ctx.actions
    )
    return []


@dataclass(frozen=True)
class Moves:
    """The moves of one model: its functions, where messages go, and its bounds."""

    functions: Functions
    bounds: Bounds = Bounds()
    routes: tuple[tuple[str, dict[str, str]], ...] = ()

    @classmethod
    def of(cls, bounds: Bounds, policy: Policy = POLICY, approvals: Literal[1, 2] = 1) -> "Moves":
        """Take the routes from the rendered Triggers."""
        found = triggers(function_folders(functions_folder()))
        routes = tuple((t["spec"]["subscriber"]["ref"]["name"], one) for t in found for one in wanted(t))
        return cls(functions(policy, approvals), bounds, routes)

    def first(self, workload: Workload) -> World:
        """Begin: writing is allowed, and the recorded Event has come in as a signal."""
        world = World(workload=workload).transact((Put(records.SWITCH, {"stopped": False}, 0),))
        return self._calm(world.send(_signal()))

    def after(self, world: World) -> Iterator[tuple[str, World]]:
        """Give everything that can happen next, each with a line for the reader."""
        may_fail = sum(n for what, n in world.spent if not what.startswith(FREE)) < self.bounds.faults
        for message in world.flight.values():
            for name in set(self._targets(message)) & set(self.bounds.who):
                yield from self._deliveries(world, name, message, may_fail=may_fail)
        for worker in world.workers:
            yield from self._steps(world, worker, may_fail=may_fail)
        if any(item.at <= world.clock for item in world.due.values()):
            yield "the clock ticks", self._calm(world.tick())
        moment = world.next_moment()
        if moment is not None and world.count("sleep") < self.bounds.sleeps:
            later = replace(world, now=moment).spend("sleep")
            yield f"time passes, to {moment} s", later
        for by, decision in self.bounds.people:
            if not world.count(f"page of {by}") and any(_asks(world)):
                yield f"{by} opens the page", self.opened(world, by, decision)
        if may_fail:
            yield from self._outside(world)

    # What functions do, and people

    def opened(self, world: World, by: str, decision: decisions.Decision) -> World:
        """Let somebody open the page; the click comes with the page as it was, at any time."""
        for name in _asks(world):
            message = Message(
                id=f"{by}.{decision}", type=DECISION, subject=name, attributes={BY: by},
                data={"decision": decision},
            )  # fmt: skip
            world = self._begin(world, PERSON, message)
        return world.spend(f"page of {by}")

    def answered(self, world: World, by: str, decision: decisions.Decision) -> World:
        """Let somebody open the page and answer at once, undisturbed."""
        opened = self.opened(world, by, decision)
        clicks = [message for message in opened.flight.values() if message.attributes.get(BY) == by]
        for click in clicks:
            opened = self._all_of(opened.without(click), PERSON, click)
        return opened

    def _targets(self, message: Message) -> list[str]:
        if BY in message.attributes:
            return [PERSON]
        known = message.attributes | {"type": message.type}
        return [
            name
            for name, wanted in self.routes
            if name in ACTIVE and all(known.get(k) == v for k, v in wanted.items())
        ]

    def _deliveries(
        self, world: World, name: str, message: Message, *, may_fail: bool
    ) -> Iterator[tuple[str, World]]:
        if len(world.workers) >= self.bounds.workers:
            return
        what = f"{name} {world.begun + 1} gets {message.type.removeprefix('dev.quietpager.')}"
        if name == PERSON:
            what = f"{message.attributes[BY]} clicks {message.data['decision']}"
        yield what, self._calm(self._begin(world.without(message), name, message))
        if may_fail and "duplicate" in self.bounds.allowed:
            twice = world.spend("duplicate")
            yield f"{what}, which will come again", self._calm(self._begin(twice, name, message))

    def _steps(self, world: World, worker: Worker, *, may_fail: bool) -> Iterator[tuple[str, World]]:
        call, kind = worker.call, worker.message.type.rpartition(".")[2]
        who = f"{worker.name} {worker.number} ({worker.message.attributes.get(BY, kind)})"
        done, answer = perform(world, worker)
        word = "" if answer.error is None else f": {answer.error}"
        yield f"{who}: {_words(call)}{word}", self._calm(self._resume(done, worker, answer))
        if not may_fail:
            return
        alone = _dismiss(world, worker)
        if "crash" in self.bounds.allowed:
            back = alone.spend("crash").send(worker.message)
            yield f"{who} is killed before: {_words(call)}", self._calm(back)
        port, away = {
            "transact": ("store", StoreUnavailable("the store does not answer")),
            "json_patch": ("cluster", ClusterUnavailable("the API server does not answer")),
        }.get(call.name, ("", None))
        if away is None or port not in self.bounds.allowed:
            return
        lost = Answer(f"no answer {port}", error=away)
        failed = self._resume(world.spend(port), worker, lost)
        yield f"{who}: {_words(call)}: not done, no answer", self._calm(failed)
        if answer.error is None:
            quiet = self._resume(done.spend(port), worker, lost)
            yield f"{who}: {_words(call)}: done, but no answer", self._calm(quiet)

    def _begin(self, world: World, name: str, message: Message) -> World:
        return self._run(replace(world, begun=world.begun + 1), name, message, (), "", world.begun + 1)

    def _resume(self, world: World, worker: Worker, answer: Answer) -> World:
        alone = _dismiss(world, worker)
        answers = (*worker.answers, answer)
        return self._run(alone, worker.name, worker.message, answers, worker.call.port, worker.number)

    def _run(
        self,
        world: World,
        name: str,
        message: Message,
        answers: tuple[Answer, ...],
        before: str,
        number: int,
    ) -> World:
        """Answer reads until the worker is about to act, or has ended."""
        while True:
            found = self.functions.go_on(name, message, answers)
            if isinstance(found, Done):
                return self._ended(world, message, found)
            if found.acts and not (found.port == before == "cluster" and found.name != "json_patch"):
                worker = Worker(name, message, answers, found, world.now, number)
                return replace(world, workers=(*world.workers, worker))
            before = found.port
            answers = (*answers, world.read(found))

    def _ended(self, world: World, message: Message, done: Done) -> World:
        """Send what a function answered; one that failed gets its message again."""
        if done.error is None:
            return world.send(*done.messages)
        if isinstance(done.error, GiveUp):
            return world
        if isinstance(done.error, AssertionError):
            raise done.error
        return world.send(message)

    def _calm(self, world: World) -> World:
        """Let happen at once what touches nothing that others could race for: looks and plans.

        People are told outside the model, so their messages end here.
        """
        while True:
            told = [m for m in world.flight.values() if m.type.startswith(INCIDENT)]
            for message in told:
                world = world.without(message)
                due = {k: v for k, v in world.due.items() if k != records.talk(str(message.data["tell"]))}
                world = replace(world, due=due)
            eager = sorted(key for key, m in world.flight.items() if m.type in (SIGNAL, REHEARSE))
            if not eager:
                return world
            message = world.flight[eager[0]]
            world = world.without(message)
            for name in self._targets(message):
                world = self._all_of(world, name, message)

    def _all_of(self, world: World, name: str, message: Message) -> World:
        """Run one function from beginning to end."""
        others = world.workers
        world = self._begin(replace(world, workers=()), name, message)
        while world.workers:
            [worker] = world.workers
            world, answer = perform(world, worker)
            world = self._resume(world, worker, answer)
        return replace(world, workers=others)

    # What others do

    def _outside(self, world: World) -> Iterator[tuple[str, World]]:
        load, allowed = world.workload, self.bounds.allowed
        if "edit" in allowed and not world.count("edit"):
            edited = replace(load, limit="48Mi", generation=load.generation + 1, touched=load.generation + 1)
            yield "somebody else sets the limit to 48Mi", replace(world, workload=edited).spend("edit")
        if "heal" in allowed and not world.count("heal") and not load.healthy:
            yield "it heals by itself", replace(world, workload=replace(load, healed=True)).spend("heal")
        if "relapse" in allowed and not world.count("relapse") and load.healed:
            # A second later, with a new Event: what failed before it healed is no news.
            later = world.now + 1
            again = replace(world, now=later, workload=replace(load, healed=False, failed=later))
            yield "it fails again", self._calm(again.send(_signal("again"))).spend("relapse")
        if "stop" in allowed and world.stopped_at is None:
            switch = world.record(records.SWITCH)
            version = 0 if switch is None else switch.version
            stopped = world.transact((Put(records.SWITCH, {"stopped": True}, version),))
            yield "a person stops all writing", replace(stopped, stopped_at=world.now).spend("stop")

    # Until the end

    def fair(self, world: World, limit: int = 400, until: Callable[[World], bool] | None = None) -> World:
        """Let everything that is under way arrive, time pass and no more faults happen."""
        for _ in range(limit):
            if until is not None and until(world):
                return world
            if world.workers:
                worker = world.workers[0]
                done, answer = perform(world, worker)
                world = self._calm(self._resume(done, worker, answer))
            elif world.flight:
                message = world.flight[min(world.flight)]
                world = world.without(message)
                for name in self._targets(message):
                    world = self._calm(self._begin(world, name, message))
            elif any(item.at <= world.clock for item in world.due.values()):
                world = self._calm(world.tick())
            elif (moment := world.next_moment()) is not None and (until is not None or not world.rests):
                world = replace(world, now=moment)
            else:
                return world
        return world


def perform(world: World, worker: Worker) -> tuple[World, Answer]:
    """Carry out what a worker asks, for real."""
    call = worker.call
    if call.name == "transact":
        try:
            return world.transact(call.args), Answer("done")
        except Conflict as lost:
            return world, Answer(f"conflict {lost}", error=lost)
    if call.name != "json_patch":
        return world, world.read(call)
    patch = call.args[3]
    after = world.workload.patched(patch)
    if after is None:
        no = Rejected(422, "Invalid", "the server rejected our request due to an error in our request")
        return world, Answer("rejected", error=no)
    intent = intent_of(world, worker)
    mutation = Mutation(
        intent=intent.id, undo=intent.undoes is not None, at=world.now, late=worker.since < world.now,
        before=world.workload, after=after,
    )  # fmt: skip
    answer = Answer(f"generation {after.generation}", after.deployment())
    return replace(world, workload=after, history=(*world.history, mutation)), answer


def intent_of(world: World, worker: Worker) -> Intent:
    """Load the intent that a worker carries out."""
    record = world.record(records.intent(str(worker.message.data["intent"])))
    if record is None:
        raise AssertionError(f"{worker.name} writes to the cluster without an intent")
    return Intent.from_json(record.body)


def _signal(name: str = "") -> Message:
    """Give the recorded Event as it comes in; named, it is another one."""
    event = read_event(arrived(), received=START)
    return event.signal("crash").to_message(name or event.id)


def _asks(world: World) -> list[str]:
    """Name the incidents that ask for an approval."""
    found = (Incident.from_json(record.body) for record in world.records("INCIDENT"))
    return [incident.id for incident in found if incident.state is State.APPROVAL]


def _dismiss(world: World, worker: Worker) -> World:
    rest = list(world.workers)
    rest.remove(worker)
    return replace(world, workers=tuple(rest))


def _words(call: Call) -> str:
    if call.name == "transact":
        keys = [f"{w.key.partition('#')[0].lower()}" for w in call.args if isinstance(w, Put)]
        return f"writes {', '.join(dict.fromkeys(keys)) or 'due items'}"
    if call.name == "json_patch":
        return "SENDS THE PATCH"
    return f"reads the {call.args[0]}"


__all__ = [
    "ACTIVE", "ASKING", "BY", "PERSON", "POLICY", "Bounds", "Moves", "People", "functions", "intent_of",
    "key_of", "perform",
]  # fmt: skip
