"""The demo: three recorded faults and benign noise, in a sandbox cluster, from a bare Python.

The cluster and PostgreSQL are processes of their own; the product is one that may be killed at any
moment and is started again. Ends with a table, and says whether every outcome is the expected one.
"""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from infra.sandbox.load import Case, load_case
from quietpager.cluster.client import connect
from quietpager.cluster.port import Cluster
from quietpager.model.incident import Incident, State
from quietpager.model.time import system_clock, to_text
from quietpager.runtime.context import functions_folder
from quietpager.safety import records
from quietpager.safety.effect import MARK
from quietpager.store import embedded
from quietpager.store.audit import verify_all
from quietpager.store.port import ABSENT, Put, Store
from quietpager.store.postgres import PostgresStore

Json = dict[str, Any]
Say = Callable[[str], None]

SPEED = 20
"""How much faster than recorded the sandbox's kubelet is."""

POLICY = {
    "autonomy": "auto", "tick": 0.5, "sweep": 1.0, "recheck": 0.5, "dwell_seconds": 2.0, "window": 3.0,
    "rollout": 4.0, "cool_down": 120.0, "claim": 20.0, "act": 2.0, "planning": 5.0,
    "budget": {"cluster": 10},
}  # fmt: skip
"""The demo's policy: times are shortened, and it may act by itself. The defaults do neither."""

STORIES = {
    "cache": ("crash", "30-oom-bounded", State.CLOSED, "raise-memory"),
    "web": ("image", "32-bad-tag-new-revision", State.CLOSED, "rollout-undo"),
    "app": ("crash", "15-oomkilled", State.HANDOVER, "raise-memory"),
}
"""Deployment -> family, case, where it must end, what must have been tried."""

LONGEST = 90.0
"""Seconds after which the demo gives up waiting for the stories to end."""


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
        if not self.ready.wait(30):
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
        command = [sys.executable, "-m", "infra.local.host"]
        while not self.ended:
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
def sandbox(speed: float = SPEED) -> Iterator[str]:
    """Run a sandbox cluster as a process; gives its URL."""
    command = [sys.executable, "-m", "infra.sandbox", "--port", "0", "--speed", str(speed)]
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


def run(*, once: bool, kills: int, seed: int, say: Say) -> int:
    """Run the demo; gives the exit code: 0 only if every outcome is the expected one."""
    begun = time.monotonic()
    with ExitStack() as stack:
        folder = Path(
            stack.enter_context(
                tempfile.TemporaryDirectory(prefix="quietpager-demo-", ignore_cleanup_errors=True)
            )
        )
        url = stack.enter_context(sandbox())
        server = stack.enter_context(embedded.start(folder / "postgres"))
        store = PostgresStore(server.url)
        stack.callback(store.close)
        cluster = connect(url, manager="demo")
        _allow_writing(store)
        (folder / "policy.yaml").write_text(json.dumps(POLICY), encoding="utf-8")
        env = {
            "QUIETPAGER_STORE": server.url, "QUIETPAGER_API_SERVER": url,
            "QUIETPAGER_PORT": str(free_port()), "QUIETPAGER_POLICY": str(folder / "policy.yaml"),
            "QUIETPAGER_CLUSTER": "sandbox",
        }  # fmt: skip
        child = Child(env, folder / "product.log", say)
        stack.callback(child.stop)
        child.start()
        say(f"Ready after {time.monotonic() - begun:.1f} s: sandbox, functions, PostgreSQL, broker run.")
        say(f"Times are shortened for the demo: {json.dumps(POLICY)}")
        _break_things(cluster, url, say)
        _wait(store, child, Timeline(store, say), kills, random.Random(seed))  # noqa: S311 (a test's dice)
        faults = _judge(store, url, say)
        for fault in faults:
            say(f"NOT AS EXPECTED: {fault}")
        if faults and once:
            say((folder / "product.log").read_text(encoding="utf-8", errors="replace")[-6000:])
        if child.deaths:
            say(f"The product was killed {child.deaths} times.")
        if not once:
            say("Still running; Ctrl-C ends it.")
            with _quietly():
                signal.pause()
    return 1 if faults else 0


@contextmanager
def _quietly() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        return


def _allow_writing(store: Store) -> None:
    """Start writing; on a real cluster a person does it with `quietpager resume`."""
    body = {"stopped": False, "by": "demo", "at": to_text(system_clock())}
    store.transact([Put(records.SWITCH, body, ABSENT)])


