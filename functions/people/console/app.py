"""The console: the queue of incidents, one page for each incident, and a person's answers.

Server-rendered and complete without JavaScript; htmx only renews the queue. Every change is a POST with
a CSRF token from a session that is bound to an account, and every route takes a role (`roles.NEEDS`). Who
somebody is comes from that session alone: no header says it. What an answer is worth is decided in
`quietpager.deciding.decisions`, not here.

Text from the cluster goes through `clean` and Jinja's escaping on every way to a page (`finalize`).
"""

import hmac
from http import HTTPStatus
from typing import Any, Final

import structlog
from flask import Flask, Response, abort, g, redirect, render_template, request, url_for
from markupsafe import Markup, escape
from werkzeug.exceptions import HTTPException
from werkzeug.middleware.proxy_fix import ProxyFix

from quietpager.deciding.decisions import Decision, Seen, answer, offered, question_of, read_remedy
from quietpager.errors import Refused, Retry
from quietpager.functions.people.console import signing, views
from quietpager.functions.people.console.door import Door
from quietpager.functions.people.console.sessions import Session, Sessions
from quietpager.functions.people.console.throttle import Throttle
from quietpager.incident import records
from quietpager.incident.switch import set_switch
from quietpager.masking.told import told
from quietpager.model.finding import Remedy
from quietpager.model.incident import Incident, Rehearsal, State
from quietpager.model.store import StoreUnavailable
from quietpager.model.text import clean
from quietpager.people.roles import NEEDS, Role
from quietpager.people.users import UnreadableUsers, Users
from quietpager.runtime.context import Context

DECISIONS: Final[dict[str, Decision]] = {
    "approve": "approve", "modify": "modify", "reject": "reject", "take-over": "take over",
}  # fmt: skip
"""What an answer is called in an address."""

LARGEST_FORM: Final = 1 << 14
"""Bytes of a form; the longest one a person fills in here has a few hundred."""

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


def make_app(ctx: Context, users: Users, *, secure: bool, proxies: int = 0) -> Flask:
    """Make the web app.

    Args:
        ctx: store, policy, rules, actions and clock.
        users: the accounts.
        secure: people reach it by HTTPS, so the cookies travel on nothing else.
        proxies: how many proxies in front of it write X-Forwarded-For; with 0 that header says nothing.
    """
    app = _Web(__name__)
    app.config.update(MAX_CONTENT_LENGTH=LARGEST_FORM, SEND_FILE_MAX_AGE_DEFAULT=3600)
    if proxies > 0:
        app.wsgi_app = ProxyFix(app.wsgi_app, proxies, x_proto=0, x_host=0)  # type: ignore[method-assign]
    sessions = Sessions(lambda: ctx.store, ctx.clock, users)
    door = Door(users, Throttle(lambda: ctx.store, ctx.clock, lambda: users.key))
    cookies = signing.Cookies(secure=secure)
    _guard(app, sessions, cookies)
    _everywhere(app, sessions)
    _errors(app)
    signing.routes(app, users, sessions, door, cookies)
    _pages(app, ctx)
    _answers(app, ctx, sessions)
    _switch(app, ctx, sessions)
    return app


# --- what holds for every request ----------------------------------------------------------------------


def _guard(app: Flask, sessions: Sessions, cookies: signing.Cookies) -> None:
    @app.before_request
    def first() -> Any:
        if request.endpoint == "static":
            return None
        polls = "HX-Request" in request.headers
        g.session = sessions.open(request.cookies.get(cookies.session), by_person=not polls)
        if _from_elsewhere():  # a strict cookie was not sent along, so this answer may not replace it
            g.session.fresh = False
            if request.method == "GET" and g.session.kept is None:
                # A link in a chat: the cookie comes with the next step, from here.
                return render_template("continue.html", to=signing.inside(request.path))
        if request.method == "POST":
            _same_form(g.session)
        return _allowed(g.session)

    @app.after_request
    def harden(response: Response) -> Response:
        for name, value in HEADERS.items():
            response.headers.setdefault(name, value)
        if request.endpoint != "static":
            response.headers["Cache-Control"] = "no-store"
        if "session" in g and g.session.fresh:
            cookies.set_session(response, g.session)
        return response


