"""The edge of every function: from an ASGI call to a typed handler and back; nothing escapes it.

The contract is func-python 0.8.1's with `invoke: http`: `new()` gives an object with
`handle(scope, receive, send)`, `alive`, `ready`, `start`, `stop`. Handlers are blocking code and run
in threads, so that a probe is answered in milliseconds whatever they do.

What a sender sees (Knative retries >= 500, 404, 408, 409 and 429; other 4xx go to the dead letter):

    | the handler            | status                                   |
    |------------------------|------------------------------------------|
    | answers                | 200 and one CloudEvent; the rest is posted |
    | posts all its answers, or has none | 204                          |
    | BadMessage             | 400, audited or counted (`refusals`)     |
    | (a stranger's token)   | 401 or 403, the same; see `runtime.sender` |
    | GiveUp, body too large | 422, the same                            |
    | body too slow          | 408: delivered again                     |
    | too much at once       | 503: delivered again                     |
    | anything else          | 503: delivered again                     |

`GET /health/heartbeat` answers whether every part of the product lives (`runtime.pulse`).
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, Final

import structlog
from pydantic import ValidationError

from quietpager.errors import BadMessage, GiveUp, NotAllowed, NotProven, Retry
from quietpager.incident.policy_file import PolicyFile
from quietpager.incident.refusals import Refusal
from quietpager.masking.told import told
from quietpager.model.message import PING, Message
from quietpager.model.store import StoreUnavailable
from quietpager.model.text import clean
from quietpager.runtime.body import Bodies, Receive, Unread
from quietpager.runtime.context import Context, Handler, handled
from quietpager.runtime.metrics import REFUSED, count_messages
from quietpager.runtime.pulse import PATH, Pulse
from quietpager.runtime.trace import TRACE, trace_id
from quietpager.runtime.wire import (
    LARGEST_BODY,
    event_from_http,
    event_from_message,
    http_from_event,
    message_from_event,
)

Scope = dict[str, Any]
Send = Callable[[dict[str, Any]], Awaitable[None]]
Post = Callable[[Message], None]
"""Posts one more message to the broker; blocking. Raises on failure, which the outbox makes good."""
Check = Callable[[Mapping[str, str]], object]
"""Looks at a request's headers, and raises where who sends it may not; see `runtime.sender`."""

STATUS: Final[Mapping[type[Exception], int]] = {
    BadMessage: 400, NotProven: 401, NotAllowed: 403, GiveUp: 422,
}  # fmt: skip
"""The one table of errors; whatever is not in it is 503."""

LONGEST_ANSWER: Final = 700
"""Bytes of an error's text. Knative's in-memory dispatcher ends with a panic over more than 768, and takes
every event in memory with it (knative/eventing v0.49.2; docs/adr/0002-local-broker.md)."""

THREADS: Final = 16
"""Messages that one process works on at a time."""

REFUSALS: Final = "refused"
"""The audit chain of messages that were refused before they belonged to an incident."""

log = structlog.get_logger()


