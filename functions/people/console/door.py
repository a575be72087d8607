"""Checks passwords: few at a time, and only while attempts are left.

Hashing takes 32 MiB on purpose, so it is done one at a time, behind a short queue; whoever finds it full is
told to come again. Browsers that signed in before have a queue of their own: strangers cannot fill that one.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from threading import BoundedSemaphore
from typing import Final

from itsdangerous import BadSignature, URLSafeTimedSerializer

from quietpager.functions.people.console.throttle import Bucket, Throttle, Wait
from quietpager.people.users import Users

DEVICE_LASTS: Final = 90 * 86400
"""Seconds for which a browser that signed in is known."""

AT_ONCE: Final = 1
"""Passwords hashed at a time in each of the two queues: two take 64 MiB."""

WAITING: Final = 6
"""Attempts that wait for their turn in each queue; each holds a thread of the console."""

PATIENCE: Final = 5.0
"""Seconds that one waits."""


class Busy(Exception):  # noqa: N818 (a state, and the person comes again)
    """Too many sign in at this moment."""


class Gate:
    """Lets so many in at a time, and so many wait for it."""

    def __init__(self, at_once: int, waiting: int, patience: float) -> None:
        """Set the limits; `patience`: seconds that one waits."""
        self._slots = BoundedSemaphore(at_once)
        self._places = BoundedSemaphore(at_once + waiting)
        self._patience = patience

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Hold a slot. Raises `Busy` where all places are taken, or none comes free in time."""
        if not self._places.acquire(blocking=False):
            raise Busy
        try:
            if not self._slots.acquire(timeout=self._patience):
                raise Busy
            try:
                yield
            finally:
                self._slots.release()
        finally:
            self._places.release()


class Door:
    """Checks names and passwords."""

    def __init__(self, users: Users, throttle: Throttle) -> None:
        """Make the two queues."""
        self._users, self._throttle = users, throttle
        self._strangers = Gate(AT_ONCE, WAITING, PATIENCE)
        self._known = Gate(AT_ONCE, WAITING, PATIENCE)

    def admits(self, name: str, password: str, address: str, device: str) -> bool:
        """Tell whether this is the password of this person.

        Args:
            name: as typed; it need not be anybody's.
            password: as typed.
            address: where the request comes from.
            device: the device cookie, or nothing.

        Raises:
            Wait: too many wrong passwords before; nothing was hashed.
            Busy: too many at this moment; nothing was counted.
        """
        gate, buckets = self._way(name, address, device)
        with gate.entered():
            self._throttle.count(buckets)
            right = self._users.check(name, password)
        if right:
            self._throttle.forgive(buckets)
        return right

    def _way(self, name: str, address: str, device: str) -> tuple[Gate, list[Bucket]]:
        """Choose the queue and the buckets; a device that was wrong too often goes the strangers' way."""
        known = self._device(name, device)
        if known:
            buckets = self._throttle.of_device(name, known)
            try:
                self._throttle.look(buckets)
            except Wait:
                pass
            else:
                return self._known, buckets
        buckets = self._throttle.of_stranger(name, address)
        self._throttle.look(buckets)  # before the queue, so that who has to wait takes no place in it
        return self._strangers, buckets

    def _device(self, name: str, cookie: str) -> str:
        """Read a device cookie; empty where it is not ours, too old, or of another account."""
        try:
            found = self._signer().loads(cookie[:512], max_age=DEVICE_LASTS)
        except BadSignature:
            return ""
        return str(found["device"]) if found["account"] == name else ""

    def device_cookie(self, name: str) -> str:
        """Make the cookie of a browser that has just signed in as `name`."""
        return str(self._signer().dumps({"account": name, "device": secrets.token_hex(16)}))

    def _signer(self) -> URLSafeTimedSerializer:
        return URLSafeTimedSerializer(self._users.key, salt="quietpager-device")
