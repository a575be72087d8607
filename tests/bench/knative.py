"""What real Knative carries: `python -m tests.bench.knative`, on a running test bed (`make cluster`).

    post ─ Broker's ingress ─ channel ─ filter ─▶ a subscriber that answers 204

The Broker is the product's own, `eventing/broker.yaml`. The same posts straight to the subscriber, in the
same run, tell how much of a figure is sender and subscriber: both are Python, on the same processors. Where
the bed authenticates (`make deploy`), each post carries a token. No asserts, no tests; it prints a table.
"""

import http.client
import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, Final
from urllib.parse import urlsplit

from tests.contract.broker_benches import (
    got,
    identity,
    make_broker,
    make_triggers,
    namespaced,
    prove_through,
    sink_running,
)
from tests.testbed import up

Json = dict[str, Any]

BURST: Final = 1000
"""Events of one burst; the in-memory channel takes them all at once and delivers them as it can."""

SENDERS: Final = 8
RATE: Final = 20.0
"""Events a second at which latency is taken."""

SECONDS: Final = 20
MANY: Final = 20
"""Triggers of the second round, one of which matches: the product has about as many."""

BODY: Final = b'{"text": "%s"}' % (b"x" * 500)


def headers(number: str) -> dict[str, str]:
    """Write one event's headers."""
    core = {"ce-specversion": "1.0", "ce-id": number, "ce-source": "/bench", "ce-type": "bench"}
    return {**core, "content-type": "application/json"}


def send(url: str, ids: Sequence[str], known: dict[str, str], rate: float = 0.0) -> dict[str, float]:
    """Post events on one connection, at a rate or as fast as it goes; gives when each was begun."""
    where, begun = urlsplit(url), {}
    with closing(http.client.HTTPConnection(where.netloc, timeout=60)) as connection:
        start = time.monotonic()
        for number, name in enumerate(ids):
            if rate:
                time.sleep(max(0.0, start + number / rate - time.monotonic()))
            begun[name] = time.time()
            connection.request("POST", where.path, BODY, headers(name) | known)
            answer = connection.getresponse()
            answer.read()
            if answer.status not in (202, 204):
                raise SystemExit(f"{url} answered {answer.status} to a benchmark's event.")
    return begun


def arrivals(sink: str, path: str, first: int, wanted: int) -> dict[str, float]:
    """Wait for so many arrivals at a path, and give when each came."""
    end = time.monotonic() + 120
    while True:
        came = {one["headers"]["ce-id"]: one["at"] for one in got(sink, first) if one["path"] == path}
        if len(came) >= wanted or time.monotonic() > end:
            return came
        time.sleep(0.5)


def throughput(sink: str, url: str, path: str, known: dict[str, str]) -> float:
    """Give the events a second of one burst, from the first post to the last arrival."""
    first, mark = len(got(sink)), uuid.uuid4().hex[:6]
    parts = [[f"{mark}-{n}" for n in range(sender, BURST, SENDERS)] for sender in range(SENDERS)]
    start = time.time()
    with ThreadPoolExecutor(SENDERS) as pool:
        list(pool.map(send, [url] * SENDERS, parts, [known] * SENDERS))
    came = arrivals(sink, path, first, BURST)
    if len(came) < BURST:
        raise SystemExit(f"{BURST - len(came)} of {BURST} events did not arrive within 120 s.")
    return BURST / (max(came.values()) - start)


def latency(sink: str, url: str, path: str, known: dict[str, str]) -> tuple[float, float]:
    """Give p50 and p99 in milliseconds from post to arrival."""
    first, mark = len(got(sink)), uuid.uuid4().hex[:6]
    begun = send(url, [f"{mark}-{n}" for n in range(int(RATE * SECONDS))], known, RATE)
    came = arrivals(sink, path, first, len(begun))
    cuts = statistics.quantiles([(came[name] - begun[name]) * 1000 for name in begun if name in came], n=100)
    return cuts[49], cuts[98]


def trigger(sink: str, number: int) -> Json:
    """Write a Trigger with the product's delivery; only the first one wants a benchmark's events."""
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": f"bench-{number}"},
        "spec": {
            "broker": "default",
            "filters": [{"exact": {"type": "bench" if number == 0 else f"other-{number}"}}],
            "subscriber": {"uri": f"{sink}/bench"},
            "delivery": {
                "retry": 5, "backoffPolicy": "exponential", "backoffDelay": "PT0.2S", "timeout": "PT10S"
            },
        },
    }  # fmt: skip


def main() -> None:
    """Measure and print."""
    if not up():
        raise SystemExit("The test bed is not up; bring it up with `make cluster`.")
    namespace = f"broker-bench-{uuid.uuid4().hex[:6]}"
    rows: list[tuple[str, float, float, float]] = []

    def measure(what: str, url: str, path: str) -> None:
        many = throughput(sink, url, path, known)
        time.sleep(3)  # what the burst left behind is not the latency of a quiet Broker
        rows.append((what, many, *latency(sink, url, path, known)))

    with sink_running() as sink, namespaced(namespace):
        ingress = make_broker(namespace, {})
        known = identity(namespace)
        measure("straight to the subscriber", f"{sink}/straight", "/straight")
        make_triggers(namespace, [trigger(sink, 0)])
        prove_through(namespace, sink, ingress, known)
        measure("through Knative, 2 Triggers", ingress, "/bench")
        make_triggers(namespace, [trigger(sink, number) for number in range(1, MANY)])
        time.sleep(2)
        measure(f"through Knative, {MANY + 1} Triggers", ingress, "/bench")
    base = rows[0]
    out = sys.stdout
    out.write(f"| {'':30} | events/s | ratio | p50 ms at {RATE:.0f}/s | p99 ms at {RATE:.0f}/s |\n")
    out.write("|---|---|---|---|---|\n")
    for what, rate, middle, late in rows:
        out.write(f"| {what:30} | {rate:8.0f} | {rate / base[1]:5.2f} | {middle:14.1f} | {late:14.1f} |\n")


if __name__ == "__main__":
    main()
