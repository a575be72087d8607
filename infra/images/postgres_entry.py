"""Starts PostgreSQL inside its image, on /data/pg, and makes the data first where there are none.

Who calls it: the image's command. It is copied to `/entry/main.py`; nothing but the standard library
is there. Whatever is killed on the way, the next start goes on from what is complete.
"""

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

DATA: Final = Path("/data/pg")
NEW: Final = Path("/data/new")
LOCK: Final = Path("/data/lock")
SOCKETS: Final = Path("/tmp")  # noqa: S108 (the container's own)
ACCESS: Final = """\
local all        all                             trust
host  quietpager quietpager,quietpager_functions all scram-sha-256
"""
"""pg_hba.conf: over the network the owner and the functions' role, to one database."""
PASSWORDS: Final = {"quietpager": "POSTGRES_PASSWORD", "quietpager_functions": "POSTGRES_FUNCTIONS_PASSWORD"}
"""Role → the environment variable with its password. The first owns the database; what the other may do is
granted by `quietpager migrate --functions`."""


def main() -> None:
    """Become PostgreSQL.

    Raises:
        SystemExit: another server uses the data, or there is no password to make them with.
    """
    lock()
    passwords = {role: os.environ.pop(variable, "") for role, variable in PASSWORDS.items()}
    if not DATA.exists():
        make(passwords)
    # We hold the lock: whichever server wrote these is gone (kill -9).
    (DATA / "postmaster.pid").unlink(missing_ok=True)
    for stale in SOCKETS.glob(".s.PGSQL.*"):
        stale.unlink()
    settings = {"listen_addresses": "*", "unix_socket_directories": str(SOCKETS), "jit": "off"}
    given = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
    os.execvp("postgres", ["postgres", "-D", str(DATA), *given, *sys.argv[1:]])  # noqa: S606


def lock() -> None:
    """Make sure that we are the only server.

    PostgreSQL's own guard, postmaster.pid, cannot tell: in every container the server is process 1.
    The lock is inherited by all its processes and ends with the last of them.
    """
    number = os.open(LOCK, os.O_CREAT | os.O_RDWR, 0o600)
    os.set_inheritable(number, True)
    try:
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise SystemExit("Another PostgreSQL still uses /data; the next restart tries again.") from None


def make(passwords: Mapping[str, str]) -> None:
    """Make the data aside and move them when they are complete."""
    for role, variable in PASSWORDS.items():
        if not passwords[role] or "\n" in passwords[role]:
            raise SystemExit(f"Set {variable}, one line: the password of the role {role}.")
    shutil.rmtree(NEW, ignore_errors=True)
    how = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C"]
    subprocess.run(["initdb", f"--pgdata={NEW}", *how], check=True, stdout=subprocess.DEVNULL)
    (NEW / "pg_hba.conf").write_text(ACCESS, encoding="utf-8")
    roles = (f"CREATE ROLE {role} LOGIN PASSWORD {_quoted(passwords[role])}\n" for role in PASSWORDS)
    statements = f"{''.join(roles)}CREATE DATABASE quietpager OWNER quietpager\n"
    # A failed statement does not end a single-user server, so ask for what they should have made.
    ask = "SELECT 'made' AS done FROM pg_database WHERE datdba = 'quietpager'::regrole\n"
    single = ["postgres", "--single", "-D", str(NEW), "postgres"]
    done = subprocess.run(single, input=statements + ask, check=True, stdout=subprocess.PIPE, text=True)
    if "made" not in done.stdout:
        raise SystemExit("The database quietpager could not be made; the lines above say why.")
    os.sync()
    NEW.rename(DATA)


def _quoted(text: str) -> str:
    doubled = text.replace("'", "''")
    return f"'{doubled}'"


if __name__ == "__main__":
    main()
