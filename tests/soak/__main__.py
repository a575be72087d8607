"""`make soak`: half an hour of many faults and a bad broker; then everything must be finished and add up.

    SOAK_MINUTES   how long faults are made (30)      SOAK_RATE    faults a second (5)
    SOAK_SHARE     of the broker's messages, the share lost, doubled or delayed (0.2)

Prints the curve of the host's memory and the figures; exit code 0 only if every incident is CLOSED or with a
person, every write has its one intent, committed before it, every recorded outcome is the real one, the audit
verifies, and memory at the end is within 5 % of what it was after a quarter of the time.
"""

import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any, Final

import psycopg

from quietpager.change.marks import MARK, pointer
from quietpager.cluster.client import connect
from quietpager.incident import records
from quietpager.local.demo import free_port, sandbox
from quietpager.model.cluster import Cluster, Rejected
from quietpager.model.incident import Intent, IntentState
from quietpager.model.store import ABSENT, Put, Store
from quietpager.store import embedded
from quietpager.store.audit import verify_all
from quietpager.store.opening import open_store
from tests.soak.lossy import NOTES, SHARE

Json = dict[str, Any]

CLUSTER: Final = "soak"
POLICY: Final = {
    "autonomy": "auto", "tick": 1.0, "sweep": 3.0, "recheck": 2.0, "dwell_seconds": 1.0, "dwell_unknown": 1.0,
    "window": 4.0, "rollout": 4.0, "cool_down": 60.0, "claim": 20.0, "act": 3.0, "planning": 8.0,
    "waiting_limit": 60.0, "storm": {"incidents": 150, "each": 150, "namespace": 150, "window": 1.0},
    "namespaces": {"allow": ["*"]},
    "budget": {"window": 10.0, "target": 1, "namespace": 20, "cluster": 100},
}  # fmt: skip
"""Short times, and budgets that let all of it through; guards and fences are as ever."""

NAMESPACES: Final = 10
MOST_ALIVE: Final = 400
"""Workloads at a time; a host that cannot keep up is not buried under more."""
DRAIN: Final = 300.0
"""Seconds that open incidents have to end after the last fault."""
FLAT: Final = 0.05

BOUNDED = ["sh", "-c", "head -c 30000000 /dev/zero"]
HOPELESS = ["sh", "-c", "tail /dev/zero"]
KINDS: Final = (
    ("bounded", BOUNDED, "localhost/busybox:1"), ("hopeless", HOPELESS, "localhost/busybox:1"),
    ("bounded", BOUNDED, "localhost/busybox:1"), ("missing", ["sh"], "registry.example.com/missing/app:1"),
    ("bounded", BOUNDED, "localhost/busybox:1"),
)  # fmt: skip
"""What the workloads do, in turn; the sandbox's workloads.yaml knows these commands and images."""


def say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


