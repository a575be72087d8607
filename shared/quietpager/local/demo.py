"""The demo: six stories and benign noise, in a sandbox cluster, from a bare Python.

The cluster, PostgreSQL and the console are processes of their own; the product is one that may be killed
at any moment and is started again. Ends with a table, and says whether every outcome is the expected one.
Unattended, a program is the person: it answers through the console's own pages (`local/person.py`).
"""

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from quietpager.change.marks import MARK
from quietpager.cluster.client import connect
from quietpager.incident import records
from quietpager.local import dynoxide
from quietpager.local.person import NONE, Visitor
from quietpager.local.stories import PERSON, STORIES, all_over, break_things, key_of, of_stories
from quietpager.model.incident import Incident, State
from quietpager.model.store import ABSENT, Put, Store
from quietpager.model.time import system_clock, to_text
from quietpager.people.roles import Role
from quietpager.people.users import Users
from quietpager.runtime.links import CONSOLE_URL
from quietpager.store import embedded
from quietpager.store.anchors import PLACE
from quietpager.store.audit import verify_all
from quietpager.store.dynamodb_schema import make_tables
from quietpager.store.opening import CLUSTER_NAME, DYNAMODB, open_store

Json = dict[str, Any]
Say = Callable[[str], None]

STARTING = 30.0
"""Seconds within which product and console serve."""

SPEED = 20
"""How much faster than recorded the sandbox's kubelet is."""

CLUSTER: Final = "sandbox"
"""The name of the demo's cluster in keys and records."""

POLICY = {
    "autonomy": "auto", "tick": 0.5, "sweep": 1.0, "recheck": 0.5, "dwell_seconds": 5.0, "dwell_unknown": 5.0,
    "window": 3.0, "rollout": 4.0, "cool_down": 120.0, "claim": 20.0, "act": 2.0, "planning": 5.0,
    "budget": {"cluster": 10}, "namespaces": {"allow": ["team-*", "shop"]},
}  # fmt: skip
"""The demo's policy: times are shortened, and it may act by itself. The defaults do neither."""

LONGEST = 90.0
"""Seconds after which the unattended demo gives up waiting for the stories to end; each kill adds some."""
LONGER = 4.0
"""Seconds, at most, between two kills of a product that serves."""
STARTS = 0.25
"""The part of the kills that may meet it while it starts."""


@dataclass
class Child:
    """The product's process, started again whenever it dies."""

    env: dict[str, str]
    log: Path
    say: Say
    process: subprocess.Popen[str] | None = None
    ended: bool = False
    ready: threading.Event = field(default_factory=threading.Event)
    deaths: int = 0

    def start(self) -> None:
        """Start it, in a thread that watches over it."""
        threading.Thread(target=self._watch, name="supervisor", daemon=True).start()
        if not self.ready.wait(STARTING):
            raise SystemExit(f"The product did not start; see {self.log}.")

    def kill(self) -> bool:
        """End it as the kernel would: at once. Says whether there was one to end."""
        process = self.process
        if process is None or process.poll() is not None:
            return False
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True

    def stop(self) -> None:
        """End it in good order."""
        self.ended = True
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def _watch(self) -> None:
        command = [sys.executable, "-m", "quietpager.local.host"]
        while not self.ended:
            self.ready.clear()
            with (
                self.log.open("a") as log,
                subprocess.Popen(  # noqa: S603 (our own module)
                    command,
                    env=os.environ | self.env,
                    text=True,
                    stdout=subprocess.PIPE,
                    stderr=log,
                ) as process,
            ):
                self.process = process
                for line in process.stdout or ():
                    if line.startswith("quietpager ready"):
                        self.ready.set()
                    else:
                        self.say(f"    {line.rstrip()}")
            if not self.ended:
                self.deaths += 1
                self.say(f"    the product's process died ({process.returncode}); it is started again")


