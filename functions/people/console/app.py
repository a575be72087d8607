"""The console: what waits for a person, one incident on one page, and the answers.

Server-rendered and complete without JavaScript; htmx only renews the queue. Every change is a POST with
a CSRF token from a session that is bound to an account. Who somebody is comes from that session alone: no
header says it. What an answer is worth is decided in `quietpager.safety.decisions`, not here.

Text from the cluster goes through `clean` and Jinja's escaping on every way to a page (`finalize`).
"""

import hmac
import secrets
from collections import deque
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final

import structlog
from flask import Flask, Response, abort, flash, g, redirect, render_template, request, session, url_for
from flask.sessions import SecureCookieSessionInterface
from itsdangerous import URLSafeTimedSerializer
from markupsafe import Markup, escape
from werkzeug.exceptions import HTTPException

from quietpager.errors import Refused, Retry
from quietpager.functions.people.console import views
from quietpager.functions.people.console.users import Users
from quietpager.masking.told import told
from quietpager.model.finding import Remedy
from quietpager.model.incident import Incident, Rehearsal, State
from quietpager.model.text import clean
from quietpager.runtime.context import Context
from quietpager.safety import records
from quietpager.safety.decisions import Decision, Seen, answer, offered, question_of, read_remedy
from quietpager.safety.switch import set_switch
from quietpager.store.port import StoreUnavailable

DECISIONS: Final[dict[str, Decision]] = {
    "approve": "approve", "modify": "modify", "reject": "reject", "take-over": "take over",
}  # fmt: skip
"""What an answer is called in an address."""

SESSION: Final = timedelta(hours=12)
"""A shift: how long a person stays signed in."""

TRIES: Final = 10
"""Wrong passwords for one name, before it has to wait."""
TRIES_IN: Final = timedelta(minutes=5)
"""The time in which they count."""

HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
}

log = structlog.get_logger()


def _shown(value: Any) -> Any:
    """Clean and mask whatever a template prints, unless it is markup that a template made."""
    return told(clean(value)) if isinstance(value, str) and not isinstance(value, Markup) else value


class _Web(Flask):
    jinja_options = {"finalize": _shown, "trim_blocks": True, "lstrip_blocks": True}


class _Sessions(SecureCookieSessionInterface):
    """Sessions signed with the key of the users file, whenever that came to be."""

    def __init__(self, users: Users) -> None:
        self.users = users

    def get_signing_serializer(self, app: Flask) -> URLSafeTimedSerializer | None:
        app.secret_key = self.users.key
        return super().get_signing_serializer(app)


class _Throttle:
    """Counts wrong passwords for each name, in this process."""

    def __init__(self) -> None:
        self._wrong: dict[str, deque[datetime]] = {}

    def full(self, name: str, now: datetime) -> bool:
        tries = self._wrong.get(name, deque())
        while tries and now - tries[0] > TRIES_IN:
            tries.popleft()
        return len(tries) >= TRIES

    def wrong(self, name: str, now: datetime) -> None:
        if len(self._wrong) > 1000:  # names that nobody has; the accounts are few
            self._wrong.clear()
        self._wrong.setdefault(name, deque(maxlen=TRIES)).append(now)


def make_app(ctx: Context, users: Users, *, secure: bool) -> Flask:
    """Make the web app.

    Args:
        ctx: store, policy, rules, actions and clock.
        users: the accounts.
        secure: people reach it by HTTPS, so the cookie travels on nothing else.
    """
    app = _Web(__name__)
    app.session_interface = _Sessions(users)
    app.config.update(
        SESSION_COOKIE_NAME="__Host-quietpager" if secure else "quietpager",
        SESSION_COOKIE_SECURE=secure,
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Strict",
        PERMANENT_SESSION_LIFETIME=SESSION,
        MAX_CONTENT_LENGTH=1 << 14,
        SEND_FILE_MAX_AGE_DEFAULT=3600,
    )
    _guard(app, users)
    _sign_in(app, ctx, users)
    _pages(app, ctx)
    _answers(app, ctx)
    _switch(app, ctx)
    return app


# --- what holds for every request ----------------------------------------------------------------------

OPEN: Final = frozenset({"static", "sign_in"})
"""Endpoints that need no session."""


