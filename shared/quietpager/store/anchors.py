"""The places an anchor can be kept in: a Git repository, a file that is only appended to, or the log.

Who calls it: `govern/anchor`, `quietpager audit anchor` and `audit verify --anchor`. What makes a place
worth something is that nobody who can write to the store can write there: a repository that is pushed to
another machine, a folder that belongs to somebody else, a disk that is written once.
"""

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from quietpager.model.text import clean
from quietpager.store.anchor import Anchor, Anchored, AnchorUnavailable, Snapshot

PLACE: Final = "QUIETPAGER_ANCHOR"
"""Environment variable: a folder. The work tree of a Git repository gets commits, another one a file."""

GIT_FILE: Final = "anchor.json"
LINES_FILE: Final = "anchors.jsonl"

SECONDS: Final = 8.0
"""For one call of Git; a Trigger delivers anew after ten."""


def say(line: str) -> None:
    """Write a line to standard output, now."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def open_anchor(folder: Path) -> Anchor:
    """Open the place that a folder is.

    Raises:
        AnchorUnavailable: there is no such folder. It is not made: who owns it is what matters about it.
    """
    if not folder.is_dir():
        raise AnchorUnavailable(
            f"{folder} is no folder. Make it, or a Git repository there, as somebody who is not the store's."
        )
    bare = (folder / "HEAD").is_file() and (folder / "objects").is_dir()
    return GitAnchor(folder) if bare or (folder / ".git").exists() else FileAnchor(folder)


class FileAnchor:
    """One line for each anchor, appended to `anchors.jsonl` and waited for until the disk has it."""

    def __init__(self, folder: Path) -> None:
        """Nothing is opened yet."""
        self.path = folder / LINES_FILE

    def newest(self) -> Snapshot | None:
        """See `Anchor.newest`."""
        return _read_last(self.all())

    def keep(self, snapshot: Snapshot) -> bool:
        """See `Anchor.keep`. Two processes at once: the second finds what the first has written."""
        try:
            with self.path.open("ab") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                kept = self.all()
                last = _read_last(kept)
                if last is not None and last.root == snapshot.root:
                    return False
                # A line that a kill cut short is ended first; it is then one anchor that cannot be read.
                broken = file.tell() > 0 and not self.path.read_bytes().endswith(b"\n")
                file.write(f"{chr(10) if broken else ''}{snapshot.to_text()}\n".encode())
                file.flush()
                os.fsync(file.fileno())
        except OSError as no:
            raise AnchorUnavailable(f"{self.path} cannot be written: {no.strerror}.") from no
        return True

    def all(self) -> list[Anchored]:
        """See `Anchor.all`."""
        try:
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return []
        except OSError as no:
            raise AnchorUnavailable(f"{self.path} cannot be read: {no.strerror}.") from no
        return [Anchored(f"line {n}", line) for n, line in enumerate(lines, start=1) if line.strip()]


class LogAnchor:
    """One line for each anchor on standard output, for whoever keeps the logs; the place where none is named.

    A line is what `FileAnchor` keeps, so lines that were cut out of a log are an `anchors.jsonl`. Whoever
    writes to the store cannot take a line back that has left the process. This process alone remembers which
    was the newest, so each new one begins with an anchor of its own.
    """

    def __init__(self, write: Callable[[str], object] = say) -> None:
        """Nothing is written yet."""
        self._write = write
        self._newest: Snapshot | None = None

    def newest(self) -> Snapshot | None:
        """See `Anchor.newest`; of this process."""
        return self._newest

    def keep(self, snapshot: Snapshot) -> bool:
        """See `Anchor.keep`."""
        if self._newest is not None and self._newest.root == snapshot.root:
            return False
        try:
            self._write(snapshot.to_text())
        except (OSError, ValueError) as no:
            raise AnchorUnavailable(f"standard output cannot be written: {no}.") from no
        self._newest = snapshot
        return True

    def all(self) -> list[Anchored]:
        """See `Anchor.all`; of this process the newest alone, for nobody reads a log back here."""
        return [] if self._newest is None else [Anchored("the newest", self._newest.to_text())]


class GitAnchor:
    """One commit for each anchor, of the file `anchor.json`; pushed where the repository has a remote.

    The commit is signed where the repository, or its user, is configured so (`commit.gpgsign`). It is made
    with the user's own settings, but for hooks, which are not run.
    """

    def __init__(self, folder: Path, env: Mapping[str, str] = os.environ) -> None:
        """Nothing is called yet; `folder` is the top of a work tree."""
        self.folder = folder
        self._env = {**env, "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0"}
        for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
            self._env.pop(name, None)
        self._env.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        self._author: tuple[str, ...] = ()

    def newest(self) -> Snapshot | None:
        """See `Anchor.newest`."""
        return _read_last(self._anchors("--max-count=1"))

    def keep(self, snapshot: Snapshot) -> bool:
        """See `Anchor.keep`. An earlier commit that could not be pushed is pushed now, in any case."""
        last = self.newest()
        fresh = last is None or last.root != snapshot.root
        if fresh:
            self._commit(snapshot)
        if self._git("remote").strip():
            self._git("push", "--quiet", "--no-verify", self._remote(), "HEAD")
        return fresh

    def all(self) -> list[Anchored]:
        """See `Anchor.all`."""
        return self._anchors()[::-1]

    def _commit(self, snapshot: Snapshot) -> None:
        try:
            (self.folder / GIT_FILE).write_text(snapshot.to_text(lines=True) + "\n", encoding="utf-8")
        except OSError as no:
            raise AnchorUnavailable(f"{self.folder / GIT_FILE} cannot be written: {no.strerror}.") from no
        if self._call("config", "--get", "user.email").returncode:
            # Only where nobody else is named: a signature needs its owner's own name.
            self._author = ("user.name=quietpager", "user.email=quietpager@localhost")
        self._git("add", "--force", "--", GIT_FILE)
        message = f"Anchor {snapshot.chains} chains: {snapshot.root}\n\nAt {snapshot.at}.\n"
        # `--only`: what else lies in the index is not ours to commit.
        self._git("commit", "--quiet", "--no-verify", "--only", "--file=-", "--", GIT_FILE, given=message)

    def _remote(self) -> str:
        remotes = self._git("remote").split()
        return "origin" if "origin" in remotes else remotes[0]

    def _anchors(self, *which: str) -> list[Anchored]:
        """Read the file as every commit that touched it has it, newest first."""
        if self._call("rev-parse", "--verify", "--quiet", "HEAD").returncode == 1:
            return []  # nothing was ever committed
        # The whole history: nothing that was committed on the way is left out.
        names = self._git("rev-list", "--full-history", *which, "HEAD", "--", GIT_FILE).split()
        there = "".join(f"{name}:{GIT_FILE}\n" for name in names)
        return _read_batch(names, self._run("cat-file", "--batch", given=there.encode()))

    def _git(self, *arguments: str, given: str = "") -> str:
        return self._run(*arguments, given=given.encode()).decode(errors="replace")

    def _run(self, *arguments: str, given: bytes) -> bytes:
        done = self._call(*arguments, given=given)
        if done.returncode:
            said = clean(" ".join(done.stderr.decode(errors="replace").split()), 300) or "it said nothing"
            raise AnchorUnavailable(f"git {arguments[0]} in {self.folder} failed ({done.returncode}): {said}")
        return done.stdout

    def _call(self, *arguments: str, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
        settings = (f"core.hooksPath={os.devnull}", "gc.auto=0", *self._author)
        command = ["git", *(word for one in settings for word in ("-c", one)), *arguments]
        try:
            return subprocess.run(  # noqa: S603 (an argument list, our own words)
                command, cwd=self.folder, input=given, env=self._env, capture_output=True,
                timeout=SECONDS, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise AnchorUnavailable(
                f"git {arguments[0]} in {self.folder} did not end in {SECONDS:.0f} s; is its remote there?"
            ) from None
        except OSError as no:
            raise AnchorUnavailable(f"git cannot be run here ({no.strerror}); install it.") from None


def _read_batch(names: list[str], said: bytes) -> list[Anchored]:
    """Take apart what `git cat-file --batch` says: `<id> blob <size>`, the text; or `<name> missing`."""
    found, place = [], 0
    for name in names:
        end = said.index(b"\n", place)
        words = said[place:end].split()
        place = end + 1
        text = b""
        if words[-1] != b"missing":
            size = int(words[-1])
            text = said[place : place + size]
            place += size + 1
        found.append(Anchored(f"commit {name[:12]}", text.decode(errors="replace")))
    return found


def _read_last(kept: list[Anchored]) -> Snapshot | None:
    try:
        return Snapshot.from_text(kept[-1].text) if kept else None
    except ValueError:
        return None
