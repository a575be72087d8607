"""Serves the console through the `new()` contract that func-python's host expects of every function.

It takes no CloudEvents and has no Trigger; a request is answered by Flask in a thread of its own.
"""

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Final

from hypercorn.app_wrappers import WSGIWrapper

from quietpager.functions.people.console.app import LARGEST_FORM, make_app
from quietpager.people.users import Users, users_file
from quietpager.runtime.body import Bodies, Receive, Unread
from quietpager.runtime.connect import open_cluster, open_store
from quietpager.runtime.context import Lazy, make_context
from quietpager.runtime.edge import Scope, Send
from quietpager.runtime.links import console_url

PROXIES: Final = "QUIETPAGER_CONSOLE_PROXIES"
"""Environment variable: how many proxies in front of the console write X-Forwarded-For."""

AT_ONCE: Final = 64
"""Requests answered or arriving at a time."""

THREADS: Final = 24
"""Threads that answer. People who sign in wait in 14 of them at most (`door`), so pages always have some."""


def proxies() -> int:
    """Read how many proxies are trusted; without the variable none is.

    Raises:
        ValueError: it is no whole number from 0 to 10; the console must not start.
    """
    text = os.environ.get(PROXIES, "").strip() or "0"
    if not text.isdecimal() or int(text) > 10:
        raise ValueError(
            f"{PROXIES} is {text!r}. It is the number of proxies in front of the console, 0 to 10."
        )
    return int(text)


class Console:
    """What the host serves. Nothing is opened before `start`."""

    def __init__(self) -> None:
        """Do nothing yet."""
        self._wsgi: Any = None
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="console")
        self.bodies = Bodies(LARGEST_FORM, at_once=AT_ONCE, all_bytes=AT_ONCE * LARGEST_FORM)

    def start(self, env: Mapping[str, str]) -> None:
        """Read rules, actions and policy; called once by the host before it serves."""
        os.environ.update({k: v for k, v in env.items() if k.startswith("QUIETPAGER_")})
        ctx = make_context("people-console", Lazy(open_store, lambda: open_cluster("people-console")))
        secure = console_url().startswith("https://")
        self.serve(make_app(ctx, Users(users_file()), secure=secure, proxies=proxies()))

    def serve(self, app: Any) -> None:
        """Take the app that answers; `start` makes it, and tests with a store of their own."""
        self._wsgi = WSGIWrapper(app, LARGEST_FORM)

    def stop(self) -> None:
        """Give back the threads; called once by the host when it ends."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def alive(self) -> tuple[bool, str]:
        """Answer the liveness probe."""
        return True, "alive"

    def ready(self) -> tuple[bool, str]:
        """Answer the readiness probe: rules, actions and policy have been read."""
        return (True, "ready") if self._wsgi is not None else (False, "starting")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request, once its body is here."""
        try:
            async with self.bodies.read(receive) as body:
                await self._answer(scope, body, send)
        except Unread as no:
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            headers += [(b"retry-after", b"5")] if no.status == 503 else []
            await send({"type": "http.response.start", "status": no.status, "headers": headers})
            await send({"type": "http.response.body", "body": f"{no} Nothing was done.".encode()})

    async def _answer(self, scope: Scope, body: bytes, send: Send) -> None:
        loop = asyncio.get_running_loop()

        async def whole() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        def call_soon(work: Callable[..., Any], *given: Any) -> Any:
            return asyncio.run_coroutine_threadsafe(work(*given), loop).result()

        in_a_thread = partial(loop.run_in_executor, self._threads)
        await self._wsgi(scope, whole, send, in_a_thread, call_soon)


def new() -> Console:
    """Make what the host serves; called by `runtime.loading`."""
    return Console()
