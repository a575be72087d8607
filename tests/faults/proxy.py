"""A TCP proxy that fails on demand, in front of whatever the product depends on.

    client ──▶ proxy ──▶ server          switchable at any moment, for connections that stand as well

It runs on a loop and a thread of its own, so that a blocked test or a blocked product does not stop it.
Who uses it: the tests in this folder, and the soak.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

CHUNK: Final = 1 << 16
_LINGER_ZERO: Final = struct.pack("ii", 1, 0)
"""SO_LINGER on, 0 s: closing sends RST instead of FIN (socket(7))."""


class Kind(StrEnum):
    """What the way to the server does."""

    WELL = "well"
    LATENCY = "latency"  # each piece comes `seconds` later
    RESET = "reset"  # connections that stand are reset, and new ones as soon as they are taken
    HALF_OPEN = "half-open"  # new connections are taken and never answered; standing ones fall silent
    BLACK_HOLE = "black hole"  # after `after` more bytes, of all together, nothing gets through or is told
    REFUSED = "refused"  # nobody listens; connections that stand are reset


@dataclass(frozen=True)
class Fault:
    """One behaviour. A connection that has lost bytes stays silent for good: nobody can go on with it."""

    kind: Kind = Kind.WELL
    seconds: float = 0.0
    after: int = 0


WELL: Final = Fault()
Connect = Callable[[], Coroutine[Any, Any, tuple[asyncio.StreamReader, asyncio.StreamWriter]]]


@dataclass(eq=False)
class _Link:
    """One connection of a client, and what it has seen."""

    client: asyncio.StreamWriter
    server: asyncio.StreamWriter | None = None
    lost: bool = False

    def reset(self) -> None:
        for one in (self.client, self.server):
            if one is not None:
                _reset(one)


class Proxy:
    """One proxy in front of one server. `running` makes it; `port` is where it listens on loopback."""

    def __init__(self, connect: Connect, loop: asyncio.AbstractEventLoop) -> None:
        """Nothing listens yet."""
        self._connect, self._loop = connect, loop
        self._fault, self._left = WELL, 0
        self._links: set[_Link] = set()
        self._server: asyncio.Server | None = None
        self.port = 0
        self.taken = 0
        """Connections that were taken so far."""

    def become(self, fault: Fault) -> None:
        """Behave so from now on; returns once it does."""
        self.call(self._become(fault))

    def call(self, work: Coroutine[Any, Any, None]) -> None:
        """Run on the proxy's own loop, and wait."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def open(self) -> None:
        """Listen; always on the same port."""
        self._server = await asyncio.start_server(self._take, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Listen no more, and reset what stands."""
        if self._server is not None:
            for one in self._server.sockets:
                self._loop.remove_reader(one.fileno())
            await asyncio.sleep(0)  # whom asyncio has accepted already gets no transport from a closed server
            self._server.close()
            self._server = None
        for link in [*self._links]:
            link.reset()

    async def _become(self, fault: Fault) -> None:
        self._fault, self._left = fault, fault.after
        if fault.kind in (Kind.REFUSED, Kind.RESET):
            await self.close()
        if fault.kind is not Kind.REFUSED and self._server is None:
            await self.open()

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.taken += 1
        link = _Link(writer)
        self._links.add(link)
        try:
            if self._fault.kind is Kind.RESET:
                return
            if self._fault.kind is Kind.HALF_OPEN:
                link.lost = True
                await self._pump(link, reader, None)
                return
            try:
                back, link.server = await self._connect()
            except OSError:
                return
            forth = asyncio.create_task(self._pump(link, reader, link.server))
            await self._pump(link, back, writer)
            await forth
        finally:
            self._links.discard(link)
            link.reset()

    def _through(self, link: _Link, chunk: bytes) -> bytes:
        """Tell what gets through of a piece."""
        if link.lost or self._fault.kind not in (Kind.BLACK_HOLE, Kind.HALF_OPEN):
            return b"" if link.lost else chunk
        through = chunk[: self._left]
        self._left -= len(through)
        link.lost = len(through) < len(chunk)
        return through

    async def _pump(
        self, link: _Link, reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None
    ) -> None:
        """Carry one direction; a client that closes ends the link, a server that closes may not be heard."""
        with contextlib.suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self._fault.kind is Kind.LATENCY:
                    await asyncio.sleep(self._fault.seconds)
                through = self._through(link, chunk)
                if through and writer is not None:
                    writer.write(through)
                    await writer.drain()
        if writer is link.client and link.lost:
            return
        for one in (link.client, link.server):
            if one is not None:
                one.close()


def _reset(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.family == socket.AF_INET and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()


@contextlib.contextmanager
def running(connect: Connect) -> Iterator[Proxy]:
    """Run a proxy in front of what `connect` reaches; it behaves well at first."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="proxy", daemon=True)
    thread.start()
    proxy = Proxy(connect, loop)
    try:
        proxy.call(proxy.open())
        yield proxy
    finally:
        proxy.call(proxy.close())
        proxy.call(_settle())
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()


async def _settle() -> None:
    """Let what was reset, and what was taken a moment ago, come to its end."""
    while others := asyncio.all_tasks() - {asyncio.current_task()}:
        await asyncio.sleep(0)  # a task cancelled before its first step would never reach its `finally`
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # what is aborted closes its socket one turn later


def to_tcp(host: str, port: int) -> Connect:
    """Reach a server by its address."""
    return lambda: asyncio.open_connection(host, port)


def to_socket(path: str) -> Connect:
    """Reach a server by its Unix socket, as the embedded PostgreSQL's is."""
    return lambda: asyncio.open_unix_connection(path)
