"""Request bodies within budgets: how large one may be, how long it may take, and how much all take together.

Who calls it: the edge of every function, the local host's ingress and the console; each has one `Bodies`.

A body counts from its first byte until the request is answered. Where all of them would be too many, the one
that has been arriving for the longest time is given up first, because it is the slowest: so nobody who sends
slowly can keep out somebody who sends quickly. What has arrived whole is never given up.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

Receive = Callable[[], Awaitable[dict[str, Any]]]

SECONDS: Final = 10.0
"""Seconds that a body may take to arrive; 1 MiB in that time is a slow modem's pace."""

AT_ONCE: Final = 256
"""Bodies under way in one process. Knative's in-memory dispatcher sends a Trigger's messages in parallel."""

ALL_BYTES: Final = 16 << 20
"""Bytes of all bodies under way in one process (16 MiB); a usual message has two thousand."""


class Unread(Exception):  # noqa: N818 (the words of the one who reads the log)
    """A body was not read to its end; the text says which limit it met."""

    def __init__(self, status: int, sentence: str) -> None:
        """Give the HTTP status: 408 too slow or gone, 413 too large, 503 too much at once."""
        self.status = status
        super().__init__(sentence)


class _Body:
    """One body on its way."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.whole = self.given_up = False
        self.limit: asyncio.Timeout | None = None


class Bodies:
    """All bodies that one process holds. For one event loop; not thread-safe."""

    def __init__(
        self,
        largest: int,
        *,
        seconds: float = SECONDS,
        at_once: int = AT_ONCE,
        all_bytes: int = ALL_BYTES,
    ) -> None:
        """Set the limits.

        Args:
            largest: bytes of one body.
            seconds: how long one may take to arrive.
            at_once: how many are held at a time.
            all_bytes: bytes that all of them may have; at least `largest`.
        """
        self.largest, self.seconds, self.at_once = largest, seconds, at_once
        self.all_bytes = max(all_bytes, largest)
        self._held: dict[_Body, None] = {}  # in the order in which they began
        self.bytes = 0
        """Bytes held now."""
        self.most_bytes = 0
        """The most bytes that were ever held."""

    @property
    def count(self) -> int:
        """How many bodies are held now."""
        return len(self._held)

    @asynccontextmanager
    async def read(self, receive: Receive) -> AsyncIterator[bytes]:
        """Read one body, and hold its place until the request is answered.

        Raises:
            Unread: it is too large, too slow, one too many, or its sender went away.
        """
        one = _Body()
        self._make_room(one, bodies=1)
        self._held[one] = None
        try:
            await self._fill(one, receive)
            yield bytes(one.data)
        finally:
            self._let_go(one)

    async def _fill(self, one: _Body, receive: Receive) -> None:
        try:
            async with asyncio.timeout(self.seconds) as one.limit:
                more = True
                while more:
                    part = await receive()
                    if one.given_up:
                        break
                    more = self._take(one, part)
                one.whole = not one.given_up
        except TimeoutError:
            if not one.given_up:
                sentence = f"The body did not arrive within {self.seconds:g} seconds; send it again."
                raise Unread(408, sentence) from None
        if one.given_up:
            raise Unread(503, "Too much arrives at once, and this body was the slowest; send it again.")

    def _take(self, one: _Body, part: dict[str, Any]) -> bool:
        """Add what has arrived; tells whether more is to come."""
        if part["type"] == "http.disconnect":
            raise Unread(408, "The sender went away before the body was complete.")
        chunk: bytes = part.get("body", b"")
        if len(one.data) + len(chunk) > self.largest:
            raise Unread(413, f"The body is larger than {self.largest} bytes.")
        self._make_room(one, more=len(chunk))
        one.data += chunk
        self.bytes += len(chunk)
        self.most_bytes = max(self.most_bytes, self.bytes)
        return bool(part.get("more_body", False))

    def _make_room(self, one: _Body, *, bodies: int = 0, more: int = 0) -> None:
        while len(self._held) + bodies > self.at_once or self.bytes + more > self.all_bytes:
            slowest = next((body for body in self._held if body is not one and not body.whole), None)
            if slowest is None:
                raise Unread(503, "Too much is worked on at once; send it again.")
            slowest.given_up = True
            self._let_go(slowest)
            if slowest.limit is not None:
                slowest.limit.reschedule(asyncio.get_running_loop().time())

    def _let_go(self, one: _Body) -> None:
        if one in self._held:
            del self._held[one]
            self.bytes -= len(one.data)
            one.data = bytearray()
