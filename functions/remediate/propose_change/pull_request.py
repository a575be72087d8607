"""Where a pushed branch is shown to a person: a port with two ends, GitHub's REST API and none at all.

Who calls it: `proposing`. Other forges come in here.
"""

import json
import re
from typing import Any, Final, Protocol
from urllib.parse import quote

from quietpager.errors import Refused
from quietpager.incident.policy import Repository
from quietpager.model.incident import Proposal
from quietpager.model.text import clean
from quietpager.outgoing import NoAnswer, ask

TIMEOUT: Final = 4.0
"""Seconds for one request."""


class Forge(Protocol):
    """Shows a branch to people, once, however often it is asked."""

    def show(self, branch: str, base: str, title: str, body: str) -> Proposal:
        """Give where it is to be seen; raises Refused with a sentence."""
        ...


class BranchOnly:
    """No forge: the branch itself is what there is."""

    def show(self, branch: str, base: str, title: str, body: str) -> Proposal:
        """Name the branch."""
        del base, title, body
        return Proposal(kind="branch", where=branch)


class GitHub:
    """Pull requests by GitHub's REST API, version 2022-11-28."""

    def __init__(self, api: str, url: str, token: str) -> None:
        """Find owner and repository in the remote's URL.

        Raises:
            Refused: it has none.
        """
        found = re.search(r"[/:]([A-Za-z0-9_.-]+)/([A-Za-z0-9_.-]+?)(?:\.git)?/?$", url)
        if found is None:
            raise Refused("The repository's url names no owner and repository, as GitHub's must.")
        self._owner = found[1]
        self._pulls = f"{api.rstrip('/')}/repos/{found[1]}/{found[2]}/pulls"
        self._token = token

    def show(self, branch: str, base: str, title: str, body: str) -> Proposal:
        """Find the branch's pull request, open or closed, or open it."""
        there = self._there(branch)
        if there is None:
            wanted = {"title": title, "head": branch, "base": base, "body": body}
            code, made = self._ask("POST", self._pulls, wanted)
            # 422: another worker was faster, if there is one now.
            there = made if code == 201 else self._there(branch) if code == 422 else None
            if there is None:
                raise Refused(f"GitHub answered {code} to the pull request: {_said(made)}")
        return Proposal(kind="pull_request", where=clean(str(there.get("html_url", "")), 300))

    def _there(self, branch: str) -> dict[str, Any] | None:
        head = quote(f"{self._owner}:{branch}", safe="")
        code, found = self._ask("GET", f"{self._pulls}?state=all&head={head}", None)
        if code != 200 or not isinstance(found, list):
            raise Refused(f"GitHub answered {code} when asked for pull requests: {_said(found)}")
        return next((one for one in found if isinstance(one, dict)), None)

    def _ask(self, method: str, url: str, body: dict[str, str] | None) -> tuple[int, Any]:
        head = {"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"}
        if self._token:
            head["Authorization"] = f"Bearer {self._token}"
        data = None if body is None else json.dumps(body).encode()
        try:
            answer = ask(method, url, seconds=TIMEOUT, body=data, head=head, credential=bool(self._token))
        except NoAnswer as no:
            raise Refused(f"GitHub was not asked, or did not answer: {no}.") from None
        return answer.status, _json(answer.body)


def _json(raw: bytes) -> Any:
    try:
        return json.loads(raw)
    except ValueError:
        return None


def _said(answer: Any) -> str:
    return clean(str(answer.get("message", "")), 200) if isinstance(answer, dict) else ""


def forge_of(repository: Repository, token: str) -> Forge:
    """Choose by the policy."""
    return GitHub(repository.github, repository.url, token) if repository.github else BranchOnly()