@dataclass
class Soak:
    """The run: what was made, what was seen."""

    api: str
    url: str
    cluster: Cluster
    process: subprocess.Popen[bytes]
    alive: dict[str, tuple[str, float]] = field(default_factory=dict)
    made: Counter[str] = field(default_factory=Counter)
    lines: dict[tuple[str, str, str], Json] = field(default_factory=dict)
    memory: list[tuple[float, float]] = field(default_factory=list)
    held_back: int = 0

    def make(self, number: int) -> None:
        """Let one more workload fail."""
        kind, command, image = KINDS[number % len(KINDS)]
        name, namespace = f"{kind}-{number}", f"soak-{number % NAMESPACES}"
        container = {
            "name": "app", "image": image, "command": command,
            "resources": {"limits": {"memory": "32Mi"}, "requests": {"memory": "16Mi"}},
        }  # fmt: skip
        template = {"metadata": {"labels": {"app": name}}, "spec": {"containers": [container]}}
        spec = {"replicas": 1, "selector": {"matchLabels": {"app": name}}, "template": template}
        meta = {"name": name, "namespace": namespace}
        body = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": meta, "spec": spec}
        self.cluster.create("Deployment", body)
        self.alive[name] = (namespace, time.monotonic())
        self.made[kind] += 1

    def clear(self) -> None:
        """Take workloads away whose incident has ended, and such as never had one for long."""
        ended = {str(row[1]) for row in self.states() if is_end(row[0])}
        known = {str(row[1]) for row in self.states()}
        for name, (namespace, since) in [*self.alive.items()]:
            if name in ended or (name not in known and time.monotonic() - since > 60):
                try:
                    self.cluster.delete("Deployment", namespace, name)
                except Rejected as no:
                    if no.code != 404:
                        raise
                del self.alive[name]

    def states(self) -> list[tuple[str, str, str]]:
        """Read every incident: state, workload, reason."""
        with psycopg.connect(self.url) as at:
            return at.execute(
                "SELECT body->>'state', body->'owner'->>'name', coalesce(body->>'reason', '')"
                " FROM quietpager.state WHERE key LIKE 'INCIDENT#%'"
            ).fetchall()

    def sizes(self) -> Counter[str]:
        """Count the store's records by kind."""
        with psycopg.connect(self.url) as at:
            rows = at.execute("SELECT split_part(key, '#', 1), count(*) FROM quietpager.state GROUP BY 1")
            found = Counter({str(kind): int(count) for kind, count in rows})
            tables = at.execute(
                "SELECT 'table audit', count(*) FROM quietpager.audit UNION ALL"
                " SELECT 'table due', count(*) FROM quietpager.due UNION ALL"
                " SELECT 'table delivery', count(*) FROM quietpager.delivery"
            )
            return found + Counter({str(table): int(count) for table, count in tables})

    def look(self, since: float) -> None:
        """Take a sample of memory, and keep the cluster's log before it forgets."""
        self.memory.append((since, resident(self.process.pid)))
        with urllib.request.urlopen(f"{self.api}/sandbox/audit", timeout=30) as answer:
            log = json.load(answer)
        for line in log:
            done = line["verb"] == "patch" and line["code"] == 200 and not line["dryRun"]
            if done and str(line["user_agent"]).startswith("quietpager-"):
                self.lines[line["time"], str(line["uid"]), mark_in(line["body"])] = line

    def broken(self, store: Store) -> Iterator[str]:
        """Join the cluster's log to the store, and name everything that does not add up."""
        intents = {i.id: i for i in (Intent.from_json(r.body) for r in store.scan("INTENT"))}
        writes = Counter(mark for _, _, mark in self.lines)
        for mark, count in writes.items():
            if count != 1:
                yield f"intent {mark} was written {count} times"
            if mark not in intents:
                yield f"a write without an intent: {mark}"
        for at, _, mark in self.lines:
            if mark in intents and datetime.fromisoformat(at) < intents[mark].created_at:
                yield f"intent {mark} was written before it was committed"
        for name, intent in intents.items():
            was = intent.state in (IntentState.APPLIED, IntentState.UNDONE)
            if was and name not in writes:
                yield f"intent {name} is {intent.state}, and the cluster never saw it"
            if intent.state in (IntentState.REFUSED, IntentState.EXPIRED) and name in writes:
                yield f"intent {name} is {intent.state}, and the cluster has it"
            if intent.state in (IntentState.INTENT, IntentState.CLAIMED):
                yield f"intent {name} is {intent.state} at the end"
        yield from (f"{name} is {state} at the end" for state, name, _ in self.states() if not is_end(state))
        yield from verify_all(store)


def is_end(state: str) -> bool:
    return state == "CLOSED" or state.startswith("WITH_PERSON")


def mark_in(patch: list[Json]) -> str:
    """Find the intent that a JSON Patch names."""
    for one in patch:
        if one["op"] != "test" and one["path"].endswith(pointer(MARK)):
            return str(one["value"])
        if one["op"] != "test" and one["path"] == "/metadata/annotations":
            return str(one["value"].get(MARK))
    return "none"


