"""The console over HTTP: who may do what, what is shown, and every bad input."""

import re
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from quietpager.deciding.decisions import question_of
from quietpager.functions.people.console.app import HEADERS, make_app
from quietpager.functions.people.console.throttle import PAIR
from quietpager.functions.people.console.views import broke, page_parts
from quietpager.incident import records
from quietpager.model.finding import Evidence, Remedy
from quietpager.model.incident import State
from quietpager.model.store import Delete, Put, StoreUnavailable
from quietpager.model.time import to_text
from quietpager.people.roles import Role
from quietpager.people.users import Users
from quietpager.store.memory import MemoryStore
from tests.asked import POLICY, Asked
from tests.console_site import PASSWORD, Browser, quick_users

HOSTILE = '<script>alert(1)</script>\u202egnp.exe\x1b[31m {{ 7 * 7 }} "onload="x'


@pytest.fixture
def asked() -> Asked:
    return Asked(MemoryStore())


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Users:
    return quick_users(tmp_path_factory.mktemp("console"))


@pytest.fixture
def site(asked: Asked, users: Users) -> Any:
    def open_browser() -> Browser:
        return Browser(app.test_client())

    app = make_app(asked.ctx, users, secure=False)
    return open_browser


@pytest.fixture
def alice(site: Any) -> Browser:
    browser: Browser = site().sign_in("alice")
    return browser


# Who


PAGES = ["/", "/queue", "/incident/inc-1", "/dial", "/writing"]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Forwarded-User": "alice", "X-Remote-User": "alice", "Remote-User": "alice"},
        {"X-Auth-Request-Email": "alice", "Authorization": "Basic YWxpY2U6eA=="},
        {"Cookie": "quietpager=eyJ1c2VyIjoiYWxpY2UifQ.x.y"},
    ],
)
def test_nobody_sees_anything_without_a_session_whatever_headers_claim(
    site: Any, path: str, headers: dict[str, str]
) -> None:
    answer = site().client.get(path, headers=headers)
    assert answer.status_code == 303
    assert answer.location.startswith("/sign-in")


def test_a_forged_header_does_not_change_who_answers(asked: Asked, alice: Browser) -> None:
    name = asked.ask()
    alice.get(f"/incident/{name}")
    alice.client.post(
        f"/incident/{name}/reject", data=alice.fields(), headers={"X-Forwarded-User": "root", "From": "root"}
    )
    asked.tick()
    assert asked.the(name).decided_by == "alice"


@pytest.mark.parametrize("path", ["/stop", "/incident/x/approve", "/sign-out", "/sign-in"])
@pytest.mark.parametrize("token", [None, "", "0" * 32, "ümlaut"])
def test_a_post_without_its_token_does_nothing(
    asked: Asked, alice: Browser, path: str, token: str | None
) -> None:
    answer = alice.client.post(path, data={} if token is None else {"csrf": token})
    assert answer.status_code == 400
    assert "not ours" in answer.get_data(as_text=True)
    assert asked.store.get(records.SWITCH).body["stopped"] is False  # type: ignore[union-attr]


def test_nothing_is_changed_by_a_get(asked: Asked, alice: Browser) -> None:
    name = asked.ask()
    for path in ("/stop", f"/incident/{name}/approve", "/sign-out"):
        assert alice.client.get(path).status_code == 405
    assert asked.the(name).state is State.APPROVAL


def test_the_cookie_is_strict_and_out_of_reach_of_scripts(asked: Asked, users: Users) -> None:
    for secure in (True, False):
        client = make_app(asked.ctx, users, secure=secure).test_client()
        cookie = client.get("/sign-in").headers["Set-Cookie"]
        assert {"HttpOnly", "SameSite=Strict", "Path=/"} <= {part.strip() for part in cookie.split(";")}
        assert ("Secure" in cookie, cookie.startswith("__Host-")) == (secure, secure)


def test_a_wrong_password_says_no_more_than_a_wrong_name(site: Any) -> None:
    pages = []
    for name in ("alice", "nobody"):
        browser = site().sign_in(name, "wrong")
        assert browser.status == 401
        pages.append(re.sub(r'value="[0-9a-f]{32}"', "", browser.page))
    assert pages[0] == pages[1]


