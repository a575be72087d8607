"""A stolen, planted or old cookie of the console: does it still open anything?

The cookie held the whole session, so a copy of it lived on after sign-out, and each request gave it twelve
hours more. The attacker has a copy of somebody's cookie (a shared machine, a backup of a browser), or has put
one of their own into somebody's browser, or knows the token of another session's forms.
"""

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from quietpager.deciding.decisions import question_of
from quietpager.functions.people.console import sessions
from quietpager.functions.people.console.app import make_app
from quietpager.functions.people.console.sessions import (
    IDLE,
    LASTS,
    PER_ACCOUNT,
    PURGE,
    Kept,
    Session,
    Sessions,
)
from quietpager.model.store import Json
from quietpager.people.roles import Role
from quietpager.people.users import Users
from quietpager.store.memory import MemoryStore
from tests.asked import Asked
from tests.console_site import PASSWORD, Browser, browser, quick_users


@pytest.fixture
def asked() -> Asked:
    return Asked(MemoryStore())


@pytest.fixture
def users(tmp_path: Path) -> Users:
    return quick_users(tmp_path)


@pytest.fixture
def app(asked: Asked, users: Users) -> Flask:
    return make_app(asked.ctx, users, secure=False)


def thief_of(victim: Browser, app: Flask) -> Browser:
    """A browser with a copy of somebody's session cookie."""
    one = browser(app)
    one.client.set_cookie("quietpager", victim.cookie())
    return one


def kept(asked: Asked) -> list[Json]:
    return [record.body for record in asked.store.scan("SESSION")]


# After sign-out


def test_a_copy_of_the_cookie_is_worth_nothing_after_sign_out(app: Flask, asked: Asked) -> None:
    alice = browser(app).sign_in("alice")
    thief = thief_of(alice, app)
    assert thief.is_in()
    alice.send("/sign-out")
    assert not thief.is_in()
    assert kept(asked) == []