def _everywhere(app: Flask, sessions: Sessions) -> None:
    """Give every template who is here, what that person may do, and what is to be said once."""

    @app.context_processor
    def everywhere() -> dict[str, Any]:
        session = g.get("session") or Session()
        kept = session.kept
        return {
            "user": kept.account if kept else "",
            "role": kept.role if kept else "",
            "csrf": Markup(escape(session.csrf)),  # noqa: S704 (escaped; random, and so the mask would hide it)
            "may": lambda endpoint: _covers(session, endpoint),
            "said": lambda: sessions.said(session),
        }


def _errors(app: Flask) -> None:
    """Say every error in a sentence, on a page."""

    @app.errorhandler(HTTPException)
    def refused(no: HTTPException) -> tuple[str, int]:
        code = no.code or 500
        return render_template("sorry.html", code=code, sentence=no.description), code

    @app.errorhandler(StoreUnavailable)
    @app.errorhandler(Retry)
    def away(no: Exception) -> tuple[str, int]:
        log.warning("the store does not answer", error=str(no))
        g.pop("session", None)  # nothing more is asked of the store
        sentence = f"The store does not answer, so nothing is known and nothing was done: {no}"
        return render_template("sorry.html", code=503, sentence=sentence), 503

    @app.errorhandler(UnreadableUsers)
    def unreadable(no: Exception) -> tuple[str, int]:
        log.error("the users file cannot be read", error=str(no))
        g.pop("session", None)
        return render_template("sorry.html", code=503, sentence=str(no)), 503


def _from_elsewhere() -> bool:
    return request.headers.get("Sec-Fetch-Site") == "cross-site"


def _same_form(session: Session) -> None:
    given = request.form.get("csrf", "")
    if not hmac.compare_digest(given.encode(), session.csrf.encode()):
        abort(HTTPStatus.BAD_REQUEST, "This form is too old, or not ours. Nothing was done; look again.")


def _covers(session: Session, endpoint: str) -> bool:
    """Tell whether whoever has this session may do this; what is not in the table nobody may."""
    needed = NEEDS.get(endpoint, "nobody")
    if needed is None:
        return True
    return isinstance(needed, Role) and session.kept is not None and session.kept.role.covers(needed)


def _allowed(session: Session) -> Any:
    """Let the request through (None), send it to the sign-in page, or refuse it."""
    endpoint = request.endpoint
    if endpoint is not None and _covers(session, endpoint):
        return None
    who = session.kept
    if who is None:
        return _to_sign_in()
    if endpoint is None:  # there is no such page, which Flask says
        return None
    needed = NEEDS.get(endpoint)
    return abort(
        HTTPStatus.FORBIDDEN, f"{who.account} is {_a(who.role)}; this takes {_a(needed)}. Nothing was done."
    )


def _a(role: Role | None) -> str:
    if role is None:
        return "a role that nobody has"
    return f"an {role}" if role[0] in "aeiou" else f"a {role}"


def _to_sign_in() -> Any:
    if request.headers.get("HX-Request"):
        return Response(status=HTTPStatus.NO_CONTENT, headers={"HX-Refresh": "true"})
    return redirect(url_for("sign_in", next=request.path), HTTPStatus.SEE_OTHER)


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


def _answers(app: Flask, ctx: Context, sessions: Sessions) -> None:
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
            ctx.store, name, decision, by=g.session.kept.account, via="console", now=ctx.clock(),
            seen=seen, remedy=remedy, actions=ctx.actions,
        )  # fmt: skip
        log.info("answer", incident=name, decision=decision, by=g.session.kept.account, used=given.used)
        if not given.used:
            return _incident_page(ctx, name, given.sentence), HTTPStatus.CONFLICT
        sessions.say(g.session, given.sentence)
        return redirect(url_for("incident", name=name), HTTPStatus.SEE_OTHER)


def _remedy(ctx: Context) -> Remedy:
    action = ctx.actions.get(request.form.get("action", ""))
    if action is None:
        raise Refused("Choose one of the actions.")
    return read_remedy(action, {name: request.form.get(f"param-{name}", "") for name in action.params})


# --- the switch ----------------------------------------------------------------------------------------


def _switch(app: Flask, ctx: Context, sessions: Sessions) -> None:
    @app.get("/writing")
    def writing() -> str:
        return render_template("writing.html", switch=_stopped(ctx))

    @app.post("/stop")
    def stop() -> Any:
        by = g.session.kept.account
        sessions.say(g.session, set_switch(ctx.store, stopped=True, by=by, now=ctx.clock()))
        log.warning("writing is stopped", by=by)
        return redirect(url_for("writing"), HTTPStatus.SEE_OTHER)