def resident(pid: int) -> float:
    """Read a process's resident memory, in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


@contextmanager
def lossy_host(env: dict[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the product with a bad broker until it is ready; ends it afterwards."""
    command = [sys.executable, "-m", "tests.soak.lossy"]
    with log.open("wb") as said, subprocess.Popen(
        command, env=os.environ | env, stdout=subprocess.DEVNULL, stderr=said
    ) as process:  # fmt: skip
        try:
            end = time.monotonic() + 60
            while not answers(f"http://127.0.0.1:{env['QUIETPAGER_PORT']}/health/readiness"):
                if process.poll() is not None or time.monotonic() > end:
                    raise SystemExit(f"The host did not start: {log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.2)
            yield process
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def make_room(cluster: Cluster, api: str) -> None:
    """Give the sandbox's one node room for all, and open the namespaces."""
    node = cluster.get("Node", None, "tb-node")
    if node is None:
        raise SystemExit("The sandbox has no node.")
    for key in ("capacity", "allocatable"):
        node["status"][key] = {"cpu": "1000", "memory": "10000Gi", "pods": "10000"}
    body = json.dumps({"objects": [node], "enabled": True}).encode()
    request = urllib.request.Request(f"{api}/sandbox/load", body, {"Content-Type": "application/json"})
    urllib.request.urlopen(request, timeout=10).close()
    for number in range(NAMESPACES):
        meta = {"name": f"soak-{number}", "labels": {"quietpager.dev/enabled": "true"}}
        cluster.create("Namespace", {"apiVersion": "v1", "kind": "Namespace", "metadata": meta})


def hurt(soak: Soak, seconds: float, rate: float) -> None:
    """Make faults at a rate, clear up behind, and look now and then."""
    begun, next_look, next_clear = time.monotonic(), 0.0, 0.0
    numbers = itertools.count()
    while (since := time.monotonic() - begun) < seconds:
        if since >= next_look:
            soak.look(since)
            next_look = since + min(5.0, seconds / 60)
        if since >= next_clear:
            soak.clear()
            next_clear = time.monotonic() - begun + 2.0
        if len(soak.alive) < MOST_ALIVE:
            soak.make(next(numbers))
        else:
            soak.held_back += 1
        time.sleep(max(0.0, (next_due(begun, since, rate)) - time.monotonic()))
    soak.look(seconds)


def next_due(begun: float, since: float, rate: float) -> float:
    return begun + (int(since * rate) + 1) / rate


def drain(soak: Soak) -> float:
    """Wait until every incident has ended; gives the seconds it took."""
    begun = time.monotonic()
    while time.monotonic() - begun < DRAIN:
        soak.look(soak.memory[-1][0])
        soak.memory.pop()
        states = soak.states()
        if states and all(is_end(state) for state, _, _ in states):
            break
        time.sleep(1)
    return time.monotonic() - begun


def report_memory(samples: list[tuple[float, float]], seconds: float) -> str | None:
    """Print the curve; gives a sentence if it is not flat from a quarter on."""

    def mean(low: float, high: float) -> float:
        return fmean([mb for at, mb in samples if low * seconds <= at <= high * seconds])

    say("memory of the host, MB (RSS; mean of each twentieth):")
    most = max(mb for _, mb in samples)
    for part in range(20):
        mb = mean(part / 20, (part + 1) / 20)
        say(f"  {100 * (part + 1) // 20:3} % {mb:7.1f} {'#' * round(50 * mb / most)}")
    quarter, end = mean(0.20, 0.30), mean(0.95, 1.0)
    grown = end / quarter - 1
    say(f"from the 25 % mark ({quarter:.1f} MB) to the end ({end:.1f} MB): {grown:+.1%}")
    if abs(grown) <= FLAT:
        return None
    return f"memory is not flat: {grown:+.1%} from the 25 % mark on; {FLAT:.0%} are allowed"


def report_work(notes: Path) -> None:
    """Print what the broker had under way: memory that goes with it is a backlog, other memory is a leak."""
    lines = [json.loads(line) for line in notes.read_text(encoding="utf-8").splitlines()]
    say("broker: deliveries under way · accepted so far · retries · blocks of memory in the process")
    for line in lines[:: max(1, len(lines) // 20)]:
        say(f"  {line['under_way']:6} {line['accepted']:9} {line['retries']:7} {line['blocks']:9}")


def main() -> int:
    """Run it; gives the exit code."""
    seconds = 60 * float(os.environ.get("SOAK_MINUTES", "30"))
    rate = float(os.environ.get("SOAK_RATE", "5"))
    share = os.environ.get(SHARE, "0.2")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="quietpager-soak-")))
        api = stack.enter_context(sandbox(20))
        server = stack.enter_context(embedded.start(folder / "postgres"))
        store = open_store(server.url, cluster=CLUSTER)
        stack.callback(store.close)
        store.transact([Put(records.SWITCH, {"stopped": False, "by": "soak"}, ABSENT)])
        cluster = connect(api, manager="soak")
        make_room(cluster, api)
        (folder / "policy.yaml").write_text(json.dumps(POLICY), encoding="utf-8")
        env = {
            "QUIETPAGER_STORE": server.url, "QUIETPAGER_API_SERVER": api, SHARE: share,
            "QUIETPAGER_PORT": str(free_port()), "QUIETPAGER_POLICY": str(folder / "policy.yaml"),
            "QUIETPAGER_CLUSTER": CLUSTER, "QUIETPAGER_LOG": "ERROR", NOTES: str(folder / "notes"),
        }  # fmt: skip
        process = stack.enter_context(lossy_host(env, folder / "host.log"))
        soak = Soak(api, server.url, cluster, process)
        say(
            f"{seconds / 60:g} minutes, {rate:g} faults a second, {float(share):.0%} of messages not as sent."
        )
        hurt(soak, seconds, rate)
        took = drain(soak)
        report_work(folder / "notes")
        faults = [one for one in [report_memory(soak.memory, seconds)] if one]
        faults += soak.broken(store)
        if process.poll() is not None:
            faults.append(f"the host's process ended with {process.returncode}")
        made = sum(soak.made.values())
        paced = f"{made / seconds:.2f} a second; held back {soak.held_back}"
        say(f"faults made: {made} ({paced}): {dict(soak.made)}")
        ends = Counter(reason if state == "CLOSED" else state for state, _, reason in soak.states())
        say(f"incidents: {ends.total()} ({ends.total() / seconds:.2f} a second): {dict(ends)}")
        say(f"writes to the cluster: {len(soak.lines)}, each with its own intent unless said otherwise")
        say(f"after the last fault the rest took {took:.0f} s")
        say(f"store: {dict(soak.sizes())}")
        for fault in faults[:30]:
            say(f"NOT AS PROMISED: {fault}")
        if faults:
            say((folder / "host.log").read_text(encoding="utf-8", errors="replace")[-3000:])
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
