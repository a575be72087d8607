"""A person at the console, as a program: signs in, opens an incident's page, sends one of its forms.

What a browser does without a script: it keeps the session's cookie, and a form goes out with everything
that the page put into it, the CSRF token and the question's id among it. Who calls it: the demo, where it
runs unattended, and the end-to-end tests.
"""

import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field
from html.parser import HTMLParser
from http.cookiejar import CookieJar
from typing import Final

from quietpager.deciding.decisions import Decision
from quietpager.model.incident import Incident, State

PATIENCE: Final = 10.0
"""Seconds that a page may take."""


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a page, filled in as the page has it."""

    action: str
    fields: dict[str, str] = field(default_factory=dict)


class _Page(HTMLParser):
    """Collects a page's forms and notices."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.forms: list[Form] = []
        self.notices: list[str] = []
        self._open = self._noticing = False
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.forms.append(Form(given.get("action", "")))
            self._open = True
        elif tag == "input" and self._open and "name" in given:
            self.forms[-1].fields[given["name"]] = given.get("value", "")
        elif tag == "p" and "notice" in given.get("class", "").split():
            self.notices.append("")
            self._noticing = True

    def handle_endtag(self, tag: str) -> None:
        self._open = self._open and tag != "form"
        self._noticing = self._noticing and tag != "p"

    def handle_data(self, data: str) -> None:
        if self._noticing:
            self.notices[-1] += data


@dataclass(frozen=True, slots=True)
class Reply:
    """What a person answers: the decision, and for `modify` the action and what is typed for it."""

    decision: Decision
    action: str = ""
    typed: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        """Write it as one line: modify: set-requests memory=256Mi."""
        typed = "".join(f" {name}={value}" for name, value in self.typed.items())
        return f"{self.decision}: {self.action}{typed}" if self.action else self.decision

    def fits(self, form: Form, incident: str) -> bool:
        """Tell whether this is the form for it."""
        word = self.decision.replace(" ", "-")
        mine = form.action.endswith(f"/incident/{incident}/{word}")
        return mine and form.fields.get("action", "") == self.action


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a person wants of one incident: another remedy than the proposed one, and to take it over."""

    instead: Reply | None = None
    takes_over: bool = False

    def reply(self, incident: Incident) -> Reply | None:
        """Say what is answered as the incident stands; None: nothing is asked, or it is left alone.

        It depends on the incident alone, so an answer that came too late is given anew to the new question.
        """
        if incident.state is State.APPROVAL and self.instead is not None:
            return Reply("approve") if incident.by_person else self.instead
        if incident.state is State.HANDOVER and self.takes_over and not incident.taken_over:
            return Reply("take over")
        return None


NONE: Final = Wishes()
"""Nothing: the person only reads."""


class Visitor:
    """A browser of somebody who is signed in."""

    def __init__(self, url: str, name: str, password: str) -> None:
        """Sign in.

        Raises:
            OSError: the console does not answer.
            PermissionError: it does not know this name with this password.
        """
        self._url, self.name = url.rstrip("/"), name
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
        _, page = self._ask("/sign-in")
        form = next(one for one in page.forms if one.action.endswith("/sign-in"))
        status, page = self._ask(form.action, form.fields | {"name": name, "password": password})
        if status != 200:
            raise PermissionError(f"The console answered {status}: {' '.join(page.notices)}")

    def answer(self, incident: str, reply: Reply) -> str | None:
        """Open the incident's page and send the form of this answer; gives what the console says to it.

        None: the page has no such form; somebody has answered, or the incident went on.

        Raises:
            OSError: the console does not answer.
        """
        _, page = self._ask(f"/incident/{incident}")
        form = next((one for one in page.forms if reply.fits(one, incident)), None)
        if form is None:
            return None
        typed = {f"param-{name}": value for name, value in reply.typed.items()}
        status, after = self._ask(form.action, form.fields | typed)
        said = " ".join(" ".join(after.notices).split())
        return said if status == 200 else f"refused ({status}): {said}"

    def _ask(self, path: str, form: Mapping[str, str] | None = None) -> tuple[int, _Page]:
        body = None if form is None else urllib.parse.urlencode(form).encode()
        try:
            with self._opener.open(self._url + path, body, PATIENCE) as answer:
                return answer.status, _Page(answer.read().decode())
        except urllib.error.HTTPError as no:
            with no:
                return no.code, _Page(no.read().decode(errors="replace"))
