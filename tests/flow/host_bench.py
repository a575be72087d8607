"""The local host in the test's own process, each part of which can be stopped by itself."""

import asyncio
import itertools
from typing import Any

from quietpager.cluster.client import connect
from quietpager.incident.policy import Policy
from quietpager.local.host import Host
from quietpager.runtime.pulse import PATH


class Bench:
    """The host in this process, with each part to be stopped by itself, and a cluster where things happen."""

    def __init__(self, url: str, api: str, policy: Policy) -> None:
        self.url, self.api, self.policy = url, api, policy
        self.host = Host(url, lambda _: connect(api, manager="test"), policy)
        self.cluster = connect(api, manager="test")
        self.numbers = itertools.count()
        self.ticks: dict[str, asyncio.Task[None]] = {}

    async def start(self) -> None:
        self.host.loop = asyncio.get_running_loop()
        for function in self.host.functions.values():
            function.start({})
        await self.host.broker.start()
        self.host.source.start()
        await asyncio.to_thread(self.host.source.started.wait, 10)
        self.tick("clock", self.policy.tick)
        self.tick("sweep", self.policy.sweep)

    def tick(self, job: str, every: float) -> None:
        self.ticks[job] = asyncio.create_task(self.host.tick(job, every))

    async def end(self) -> None:
        self.host.source.stop()
        self.host.loop = None  # what the source's thread still posts finds no broker
        for task in self.ticks.values():
            task.cancel()
        await self.host.broker.stop(grace=0)
        for function in self.host.functions.values():
            function.stop()
        self.host.mailbox.close()
        self.host.store.close()

    def event(self) -> None:
        meta = {"name": f"e.{next(self.numbers)}", "namespace": "default"}
        involved = {"kind": "Pod", "apiVersion": "v1", "name": "web", "namespace": "default"}
        event = {"metadata": meta, "involvedObject": involved, "reason": "Pulled", "type": "Normal"}
        self.cluster.create("Event", {"apiVersion": "v1", "kind": "Event", **event})

    async def ask(self, path: str = PATH) -> tuple[int, bytes]:
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request"}

        async def send(part: dict[str, Any]) -> None:
            sent.append(part)

        scope = {"type": "http", "method": "GET", "path": path, "headers": []}
        await self.host(scope, receive, send)
        return sent[0]["status"], sent[1]["body"]
