"""A program that is the person, against the real console over HTTP; and what counts as a story's end."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from werkzeug.serving import make_server

from quietpager.deciding.decisions import question_of
from quietpager.functions.people.console.app import make_app
from quietpager.local.person import NONE, Reply, Visitor, Wishes
from quietpager.local.stories import PERSON, Story, all_over
from quietpager.model.finding import Remedy
from quietpager.model.incident import State, Tried
from quietpager.model.store import Audit
from quietpager.people import users as accounts
from quietpager.people.roles import Role
from quietpager.people.users import Users
from quietpager.store.memory import MemoryStore
from tests.asked import Asked

PASSWORD = "correct horse battery"  # noqa: S105 (of a test)
LESS = Reply("modify", "raise-memory", {"factor": "1.5", "ceiling": "1Gi"})


@dataclass
class Site:
    asked: Asked
    url: str

    def visitor(self) -> Visitor:
        return Visitor(self.url, PERSON, PASSWORD)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setattr(accounts, "METHOD", "pbkdf2:sha256:1")
    users = Users(tmp_path / "users.json")
    users.put(PERSON, PASSWORD, Role.APPROVER)
    asked = Asked(MemoryStore())
    server = make_server("127.0.0.1", 0, make_app(asked.ctx, users, secure=False), threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Site(asked, f"http://127.0.0.1:{server.server_port}/")
    server.shutdown()
    thread.join()
    server.server_close()


def test_another_remedy_is_sent_planned_anew_and_approved(site: Site) -> None:
    asked, visitor, wishes = site.asked, site.visitor(), Wishes(instead=LESS)
    name = asked.ask()
    first = wishes.reply(asked.the(name))
    assert first is LESS
    assert "modify: noted for demo" in str(visitor.answer(name, first))
    asked.tick()
    assert asked.the(name).remedies == (
        Remedy(action="raise-memory", params={"factor": 1.5, "ceiling": "1Gi"}),
    )
    asked.plan(name, "96Mi")
    second = wishes.reply(asked.the(name))
    assert second == Reply("approve")
    assert "approve: noted for demo" in str(visitor.answer(name, second))
    asked.tick()
    assert asked.the(name).decided_by == PERSON
    assert wishes.reply(asked.the(name)) is None


def test_what_is_with_a_person_is_taken_over_once(site: Site) -> None:
    asked, visitor, wishes = site.asked, site.visitor(), Wishes(takes_over=True)
    name = asked.fail(remedies=())
    reply = wishes.reply(asked.the(name))
    assert reply is not None
    assert "take over: noted for demo" in str(visitor.answer(name, reply))
    assert visitor.answer(name, reply) is None
    asked.tick()
    assert (asked.the(name).taken_over, wishes.reply(asked.the(name))) == (True, None)


def test_what_the_console_refuses_is_said_and_nothing_is_done(site: Site) -> None:
    name = site.asked.ask()
    said = site.visitor().answer(name, Reply("modify", "raise-memory", {"factor": "9", "ceiling": "1Gi"}))
    assert said is not None
    assert said.startswith("refused (4")
    question = question_of(site.asked.store, site.asked.the(name))
    assert question is not None
    assert question.decision == ""


def test_a_wrong_password_is_no_visitor(site: Site) -> None:
    with pytest.raises(PermissionError, match="401"):
        Visitor(site.url, PERSON, "something else")


def test_an_end_that_differs_is_named(site: Site) -> None:
    """Each of a story's demands, unmet one at a time."""
    asked = site.asked
    name = asked.fail(remedies=())
    one = asked.the(name)
    fine = Story(about=str(one.owner), state=State.HANDOVER)
    assert (fine.is_over(one), list(fine.faults(one, asked.store))) == (True, [])
    asked.store.transact([Audit(name, asked.now, "told", "people-notify", {"what": "needsperson"})])
    tried = one.but(tried=(Tried(action="raise-memory", params={"factor": "2"}, detail="x"),))
    for story, incident, said in (
        (Story(about="", state=State.CLOSED), one, "was to end CLOSED"),
        (Story(about="", state=State.HANDOVER, tried="set-requests"), one, "after set-requests"),
        (Story(about="", state=State.HANDOVER), tried, "after nothing"),
        (Story(about="", state=State.HANDOVER, affected=30), one, "30 objects"),
        (Story(about="", state=State.HANDOVER, pages=True), one, "no page"),
        (Story(about="", state=State.HANDOVER, asks=2), one, "2 messages"),
        (Story(about="", state=State.HANDOVER, wishes=Wishes(takes_over=True)), one, "demo was to decide"),
        (
            Story(about="", state=State.HANDOVER, tried="raise-memory", wishes=Wishes(instead=LESS)),
            tried.but(decided_by=PERSON), "a person wanted modify: raise-memory factor=1.5 ceiling=1Gi",
        ),
    ):  # fmt: skip
        found = list(story.faults(incident, asked.store))
        assert len(found) == 1
        assert said in found[0]


def test_a_story_is_not_over_while_somebody_still_has_to_answer(site: Site) -> None:
    one = site.asked.the(site.asked.fail(remedies=()))
    assert Story(about="", state=State.HANDOVER, wishes=NONE).is_over(one)
    assert not Story(about="", state=State.HANDOVER, wishes=Wishes(takes_over=True)).is_over(one)
    assert not Story(about="", state=State.HANDOVER, affected=2).is_over(one)
    assert not all_over([one])
