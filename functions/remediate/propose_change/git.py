"""The `git` executable, called with argument lists and an environment of its own; never a shell.

Who calls it: `proposing`. A credential is neither an argument (the process list shows those) nor in a
file: the token goes in through Git's own `GIT_CONFIG_*` variables, and what Git says is never passed on
with the token in it. Nothing of the repository is run: no hooks, no filters, no submodules, no links.
"""

import os
import subprocess
from base64 import b64encode
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from time import monotonic
from typing import Final

from quietpager.errors import Refused
from quietpager.model.text import clean

TOKEN: Final = "QUIETPAGER_GIT_TOKEN"  # noqa: S105 (the variable's name)
"""Environment variable: a token for https, with the right to push branches (and to open pull requests)."""

SECONDS: Final = 8.0
"""For everything about one proposal: the Trigger delivers anew after ten."""

_PASSED_ON: Final = (
    "PATH",
    "SSH_AUTH_SOCK",
    "GIT_SSH_COMMAND",
    "https_proxy",
    "HTTPS_PROXY",
    "no_proxy",
    "GIT_SSL_CAINFO",
)
_AUTHOR: Final = "quietpager"
_EMAIL: Final = "quietpager@localhost"
_RACES: Final = ("! [rejected]", "cannot lock ref", "reference already exists")
"""How a push ends that was not the first; `! [remote rejected]` alone is a server's rule, and no race."""


class PushRace(Exception):  # noqa: N818 (a word, not a fault)
    """Somebody else pushed that branch in between."""


class Git:
    """Git for one remote, within one folder that the caller throws away."""

    def __init__(self, url: str, home: Path, env: Mapping[str, str], seconds: float = SECONDS) -> None:
        """Nothing is called yet.

        Args:
            url: the remote, without a credential.
            home: an empty folder.
            env: where token, proxy and ssh's settings are taken from.
            seconds: for all calls together.
        """
        self.url, self.tree = url, home / "tree"
        self._token = env.get(TOKEN, "").strip()
        self._end = monotonic() + seconds
        self._env = _environment(url, home, env, self._token)

    def heads(self, branch: str) -> tuple[str, bool]:
        """Ask the remote for its default branch, and whether it has `branch`."""
        said = self._run("ls-remote", "--symref", "--", self.url, "HEAD", f"refs/heads/{branch}")
        lines = [line.split("\t") for line in said.splitlines()]
        default = next(
            (a.removeprefix("ref: refs/heads/") for a, b in lines if b == "HEAD" and "ref:" in a), ""
        )
        return default, any(name == f"refs/heads/{branch}" for _, name in lines)

    def clone(self, branch: str) -> None:
        """Get the newest commit of a branch (empty: the remote's default)."""
        which = ["--branch", branch] if branch else []
        self._run("clone", "--quiet", "--depth=1", "--no-tags", *which, "--", self.url, str(self.tree))

    def commit(self, file: str, text: str, branch: str, message: str, at: datetime) -> str:
        """Change one file on a new branch; gives the diff. The same input makes the same commit."""
        (self.tree / file).write_bytes(text.encode())
        moment = {"GIT_AUTHOR_DATE": at.isoformat(), "GIT_COMMITTER_DATE": at.isoformat()}
        self._run("checkout", "--quiet", "-b", branch, at=self.tree)
        self._run("add", "--", file, at=self.tree)
        self._run("commit", "--quiet", "--no-gpg-sign", "--file=-", at=self.tree, given=message, env=moment)
        return self._run("show", "--format=", "--no-color", "--no-ext-diff", at=self.tree)

    def push(self, branch: str) -> None:
        """Push the branch, never over another.

        Raises:
            PushRace: it is there by now, with something else on it.
        """
        head = f"HEAD:refs/heads/{branch}"
        self._run("push", "--quiet", "--no-verify", "--", self.url, head, at=self.tree)

    def _run(
        self,
        *arguments: str,
        at: Path | None = None,
        given: str = "",
        env: Mapping[str, str] | None = None,
    ) -> str:
        left = self._end - monotonic()
        what = f"git {arguments[0]}"
        if left <= 0:
            raise Refused(f"{what} was not begun: Git had {SECONDS:.0f} s in all.")
        try:
            done = subprocess.run(  # noqa: S603 (an argument list, our own; `--` before what is not)
                _command(arguments), cwd=at, input=given.encode(), env={**self._env, **(env or {})},
                capture_output=True, timeout=left, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise Refused(
                f"{what} did not end in time; is the Git server slow, or the repository large?"
            ) from None
        except OSError as no:
            raise Refused(
                f"git cannot be run here ({no.strerror}); its image needs the executable."
            ) from None
        said = done.stderr.decode(errors="replace")
        if done.returncode and arguments[0] == "push" and any(word in said for word in _RACES):
            raise PushRace
        if done.returncode:
            raise Refused(f"{what} failed ({done.returncode}): {self._harmless(said)}")
        return done.stdout.decode(errors="replace")

    def _harmless(self, said: str) -> str:
        text = " ".join(said.split())
        for secret in (self._token, _basic(self._token)) if self._token else ():
            text = text.replace(secret, "***")
        return clean(text, 300) or "it said nothing"


def _command(arguments: Sequence[str]) -> list[str]:
    settings = {
        "core.hooksPath": os.devnull, "core.symlinks": "false", "core.autocrlf": "false",
        "user.name": _AUTHOR, "user.email": _EMAIL, "credential.helper": "", "gc.auto": "0",
        "submodule.recurse": "false", "http.followRedirects": "false", "core.askPass": "",
        "http.proxySSLVerify": "true", "http.sslVerify": "true", "http.emptyAuth": "false",
        "advice.detachedHead": "false",
    }  # fmt: skip
    return [
        "git",
        *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
        *arguments,
    ]


def _basic(token: str) -> str:
    return b64encode(f"x-access-token:{token}".encode()).decode()


def _environment(url: str, home: Path, env: Mapping[str, str], token: str) -> dict[str, str]:
    given = {name: env[name] for name in _PASSED_ON if name in env}
    given |= {
        "HOME": str(home), "LC_ALL": "C", "GIT_TERMINAL_PROMPT": "0", "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull, "GIT_ALLOW_PROTOCOL": "https:ssh:file",
    }  # fmt: skip
    given.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    if token and url.startswith("https://"):
        given |= {
            "GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": f"http.{url}.extraHeader",
            "GIT_CONFIG_VALUE_0": f"Authorization: Basic {_basic(token)}",
        }  # fmt: skip
    return given
