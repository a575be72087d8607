"""The local host: every function, the local broker, the Event source and the ticks in one process.

    POST /            the broker's ingress
    POST /<function>  one function, directly
    GET  /health/{liveness,readiness}    503 with a sentence while a Trigger is not ready
    GET  /health/heartbeat    is every part alive? 200 or 503, and JSON
    GET  /metrics             Prometheus text

Who starts it: the demo, as a process that may be killed at any moment, and `quietpager run`, which
gives each function a connection of its own kind.
"""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import hypercorn.asyncio
import hypercorn.config
import structlog
from cloudevents.core.v1.event import CloudEvent

from quietpager.cluster.client import connect
from quietpager.incident.policy import Policy
from quietpager.incident.policy_file import PolicyFile
from quietpager.local.broker import Answer, Broker, Subscriber
from quietpager.local.source import EventSource
from quietpager.local.trigger import read_triggers
from quietpager.model.cluster import Cluster
from quietpager.model.message import PING, Message
from quietpager.model.time import system_clock
from quietpager.render import FunctionFolder, function_folders, triggers
from quietpager.runtime.body import Bodies, Receive, Unread
from quietpager.runtime.checking import check
from quietpager.runtime.context import Context, Lazy, function_roots, make_context
from quietpager.runtime.edge import THREADS, Function, Scope, Send
from quietpager.runtime.loading import handler
from quietpager.runtime.metrics import PATH as METRICS
from quietpager.runtime.metrics import TEXT, Exposition, show_pulse
from quietpager.runtime.pulse import PATH, Pulse, Reading
from quietpager.runtime.serving import IDLE
from quietpager.runtime.wire import LARGEST_BODY, event_from_message, http_from_event
from quietpager.store.opening import CLUSTER_NAME, open_mailbox, open_store

log = structlog.get_logger()


MOST_UNDER_WAY = 1000
"""Deliveries under way from which on the Event source waits. What it can wait with costs memory in the broker
and delays what matters more; the watch goes on where it was, and what became too old the sweep finds."""

ConnectAs = Callable[[FunctionFolder | None], Cluster]
"""Connects one function to the cluster, or the Event source (None)."""
Say = Callable[[str], None]


def _nothing(_sentence: str) -> None:
    pass


def subscriber(function: Function) -> Subscriber:
    """Call a function's ASGI edge in process, exactly as over HTTP."""

    async def deliver(event: CloudEvent) -> Answer:
        headers, body = http_from_event(event)
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(part: dict[str, Any]) -> None:
            sent.append(part)

        raw = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        scope = {"type": "http", "method": "POST", "path": "/", "headers": raw}
        await function.handle(scope, receive, send)
        answer = {k.decode("latin-1"): v.decode("latin-1") for k, v in sent[0]["headers"]}
        return Answer(sent[0]["status"], answer, sent[1]["body"])

    return deliver


class Host:
    """Everything that runs in the one process."""

    def __init__(
        self, store_url: str, connect_as: ConnectAs, policy: Policy | PolicyFile, say: Say = _nothing
    ) -> None:
        """Make the functions and their broker; nothing runs yet. `say` gets what a person should know.

        A policy's file is read again when it changes, a policy counts for good.

        Raises:
            ValueError: a rule or an action is wrong; the text names file and line.
        """
        self.policy_file = policy if isinstance(policy, PolicyFile) else None
        policy = policy.now()[0] if isinstance(policy, PolicyFile) else policy
        self.policy = policy
        self.store = open_store(store_url, connections=8)
        self.mailbox = open_mailbox(store_url)
        self.pulse = Pulse(lambda: self.store, policy)
        self.exposition = Exposition()
        self.bodies = Bodies(LARGEST_BODY)
        self.loop: asyncio.AbstractEventLoop | None = None
        # All functions share them: the broker has no more than so many deliveries at work in any case.
        self.threads = ThreadPoolExecutor(THREADS, thread_name_prefix="handler")
        check(function_roots())
        self.folders = tuple(one for one in function_folders(function_roots()) if not one.web)
        self.clusters = {f.name: connect_as(f) for f in self.folders}
        self.functions = {f.name: self._function(f) for f in self.folders}
        ready, self.not_ready = read_triggers(triggers(self.folders))
        self.broker = Broker(
            ready,
            {name: subscriber(function) for name, function in self.functions.items()},
            self.mailbox,
        )
        name = os.environ.get(CLUSTER_NAME, "default")
        self.source = EventSource(connect_as(None), name, self._take, say)

    def _function(self, folder: FunctionFolder) -> Function:
        name = folder.name
        handle = handler(folder.place)
        cluster = self.clusters[name]

        def open_cluster() -> Cluster:
            return cluster

        def say(message: Message) -> None:
            self._post(event_from_message(message, source=f"/local/{name}", now=system_clock()))

        lazy = Lazy(lambda: self.store, open_cluster)
        metrics = self.exposition.metrics

        def make() -> Context:
            return make_context(name, lazy, policy=self.policy, metrics=metrics)

        file = self.policy_file
        policy = None if file is None else lambda: file
        return Function(handle, make, say, self.threads, policy, replies=not folder.posts)

    def beats(self) -> Reading:
        """Judge every part, and the policy's file."""
        fault = "" if self.policy_file is None else self.policy_file.now()[1]
        return replace(self.pulse.read(), policy_fault=fault)

    def _post(self, event: CloudEvent) -> None:
        """Post from a thread, and wait until the broker has it."""
        if self.loop is None:
            raise OSError("the broker is not running")
        status = asyncio.run_coroutine_threadsafe(self.broker.post(event), self.loop).result(10)
        if status != 202:
            raise OSError(f"the broker answered {status}")

    def _take(self, event: CloudEvent) -> None:
        """Post for the Event source; OSError, so that it tries again later, while there is much to do."""
        if self.broker.under_way >= MOST_UNDER_WAY:
            raise OSError(f"the broker has {self.broker.under_way} deliveries under way; Events wait")
        self._post(event)

    async def tick(self, job: str, every: float) -> None:
        """Be the PingSource of one job; the first tick comes at once."""
        number = 0
        while True:
            message = Message(id=f"{job}-{number}", type=PING, attributes={"job": job})
            event = event_from_message(message, source="/local/ping", now=system_clock())
            await self.broker.post(event)
            number += 1
            await asyncio.sleep(every)

    def shown(self) -> bytes:
        """Write the metrics as Prometheus text, with the heartbeats' ages as they are now."""
        show_pulse(self.exposition.metrics, self.pulse.read())
        return self.exposition.text()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer HTTP: the ingress, and every function under its name."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            return
        path = scope["path"].strip("/")
        if scope["path"] == PATH:
            await _answer(send, *(await asyncio.to_thread(self.beats)).to_http())
        elif scope["path"] == METRICS:
            await _answer(send, 200, await asyncio.to_thread(self.shown), TEXT)
        elif path == "health/readiness" and self.not_ready:
            await _answer(send, 503, "\n".join(self.not_ready.values()).encode("utf-8", "replace"))
        elif path.startswith("health/"):
            await _answer(send, 200, b"OK")
        elif path in self.functions:
            await self.functions[path].handle(scope, receive, send)
        elif path == "":
            headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
            try:
                async with self.bodies.read(receive) as body:
                    await _answer(send, await self.broker.post_http(headers, body), b"")
            except Unread as no:
                await _answer(send, no.status, str(no).encode())
        else:
            await _answer(send, 404, f"No function is called {path}.".encode("utf-8", "replace"))


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        part = await receive()
        await send({"type": f"{part['type']}.complete"})
        if part["type"] == "lifespan.shutdown":
            return