def _break_things(cluster: Cluster, url: str, say: Say) -> None:
    folder = functions_folder()
    benign = load_case(url, folder / "ingest/intake/cases/25-healthy-pulled", system_clock())
    say(
        "Benign: a pod that starts, a probe that fails once while its pod ends, a flaky pull, a forged Event."
    )
    _post(cluster, benign)
    _make_noise(cluster, benign, folder)
    for family, case, *_ in STORIES.values():
        loaded = load_case(url, folder / "detect" / family / "cases" / case, system_clock())
        say(f"Fault: {case}: {len(loaded.objects)} objects, {len(loaded.events())} Events")
        _post(cluster, loaded)


def _post(cluster: Cluster, case: Case) -> None:
    for event in case.events():
        cluster.create("Event", event)


def _make_noise(cluster: Cluster, benign: Case, folder: Path) -> None:
    pod = next(o for o in benign.objects if o["kind"] == "Pod")
    now = to_text(system_clock().replace(microsecond=0))
    fault = json.loads((folder / "detect/crash/cases/30-oom-bounded/event.json").read_text(encoding="utf-8"))
    cluster.create("Event", _about(fault, pod, "forged", now))
    _create_flaky(cluster, benign)
    probe = json.loads((Path(__file__).parent / "noise/unhealthy.json").read_text(encoding="utf-8"))
    cluster.delete("Pod", pod["metadata"]["namespace"], pod["metadata"]["name"])
    cluster.create("Event", _about(probe, pod, "probe", now))


def _about(event: Json, pod: Json, name: str, now: str) -> Json:
    """Turn a recorded Event to another pod."""
    meta = pod["metadata"]
    involved = event["involvedObject"] | {
        "namespace": meta["namespace"], "name": meta["name"], "uid": meta["uid"],
    }  # fmt: skip
    return event | {
        "metadata": {"name": f"{meta['name']}.{name}", "namespace": meta["namespace"]},
        "involvedObject": involved, "firstTimestamp": now, "lastTimestamp": now, "count": 1,
    }  # fmt: skip


def _create_flaky(cluster: Cluster, benign: Case) -> None:
    like = next(o for o in benign.objects if o["kind"] == "Deployment")
    labels = {"app": "flaky"}
    container = {"name": "flaky", "image": "registry.example.com/flaky/app:1"}
    cluster.create(
        "Deployment",
        {
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "flaky", "namespace": like["metadata"]["namespace"]},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            },
        },
    )  # fmt: skip


def _incidents(store: Store) -> list[Incident]:
    return [Incident.from_json(record.body) for record in store.scan("INCIDENT")]


def _wait(store: Store, child: Child, timeline: Timeline, kills: int, dice: random.Random) -> None:
    """Wait until every story has ended and nothing else is open, killing the product on the way."""
    end = time.monotonic() + LONGEST
    next_kill = time.monotonic() + dice.uniform(0.2, 1.5)
    while time.monotonic() < end:
        timeline.catch_up()
        if kills and time.monotonic() > next_kill:
            kills -= child.kill()
            next_kill = time.monotonic() + dice.uniform(1.0, 4.0)
        found = _incidents(store)
        told = store.scan("TELL")
        ended = [i for i in found if i.state in (State.CLOSED, State.HANDOVER, State.BLOCKED)]
        if (
            not kills
            and not told
            and len(ended) == len(found)
            and {i.owner.name for i in found} >= set(STORIES)
        ):
            timeline.catch_up()
            return
        time.sleep(0.2)


def _judge(store: Store, url: str, say: Say) -> list[str]:
    """Print the table and name everything that is not as expected."""
    found = _incidents(store)
    faults: list[str] = []
    head = ("incident", "failure class", "on", "what was done", "ended as", "decided by", "s")
    rows = [head]
    for one in sorted(found, key=lambda i: i.opened_at):
        if not one.announced:
            if one.state is not State.CLOSED or one.acted:
                faults.append(f"{one.id} on {one.owner} was to heal in silence, it is {one.state}")
            continue
        seconds = (one.state_since - one.opened_at).total_seconds()
        did = "; ".join(f"{t.action}: {t.result}" for t in one.tried) or "nothing"
        ended = f"closed: {one.reason}" if one.reason else "with a person"
        rows.append(
            (
                one.id,
                one.failure_class,
                str(one.owner),
                did,
                ended,
                one.decided_by,
                f"{seconds:.1f}",
            )
        )
        if one.owner.name not in STORIES:
            faults.append(f"a person was told of {one.owner}, which is benign")
    widths = [max(len(row[n]) for row in rows) for n in range(len(head))]
    for row in rows:
        say("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
    for name, (_, case, state, action) in STORIES.items():
        met = next((i for i in found if i.owner.name == name), None)
        if met is None or met.state is not state or action not in [t.action for t in met.tried]:
            now = "not there" if met is None else met.state.value
            faults.append(f"{case} was to end {state} after {action}; it is {now}")
    silent = [i for i in found if not i.announced]
    say(f"Healed in silence while WAITING: {len(silent)}. Messages about benign things: 0 expected.")
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