def test_many_wrong_passwords_make_that_name_wait(site: Any, asked: Asked) -> None:
    for _ in range(PAIR.burst):
        site().sign_in("bob", "wrong")
    assert site().sign_in("bob").status == 429
    assert site().sign_in("alice").status == 200
    asked.wait(301)
    assert site().sign_in("bob").status == 200


def test_a_session_ends_with_its_account_or_its_password(tmp_path: Path, asked: Asked) -> None:
    users = Users(tmp_path / "users.json")
    users.put("carol", PASSWORD)
    app = make_app(asked.ctx, users, secure=False)
    for change in (lambda: users.put("carol", PASSWORD + "!"), lambda: users.remove("carol")):
        browser = Browser(app.test_client()).sign_in("carol", PASSWORD)
        if "Wrong" in browser.page:
            browser = Browser(app.test_client()).sign_in("carol", PASSWORD + "!")
        assert browser.client.get("/").status_code == 200
        change()
        assert browser.client.get("/").status_code == 303


def test_signing_in_gives_a_new_token_and_signing_out_ends_the_session(site: Any) -> None:
    browser = site()
    browser.get("/sign-in")
    before = browser.fields()["csrf"]
    browser.sign_in("alice")
    assert browser.fields()["csrf"] != before
    browser.send("/sign-out")
    assert browser.client.get("/").status_code == 303


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "", "/a\nb"])
def test_after_signing_in_one_stays_here(site: Any, to: str) -> None:
    browser = site()
    browser.get("/sign-in")
    body = browser.fields() | {"name": "alice", "password": PASSWORD, "next": to}
    assert browser.client.post("/sign-in", data=body).location == "/"


def test_a_link_from_elsewhere_goes_on_with_the_session(site: Any, alice: Browser) -> None:
    page = site().get("/incident/inc-1", **{"Sec-Fetch-Site": "cross-site"})
    assert 'http-equiv="refresh"' in page
    assert 'href="/incident/inc-1"' in page
    assert 'href="/"' in site().get("//evil.example", **{"Sec-Fetch-Site": "cross-site"})
    assert alice.get("/", **{"Sec-Fetch-Site": "cross-site"}).count("<h1>Queue</h1>") == 1


def test_accounts_are_hashed_readable_by_their_owner_only_and_have_no_default(tmp_path: Path) -> None:
    users = Users(tmp_path / "new" / "users.json")
    assert users.all() == {}
    assert not users.check("admin", "admin")
    with pytest.raises(ValueError, match="at least 12"):
        users.put("dave", "short")
    with pytest.raises(ValueError, match="letters, digits"):
        users.put("da ve", PASSWORD)
    users.put("dave", PASSWORD)
    text = users.path.read_text(encoding="utf-8")
    assert PASSWORD not in text
    assert "scrypt:" in text
    assert users.path.stat().st_mode & 0o777 == 0o600
    key = users.key
    users.put("erin", PASSWORD)
    assert users.key == key


def test_accounts_from_before_there_were_roles_are_approvers_and_new_ones_are_viewers(tmp_path: Path) -> None:
    path = tmp_path / "users.json"
    path.write_text('{"key": "aa", "users": {"old": "pbkdf2:sha256:1$x$y"}}', encoding="utf-8")
    users = Users(path)
    assert (users.role("old"), users.key) == (Role.APPROVER, "aa")
    users.put("new", PASSWORD)
    assert (users.role("new"), users.role("old")) == (Role.VIEWER, Role.APPROVER)
    assert users.set_role("new", Role.ADMIN)
    users.put("new", PASSWORD + "!")
    assert (users.role("new"), users.key) == (Role.ADMIN, "aa")
    assert not users.set_role("nobody", Role.ADMIN)


@pytest.mark.parametrize(
    "text", ["{", "[]", '{"users": []}', '{"users": {"eve": {"password": "x", "role": "owner"}}}', "\x00"]
)
def test_a_users_file_that_cannot_be_read_lets_nobody_in_and_says_so(
    tmp_path: Path, asked: Asked, text: str
) -> None:
    path = tmp_path / "users.json"
    path.write_text(text, encoding="utf-8")
    browser = Browser(make_app(asked.ctx, Users(path), secure=False).test_client())
    browser.get("/sign-in")
    assert browser.status == 503
    assert "nobody may sign in" in browser.said()


# What is shown


