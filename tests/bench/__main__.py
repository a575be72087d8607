"""`make bench`: the figures, measured on the machine it runs on, as one table. No asserts, no tests.

Everything is real but the cluster: the host as a process, PostgreSQL, the sandbox as a process.
"""

import asyncio
import copy
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from quietpager.cli.scan import scan
from quietpager.cluster.client import ApiServer, connect
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.local.demo import POLICY, Child, free_port, sandbox
from quietpager.model.event import read_event
from quietpager.model.message import EVENT_ADD
from quietpager.model.store import ABSENT, Put, Store
from quietpager.model.time import system_clock, to_text
from quietpager.render import function_folders
from quietpager.runtime import loading
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.load import read_case
from quietpager.store import embedded
from quietpager.store.opening import open_store
from tests.bench import protocol
from tests.flow.many import many_ooms

Json = dict[str, Any]
CASE = functions_folder() / "detect/image/cases/32-bad-tag-new-revision"
UNKNOWN = functions_folder() / "analyze/unknown/cases/33-unknown-operator-event"
DUPLICATES, INCIDENTS, RATE = 10_000, 60, 10.0
RUNS = 5
"""Cold starts of each kind; the quickest counts, for whatever else runs only adds."""


@dataclass
class Bench:
    url: str
    host: str
    store: Store
    store_url: str
    cluster: ApiServer


@contextmanager
def product() -> Iterator[Bench]:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        url = stack.enter_context(sandbox(speed=1))
        server = stack.enter_context(embedded.start(folder / "postgres"))
        store = open_store(server.url)
        stack.callback(store.close)
        store.transact([Put(records.SWITCH, {"stopped": False, "at": to_text(system_clock())}, ABSENT)])
        policy = POLICY | {
            "dwell_seconds": 0.0, "dwell_unknown": 0.0, "sweep": 3600.0, "tick": 5.0,
            "window": 60.0, "recheck": 10.0, "act": 5.0,
            "budget": {"target": 5, "namespace": 5, "cluster": 200},
            "storm": {"incidents": 2 * INCIDENTS, "namespace": 2 * INCIDENTS},
            "namespaces": {"allow": ["*"]},
        }  # fmt: skip
        (folder / "policy.yaml").write_text(json.dumps(policy))
        port = free_port()
        child = Child(
            {
                "QUIETPAGER_STORE": server.url, "QUIETPAGER_API_SERVER": url,
                "QUIETPAGER_PORT": str(port), "QUIETPAGER_POLICY": str(folder / "policy.yaml"),
                "QUIETPAGER_LOG": "ERROR",
            },
            folder / "log",
            lambda _line: None,
        )  # fmt: skip
        stack.callback(child.stop)
        child.start()
        cluster = connect(url, manager="bench")
        stack.callback(cluster.close)
        yield Bench(url, f"http://127.0.0.1:{port}", store, server.url, cluster)


def clone(number: int) -> tuple[list[Json], Json]:
    """Make the case once more, in a namespace and with uids of its own."""
    case = read_case(CASE, system_clock())
    text = json.dumps({"o": [o for o in case.objects if o["kind"] != "Node"], "e": case.event})
    namespace = case.event["involvedObject"]["namespace"]
    text = text.replace(f'"{namespace}"', f'"bench-{number}"')
    for uid in {o["metadata"]["uid"] for o in case.objects}:
        text = text.replace(uid, f"{number:08x}{uid[8:]}")
    made = json.loads(text)
    made["e"]["metadata"]["uid"] = f"{number:08x}-e"
    return made["o"], made["e"]


def cloud_event(event: Json, number: int) -> bytes:
    return json.dumps(
        {
            "specversion": "1.0", "id": f"b-{number}", "source": "/bench", "type": EVENT_ADD, "kind": "Event",
            "datacontenttype": "application/json", "data": event,
        }
    ).encode()  # fmt: skip


