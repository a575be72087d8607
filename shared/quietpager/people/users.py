"""Local accounts of the console: one JSON file with hashed passwords, roles, and a key.

    {"key": "<hex>", "users": {"alice": {"password": "scrypt:...", "role": "approver", "since": "<hex>"}}}

There is no default account and no default password. An account of a file from before there were roles is only
its hash; it is an approver, because answering is what it could do. Who calls it: the console, at every
request, so that an account that was removed is out at once; and `quietpager console-user`, which writes it.
"""

import hashlib
import json
import os
import secrets
import tempfile
from pathlib import Path
from typing import Any, Final

from pydantic import Field, ValidationError, field_validator
from werkzeug.security import check_password_hash, generate_password_hash

from quietpager.model.data import Data
from quietpager.model.text import is_name
from quietpager.people.roles import Role

USERS: Final = "QUIETPAGER_CONSOLE_USERS"
"""Environment variable: path of the users file."""

SHORTEST: Final = 12
"""Characters of a password; length is what counts (NIST SP 800-63B), so nothing else is asked of it."""

METHOD = "scrypt"
"""How passwords are hashed: slow and with 32 MiB of memory, on purpose (RFC 7914). Tests take a quick one."""

_NOBODY: Final = generate_password_hash(secrets.token_hex(), METHOD)
"""Compared with where there is no such user, so that the answer takes as long."""


class UnreadableUsers(Exception):  # noqa: N818 (a sentence for whoever runs the console)
    """The users file is there and cannot be read; the text says where, and what to do."""


class Account(Data):
    """One account, as the file has it."""

    password: str
    role: Role
    since: str = ""
    """Made anew with every change, so that a role taken away and given back ends the sessions as well."""


class _File(Data):
    key: str = ""
    users: dict[str, Account] = Field(default_factory=dict)

    @field_validator("users", mode="before")
    @classmethod
    def _older(cls, found: Any) -> Any:
        """Read accounts from before there were roles."""
        if not isinstance(found, dict):
            return found
        return {
            name: {"password": one, "role": Role.APPROVER} if isinstance(one, str) else one
            for name, one in found.items()
        }


def users_file() -> Path:
    """Find the users file: from the environment, or in the person's own configuration folder."""
    given = os.environ.get(USERS)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(given) if given else Path(base) / "quietpager" / "console-users.json"


class Users:
    """The users file. Reads it whenever it is asked; any call: `UnreadableUsers`."""

    def __init__(self, path: Path) -> None:
        """Name the file; it need not exist yet."""
        self.path = path
        self._fresh = secrets.token_hex(32)

    def _read(self) -> _File:
        try:
            return _File.model_validate(json.loads(self.path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            return _File()
        except (ValidationError, ValueError, OSError) as wrong:
            # Not the text of the error: it may quote what the file holds.
            raise UnreadableUsers(
                f"The users file {self.path} cannot be read ({type(wrong).__name__}), so nobody may sign in. "
                "Put back the last good copy, or remove it and add accounts with `quietpager console-user`."
            ) from None

    @property
    def key(self) -> str:
        """What signs device cookies; as long as there is no file, this process has one of its own."""
        return self._read().key or self._fresh

    def all(self) -> dict[str, Account]:
        """Give all accounts, by name."""
        return dict(sorted(self._read().users.items()))

    def check(self, name: str, password: str) -> bool:
        """Tell whether this is the password of this person; takes as long where there is no such person."""
        kept = self._read().users.get(name)
        fits = check_password_hash(kept.password if kept else _NOBODY, password)
        return kept is not None and fits

    def role(self, name: str) -> Role | None:
        """Give an account's role; None: there is no such account."""
        kept = self._read().users.get(name)
        return kept.role if kept else None

    def mark(self, name: str) -> str | None:
        """Give what a session is bound to; another password or role, or no account any more, ends it."""
        kept = self._read().users.get(name)
        if kept is None:
            return None
        return hashlib.sha256(f"{kept.password}|{kept.role}|{kept.since}".encode()).hexdigest()[:32]

    def put(self, name: str, password: str, role: Role | None = None) -> None:
        """Add an account, or give it another password.

        Args:
            name: the account.
            password: at least `SHORTEST` characters.
            role: None keeps the one that it has; a new account is then a viewer.

        Raises:
            ValueError: the name or the password is none; the sentence says why.
        """
        if not is_name(name) or len(name) > 63:
            raise ValueError("A name has letters, digits, dots, dashes and underscores, at most 63.")
        if len(password) < SHORTEST:
            raise ValueError(f"A password has at least {SHORTEST} characters.")
        kept = self._read()
        before = kept.users.get(name)
        role = role or (before.role if before else Role.VIEWER)
        self._write(kept, kept.users | {name: _account(generate_password_hash(password, METHOD), role)})

    def set_role(self, name: str, role: Role) -> bool:
        """Give an account another role; its sessions end with it. False: there is no such account."""
        kept = self._read()
        before = kept.users.get(name)
        if before is None:
            return False
        self._write(kept, kept.users | {name: _account(before.password, role)})
        return True

    def remove(self, name: str) -> bool:
        """Take an account away; its sessions end with it. False: there was none."""
        kept = self._read()
        if name not in kept.users:
            return False
        self._write(kept, {other: one for other, one in kept.users.items() if other != name})
        return True

    def _write(self, kept: _File, users: dict[str, Account]) -> None:
        """Replace the file at once, readable by its owner only."""
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        body = _File(key=kept.key or secrets.token_hex(32), users=users).to_json()
        handle, name = tempfile.mkstemp(dir=self.path.parent)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(body, file, indent=1)
        Path(name).replace(self.path)


def _account(password: str, role: Role) -> Account:
    return Account(password=password, role=role, since=secrets.token_hex(8))