def test_where_the_record_stays_the_copy_lives_on(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = browser(app).sign_in("alice")
    thief = thief_of(alice, app)
    monkeypatch.setattr(Sessions, "end", lambda *_: None)
    alice.send("/sign-out")
    assert thief.is_in()


# After its time


def used_for(one: Browser, asked: Asked, span: timedelta, every: timedelta) -> bool:
    """Use it again and again for so long; whether it is still in."""
    end = asked.now + span
    while asked.now < end:
        one.get("/")
        asked.wait(every.total_seconds())
    return one.is_in()


def test_no_use_renews_the_twelve_hours(app: Flask, asked: Asked) -> None:
    alice = browser(app).sign_in("alice")
    assert used_for(alice, asked, LASTS - timedelta(hours=1), timedelta(hours=1))
    assert not used_for(alice, asked, timedelta(hours=1), timedelta(minutes=30))


def test_where_use_renews_them_a_session_lasts_for_ever(
    app: Flask, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Kept, "over", lambda self, now: now - self.seen >= LASTS)
    assert used_for(browser(app).sign_in("alice"), asked, 2 * LASTS, timedelta(hours=1))


def test_the_cookie_is_given_once_and_for_twelve_hours(app: Flask) -> None:
    one = browser(app)
    one.sign_in("alice")
    again = one.client.get("/")
    assert [value for value in again.headers.getlist("Set-Cookie") if value.startswith("quietpager=")] == []
    found = one.client.get_cookie("quietpager")
    assert found is not None
    assert found.max_age == LASTS.total_seconds()


def test_an_unused_session_ends_and_the_queue_that_renews_itself_is_no_use(app: Flask, asked: Asked) -> None:
    alice = browser(app).sign_in("alice")
    poll = {"HX-Request": "true"}
    for _ in range(23):
        asked.wait(IDLE.total_seconds() / 24)
        assert alice.client.get("/queue", headers=poll).status_code == 200
    asked.wait(IDLE.total_seconds() / 24)
    last = alice.client.get("/queue", headers=poll)
    assert (last.status_code, last.headers["HX-Refresh"]) == (204, "true")
    assert not alice.is_in()


def test_where_a_poll_counts_a_forgotten_tab_never_ends(
    app: Flask, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Sessions.open
    monkeypatch.setattr(Sessions, "open", lambda self, given, **_: real(self, given, by_person=True))
    alice = browser(app).sign_in("alice")
    for _ in range(24):
        asked.wait(IDLE.total_seconds() / 20)
        alice.client.get("/queue", headers={"HX-Request": "true"})
    assert alice.is_in()


# After a change of the account


def changes(users: Users, what: str) -> None:
    match what:
        case "password":
            users.put("alice", PASSWORD)
        case "role":
            users.set_role("alice", Role.VIEWER)
        case "role, and back":
            users.set_role("alice", Role.ADMIN)
            users.set_role("alice", Role.APPROVER)
        case "removal":
            users.remove("alice")


CHANGES = ["password", "role", "role, and back", "removal"]


@pytest.mark.parametrize("what", CHANGES)
def test_a_change_of_the_account_ends_its_sessions_and_no_others(
    app: Flask, users: Users, asked: Asked, what: str
) -> None:
    alice, bob = browser(app).sign_in("alice"), browser(app).sign_in("bob")
    changes(users, what)
    assert not alice.is_in()
    assert bob.is_in()
    assert [one["account"] for one in kept(asked)] == ["bob"]


@pytest.mark.parametrize("what", ["password", "role", "role, and back"])
def test_where_a_session_is_not_bound_to_the_account_it_outlives_the_change(
    app: Flask, users: Users, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(Sessions, "_holds", lambda *_: True)
    alice = browser(app).sign_in("alice")
    changes(users, what)
    assert alice.is_in()


# An admin ends them


def test_an_admin_ends_all_sessions_of_an_account_and_it_is_audited(app: Flask, asked: Asked) -> None:
    first, second = browser(app).sign_in("alice"), browser(app).sign_in("alice")
    bob, root = browser(app).sign_in("bob"), browser(app).sign_in("root")
    assert "2 signed in" in root.get("/accounts")
    root.send("/accounts/alice/sign-out")
    assert "alice is signed out everywhere: 2 sessions were ended." in root.said()
    assert [one.is_in() for one in (first, second, bob, root)] == [False, False, True, True]
    (entry,) = asked.store.audit(sessions.CHAIN)
    assert (entry.actor, entry.kind, entry.body) == ("root", "ended", {"account": "alice", "sessions": 2})
    root.send("/accounts/nobody/sign-out")
    assert root.status == 404
    root.get("/accounts")
    root.send("/accounts/root/sign-out")
    assert not root.is_in()


def test_a_session_that_was_ended_is_not_brought_back_by_a_request_under_way(
    app: Flask, asked: Asked, users: Users
) -> None:
    alice = browser(app).sign_in("alice")
    mine = Sessions(lambda: asked.store, lambda: asked.now, users)
    under_way = mine.open(alice.cookie(), by_person=True)
    mine.end_all("alice", "root")
    mine.say(under_way, "Written late.")
    assert kept(asked) == []


def test_what_is_over_is_removed_at_the_next_sign_in_and_an_account_has_only_so_many(
    app: Flask, asked: Asked
) -> None:
    browsers = []
    for _ in range(PER_ACCOUNT + 3):
        asked.wait(1)
        browsers.append(browser(app).sign_in("alice"))
    assert [one.is_in() for one in browsers] == [False] * 3 + [True] * PER_ACCOUNT
    assert len(kept(asked)) == PER_ACCOUNT <= PURGE
    asked.wait(LASTS.total_seconds())
    browser(app).sign_in("bob")
    assert [one["account"] for one in kept(asked)] == ["bob"]


# Planted and foreign


def test_a_cookie_that_somebody_planted_never_becomes_a_session(app: Flask) -> None:
    attacker, victim = browser(app), browser(app)
    attacker.get("/sign-in")
    victim.client.set_cookie("quietpager", attacker.cookie())
    victim.sign_in("alice")
    assert victim.is_in()
    assert victim.cookie() != attacker.cookie()
    assert not attacker.is_in()


def test_where_signing_in_keeps_the_id_whoever_planted_it_is_in(
    app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacker, victim = browser(app), browser(app)
    attacker.get("/sign-in")
    planted = attacker.cookie()
    victim.client.set_cookie("quietpager", planted)
    monkeypatch.setattr(sessions, "Session", lambda *given, **kw: Session(*(given or (planted,)), **kw))
    victim.sign_in("alice")
    assert attacker.is_in()


def approve(one: Browser, name: str, token: str) -> int:
    one.get(f"/incident/{name}")
    form = one.fields() | {"csrf": token}
    status: int = one.client.post(f"/incident/{name}/approve", data=form).status_code
    return status


def test_the_token_of_another_session_does_not_fit(app: Flask, asked: Asked) -> None:
    name = asked.ask()
    alice, mallory = browser(app).sign_in("alice"), browser(app).sign_in("bob")
    mallory.get(f"/incident/{name}")
    before = browser(app)
    before.get("/sign-in")
    for token in (mallory.fields()["csrf"], before.fields()["csrf"]):
        assert approve(alice, name, token) == 400
    question = question_of(asked.store, asked.the(name))
    assert question is not None
    assert question.decision == ""
    alice.get(f"/incident/{name}")
    assert approve(alice, name, alice.fields()["csrf"]) == 303


def test_where_any_sessions_token_fits_an_attackers_own_does(
    app: Flask, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Shared(Session):
        csrf = "0" * 32

    name = asked.ask()
    alice = browser(app).sign_in("alice")
    monkeypatch.setattr(sessions, "Session", Shared)
    assert approve(alice, name, "0" * 32) == 303


def test_the_store_holds_neither_ids_nor_tokens(app: Flask, asked: Asked) -> None:
    alice = browser(app).sign_in("alice")
    alice.get("/")
    text = repr(asked.store.scan("SESSION"))
    assert alice.cookie() not in text
    assert alice.fields()["csrf"] not in text


@pytest.mark.parametrize("cookie", ["", "x", "../INCIDENT", "a" * 44, "ü" * 43, "a" * 100_000])
def test_a_cookie_that_is_no_id_costs_the_store_nothing(
    asked: Asked, users: Users, monkeypatch: pytest.MonkeyPatch, cookie: str
) -> None:
    def asks(*_: Any) -> Any:
        raise AssertionError("the store was asked")

    monkeypatch.setattr(asked.store, "get_many", asks)
    found = Sessions(lambda: asked.store, lambda: asked.now, users).open(cookie, by_person=True)
    assert (found.kept, found.fresh) == (None, True)


def test_a_link_from_elsewhere_does_not_replace_the_session(app: Flask) -> None:
    """A strict cookie is not sent along with it, so the answer must not set another one."""
    for path in ("/", "/sign-in", "/incident/x", "/static/console.css", "/nowhere"):
        with app.test_client().get(path, headers={"Sec-Fetch-Site": "cross-site"}) as page:
            assert "Set-Cookie" not in page.headers
    answer = app.test_client().post("/sign-out", headers={"Sec-Fetch-Site": "cross-site"})
    assert (answer.status_code, "Set-Cookie" in answer.headers) == (400, False)