def post(url: str, body: bytes) -> None:
    request = urllib.request.Request(url, body, {"Content-Type": "application/cloudevents+json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


def load(bench: Bench, objects: list[Json]) -> None:
    body = json.dumps({"objects": objects, "enabled": True}).encode()
    request = urllib.request.Request(f"{bench.url}/sandbox/load", body, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()


def latency(bench: Bench) -> list[tuple[str, str]]:
    """Event accepted -> patch accepted, dwell 0, at ten incidents a second."""
    events: dict[str, Json] = {}
    load(bench, [o for o in read_case(CASE, system_clock()).objects if o["kind"] == "Node"])
    for number in range(1, INCIDENTS + 1):
        objects, event = clone(number)
        load(bench, objects)
        events[f"bench-{number}"] = event
    time.sleep(3)
    sent: dict[str, datetime] = {}
    start = time.monotonic()
    for number, (namespace, event) in enumerate(events.items()):
        time.sleep(max(0.0, start + number / RATE - time.monotonic()))
        post(bench.host, cloud_event(event, number))
        sent[namespace] = system_clock()
    end = time.monotonic() + 20
    patched: dict[str, datetime] = {}
    while len(patched) < len(sent) and time.monotonic() < end:
        time.sleep(0.5)
        with urllib.request.urlopen(f"{bench.url}/sandbox/audit", timeout=10) as answer:
            for line in json.load(answer):
                if line["verb"] == "patch" and not line["dryRun"] and line["code"] == 200:
                    patched.setdefault(line["namespace"], datetime.fromisoformat(line["time"]))
    times = sorted((patched[n] - sent[n]).total_seconds() * 1000 for n in patched)
    p50, p99 = statistics.median(times), times[min(len(times) - 1, int(len(times) * 0.99))]
    return [
        (f"Event accepted -> patch accepted, {RATE:.0f} incidents a second, p50", f"{p50:.0f} ms (<= 300)"),
        ("the same, p99", f"{p99:.0f} ms (<= 1500)"),
        ("incidents healed of those sent", f"{len(patched)} of {len(sent)}"),
    ]


def duplicates(bench: Bench) -> list[tuple[str, str]]:
    """10,000 deliveries of one Event, straight to the broker."""
    objects, event = clone(9999)
    load(bench, objects)
    before = len(bench.store.scan("INCIDENT"))
    asyncio.run(_flood(bench.host, event))
    time.sleep(1)
    made = len(bench.store.scan("INCIDENT")) - before
    return [(f"incidents made by {DUPLICATES} duplicates of one Event", str(made))]


async def _flood(host: str, event: Json) -> None:
    address, _, port = host.removeprefix("http://").partition(":")
    body = cloud_event(event, 0)
    head = (
        f"POST / HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/cloudevents+json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    ).encode()

    async def one(count: int) -> None:
        reader, writer = await asyncio.open_connection(address, int(port))
        for _ in range(count):
            writer.write(head + body)
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    await asyncio.gather(*(one(DUPLICATES // 8) for _ in range(8)))


def intake() -> list[tuple[str, str]]:
    """Events a second through the function intake alone: its whole edge, one process."""
    function = loading.new("ingest/intake")
    function.start({})
    body = cloud_event(json.loads((CASE / "event.json").read_text()), 0)
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/",
        "headers": [(b"content-type", b"application/cloudevents+json")],
    }

    async def many(count: int) -> None:
        async def receive() -> Json:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(_part: Json) -> None:
            return

        for _ in range(count // 8):
            await asyncio.gather(*(function.handle(copy.copy(scope), receive, send) for _ in range(8)))

    asyncio.run(many(400))
    begun = time.perf_counter()
    asyncio.run(many(4000))
    rate = 4000 / (time.perf_counter() - begun)
    function.stop()
    return [("Events a second through intake", f"{rate:.0f} (>= 500)")]


COLD = """
import asyncio, json, os, resource, sys
sys.modules["rich"] = None  # a development tool brings it; where functions run it is not installed
from quietpager.runtime import loading
function = loading.new(sys.argv[1])
function.start({})
body = sys.argv[2].encode()
kind = (b"content-type", b"application/cloudevents+json")
scope = {"type": "http", "method": "POST", "path": "/", "headers": [kind]}
sent = []
async def receive(): return {"type": "http.request", "body": body, "more_body": False}
async def send(part): sent.append(part)
asyncio.run(function.handle(scope, receive, send))
usage = resource.getrusage(resource.RUSAGE_SELF)
cpu = (usage.ru_utime + usage.ru_stime) * 1000
print(json.dumps({"status": sent[0]["status"], "cpu": cpu, "rss": usage.ru_maxrss / 1024}))
os._exit(0)
"""


def cold(bench: Bench) -> list[tuple[str, str]]:
    """Each function as a process: import to first answer, with the store and cluster it needs.

    "Normalised" means on a machine whose bare interpreter starts in 10 ms of CPU.
    """
    _, event = clone(1)
    env = os.environ | {
        "QUIETPAGER_API_SERVER": bench.url, "QUIETPAGER_STORE": bench.store_url, "QUIETPAGER_LOG": "ERROR",
    }  # fmt: skip
    bare = "import resource as r; u = r.getrusage(r.RUSAGE_SELF); print((u.ru_utime + u.ru_stime) * 1000)"
    base = min(
        float(subprocess.run([sys.executable, "-c", bare], capture_output=True, text=True, check=True).stdout)
        for _ in range(RUNS)
    )
    rows = [("cold start of a bare interpreter", f"{base:.0f} ms CPU")]
    for folder in (one for one in function_folders(functions_folder()) if not one.web):
        body = json.dumps(_first_message(folder.name, event)).encode()
        best: Json = {}
        for _ in range(RUNS):
            done = subprocess.run(
                [sys.executable, "-c", COLD, folder.place, body.decode()],
                env=env, capture_output=True, text=True, check=True,
            )  # fmt: skip
            now = json.loads(done.stdout.splitlines()[-1])
            best = now if not best or now["cpu"] < best["cpu"] else best
        scaled = best["cpu"] * 10 / base
        figure = f"{best['cpu']:.0f} ms CPU, {scaled:.0f} normalised, {best['rss']:.0f} MB, {best['status']}"
        rows.append((f"cold start of {folder.name}", figure))
    return rows


def pages(bench: Bench) -> list[tuple[str, str]]:
    """An operator's own Event accepted -> a person has it, with its page; dwell 0, one after the other."""
    case = read_case(UNKNOWN, system_clock())
    load(bench, case.objects)
    started = time.monotonic()
    post(bench.host, cloud_event(case.event, 1))
    while not (found := _with_person(bench)):
        time.sleep(0.01)
    facts = len(found[0]["page"]["facts"])
    taken = (time.monotonic() - started) * 1000
    what = "an operator's own Event accepted -> with a person, its page, dwell 0"
    return [(what, f"{taken:.0f} ms, {facts} facts")]


def _with_person(bench: Bench) -> list[Json]:
    every = (record.body for record in bench.store.scan("INCIDENT"))
    return [one for one in every if one["page"] and one["state"] == "WITH_PERSON(handover)"]


def _first_message(name: str, event: Json) -> Json:
    signal = read_event(event, received=system_clock()).signal("crash").to_json()
    kinds: dict[str, tuple[str, Json]] = {
        "ingest-intake": (EVENT_ADD, event),
        "ingest-sweep": ("dev.knative.sources.ping", {}),
        "ingest-dead-letter": ("dev.quietpager.finding", {}),
        "govern-clock": ("dev.knative.sources.ping", {}),
        "govern-decide": ("dev.quietpager.finding", {"finding": "x"}),
        "people-notify": ("dev.quietpager.incident.opened", {"incident": "x", "tell": "x"}),
        "detect-crash": ("dev.quietpager.signal", signal),
        "detect-image": ("dev.quietpager.signal", signal),
        "analyze-unknown": ("dev.quietpager.signal", signal),
        "learn-codify": ("dev.quietpager.incident.closed", {"incident": "x", "tell": "x"}),
    }
    kind, data = kinds.get(name, ("dev.quietpager.remedy.rehearse", {"rehearsal": "x"}))
    return {
        "specversion": "1.0", "id": "1", "source": "/bench", "type": kind,
        "datacontenttype": "application/json", "data": data,
    }  # fmt: skip


def look() -> list[tuple[str, str]]:
    """Scan a large cluster, once with every pod failing and once with few."""
    rows = []
    for failing in (20, 500):
        with sandbox(speed=0.001) as url:
            objects = many_ooms(500)
            for one in objects[2 * failing :]:
                if one["kind"] == "Pod":
                    one["status"]["containerStatuses"] = []
                    one["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
            body = json.dumps({"objects": objects, "enabled": True}).encode()
            head = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{url}/sandbox/load", body, head)
            urllib.request.urlopen(request, timeout=60).close()
            cluster, begun = connect(url, manager="bench"), time.perf_counter()
            found = scan(cluster, None, Policy(), system_clock())
            seconds = time.perf_counter() - begun
            cluster.close()
            rows.append((f"scan of {found.counts['Pod']} pods, {len(found.rows)} causes", f"{seconds:.2f} s"))
    return rows


def main() -> None:
    """Measure everything and print the table."""
    rows = intake() + look()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        rows += protocol.measured(Path(folder))
    with product() as bench:
        rows += latency(bench)
        rows += duplicates(bench)
        rows += pages(bench)
        rows += cold(bench)
    for what, figure in rows:
        print(f"| {what:66} | {figure:44} |")  # noqa: T201 (its purpose)


if __name__ == "__main__":
    main()