def test_headers_forbid_scripts_from_elsewhere_and_inline(alice: Browser) -> None:
    answer = alice.client.get("/")
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert answer.headers["Cache-Control"] == "no-store"
    page = answer.get_data(as_text=True)
    assert re.findall(r"<script(?![^>]*src=)|\son\w+=|style=", page) == []


def test_the_queue_shows_first_what_asks_a_person(asked: Asked, alice: Browser) -> None:
    planning = asked.fail("planning")
    blocked = asked.blocked("blocked")
    asked.wait(60)
    late, soon = asked.ask("late"), asked.ask("soon")
    taken = asked.ask("taken")
    alice.get(f"/incident/{taken}")
    alice.send(f"/incident/{taken}/take-over")
    asked.tick()
    page = alice.get("/")
    shown = re.findall(r'href="/incident/([^"]+)"', page)
    assert shown == [*sorted([late, soon], key=shown.index), blocked, planning, taken]
    assert "3 incidents wait for you." in page
    assert "(3) Queue" in page
    assert re.findall(r'href="/incident/([^"]+)"', alice.get("/queue")) == shown


def test_one_page_says_what_broke_what_would_change_and_what_may_be_answered(
    asked: Asked, alice: Browser
) -> None:
    page = alice.get(f"/incident/{asked.ask()}")
    assert "<h1>Deployment shop/web: OOM killed, 7 restarts, for 12 min.</h1>" in page
    assert "spec.template.spec.containers[0].resources.limits.memory" in page.replace("<wbr>", "")
    assert re.search(r"64Mi</del>.*?128Mi</ins>", page, re.DOTALL)
    assert "dry run admits exactly this change" in page
    assert "Answer until 02:30 UTC: 30 min left." in page
    assert "OOMKilled, exit code 137" in page
    assert 'min="1.1"' in page
    assert 'max="2.0"' in page
    assert "from 1.1 to 2.0" in page
    for word in ("approve", "modify", "reject", "take-over"):
        assert f"/{word}" in page


def test_hostile_text_is_escaped_and_cleaned_everywhere(asked: Asked, alice: Browser) -> None:
    name = asked.ask(text=HOSTILE)
    incident = asked.the(name)
    record = asked.store.get(records.incident(name))
    assert record is not None
    evil = incident.but(refusals=(HOSTILE,), decided_by=HOSTILE, cluster=HOSTILE)
    asked.store.transact([Put(record.key, evil.to_json(), record.version)])
    for path in ("/", f"/incident/{name}"):
        page = alice.get(path)
        assert "<script>alert" not in page
        assert '"onload="' not in page
        assert "\u202e" not in page
        assert "\x1b" not in page
        assert "49" not in re.sub(r"[0-9a-f]{8,}", "", page.partition("Refused")[2].partition("Tried")[0])
    assert "&lt;script&gt;alert(1)&lt;/script&gt;\N{REPLACEMENT CHARACTER}gnp.exe" in alice.page


def test_every_state_and_a_strange_incident_have_a_page(asked: Asked, alice: Browser) -> None:
    name = asked.ask()
    for state in State:
        if state is State.NONE:
            continue
        record = asked.store.get(records.incident(name))
        assert record is not None
        reason = "fixed" if state is State.CLOSED else None
        body = asked.the(name).but(state=state, reason=reason).to_json()
        asked.store.transact([Put(record.key, body, record.version)])
        assert alice.get(f"/incident/{name}").count("<h1>") == 1
        assert alice.status == 200
        alice.get("/")
        assert alice.status == 200
    alice.get("/incident/none<b>")
    assert alice.status == 404
    assert "There is no incident none&lt;b&gt;." in alice.said()


def test_the_incidents_page_is_shown_whatever_fields_it_has() -> None:
    class Page(BaseModel):
        facts: tuple[Evidence, ...] = (Evidence(text="killed", source="status"),)
        ruled_out: tuple[str, ...] = ("the node",)
        look_next: tuple[str, ...] = ()
        summary: str = "memory"

    assert page_parts(None) == []
    assert page_parts(Page()) == [
        ("Facts", ["killed: status"]),
        ("Ruled out", ["the node"]),
        ("Summary", ["memory"]),
    ]


def test_what_broke_counts_its_symptoms(asked: Asked) -> None:
    one = asked.the(asked.fail()).but(symptom_count=4, restarts=0)
    assert broke(one, asked.now) == "Deployment shop/web: OOM killed, 4 objects affected, for 12 min."


