"""The sandbox as a running server: in a thread for tests and the demo, or as a process.

`running()` is what a test uses; `python -m quietpager.sandbox` calls `serve()`.
"""

import asyncio
import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator

from hypercorn.asyncio import serve as hypercorn_serve
from hypercorn.config import Config

from quietpager.model.time import Clock, system_clock
from quietpager.sandbox.api import Api
from quietpager.sandbox.controllers import Controllers
from quietpager.sandbox.kubelet import Kubelet
from quietpager.sandbox.node import first_node
from quietpager.sandbox.recorder import Recorder
from quietpager.sandbox.registry import Registry
from quietpager.sandbox.store import Store

_START_SECONDS = 20.0


async def serve(
    port: int,
    speed: float,
    ready: Callable[[str], None],
    stop: asyncio.Event,
    *,
    clock: Clock = system_clock,
    history: int = 4000,
) -> None:
    """Serve on 127.0.0.1 until `stop` is set; `ready` gets the URL. Port 0 chooses one.

    `speed` divides the cluster's waits, `history` is how many changes a late watch may have missed.
    """
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    registry = Registry(Store(history), clock)
    api, recorder = Api(registry, clock), Recorder(registry, clock)
    controllers = Controllers(registry, recorder, clock, speed)
    kubelet = Kubelet(registry, recorder, clock, speed)
    for namespace in ("default", "kube-system"):
        registry.ensure_namespace(namespace, enabled=False)
    registry.load([first_node(registry.now())], enabled=False)
    registry.store.begin()

    async def until_stopped() -> None:
        await stop.wait()
        api.closing.set()  # open watches would hold the server back

    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = 0.5
    config.keep_alive_timeout = 300.0
    config.accesslog, config.errorlog = None, logging.getLogger("hypercorn.error")
    work = [asyncio.create_task(controllers.run()), asyncio.create_task(kubelet.run())]
    for task in work:
        task.add_done_callback(lambda _: stop.set())  # a cluster without controllers is none
    try:
        ready(url)
        await hypercorn_serve(api, config, shutdown_trigger=until_stopped)  # type: ignore[arg-type]
    finally:
        for task in work:
            task.cancel()
        ends = await asyncio.gather(*work, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception):
            raise end


@contextlib.contextmanager
def running(
    speed: float = 1.0, *, port: int = 0, clock: Clock = system_clock, history: int = 4000
) -> Iterator[str]:
    """Run a sandbox in a thread of this process; gives its URL and ends it afterwards.

    Raises:
        RuntimeError: it did not start.
    """
    started, urls = threading.Event(), list[str]()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    def ready(url: str) -> None:
        urls.append(url)
        started.set()

    def run() -> None:
        with contextlib.closing(loop):
            try:
                loop.run_until_complete(serve(port, speed, ready, stop, clock=clock, history=history))
            finally:
                loop.run_until_complete(loop.shutdown_asyncgens())
                started.set()

    thread = threading.Thread(target=run, name="sandbox", daemon=True)
    thread.start()
    if not started.wait(_START_SECONDS) or not urls:
        raise RuntimeError("the sandbox did not start")
    try:
        yield urls[0]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(_START_SECONDS)
