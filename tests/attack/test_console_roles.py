"""Somebody with an account that may only read: can they answer, stop, or end other people's sessions?

The attacker is a viewer (or an approver who wants to do an admin's part), sends any form, by any method, and
knows every address. Every route is walked with every role; a route that is not in this table fails the walk.
"""

from collections.abc import Mapping
from typing import Any, Final

import pytest
from flask import Flask

from quietpager.deciding.decisions import question_of
from quietpager.functions.people.console.app import make_app
from quietpager.incident import records
from quietpager.people import roles
from quietpager.people.roles import Role
from quietpager.people.users import Users
from quietpager.store.memory import MemoryStore
from tests.asked import Asked
from tests.console_site import browser, quick_users

WALK: Final[Mapping[tuple[str, str], Role | None]] = {
    ("GET", "/static/<path:filename>"): None,
    ("GET", "/sign-in"): None,
    ("POST", "/sign-in"): None,
    ("POST", "/sign-out"): Role.VIEWER,
    ("GET", "/"): Role.VIEWER,
    ("GET", "/queue"): Role.VIEWER,
    ("GET", "/incident/<name>"): Role.VIEWER,
    ("GET", "/dial"): Role.VIEWER,
    ("GET", "/writing"): Role.VIEWER,
    ("POST", "/incident/<name>/<word>"): Role.APPROVER,
    ("POST", "/stop"): Role.ADMIN,
    ("GET", "/accounts"): Role.ADMIN,
    ("POST", "/accounts/<name>/sign-out"): Role.ADMIN,
}
"""What each role may do, written down once more, on purpose."""

WHO: Final[Mapping[str, Role | None]] = {
    "": None, "vera": Role.VIEWER, "alice": Role.APPROVER, "root": Role.ADMIN,
}  # fmt: skip


@pytest.fixture
def asked() -> Asked:
    return Asked(MemoryStore())


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Users:
    return quick_users(tmp_path_factory.mktemp("roles"))


@pytest.fixture
def app(asked: Asked, users: Users) -> Flask:
    return make_app(asked.ctx, users, secure=False)


def routes(app: Flask) -> set[tuple[str, str]]:
    """Every route and method that the console has; HEAD and OPTIONS come with each."""
    return {
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }


def test_every_route_is_in_the_walk_and_has_a_role(app: Flask) -> None:
    assert routes(app) == set(WALK)
    assert {rule.endpoint for rule in app.url_map.iter_rules()} == set(roles.NEEDS)


def ask(app: Flask, who: str, method: str, path: str) -> Any:
    one = browser(app)
    if who:
        one.sign_in(who)
    one.get("/" if who else "/sign-in")
    data = {"csrf": one.fields()["csrf"]} if method == "POST" else None
    return one.client.open(path, method=method, data=data)


def filled(rule: str, incident: str) -> str:
    of_account = rule.startswith("/accounts")
    path = rule.replace("<name>", "bob" if of_account else incident).replace("<word>", "approve")
    return path.replace("<path:filename>", "icon.svg")


@pytest.mark.parametrize("who", WHO)
@pytest.mark.parametrize(("method", "rule"), [*WALK, *(("OPTIONS", rule) for _, rule in WALK)])
def test_each_role_may_do_what_it_may_and_nothing_else(
    app: Flask, asked: Asked, who: str, method: str, rule: str
) -> None:
    needed = [role for (_, one), role in WALK.items() if one == rule]
    mine, least = WHO[who], WALK.get((method, rule), needed[0])
    answer = ask(app, who, method, filled(rule, asked.ask()))
    answer.close()
    if least is None:
        assert answer.status_code in {200, 401}
    elif mine is None:
        assert (answer.status_code, answer.location.split("?")[0]) == (303, "/sign-in")
    elif mine.covers(least):
        assert answer.status_code in {200, 303, 409}
        assert not answer.headers.get("Location", "").startswith("/sign-in") or rule == "/sign-out"
    else:
        assert answer.status_code == 403


def test_roles_are_ranked() -> None:
    covered = [(one, other) for one in Role for other in Role if one.covers(other)]
    assert covered == [
        (Role.VIEWER, Role.VIEWER),
        (Role.APPROVER, Role.VIEWER),
        (Role.APPROVER, Role.APPROVER),
        (Role.ADMIN, Role.VIEWER),
        (Role.ADMIN, Role.APPROVER),
        (Role.ADMIN, Role.ADMIN),
    ]


def decision(asked: Asked, name: str) -> str:
    question = question_of(asked.store, asked.the(name))
    assert question is not None
    return question.decision


@pytest.mark.parametrize("word", ["approve", "modify", "reject", "take-over", "anything"])
def test_a_viewer_answers_nothing(app: Flask, asked: Asked, word: str) -> None:
    name = asked.ask()
    vera, alice = browser(app).sign_in("vera"), browser(app).sign_in("alice")
    alice.get(f"/incident/{name}")
    stolen = {key: value for key, value in alice.fields().items() if key != "csrf"}
    vera.get(f"/incident/{name}")
    vera.send(f"/incident/{name}/{word}", **stolen)
    assert vera.status == 403
    assert "vera is a viewer; this takes an approver. Nothing was done." in vera.said()
    assert decision(asked, name) == ""


def test_with_the_wrong_role_in_the_table_a_viewer_answers(
    app: Flask, asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = asked.ask()
    monkeypatch.setitem(dict_of_needs(), "decide", Role.VIEWER)
    vera = browser(app).sign_in("vera")
    vera.get(f"/incident/{name}")
    vera.send(f"/incident/{name}/take-over")
    assert decision(asked, name) == "take over"


def dict_of_needs() -> dict[str, Role | None]:
    assert isinstance(roles.NEEDS, dict)
    return roles.NEEDS


@pytest.mark.parametrize("who", ["vera", "alice"])
def test_only_an_admin_stops_and_the_page_says_how_else(app: Flask, asked: Asked, who: str) -> None:
    one = browser(app).sign_in(who)
    assert "Stop all writing now" not in one.get("/writing")
    assert "Only an admin can stop all writing" in one.page
    one.get("/")
    one.send("/stop")
    assert one.status == 403
    record = asked.store.get(records.SWITCH)
    assert record is not None
    assert record.body["stopped"] is False


def test_a_page_has_no_button_that_the_role_may_not_press(app: Flask, asked: Asked) -> None:
    name = asked.ask()
    shown = {}
    for who in ("vera", "alice", "root"):
        one = browser(app).sign_in(who)
        page = one.get(f"/incident/{name}") + one.get("/writing")
        shown[who] = [word for word in ("/approve", "/reject", '"/accounts"', '"/stop"') if word in page]
    assert shown == {
        "vera": [],
        "alice": ["/approve", "/reject"],
        "root": ["/approve", "/reject", '"/accounts"', '"/stop"'],
    }


def test_a_route_that_nobody_gave_a_role_is_open_to_nobody(app: Flask) -> None:
    app.add_url_rule("/new", "new", lambda: "secret")
    assert routes(app) != set(WALK)
    assert ask(app, "root", "GET", "/new").status_code == 403
    assert ask(app, "", "GET", "/new").status_code == 303