def test_the_dial_says_which_line_decides(alice: Browser) -> None:
    page = alice.get("/dial")
    row = re.search(r">oom_killed<.*?</tr>", page, re.DOTALL)
    assert row is not None
    cells = re.findall(r'class="dial (\w+)">\w+</span><small>(.*?)</small>', row[0])
    assert cells == [
        ("alert", "policy, dial 2: namespace bank: alert"),
        ("approve", "policy, dial 1: namespace shop, oom_killed: approve"),
        ("approve", "policy, autonomy: approve"),
    ]


@pytest.mark.parametrize("path", PAGES)
def test_a_store_that_is_away_is_said_and_nothing_is_shown(
    asked: Asked, alice: Browser, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    def away(*_args: Any) -> Any:
        raise StoreUnavailable("no route")

    monkeypatch.setattr(asked.store, "get_many", away)
    monkeypatch.setattr(asked.store, "scan", away)
    alice.get(path)
    assert alice.status == 503
    assert "nothing was done" in alice.said()


def test_pages_are_small(asked: Asked, alice: Browser) -> None:
    name = asked.ask()
    for path in ("/", f"/incident/{name}"):
        page = alice.get(path)
        size = len(page.encode())
        for part in re.findall(r'(?:href|src)="(/static/[^"]+)"', page):
            with alice.client.get(part) as answer:
                size += len(answer.data)
        assert size <= 150_000, (path, size)


# Answers


def test_an_approval_is_noted_and_carried_out(asked: Asked, alice: Browser) -> None:
    name = asked.ask()
    alice.get(f"/incident/{name}")
    alice.send(f"/incident/{name}/approve")
    assert alice.status == 200
    assert "approve: noted for alice" in alice.said()
    assert "alice has answered: <strong>approve</strong>" in alice.page
    asked.tick()
    asked.plan(name)
    assert len(asked.intents()) == 1


def test_in_two_browsers_the_first_answer_counts(asked: Asked, alice: Browser, site: Any) -> None:
    name = asked.ask()
    bob = site().sign_in("bob")
    for browser in (alice, bob):
        browser.get(f"/incident/{name}")
    alice.send(f"/incident/{name}/approve")
    bob.send(f"/incident/{name}/reject")
    assert bob.status == 409
    assert "alice has answered already: approve. One answer counts, the first." in bob.said()
    asked.tick()
    asked.plan(name)
    assert len(asked.intents()) == 1
    assert asked.the(name).decided_by == "alice"


def test_a_stale_page_and_a_changed_diff_are_said(asked: Asked, alice: Browser, site: Any) -> None:
    name = asked.ask()
    bob = site().sign_in("bob")
    bob.get(f"/incident/{name}")
    alice.get(f"/incident/{name}")
    alice.send(f"/incident/{name}/approve")
    asked.tick()
    asked.plan(name, gets="256Mi")
    bob.send(f"/incident/{name}/approve")
    assert bob.status == 409
    assert "What you were shown is stale" in bob.said()
    bob.get(f"/incident/{name}")
    bob.send(f"/incident/{name}/approve", diff="0000")
    assert bob.status == 409
    assert "not the one you were shown" in bob.said()
    assert question_of(asked.store, asked.the(name)).decision == ""  # type: ignore[union-attr]
    assert asked.intents() == []


def test_an_expired_question_is_said(asked: Asked, alice: Browser) -> None:
    name = asked.ask()
    alice.get(f"/incident/{name}")
    asked.wait(POLICY.approval + 5)
    alice.send(f"/incident/{name}/approve")
    assert alice.status == 409
    assert "Too late: the question expired at 02:30:00 UTC. Nothing was done." in alice.said()
    assert asked.intents() == []


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        (
            {"action": "raise-memory", "param-factor": "9", "param-ceiling": "1Gi"},
            "factor is 9.0, allowed is",
        ),
        ({"action": "raise-memory", "param-factor": "x", "param-ceiling": "1Gi"}, "must be a number"),
        ({"action": "raise-memory", "param-factor": "nan", "param-ceiling": "1Gi"}, "allowed is"),
        (
            {"action": "raise-memory", "param-factor": "1.5", "param-ceiling": "lots"},
            "not a Kubernetes quantity",
        ),
        ({"action": "raise-memory", "param-factor": "1.5", "param-ceiling": ""}, "needs parameter ceiling"),
        ({"action": "rm", "param-factor": "1.5"}, "Choose one of the actions"),
        ({}, "Choose one of the actions"),
    ],
)
def test_another_remedy_outside_its_bounds_is_said_and_what_was_typed_is_kept(
    asked: Asked, alice: Browser, fields: dict[str, str], sentence: str
) -> None:
    name = asked.ask()
    alice.get(f"/incident/{name}")
    alice.send(f"/incident/{name}/modify", **fields)
    assert alice.status == 422
    assert sentence in alice.said().replace("&#39;", "'")
    assert "Nothing was done." in alice.said()
    if fields.get("action") == "raise-memory":
        assert f'value="{fields["param-factor"]}"' in alice.page
    assert asked.the(name).state is State.APPROVAL
    assert question_of(asked.store, asked.the(name)).decision == ""  # type: ignore[union-attr]