class Function:
    """One function behind its edge. Who makes it: each folder's `new()`, and the local host."""

    def __init__(
        self,
        handler: Handler,
        make: Callable[[], Context],
        post: Post | None = None,
        threads: ThreadPoolExecutor | None = None,
        policy: Callable[[], PolicyFile] | None = None,
        check: Check | None = None,
        *,
        replies: bool = True,
    ) -> None:
        """Nothing is opened before `start`, or the first message. `threads` given stay the caller's.

        `policy` opens the file that is asked for the policy at each message; None: the context's for good.
        `check` judges who sends, where tokens come. Without `replies` all answers are posted: whoever calls
        gets none of them, so nobody can take the clock's words, or an intent's id, by asking first.
        """
        self.replies = replies or post is None
        self._open_policy = policy
        self._policy: PolicyFile | None = None
        self._handler, self._make, self._post, self._check = handler, make, post, check
        self._context: Context | None = None
        self._pulse: Pulse | None = None
        self.bodies = Bodies(LARGEST_BODY)
        self._threads = threads
        self._pool = threads or ThreadPoolExecutor(max_workers=THREADS, thread_name_prefix="handler")

    def start(self, env: Mapping[str, str]) -> None:
        """Read rules, actions and policy; called once by the host before it serves."""
        os.environ.update({k: v for k, v in env.items() if k.startswith("QUIETPAGER_")})
        self._ctx()

    def stop(self) -> None:
        """Give back its own threads; called once by the host when it ends."""
        if self._threads is None:
            self._pool.shutdown(wait=False, cancel_futures=True)

    def alive(self) -> tuple[bool, str]:
        """Answer the liveness probe."""
        return True, "alive"

    def ready(self) -> tuple[bool, str]:
        """Answer the readiness probe: rules, actions and policy have been read."""
        return (True, "ready") if self._context else (False, "starting")

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        try:
            status, headers, body = await self._answer(scope, receive)
        except Exception:
            log.exception("the edge itself failed")
            status, headers, body = 503, {}, b"the function's edge failed; see its log"
        pairs = [(k.lower().encode("latin-1"), v.encode("latin-1")) for k, v in headers.items()]
        await send({"type": "http.response.start", "status": status, "headers": pairs})
        await send({"type": "http.response.body", "body": body})

    async def _answer(self, scope: Scope, receive: Receive) -> tuple[int, dict[str, str], bytes]:
        if scope["method"] == "GET" and scope.get("path") == PATH:
            status, text = await asyncio.get_running_loop().run_in_executor(self._pool, self._beats)
            return status, {"content-type": "application/json"}, text
        if scope["method"] != "POST":
            return _refused(405, "Only POST of a CloudEvent is answered here.")
        loop = asyncio.get_running_loop()
        headers = {k.decode("latin-1").lower(): v.decode("latin-1") for k, v in scope["headers"]}
        if self._check is not None:  # before the body is read: a stranger's costs nothing
            stranger = await loop.run_in_executor(self._pool, self._stranger, self._check, headers)
            if stranger is not None:
                return stranger
        try:
            async with self.bodies.read(receive) as body:
                return await loop.run_in_executor(self._pool, self._run, headers, body)
        except Unread as no:
            if no.status != 413:
                return _refused(no.status, str(no))
            return await loop.run_in_executor(self._pool, self._refuse, None, GiveUp(str(no)))

    def _ctx(self) -> Context:
        if self._context is None:
            if self._open_policy is not None:
                self._policy = self._open_policy()
            self._context = self._make()
        if self._policy is None:
            return self._context
        policy, fault = self._policy.now()
        return replace(self._context, policy=policy, policy_fault=fault)

    def _beats(self) -> tuple[int, bytes]:
        ctx = self._ctx()
        if self._pulse is None:
            self._pulse = Pulse(lambda: ctx.store, ctx.policy, ctx.clock)
        return replace(self._pulse.read(), policy_fault=ctx.policy_fault).to_http()

    def _stranger(self, check: Check, headers: dict[str, str]) -> tuple[int, dict[str, str], bytes] | None:
        """Give the answer for one who may not send, or None for one who may."""
        try:
            check(headers)
        except GiveUp as no:
            return self._refuse(None, no)
        except Retry as away:
            log.info("who sends cannot be checked, will be delivered again", error=clean(str(away), 500))
            return _refused(503, clean(str(away), 500))
        return None

    def _run(self, headers: dict[str, str], body: bytes) -> tuple[int, dict[str, str], bytes]:
        message: Message | None = None
        try:
            message = message_from_event(event_from_http(headers, body))
            return self._reply(self.call(message))
        except (GiveUp, ValidationError) as no:
            return self._refuse(message, no)
        except Exception as broken:  # noqa: BLE001 (the table's last row)
            level = log.info if isinstance(broken, Retry | StoreUnavailable) else log.exception
            level("not handled, will be delivered again", error=clean(str(broken), 500),
                  function=os.environ.get("QUIETPAGER_NAME", ""), message=message and message.id,
                  trace=message and trace_id(message.attributes.get(TRACE, "")))  # fmt: skip
            return _refused(503, clean(f"{type(broken).__name__}: {broken}", 500))

    def call(self, message: Message) -> list[Message]:
        """Run the handler on one message, in the caller's thread."""
        ctx = self._ctx()
        if ctx.policy_fault:
            log.error("the policy cannot be read", why=ctx.policy_fault, function=ctx.name)
        carried = trace_id(message.attributes.get(TRACE, ""))
        with structlog.contextvars.bound_contextvars(
            function=ctx.name, incident=message.subject, trace=carried
        ):
            answers = handled(self._handler, message, ctx)
            count_messages(ctx.metrics, ctx.name, message, answers)
            traces = sorted({one.attributes[TRACE] for one in answers})
            if answers or message.type != PING:
                log.info(
                    "handled", type=message.type, message=message.id, answers=len(answers), traces=traces
                )
            return answers

    def _reply(self, answers: list[Message]) -> tuple[int, dict[str, str], bytes]:
        ctx = self._ctx()
        for more in answers[1:] if self.replies else answers:
            self._say(more)
        if not answers or not self.replies:
            return 204, {}, b""
        source = f"/{ctx.cluster_name}/{ctx.name}"
        event = event_from_message(answers[0], source=source, now=ctx.clock())
        headers, body = http_from_event(event)
        return 200, headers, body

    def _say(self, message: Message) -> None:
        """Post one more message; if that fails its due item in the store says it one tick later."""
        if self._post is None:
            return
        try:
            self._post(message)
        except Exception as failed:  # noqa: BLE001 (the outbox repeats it)
            log.info("not posted, the outbox will repeat it", message=message.id, error=str(failed))

    def _refuse(self, message: Message | None, no: Exception) -> tuple[int, dict[str, str], bytes]:
        status = next((code for kind, code in STATUS.items() if isinstance(no, kind)), 400)
        sentence = clean(str(no), 500)
        ctx = self._ctx()
        kind = type(no).__name__
        one = Refusal(
            REFUSALS, "refused", ctx.name, kind,
            {"sentence": sentence, "message": clean(message.id, 200) if message else None,
             "type": clean(message.type, 200) if message else None, "kind": kind},
        )  # fmt: skip
        ctx.metrics.add(REFUSED, function=ctx.name, kind=kind)
        try:
            ctx.lazy.refusals.note(lambda: ctx.store, one, ctx.clock())
        except (StoreUnavailable, Retry):
            return _refused(503, "The refusal could not be audited; deliver it again.")
        return _refused(status, sentence)


def _refused(status: int, sentence: str) -> tuple[int, dict[str, str], bytes]:
    # The broker keeps what it is answered, and gives it to the dead letters.
    text = told(sentence).encode()[:LONGEST_ANSWER].decode(errors="ignore").encode()
    return status, {"content-type": "text/plain; charset=utf-8"}, text
