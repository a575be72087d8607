"""The console in a real browser: on a phone and at a desk, with scripts and without.

Needs a Chromium: Debian's package, or whatever `QUIETPAGER_BROWSER` names. Without one all of this is
skipped, and says so. `QUIETPAGER_SCREENSHOTS` names a folder for pictures of the pages, to be looked at.
"""

import os
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright
from werkzeug.serving import make_server

from quietpager.deciding.decisions import question_of
from quietpager.functions.people.console.app import make_app
from quietpager.model.finding import Remedy
from quietpager.model.incident import State
from quietpager.people.roles import Role
from quietpager.people.users import Users
from quietpager.store.memory import MemoryStore
from tests.asked import POLICY, Asked

PASSWORD = "correct horse battery"  # noqa: S105 (of a test)
CHROMIUM = os.environ.get("QUIETPAGER_BROWSER") or shutil.which("chromium") or shutil.which("google-chrome")
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 900}}

pytestmark = [
    pytest.mark.skipif(
        CHROMIUM is None,
        reason="NO BROWSER: the console was not tried in one. Install Debian's `chromium`, or name one in "
        "QUIETPAGER_BROWSER.",
    ),
    # Playwright leaves sockets and its loop to the garbage collector; that is not what is tested here.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@dataclass
class Site:
    """One console, served; its product's store and clock are in the test's hands."""

    asked: Asked
    url: str


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Users:
    users = Users(tmp_path_factory.mktemp("console") / "users.json")
    users.put("alice", PASSWORD, Role.APPROVER)
    users.put("bob", PASSWORD, Role.APPROVER)
    users.put("vera", PASSWORD, Role.VIEWER)
    users.put("root", PASSWORD, Role.ADMIN)
    return users


@pytest.fixture
def site(users: Users) -> Iterator[Site]:
    asked = Asked(MemoryStore())
    server = make_server("127.0.0.1", 0, make_app(asked.ctx, users, secure=False), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Site(asked, f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(params=["phone", "desktop", "phone without scripts"])
def how(request: pytest.FixtureRequest) -> str:
    found: str = request.param
    return found


Open = Callable[..., Page]


@pytest.fixture
def open_page(browser: Browser, site: Site, how: str) -> Iterator[Open]:
    """Give a way to sign in with a browser of one's own."""
    contexts: list[BrowserContext] = []

    def sign_in(name: str = "alice", scheme: str = "light") -> Page:
        size = how.partition(" ")[0]
        context = browser.new_context(
            viewport=SIZES[size],  # type: ignore[arg-type]
            color_scheme=scheme,  # type: ignore[arg-type]
            java_script_enabled="without" not in how,
            is_mobile=size == "phone",
            has_touch=size == "phone",
        )
        context.set_default_timeout(15_000)
        contexts.append(context)
        page = context.new_page()
        page.goto(site.url)
        page.get_by_label("Name").fill(name)
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Sign in").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("Queue")
        return page

    yield sign_in
    for context in contexts:
        context.close()


def picture(page: Page, name: str) -> None:
    folder = os.environ.get("QUIETPAGER_SCREENSHOTS")
    if folder:
        page.screenshot(path=Path(folder) / f"{name.replace(' ', '-')}.png", full_page=True)


def fits(page: Page) -> None:
    """Nothing is wider than the screen, so nobody has to scroll sideways."""
    box = page.locator("main").bounding_box()
    assert box is not None
    assert page.viewport_size is not None
    assert box["x"] + box["width"] <= page.viewport_size["width"]


def press(page: Page, name: str) -> None:
    page.get_by_role("button", name=name, exact=True).click()


def test_approve(site: Site, open_page: Open, how: str) -> None:
    name, page = site.asked.ask(), open_page()
    page.reload()
    expect(page.get_by_role("status")).to_have_text("1 incident waits for you.")
    picture(page, f"queue {how}")
    page.get_by_role("link", name="Deployment shop/web").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("OOM killed, 7 restarts")
    fits(page)
    picture(page, f"incident {how}")
    press(page, "Approve")
    expect(page.get_by_role("status")).to_contain_text("approve: noted for alice")
    picture(page, f"approved {how}")
    site.asked.tick()
    site.asked.plan(name)
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_text("Writing the change", exact=True)).to_be_visible()
    assert len(site.asked.intents()) == 1
    assert site.asked.the(name).decided_by == "alice"


def test_modify(site: Site, open_page: Open, how: str) -> None:
    name, page = site.asked.blocked(), open_page()
    page.goto(f"{site.url}/incident/{name}")
    page.get_by_text("Do something else instead").click()
    page.get_by_label("factor").fill("1.5")
    page.get_by_label("ceiling").fill("lots")
    picture(page, f"modify {how}")
    press(page, "Plan raise-memory")
    expect(page.get_by_role("alert")).to_contain_text("is not a Kubernetes quantity")
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done.")
    picture(page, f"modify refused {how}")
    assert site.asked.the(name).state is State.BLOCKED
    page.get_by_label("ceiling").fill("1Gi")
    press(page, "Plan raise-memory")
    expect(page.get_by_role("status")).to_contain_text("modify: noted for alice")
    site.asked.tick()
    assert site.asked.the(name).remedy == Remedy(
        action="raise-memory", params={"factor": 1.5, "ceiling": "1Gi"}
    )
    site.asked.plan(name, gets="96Mi")
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_text("96Mi").first).to_be_visible()
    press(page, "Approve")
    site.asked.tick()
    site.asked.plan(name, gets="96Mi")
    assert [edit.gets for intent in site.asked.intents() for edit in intent.edits] == ["96Mi"]


@pytest.mark.parametrize("button", ["Reject", "Take over"])
def test_reject_and_take_over(site: Site, open_page: Open, button: str) -> None:
    name, page = site.asked.ask(), open_page()
    page.goto(f"{site.url}/incident/{name}")
    press(page, button)
    site.asked.tick()
    page.get_by_role("link", name="Look again").click()
    expect(page.get_by_text("Taken over by alice", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Approve")).to_have_count(0)
    assert site.asked.intents() == []


def test_a_question_that_expired_while_it_was_looked_at(site: Site, open_page: Open, how: str) -> None:
    name, page = site.asked.ask(), open_page()
    page.goto(f"{site.url}/incident/{name}")
    site.asked.wait(POLICY.approval + 1)
    press(page, "Approve")
    expect(page.get_by_role("alert")).to_contain_text("Too late: the question expired")
    picture(page, f"expired {how}")
    site.asked.tick()
    assert site.asked.intents() == []


def test_two_people_answer_and_the_first_counts(site: Site, open_page: Open, how: str) -> None:
    name, alice, bob = site.asked.ask(), open_page(), open_page("bob")
    for page in (alice, bob):
        page.goto(f"{site.url}/incident/{name}")
    press(alice, "Approve")
    press(bob, "Reject")
    expect(bob.get_by_role("alert")).to_contain_text("alice has answered already: approve")
    picture(bob, f"conflict {how}")
    site.asked.tick()
    site.asked.plan(name)
    assert len(site.asked.intents()) == 1
    assert question_of(site.asked.store, site.asked.the(name)) is None


def test_stop(open_page: Open, how: str) -> None:
    page = open_page("root")
    page.get_by_role("link", name="Stop").click()
    picture(page, f"writing {how}")
    press(page, "Stop all writing now")
    expect(page.get_by_role("heading", level=1)).to_have_text("Writing is stopped")
    picture(page, f"stopped {how}")
    page.get_by_role("link", name="Queue").click()
    expect(page.get_by_text("Writing is stopped by root")).to_be_visible()


def test_a_viewer_reads_what_is_asked_and_has_no_buttons(site: Site, open_page: Open, how: str) -> None:
    name, page = site.asked.ask(), open_page("vera")
    page.goto(f"{site.url}/incident/{name}")
    expect(page.get_by_role("heading", name="What is asked")).to_be_visible()
    expect(page.get_by_text("You (vera) are a viewer and can only read.")).to_be_visible()
    expect(page.locator("main").get_by_role("button")).to_have_count(0)
    fits(page)
    picture(page, f"viewer {how}")
    page.get_by_role("link", name="Stop").click()
    expect(page.get_by_text("Only an admin can stop all writing")).to_be_visible()
    expect(page.locator("main").get_by_role("button")).to_have_count(0)
    picture(page, f"viewer stop {how}")


def test_an_admin_signs_somebody_out_everywhere(open_page: Open, how: str) -> None:
    alice, root = open_page(), open_page("root")
    root.get_by_role("link", name="Accounts").click()
    fits(root)
    picture(root, f"accounts {how}")
    press(root, "Sign alice out everywhere")
    expect(root.get_by_role("status")).to_contain_text("alice is signed out everywhere")
    picture(root, f"accounts after {how}")
    alice.get_by_role("link", name="Autonomy").click()
    expect(alice.get_by_role("heading", level=1)).to_have_text("Sign in")


@pytest.mark.parametrize("how", ["phone"], indirect=False)
def test_the_queue_renews_itself_and_keeps_the_focus(site: Site, open_page: Open, how: str) -> None:
    assert how == "phone"
    first, page = site.asked.ask("first"), open_page()
    page.reload()
    link = page.locator(f"#{first}")
    link.focus()
    site.asked.ask("second")
    expect(page.get_by_role("status")).to_have_text("2 incidents wait for you.", timeout=15_000)
    expect(link).to_be_focused()


@pytest.mark.parametrize("how", ["phone"], indirect=False)
def test_it_is_used_by_the_keyboard_alone(site: Site, open_page: Open, how: str) -> None:
    assert how == "phone"
    name, page = site.asked.ask(), open_page()
    page.goto(f"{site.url}/incident/{name}")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(2):
        page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Approve")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_role("status")).to_contain_text("approve: noted")


@pytest.mark.parametrize("how", ["phone", "desktop"], indirect=False)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_what_axe_calls_a_violation(site: Site, open_page: Open, how: str, scheme: str) -> None:
    asks, blocked = site.asked.ask(), site.asked.blocked("blocked")
    taken = site.asked.fail("handed-over", remedies=())
    page = open_page("root", scheme)
    pages = {
        "queue": "/", "asks": f"/incident/{asks}", "blocked": f"/incident/{blocked}",
        "handed over": f"/incident/{taken}", "dial": "/dial", "writing": "/writing",
        "accounts": "/accounts",
    }  # fmt: skip
    problems = {}
    for what, path in pages.items():
        page.goto(site.url + path)
        if what == "blocked":
            page.get_by_text("Do something else instead").click()
        picture(page, f"{what} {how} {scheme}")
        fits(page)
        found = Axe().run(page).response["violations"]
        if found:
            problems[what] = [(one["id"], [node["html"] for node in one["nodes"]]) for one in found]
    page.get_by_role("button", name="Sign out").click()
    found = Axe().run(page).response["violations"]
    picture(page, f"sign-in {how} {scheme}")
    assert not problems
    assert not found