async def _answer(send: Send, status: int, body: bytes, kind: str = "") -> None:
    headers = [(b"content-type", kind.encode())] if kind else []
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def run(host: Host, port: int | None, ready: Callable[[str], None]) -> None:
    """Run until SIGTERM or SIGINT; `ready` gets the address once everything serves.

    Without a port nothing is served over HTTP, and the address is "".
    """
    _share_heaps()
    host.loop = asyncio.get_running_loop()
    for function in host.functions.values():
        function.start({})
    await host.broker.start()
    host.source.start()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        host.loop.add_signal_handler(number, stop.set)
    server = asyncio.create_task(_serve(host, port, stop))
    ticks = [
        asyncio.create_task(host.tick("clock", host.policy.tick)),
        asyncio.create_task(host.tick("sweep", host.policy.sweep)),
        asyncio.create_task(host.tick("anchor", host.policy.anchor)),
    ]
    await asyncio.to_thread(host.source.started.wait, 10)
    ready("" if port is None else f"http://127.0.0.1:{port}")
    await stop.wait()
    host.source.stop()
    for task in ticks:
        task.cancel()
    await host.broker.stop()
    with suppress(asyncio.CancelledError):
        await server
    for one in host.functions.values():
        one.stop()
    host.threads.shutdown(wait=False, cancel_futures=True)
    host.exposition.close()
    host.mailbox.close()
    host.store.close()


def _share_heaps() -> None:
    """Give all threads two heaps. Else glibc gives each its own, which keeps what its busiest moment took.

    M_ARENA_MAX of mallopt(3); another C library goes on as it does.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(-8, 2)


async def _serve(host: Host, port: int | None, stop: asyncio.Event) -> None:
    if port is None:
        await stop.wait()
        return
    await hypercorn.asyncio.serve(host, served_on(port), shutdown_trigger=stop.wait)  # type: ignore[arg-type]


def served_on(port: int) -> hypercorn.config.Config:
    """Say how the host serves HTTP: on loopback only, and with connections that outlast their sender's."""
    config = hypercorn.config.Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.errorlog = None
    config.keep_alive_timeout = IDLE
    return config


def main(env: Mapping[str, str] = os.environ) -> None:
    """Start from the environment: QUIETPAGER_STORE, QUIETPAGER_API_SERVER, QUIETPAGER_PORT."""
    from quietpager.runtime.logs import configure_logs  # noqa: PLC0415 (only as a process)

    configure_logs()

    def ready(url: str) -> None:
        sys.stdout.write(f"quietpager ready on {url}\n")
        sys.stdout.flush()

    def connect_as(folder: FunctionFolder | None) -> Cluster:
        who = "source" if folder is None else folder.name
        return connect(env["QUIETPAGER_API_SERVER"], manager=f"quietpager-{who}")

    host = Host(env["QUIETPAGER_STORE"], connect_as, PolicyFile())
    asyncio.run(run(host, int(env["QUIETPAGER_PORT"]), ready))


if __name__ == "__main__":
    main()
