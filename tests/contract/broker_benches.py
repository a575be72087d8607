"""Two benches that carry out the same cases: the local broker in this process, Knative on the test bed."""

import asyncio
import base64
import http.client
import json
import subprocess
import sys
import time
import urllib.request
import uuid
from collections import Counter, defaultdict
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import yaml
from cloudevents.core.v1.event import CloudEvent

from infra.deploy.__main__ import authenticates
from infra.testbed import layout, machine
from infra.testbed.addons import NAMESPACE as KNATIVE
from infra.testbed.addons import kubectl
from quietpager.local.broker import Answer, Broker
from quietpager.local.trigger import Trigger
from quietpager.render.senders import broker_audience
from quietpager.runtime.wire import event_from_http
from quietpager.store.memory import MemoryMailbox
from tests.contract.broker_case import Case, Json, Post, Say, Seen, address, arrival, trigger_manifests

ROOT = Path(__file__).parents[2]

DEAD: Final = "broker-dead"
"""The Broker's own dead letter subscriber, which Triggers without a delivery inherit."""

BROKER_DELIVERY: Final[Json] = {"retry": 2, "backoffPolicy": "linear", "backoffDelay": "PT0.1S"}

QUIET: Final = 4.0
"""Seconds without an arrival after which Knative is taken to be done: longer than any pause of a case."""


KNOWN: Final = 240.0
"""Seconds within which Knative must have learnt of all Triggers, on a machine with other work to do."""


class Bench(Protocol):
    """Carries out cases."""

    authenticates: bool
    """Whether this Broker wants a token of whoever sends."""

    def play(self, case: Case) -> Seen:
        """Say what became of a case."""


class LocalBench:
    """A new local broker for each case. Back-offs are not waited for, delays and timeouts are shortened."""

    SINK: Final = "http://sink.local"
    INGRESS: Final = "http://broker.local/"
    authenticates = False
    SHORTER: Final = 0.02

    def play(self, case: Case) -> Seen:
        return asyncio.run(self._play(case))

    async def _play(self, case: Case) -> Seen:
        got: dict[str, list[CloudEvent]] = defaultdict(list)
        inherited = BROKER_DELIVERY | {"deadLetterSink": {"uri": address(self.SINK, case, DEAD)}}
        triggers = [
            Trigger.from_manifest(one, inherited=inherited) for one in trigger_manifests(case, self.SINK)
        ]
        triggers = [replace(t, timeout=t.timeout and t.timeout * self.SHORTER) for t in triggers]
        broker = Broker(
            triggers,
            {
                uri: self._subscriber(got[who], case.says.get(who, ()))
                for t in triggers
                for uri in (t.subscriber, t.dead_letter)
                if uri and (who := uri.rpartition("/")[2])
            },
            mailbox := MemoryMailbox(),
            address=str,
            ingress=self.INGRESS,
            sleep=lambda _: asyncio.sleep(0),
        )
        await broker.start()
        statuses = [await broker.post_http(post.headers, post.body) for post in case.posts]
        await broker.idle()
        await broker.stop()
        assert mailbox.pending() == []
        return Seen(statuses, _seen(case, self.SINK, self.INGRESS, got))

    def _subscriber(
        self, got: list[CloudEvent], says: Sequence[Say]
    ) -> Callable[[CloudEvent], Awaitable[Answer]]:
        async def receive(event: CloudEvent) -> Answer:
            got.append(event)
            say = says[min(len(got), len(says)) - 1] if says else Say()
            await asyncio.sleep(say.delay * self.SHORTER)
            if say.drop:
                raise ConnectionError("hung up")
            return Answer(say.status, say.headers, say.body.encode())

        return receive


class KnativeBench:
    """One Broker for all cases; everything is posted up front, and each case finds its own arrivals."""

    def __init__(self, sink: str, ingress: str, told: str, posts: Mapping[str, list[int]]) -> None:
        """Take what `on_knative` did: the sink's address, the Broker's, and what posts were answered."""
        self.sink, self.ingress, self.told, self._posts = sink, ingress, told, posts
        self.authenticates = authenticates()
        self._got: dict[tuple[str, str], list[CloudEvent]] = defaultdict(list)
        for one in got(sink):
            event = event_from_http(one["headers"], base64.b64decode(one["body"]))
            self._got[one["path"], one["headers"].get("ce-case", "")].append(event)

    def play(self, case: Case) -> Seen:
        prefix = f"/{case.group}/"
        found = {
            path.removeprefix(prefix): events
            for (path, name), events in self._got.items()
            if name == case.name and (path.startswith(prefix) or path == f"/{DEAD}")
        }
        dead = found.pop(f"/{DEAD}", [])
        return Seen(self._posts[case.name], _seen(case, self.sink, self.told, found | {DEAD: dead}))


def _seen(case: Case, sink: str, broker: str, got: Mapping[str, list[CloudEvent]]) -> dict[str, Any]:
    return {
        who: sorted(arrival(case, sink, broker, event) for event in events)
        for who, events in got.items()
        if events
    }


@contextmanager
def on_knative(cases: Sequence[Case]) -> Iterator[KnativeBench]:
    """Carry out all cases on the test bed, in a namespace of their own."""
    namespace = f"broker-{uuid.uuid4().hex[:6]}"
    with sink_running() as sink, namespaced(namespace):
        ingress = make_broker(namespace, {**BROKER_DELIVERY, "deadLetterSink": {"uri": f"{sink}/{DEAD}"}})
        answers = {
            f"/{case.group}/{who}#{case.name}": [asdict(say) for say in says]
            for case in cases
            for who, says in case.says.items()
        }
        tell(sink, answers)
        groups = {case.group: case for case in cases}
        make_triggers(namespace, [one for case in groups.values() for one in trigger_manifests(case, sink)])
        known = identity(namespace)
        prove_through(namespace, sink, ingress, known)
        posts: dict[str, list[int]] = {}
        for case in cases:
            posts[case.name] = [post(ingress, signed(one, known)) for one in case.posts]
            time.sleep(0.02)  # what one event costs is a request for each Trigger that there is
        _settle(cases, sink)
        told = f"http://broker-ingress.{KNATIVE}.svc.cluster.local/{namespace}/default"
        yield KnativeBench(sink, ingress, told, posts)


