"""The routes for signing in and out and for the page of accounts, and their cookies."""

from http import HTTPStatus
from typing import Any, Final

import structlog
from flask import Flask, abort, g, redirect, render_template, request, url_for
from werkzeug import Response

from quietpager.functions.people.console.door import DEVICE_LASTS, Busy, Door
from quietpager.functions.people.console.sessions import LASTS, Session, Sessions
from quietpager.functions.people.console.throttle import Wait
from quietpager.model.text import clean
from quietpager.people.users import Users

COME_AGAIN: Final = 5
"""Seconds after which somebody who found the door crowded comes again."""

log = structlog.get_logger()


class Cookies:
    """Names and attributes of the two cookies. With HTTPS the browser binds them to this very host."""

    def __init__(self, *, secure: bool) -> None:
        """`secure`: people reach the console by HTTPS."""
        self._secure = secure
        prefix = "__Host-" if secure else ""
        self.session, self.device = f"{prefix}quietpager", f"{prefix}quietpager-device"

    def set_session(self, response: Response, session: Session) -> None:
        """Give the browser the session's id. It is given once, so its twelve hours are not renewed."""
        self._set(response, self.session, session.id, int(LASTS.total_seconds()))

    def set_device(self, response: Response, text: str) -> None:
        """Remember that somebody signed in with this browser."""
        self._set(response, self.device, text, DEVICE_LASTS)

    def _set(self, response: Response, name: str, value: str, seconds: int) -> None:
        response.set_cookie(
            name, value, max_age=seconds, path="/", secure=self._secure, httponly=True, samesite="Strict"
        )


def inside(path: str) -> str:
    """Keep to our own pages: a path, and nothing that a browser reads as another host."""
    fine = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if fine else "/"


def routes(app: Flask, users: Users, sessions: Sessions, door: Door, cookies: Cookies) -> None:
    """Add them to the app."""
    _in_and_out(app, users, sessions, door, cookies)
    _accounts(app, users, sessions)


def _in_and_out(app: Flask, users: Users, sessions: Sessions, door: Door, cookies: Cookies) -> None:

    @app.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> Any:
        if request.method == "GET":
            return _form(users)
        name, password = request.form.get("name", "")[:64], request.form.get("password", "")[:1024]
        device = request.cookies.get(cookies.device, "")
        try:
            right = door.admits(name, password, request.remote_addr or "", device)
        except Wait as no:
            log.warning("has to wait before signing in", user=clean(name, 64), seconds=no.seconds)
            sentence = f"Too many wrong passwords. Wait {_span(no.seconds)}, then try again."
            return _form(users, sentence, HTTPStatus.TOO_MANY_REQUESTS, no.seconds)
        except Busy:
            sentence = "Many people sign in at this moment. Nothing was checked; try again in a few seconds."
            return _form(users, sentence, HTTPStatus.SERVICE_UNAVAILABLE, COME_AGAIN)
        if not right:
            log.warning("wrong name or password", user=clean(name, 64))
            return _form(users, "Wrong name or password.", HTTPStatus.UNAUTHORIZED)
        sessions.end(g.session)  # one browser, one session
        g.session = sessions.begin(name)
        log.info("signed in", user=name)
        response = redirect(inside(request.form.get("next", "/")), HTTPStatus.SEE_OTHER)
        cookies.set_device(response, door.device_cookie(name))
        return response

    @app.post("/sign-out")
    def sign_out() -> Any:
        sessions.end(g.session)
        g.session = Session()
        return redirect(url_for("sign_in"), HTTPStatus.SEE_OTHER)


def _accounts(app: Flask, users: Users, sessions: Sessions) -> None:
    @app.get("/accounts")
    def accounts() -> str:
        return render_template("accounts.html", accounts=users.all(), sessions=sessions.of_accounts())

    @app.post("/accounts/<name>/sign-out")
    def end_sessions(name: str) -> Any:
        if name not in users.all():
            abort(HTTPStatus.NOT_FOUND, f"There is no account {name}.")
        by = g.session.kept.account
        ended = sessions.end_all(name, by)
        log.warning("sessions ended", user=name, by=by, sessions=ended)
        if name == by:
            return redirect(url_for("sign_in"), HTTPStatus.SEE_OTHER)
        sessions.say(g.session, f"{name} is signed out everywhere: {_sessions(ended)} ended.")
        return redirect(url_for("accounts"), HTTPStatus.SEE_OTHER)


def _form(
    users: Users, sentence: str = "", code: HTTPStatus = HTTPStatus.OK, again: int = 0
) -> tuple[str, int, dict[str, str]]:
    """Show the sign-in page; `again`: seconds after which the same may be tried again."""
    page = render_template(
        "sign_in.html", to=request.values.get("next", "/"), none=not users.all(), sentence=sentence
    )
    return page, code, {"Retry-After": str(again)} if again else {}


def _span(seconds: int) -> str:
    if seconds < 120:
        return f"{seconds} seconds"
    return f"{round(seconds / 60 + 0.5)} minutes"


def _sessions(number: int) -> str:
    return "1 session was" if number == 1 else f"{number} sessions were"
