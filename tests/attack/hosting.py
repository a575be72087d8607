"""A function or the console behind func-python's own host, on loopback, in a thread of the test."""

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import hypercorn.asyncio
import hypercorn.config
from func_python.http import ASGIApplication


@contextmanager
def hosted(function: Any) -> Iterator[int]:
    """Serve it; gives the port. `function` has what func-python asks for: handle, maybe start and stop."""
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        port: int = listening.getsockname()[1]
        config = hypercorn.config.Config()
        config.bind = [f"fd://{listening.detach()}"]
        config.errorlog = None
        config.graceful_timeout = 0
        loop = asyncio.new_event_loop()
        stop = asyncio.Event()
        app = ASGIApplication(function)
        serving = hypercorn.asyncio.serve(app, config, shutdown_trigger=stop.wait)
        thread = threading.Thread(target=loop.run_until_complete, args=(serving,))
        thread.start()
        try:
            yield port
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join()
            loop.close()


def post(port: int, path: str, length: int, part: bytes = b"") -> socket.socket:
    """Begin a POST that says it has `length` bytes, and send only `part` of them."""
    wire = socket.create_connection(("127.0.0.1", port))
    head = (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\nContent-Type: application/json\r\n"
        "ce-specversion: 1.0\r\nce-id: 1\r\nce-source: /test\r\nce-type: test.type\r\n\r\n"
    )
    with suppress(ConnectionError):  # it may have had enough already
        wire.sendall(head.encode() + part)
    return wire


def answer(wire: socket.socket) -> int:
    """Wait until the server answers and hangs up; gives the status, 0 for none."""
    with wire:
        got = bytearray()
        try:
            while piece := wire.recv(65536):
                got += piece
        except ConnectionResetError:  # it hung up on what was still on its way
            pass
    return int(got.split(b" ", 2)[1]) if got.startswith(b"HTTP/1.1 ") else 0