def _settle(cases: Sequence[Case], sink: str, seconds: float = 120) -> None:
    """Wait until everything expected has come, and then until nothing more comes."""
    wanted = Counter({(c.name, who): len(arrivals) for c in cases for who, arrivals in c.wanted().items()})
    end, last, since = time.monotonic() + seconds, -1, time.monotonic()
    while time.monotonic() < end:
        every = got(sink)
        if len(every) != last:
            last, since = len(every), time.monotonic()
        came = Counter((one["headers"].get("ce-case"), one["path"].rpartition("/")[2]) for one in every)
        missing = wanted - came
        if time.monotonic() - since > (QUIET if not missing else 4 * QUIET):
            return
        time.sleep(0.2)


# The pieces of a real broker with its subscribers; the benchmark uses them too


@contextmanager
def sink_running() -> Iterator[str]:
    """Run the subscribers inside the network namespace; gives their address."""
    script = str(Path(__file__).with_name("broker_sink.py"))
    command = machine.inside(sys.executable, script, layout.NODE_ADDRESS)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield f"http://{layout.NODE_ADDRESS}:{int(process.stdout.readline())}"
        finally:
            process.terminate()


@contextmanager
def namespaced(name: str) -> Iterator[None]:
    """Make a namespace, and remove it afterwards."""
    kubectl("create", "namespace", name)
    try:
        yield
    finally:
        kubectl("delete", "namespace", name, "--wait=false", check=False)


def make_broker(namespace: str, delivery: Json) -> str:
    """Make the product's own Broker with another delivery; gives its address on the machine."""
    broker = yaml.safe_load((ROOT / "eventing" / "broker.yaml").read_text(encoding="utf-8"))
    broker["spec"]["delivery"] = delivery
    apply(namespace, [broker])
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "broker/default", "--timeout=60s")
    service = kubectl("-n", KNATIVE, "get", "service/broker-ingress", "-o", "json").stdout
    return f"http://{json.loads(service)['spec']['clusterIP']}/{namespace}/default"


def make_triggers(namespace: str, manifests: Sequence[Json]) -> None:
    """Make Triggers in one go, and wait until Knative calls them Ready."""
    apply(namespace, manifests)
    kubectl("-n", namespace, "wait", "--for=condition=Ready", "trigger", "--all", "--timeout=300s")


def identity(namespace: str) -> dict[str, str]:
    """Give the header with which a pod of this namespace posts to its Broker, where Knative wants one."""
    if not authenticates():
        return {}
    token = kubectl("-n", namespace, "create", "token", "default", "--audience", broker_audience(namespace))
    return {"authorization": f"Bearer {token.stdout.strip()}"}


def signed(one: Post, known: Mapping[str, str]) -> Post:
    """Add that header to a request."""
    return replace(one, headers={**one.headers, **known})


def prove_through(namespace: str, sink: str, ingress: str, known: Mapping[str, str]) -> None:
    """Wait until an event really comes through one more Trigger: Ready can be said too early.

    Channel and filter learn of Triggers in their order, so what knows the last one knows them all. With
    authentication on, Knative makes an account and asks for a token for each Trigger, which takes it a minute
    on two quiet cores.
    """
    spec = {
        "broker": "default",
        "subscriber": {"uri": f"{sink}/probe"},
        "filters": [{"exact": {"type": "probe"}}],
        "delivery": {"retry": 0},
    }
    probe = {"apiVersion": "eventing.knative.dev/v1", "kind": "Trigger", "metadata": {"name": "probe"}}
    apply(namespace, [probe | {"spec": spec}])
    end = time.monotonic() + KNOWN
    while not any(one["path"] == "/probe" for one in got(sink)):
        assert time.monotonic() < end, f"No event came through the Broker within {KNOWN:.0f} s."
        core = {"ce-specversion": "1.0", "ce-id": "probe", "ce-source": "/test", "ce-type": "probe"}
        post(ingress, signed(Post(core), known))
        time.sleep(0.3)


def apply(namespace: str, objects: Sequence[Json]) -> None:
    """Apply objects as the administrator."""
    path = layout.RUN / f"{namespace}.json"
    path.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), encoding="utf-8")
    try:
        kubectl("-n", namespace, "apply", "--server-side", "-f", str(path))
    finally:
        path.unlink()


def post(url: str, one: Post, method: str = "POST") -> int:
    """Send one request to an ingress, with these headers and no other; gives the status."""
    where = urlsplit(url)
    connection = http.client.HTTPConnection(where.netloc, timeout=30)
    with closing(connection):
        connection.request(method, where.path, one.body, dict(one.headers))
        return connection.getresponse().status


def tell(sink: str, answers: Mapping[str, Sequence[Json]]) -> None:
    """Tell subscribers what to answer: path → answers."""
    assert post(f"{sink}/answers", Post({}, json.dumps(answers).encode()), "PUT") == 204


def got(sink: str, first: int = 0) -> list[Json]:
    """Ask for what subscribers got, from the so-manieth on."""
    with urllib.request.urlopen(f"{sink}/got?{first}", timeout=30) as response:
        found: list[Json] = json.load(response)
    return found
