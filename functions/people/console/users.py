"""Local accounts of the console: one JSON file with hashed passwords and the key that signs sessions.

    {"key": "<hex>", "users": {"alice": "scrypt:32768:8:1$..."}}

There is no default account and no default password. Who calls it: the console, at every request, so that
an account that was removed is out at once; and `quietpager console-user`, which writes it.
"""

import hashlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any, Final

from werkzeug.security import check_password_hash, generate_password_hash

from quietpager.model.text import is_name

USERS: Final = "QUIETPAGER_CONSOLE_USERS"
"""Environment variable: path of the users file."""

SHORTEST: Final = 12
"""Characters of a password; length is what counts (NIST SP 800-63B), so nothing else is asked of it."""

METHOD = "scrypt"
"""How passwords are hashed: slow and with much memory, on purpose (RFC 7914). Tests take a quick one."""

_NOBODY: Final = generate_password_hash(secrets.token_hex(), METHOD)
"""Compared with where there is no such user, so that the answer takes as long."""


def users_file() -> Path:
    """Find the users file: from the environment, or in the person's own configuration folder."""
    given = os.environ.get(USERS)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(given) if given else Path(base) / "quietpager" / "console-users.json"


class Users:
    """The users file. Reads it whenever it is asked."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist yet."""
        self.path = path
        self._fresh = secrets.token_hex(32)

    def _read(self) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"key": "", "users": {}}
        return found

    @property
    def key(self) -> str:
        """What signs sessions; as long as there is no file, this process has one of its own."""
        return str(self._read()["key"]) or self._fresh

    def none(self) -> bool:
        """Tell whether there is no account at all."""
        return not self._read()["users"]

    def check(self, name: str, password: str) -> bool:
        """Tell whether this is the password of this person."""
        kept = self._read()["users"].get(name)
        fits = check_password_hash(str(kept) if kept else _NOBODY, password)
        return bool(kept) and fits

    def mark(self, name: str) -> str | None:
        """Give what a session is bound to; another password, or no account any more, ends it."""
        kept = self._read()["users"].get(name)
        return hashlib.sha256(str(kept).encode()).hexdigest()[:16] if kept else None

    def put(self, name: str, password: str) -> None:
        """Add an account, or give it another password.

        Raises:
            ValueError: the name or the password is none; the sentence says why.
        """
        if not is_name(name) or len(name) > 63:
            raise ValueError("A name has letters, digits, dots, dashes and underscores, at most 63.")
        if len(password) < SHORTEST:
            raise ValueError(f"A password has at least {SHORTEST} characters.")
        kept = self._read()
        self._write(kept, kept["users"] | {name: generate_password_hash(password, METHOD)})

    def remove(self, name: str) -> bool:
        """Take an account away; its sessions end with it. False: there was none."""
        kept = self._read()
        users = dict(kept["users"])
        there = users.pop(name, None) is not None
        if there:
            self._write(kept, users)
        return there

    def _write(self, kept: dict[str, Any], users: dict[str, str]) -> None:
        """Replace the file at once, readable by its owner only."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        body = {"key": kept["key"] or secrets.token_hex(32), "users": users}
        handle, name = tempfile.mkstemp(dir=self.path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(body, file, indent=1)
        Path(name).replace(self.path)