def test_another_remedy_is_planned_and_asked_for(asked: Asked, alice: Browser) -> None:
    name = asked.blocked()
    assert 'name="param-ceiling" value="4Gi"' in alice.get(f"/incident/{name}")  # what the rule proposed
    alice.send(
        f"/incident/{name}/modify", action="raise-memory", **{"param-factor": "1.5", "param-ceiling": "1Gi"}
    )
    assert "modify: noted for alice" in alice.said()
    asked.tick()
    remedy = asked.the(name).remedy
    assert remedy == Remedy(action="raise-memory", params={"factor": 1.5, "ceiling": "1Gi"})
    asked.plan(name, gets="96Mi")
    alice.get(f"/incident/{name}")
    alice.send(f"/incident/{name}/approve")
    asked.tick()
    asked.plan(name, gets="96Mi")
    assert [e.gets for i in asked.intents() for e in i.edits] == ["96Mi"]


@pytest.mark.parametrize("word", ["reject", "take-over"])
def test_a_person_may_have_it(asked: Asked, alice: Browser, word: str) -> None:
    name = asked.ask()
    alice.get(f"/incident/{name}")
    alice.send(f"/incident/{name}/{word}")
    asked.tick()
    page = alice.get(f"/incident/{name}")
    assert "Taken over by alice" in page
    assert "Your answer" not in page
    assert asked.intents() == []


def test_what_nobody_can_do_is_said(asked: Asked, alice: Browser) -> None:
    name = asked.ask()
    alice.get(f"/incident/{name}")
    alice.send(f"/incident/{name}/delete")
    assert alice.status == 404
    alice.get("/")
    alice.send("/incident/none/approve")
    assert alice.status == 404


def test_too_large_a_form_is_refused(asked: Asked, alice: Browser) -> None:
    name = asked.ask()
    alice.get(f"/incident/{name}")
    alice.send(f"/incident/{name}/modify", action="raise-memory", more="x" * 20_000)
    assert alice.status == 413
    assert asked.the(name).state is State.APPROVAL


# The switch


def test_the_console_stops_and_leaves_resuming_to_a_persons_own_rights(
    asked: Asked, alice: Browser, site: Any
) -> None:
    root = site().sign_in("root")
    root.get("/writing")
    root.send("/stop")
    assert "Writing is stopped by root." in root.said()
    record = asked.store.get(records.SWITCH)
    assert record is not None
    assert record.body == {"stopped": True, "by": "root", "at": to_text(asked.now)}
    assert [(e.kind, e.actor) for e in asked.store.audit("switch")] == [("stopped", "root")]
    assert "quietpager resume --kubeconfig" in root.page
    assert "Writing is stopped by root" in alice.get("/")
    root.send("/resume")
    assert root.status == 404


def test_a_new_install_is_shown_as_stopped(asked: Asked, alice: Browser) -> None:
    record = asked.store.get(records.SWITCH)
    assert record is not None
    asked.store.transact([Delete(record.key, record.version)])
    assert "<h1>Writing is stopped</h1>" in alice.get("/writing")


def test_a_queue_that_renews_itself_without_a_session_reloads_the_page(site: Any) -> None:
    answer = site().client.get("/queue", headers={"HX-Request": "true"})
    assert (answer.status_code, answer.headers["HX-Refresh"]) == (204, "true")
