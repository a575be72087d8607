"""The policy as its file is now: read again when the file has changed, and not kept once it is broken.

    file at start     a fault: the function does not start
    file later        changed: the new policy counts from the next message on
                      broken, empty or gone: looking goes on, nothing is committed or written

A policy that cannot be read may have been changed in order to stop us. So the last good one still says how
often to look and whom to remind, and no more: its autonomy becomes `analyze`, and no remediator claims an
intent.

Who calls it: the edge of every function, for each message.
"""

import os
from pathlib import Path
from threading import Lock
from typing import Final

from quietpager.incident.policy import POLICY_FILE, Policy, load_policy
from quietpager.model.incident import Autonomy
from quietpager.model.text import clean

DO: Final = (
    "Nothing is written to the cluster until it is mended; `quietpager policy check FILE` says what is wrong."
)


class PolicyFile:
    """One policy file; thread-safe. Where no file is named the policy is the default for good."""

    def __init__(self, path: str | None = None) -> None:
        """Read it once.

        Args:
            path: the file; None for the one that the environment names, if any.

        Raises:
            ValueError: it is no policy; the text says where.
            OSError: it cannot be read.
        """
        self._path = path or os.environ.get(POLICY_FILE) or None
        self._lock = Lock()
        self._seen = self._mark()
        self._good = load_policy(self._path)
        self._fault = ""

    def now(self) -> tuple[Policy, str]:
        """Give the policy that counts now, and a sentence where it cannot be read. Never raises."""
        if self._path is None:
            return self._good, ""
        with self._lock:
            mark = self._mark()
            if mark != self._seen or mark is None:
                self._seen = mark
                self._read(self._path)
            return (self._stopped() if self._fault else self._good), self._fault

    def _read(self, path: str) -> None:
        try:
            self._good, self._fault = load_policy(path), ""
        except (ValueError, OSError) as wrong:
            said = wrong.strerror if isinstance(wrong, OSError) and wrong.strerror else str(wrong)
            where = "" if path in said else f"{path}: "
            self._fault = f"The policy cannot be read: {where}{clean(said, 500)}. {DO}".replace("..", ".")

    def _stopped(self) -> Policy:
        return self._good.but(autonomy=Autonomy.ANALYZE, dials=())

    def _mark(self) -> tuple[int, int, int] | None:
        """What changes with the content. Links are followed: a mounted ConfigMap is one."""
        if self._path is None:
            return None
        try:
            about = Path(self._path).stat()
        except OSError:
            return None
        return about.st_ino, about.st_mtime_ns, about.st_size