def _guard(app: Flask, users: Users) -> None:
    @app.before_request
    def first() -> Any:
        g.user = _who(users)
        if request.method == "POST":
            _same_form()
        return None if g.user or request.endpoint in OPEN else _to_sign_in()

    @app.after_request
    def harden(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        return response

    @app.context_processor
    def everywhere() -> dict[str, Any]:
        return {"user": g.get("user", ""), "csrf": Markup(escape(session.get("csrf", "")))}  # noqa: S704 (escaped; not text that may be masked)

    @app.errorhandler(HTTPException)
    def refused(no: HTTPException) -> tuple[str, int]:
        code = no.code or 500
        return render_template("sorry.html", code=code, sentence=no.description), code

    @app.errorhandler(StoreUnavailable)
    @app.errorhandler(Retry)
    def away(no: Exception) -> tuple[str, int]:
        log.warning("the store does not answer", error=str(no))
        sentence = f"The store does not answer, so nothing is known and nothing was done: {no}"
        return render_template("sorry.html", code=503, sentence=sentence), 503


def _who(users: Users) -> str:
    """Name who is signed in, by the session alone; empty: nobody, or an account that has changed."""
    name = str(session.get("user", ""))
    if name and not hmac.compare_digest(str(session.get("mark")), users.mark(name) or "-"):
        session.clear()
        name = ""
    if "csrf" not in session:
        session["csrf"] = secrets.token_hex(16)
    return name


def _same_form() -> None:
    given = request.form.get("csrf", "")
    if not hmac.compare_digest(given.encode(), str(session["csrf"]).encode()):
        abort(HTTPStatus.BAD_REQUEST, "This form is too old, or not ours. Nothing was done; look again.")


def _to_sign_in() -> Any:
    if request.headers.get("HX-Request"):
        return Response(status=HTTPStatus.NO_CONTENT, headers={"HX-Refresh": "true"})
    if request.method == "GET" and request.headers.get("Sec-Fetch-Site") == "cross-site":
        # A link in a chat: a strict cookie is not sent along with it, but with the next step from here.
        return render_template("continue.html", to=_inside(request.path))
    return redirect(url_for("sign_in", next=request.path), HTTPStatus.SEE_OTHER)


def _sign_in(app: Flask, ctx: Context, users: Users) -> None:
    throttle = _Throttle()

    @app.route("/sign-in", methods=["GET", "POST"])
    def sign_in() -> Any:
        to = request.values.get("next", "/")
        if request.method == "GET":
            return render_template("sign_in.html", to=to, none=users.none(), sentence="")
        name, now = request.form.get("name", "")[:64], ctx.clock()
        if throttle.full(name, now):
            sentence, code = "Too many wrong passwords. Wait five minutes.", HTTPStatus.TOO_MANY_REQUESTS
        elif users.check(name, request.form.get("password", "")[:1024]):
            session.clear()  # nothing of an earlier session lives on in this one
            session.permanent = True
            session.update(user=name, mark=users.mark(name), csrf=secrets.token_hex(16))
            log.info("signed in", user=name)
            return redirect(_inside(to), HTTPStatus.SEE_OTHER)
        else:
            throttle.wrong(name, now)
            log.warning("wrong name or password", user=clean(name, 64))
            sentence, code = "Wrong name or password.", HTTPStatus.UNAUTHORIZED
        return render_template("sign_in.html", to=to, none=users.none(), sentence=sentence), code

    @app.post("/sign-out")
    def sign_out() -> Any:
        session.clear()
        return redirect(url_for("sign_in"), HTTPStatus.SEE_OTHER)


def _inside(path: str) -> str:
    """Keep to our own pages: a path, and nothing that a browser reads as another host."""
    fine = path.startswith("/") and not path.startswith("//") and "\\" not in path and path.isprintable()
    return path if fine else "/"


# --- pages ---------------------------------------------------------------------------------------------


def _incidents(ctx: Context) -> list[Incident]:
    """Read what is open, and what was closed lately; of years of closed ones only the rows are read."""
    bodies = [record.body for record in ctx.store.scan("INCIDENT")]
    done = sorted((b for b in bodies if b["state"] == State.CLOSED), key=lambda b: str(b["state_since"]))
    kept = [b for b in bodies if b["state"] != State.CLOSED] + done[-views.MOST_CLOSED :]
    return [Incident.from_json(body) for body in kept]


def _stopped(ctx: Context) -> dict[str, Any]:
    """Read the switch as the workers do: absent means stopped."""
    record = ctx.store.get(records.SWITCH)
    body = {"stopped": True} if record is None else record.body
    return {"stopped": bool(body.get("stopped", True)), "by": body.get("by", ""), "at": body.get("at", "")}


def _pages(app: Flask, ctx: Context) -> None:
    @app.get("/")
    def home() -> str:
        groups = views.queue(_incidents(ctx), ctx.clock(), ctx.policy.approval)
        return render_template("queue.html", groups=groups, asks=views.ASKS, switch=_stopped(ctx))

    @app.get("/queue")
    def part() -> str:
        groups = views.queue(_incidents(ctx), ctx.clock(), ctx.policy.approval)
        return render_template("_queue.html", groups=groups, asks=views.ASKS, switch=_stopped(ctx))

    @app.get("/incident/<name>")
    def incident(name: str) -> str:
        return _incident_page(ctx, name)

    @app.get("/dial")
    def dial() -> str:
        names = views.namespaces_of(ctx.policy, _incidents(ctx))
        rows = views.dial_rows(ctx.policy, ctx.rules, names)
        return render_template("dial.html", namespaces=names, rows=rows, policy=ctx.policy)


def _incident_page(ctx: Context, name: str, sentence: str = "") -> str:
    record = ctx.store.get(records.incident(name))
    if record is None:
        abort(HTTPStatus.NOT_FOUND, f"There is no incident {name}.")
    one, now = Incident.from_json(record.body), ctx.clock()
    question, plan, audit = question_of(ctx.store, one), _plan(ctx, one), ctx.store.audit(name)
    return render_template(
        "incident.html",
        one=one,
        broke=views.broke(one, now),
        state=views.state_words(one),
        question=question,
        until="" if question is None else views.until(question, now),
        why=views.why(one, audit),
        plan=plan,
        diff=[] if plan is None else views.diff(plan.edits),
        facts=[] if plan is None else views.facts(plan),
        page=views.page_parts(getattr(one, "page", None)),
        actions=offered(one, ctx.actions),
        typed=request.form,
        audit=audit,
        sentence=sentence,
    )


def _plan(ctx: Context, one: Incident) -> Rehearsal | None:
    """Read the incident's newest plan, unless it is being made or was refused."""
    record = ctx.store.get(records.rehearsal(one.rehearsal or ""))
    plan = None if record is None else Rehearsal.from_json(record.body)
    return plan if plan is not None and plan.state == "rehearsed" else None


# --- answers -------------------------------------------------------------------------------------------


def _answers(app: Flask, ctx: Context) -> None:
    @app.post("/incident/<name>/<word>")
    def decide(name: str, word: str) -> Any:
        decision = DECISIONS.get(word)
        if decision is None:
            abort(HTTPStatus.NOT_FOUND, f"Nobody can {word} an incident.")
        try:
            remedy = _remedy(ctx) if decision == "modify" else None
        except Refused as no:
            return _incident_page(ctx, name, f"{no} Nothing was done."), HTTPStatus.UNPROCESSABLE_ENTITY
        seen = Seen(request.form.get("question", ""), request.form.get("diff", ""))
        given = answer(
            ctx.store, name, decision, by=g.user, via="console", now=ctx.clock(),
            seen=seen, remedy=remedy, actions=ctx.actions,
        )  # fmt: skip
        log.info("answer", incident=name, decision=decision, by=g.user, used=given.used)
        if not given.used:
            return _incident_page(ctx, name, given.sentence), HTTPStatus.CONFLICT
        flash(given.sentence)
        return redirect(url_for("incident", name=name), HTTPStatus.SEE_OTHER)


def _remedy(ctx: Context) -> Remedy:
    action = ctx.actions.get(request.form.get("action", ""))
    if action is None:
        raise Refused("Choose one of the actions.")
    return read_remedy(action, {name: request.form.get(f"param-{name}", "") for name in action.params})


# --- the switch ----------------------------------------------------------------------------------------


def _switch(app: Flask, ctx: Context) -> None:
    @app.get("/writing")
    def writing() -> str:
        return render_template("writing.html", switch=_stopped(ctx))

    @app.post("/stop")
    def stop() -> Any:
        flash(set_switch(ctx.store, stopped=True, by=g.user, now=ctx.clock()))
        log.warning("writing is stopped", by=g.user)
        return redirect(url_for("writing"), HTTPStatus.SEE_OTHER)