@contextmanager
def console(env: Mapping[str, str], folder: Path) -> Iterator[tuple[str, str]]:
    """Serve the console on loopback, with one account; gives its address and the account's password."""
    users, password, port = Users(folder / "console-users.json"), secrets.token_urlsafe(12), free_port()
    users.put(PERSON, password, Role.ADMIN)
    command = [
        sys.executable, "-m", "quietpager.cli.main", "console", "--port", str(port),
        "--users", str(users.path),
    ]  # fmt: skip
    with (
        (folder / "console.log").open("a") as log,
        subprocess.Popen(  # noqa: S603 (our own module)
            command, env=os.environ | dict(env), stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield f"http://127.0.0.1:{port}", password
        finally:
            process.terminate()
            process.wait(10)


def sign_in(url: str, password: str) -> Visitor:
    """Sign in as the demo's person, as soon as the console serves."""
    end = time.monotonic() + STARTING
    while True:
        try:
            return Visitor(url, PERSON, password)
        except OSError:
            if time.monotonic() > end:
                raise SystemExit(f"The console does not answer at {url}.") from None
            time.sleep(0.1)


@contextmanager
def sandbox(speed: float = SPEED) -> Iterator[str]:
    """Run a sandbox cluster as a process; gives its URL."""
    command = [sys.executable, "-m", "quietpager.sandbox", "--port", "0", "--speed", str(speed)]
    with subprocess.Popen(command, text=True, stdout=subprocess.PIPE) as process:  # noqa: S603 (our own module)
        try:
            line = process.stdout.readline() if process.stdout else ""
            if "ready on" not in line:
                raise SystemExit("The sandbox cluster did not start.")
            yield line.split()[-1]
        finally:
            process.terminate()
            process.wait(10)


def free_port() -> int:
    """Find a port that is free on loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Timeline:
    """Prints what the audit gains, as it gains it."""

    def __init__(self, store: Store, say: Say) -> None:
        """Begin now."""
        self._store, self._say, self._zero = store, say, system_clock()
        self._told: dict[str, int] = {}

    def catch_up(self) -> None:
        """Print every entry that is new."""
        for chain in self._store.audit_chains():
            for entry in self._store.audit(chain)[self._told.get(chain, 0) :]:
                self._told[chain] = entry.seq
                if entry.kind != "told":
                    seconds = (entry.at - self._zero).total_seconds()
                    note = (
                        entry.body.get("note") or entry.body.get("summary") or entry.body.get("result") or ""
                    )
                    self._say(
                        f"{seconds:6.1f}s  {chain:18} {entry.actor:24} {entry.kind:34} {str(note)[:110]}"
                    )


def run(*, once: bool, kills: int, seed: int, say: Say, given: str = "") -> int:
    """Run the demo; gives the exit code: 0 only if every outcome is the expected one.

    With `once` it is unattended; otherwise a person answers, and it runs until Ctrl-C. `given` is the URL
    of an empty store, `dynamodb` for one of its own, or empty for a PostgreSQL of its own.

    Raises:
        StoreUnavailable, DynoxideUnavailable: there is no store; the text is the sentence to show.
    """
    begun = time.monotonic()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="quietpager-demo-", ignore_cleanup_errors=True)
            )
        )
        url = stack.enter_context(sandbox())
        place, store_url = stack.enter_context(_store(given, folder))
        store = open_store(store_url, cluster=CLUSTER)
        stack.callback(store.close)
        if _incidents(store):
            say(f"The demo wants an empty store, and {given} holds incidents. Name another one.")
            return 2
        cluster = connect(url, manager="demo")
        _allow_writing(store)
        anchors = folder / "anchors"
        anchors.mkdir(exist_ok=True)
        (folder / "policy.yaml").write_text(json.dumps(POLICY), encoding="utf-8")
        env = {
            "QUIETPAGER_STORE": store_url, "QUIETPAGER_API_SERVER": url,
            "QUIETPAGER_PORT": str(free_port()), "QUIETPAGER_POLICY": str(folder / "policy.yaml"),
            PLACE: str(anchors),
            CLUSTER_NAME: CLUSTER,
        }  # fmt: skip
        address, password = stack.enter_context(console(env, folder))
        child = Child(env | {CONSOLE_URL: address}, folder / "product.log", say)
        stack.callback(child.stop)
        child.start()
        visitor = sign_in(address, password)
        say(f"Ready after {time.monotonic() - begun:.1f} s: sandbox, functions, {place}, broker run.")
        say(f"Times are shortened for the demo: {json.dumps(POLICY)}")
        say(f"The console: {address}/  name: {PERSON}  password, this once: {password}")
        break_things(cluster, url, say)
        watch = _Watch(store, child, Timeline(store, say), say)
        watch.kills, watch.dice = kills, random.Random(seed)  # noqa: S311 (a test's dice)
        if once:
            watch.until_over(time.monotonic() + LONGEST + kills * 2 * LONGER, visitor)
        elif not watch.attended():
            return 0
        faults = _judge(store, url, say)
        if faults and once:
            say((folder / "product.log").read_text(encoding="utf-8", errors="replace")[-6000:])
        for fault in faults:
            say(f"NOT AS EXPECTED: {fault}")
        if child.deaths:
            say(f"The product was killed {child.deaths} times.")
        if not once:
            say("Still running; Ctrl-C ends it.")
            with suppress(KeyboardInterrupt):
                signal.pause()
    return 1 if faults else 0


@contextmanager
def _store(given: str, folder: Path) -> Iterator[tuple[str, str]]:
    """Give the store's name and its URL: the one that is given, or one of our own while the demo runs."""
    if not given:
        with embedded.start(folder / "postgres") as server:
            yield "PostgreSQL", server.url
    elif given == "dynamodb":
        with dynoxide.serve() as endpoint:
            url = f"dynamodb://local/quietpager?endpoint={endpoint}"
            make_tables(url)
            yield "DynamoDB (dynoxide)", url
    else:
        if given.startswith(DYNAMODB):
            make_tables(given)
        yield "DynamoDB" if given.startswith(DYNAMODB) else "PostgreSQL", given


def _allow_writing(store: Store) -> None:
    """Start writing; on a real cluster a person does it with `quietpager resume`."""
    body = {"stopped": False, "by": "demo", "at": to_text(system_clock())}
    store.transact([Put(records.SWITCH, body, ABSENT)])


def _incidents(store: Store) -> list[Incident]:
    return [Incident.from_json(record.body) for record in store.scan("INCIDENT")]


@dataclass
class _Watch:
    """Waits until every story has ended, and on the way kills the product, or is the person who answers."""

    store: Store
    child: Child
    timeline: Timeline
    say: Say
    kills: int = 0
    dice: random.Random = field(default_factory=random.Random)

    def until_over(self, end: float | None, visitor: Visitor | None) -> None:
        """Wait, at most until `end`; a visitor answers what the stories ask a person."""
        next_kill, starting = time.monotonic() + self.dice.uniform(0.2, 1.5), True
        while end is None or time.monotonic() < end:
            self.timeline.catch_up()
            # Most kills wait until it serves: on a busy machine it would else never come to its work.
            if self.kills and time.monotonic() > next_kill and (starting or self.child.ready.is_set()):
                self.kills -= self.child.kill()
                next_kill = time.monotonic() + self.dice.uniform(1.0, LONGER)
                starting = self.dice.random() < STARTS
            found = _incidents(self.store)
            if visitor is not None:
                self._answer(visitor, found)
            if not self.kills and all_over(found) and not self.store.scan("TELL"):
                self.timeline.catch_up()
                return
            time.sleep(0.2)

    def attended(self) -> bool:
        """Wait for a person, as long as it takes; False: they pressed Ctrl-C before every story was over."""
        wished = [
            f"{story.about}: {story.wishes.instead or 'take over'}"
            for story in STORIES if story.wishes != NONE
        ]  # fmt: skip
        self.say(f"{len(wished)} incidents will ask you; unattended the answers are: {'; '.join(wished)}.")
        try:
            self.until_over(None, None)
        except KeyboardInterrupt:
            return False
        return True

    def _answer(self, visitor: Visitor, found: Sequence[Incident]) -> None:
        for story, one in of_stories(found):
            reply = None if one is None else story.wishes.reply(one)
            if one is not None and reply is not None:
                said = visitor.answer(one.id, reply)
                if said is not None:
                    self.say(f"    {PERSON} at the console, {reply}. It says: {said}")


def _ended(one: Incident) -> str:
    """Say how an incident ended, for the table."""
    if one.state is State.CLOSED:
        return f"closed: {one.reason}"
    if one.state is State.HANDOVER and one.taken_over:
        return "taken over"
    return "with a person" if one.state is State.HANDOVER else one.state.value


def _judge(store: Store, url: str, say: Say) -> list[str]:
    """Print the table and name everything that is not as expected."""
    found = _incidents(store)
    known = {story.about for story in STORIES}
    faults: list[str] = []
    rows = [("incident", "failure class", "on", "affected", "what was done", "ended as", "decided by", "s")]
    for story, met in of_stories(found):
        if met is None:
            faults.append(f"{story.about}: there is no incident")
            continue
        faults += [f"{story.about}: {fault}" for fault in story.faults(met, store)]
        seconds = f"{(met.state_since - met.opened_at).total_seconds():.1f}"
        did = "; ".join(f"{t.action}: {t.result}" for t in met.tried) or "nothing"
        about, count, who = key_of(met), str(met.symptom_count), met.decided_by or "-"
        rows.append((met.id, met.failure_class, about, count, did, _ended(met), who, seconds))
    others = [one for one in found if key_of(one) not in known]
    for one in others:
        if one.announced:
            faults.append(f"a person was told of {one.about}, which is no story's")
        elif one.state is not State.CLOSED or one.acted:
            faults.append(f"{one.id} on {one.owner} was to heal in silence, it is {one.state}")
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    say(f"Healed in silence while WAITING: {len(others)}. Messages about benign things: 0 expected.")
    return faults + _double_writes(url, say) + verify_all(store)


def _double_writes(url: str, say: Say) -> list[str]:
    """Join the cluster's own log of writes to our intents: never two writes for one intent."""
    with urllib.request.urlopen(f"{url}/sandbox/audit", timeout=10) as answer:  # noqa: S310 (our sandbox)
        log = json.load(answer)
    writes: dict[str, int] = {}
    for line in log:
        if line["verb"] != "patch" or line.get("dryRun") or line["code"] != 200:
            continue
        if str(line.get("user_agent", "")).startswith("quietpager-"):
            mark = next(
                (
                    o["value"]
                    for o in line["body"]
                    if o["path"].endswith("quietpager.dev~1intent") and o["op"] != "test"
                ),
                None,
            )
            writes[str(mark)] = writes.get(str(mark), 0) + 1
    say(f"Writes to the cluster: {sum(writes.values())}, intents behind them: {len(writes)} ({MARK}).")
    return [f"intent {mark} was written {n} times" for mark, n in writes.items() if n != 1 or mark == "None"]
