"""The console behind func-python's host: the same `new()` contract as every function, but web pages.

It takes no CloudEvents and has no Trigger; a request is answered by Flask in a thread of its own.
"""

import os
from collections.abc import Mapping
from typing import Any

from hypercorn.middleware import AsyncioWSGIMiddleware

from quietpager.functions.people.console.app import make_app
from quietpager.functions.people.console.users import Users, users_file
from quietpager.runtime.connect import open_cluster, open_store
from quietpager.runtime.context import Lazy, make_context
from quietpager.runtime.edge import Receive, Scope, Send
from quietpager.runtime.links import console_url

LARGEST_BODY = 1 << 14
"""Bytes of a form; the longest one a person fills in here has a few hundred."""


class Console:
    """What the host serves. Nothing is opened before `start`."""

    def __init__(self) -> None:
        """Do nothing yet."""
        self._asgi: Any = None

    def start(self, env: Mapping[str, str]) -> None:
        """Read rules, actions and policy; called once by the host before it serves."""
        os.environ.update({k: v for k, v in env.items() if k.startswith("QUIETPAGER_")})
        ctx = make_context("people-console", Lazy(open_store, lambda: open_cluster("people-console")))
        app = make_app(ctx, Users(users_file()), secure=console_url().startswith("https://"))
        self._asgi = AsyncioWSGIMiddleware(app, max_body_size=LARGEST_BODY)

    def alive(self) -> tuple[bool, str]:
        """Answer the liveness probe."""
        return True, "alive"

    def ready(self) -> tuple[bool, str]:
        """Answer the readiness probe: rules, actions and policy have been read."""
        return (True, "ready") if self._asgi is not None else (False, "starting")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        await self._asgi(scope, receive, send)
