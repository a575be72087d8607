"""Every channel at least once, on its own; what comes from the cluster stays text; secrets stay secret."""

import hashlib
import hmac
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from quietpager.errors import BadMessage, Retry
from quietpager.functions.people.notify.handler import handle
from quietpager.incident import records
from quietpager.incident.policy import Policy
from quietpager.model.incident import Incident, State
from quietpager.model.message import FINDING, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.store import Due, Put
from quietpager.outgoing import LOOPBACK
from quietpager.people import channels as module
from quietpager.people.channels import (
    CHANNELS,
    SIGNATURE,
    TIMESTAMP,
    Notice,
    NotTold,
    Slack,
    Terminal,
    Webhook,
    alarm,
    load_channels,
    slack_body,
)
from quietpager.runtime.context import Context, Lazy, handled, make_context
from quietpager.runtime.links import CONSOLE_URL, incident_link
from quietpager.runtime.trace import TRACE, new_trace
from quietpager.store.memory import MemoryStore

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Slack's address is a secret, which goes to a receiver without https only here."""
    monkeypatch.setenv(LOOPBACK, "1")


CANARY = "canary-secret-path"
NOTICE = Notice("n1", "opened", "oom_killed on Deployment shop/web", "raise memory", "quietpager show i", {})


class Receiver:
    """An HTTP server that answers with `code`, or not at all before the test is over."""

    def __init__(self) -> None:
        self.code, self.got, self.hold, self.over = 200, list[tuple[dict[str, str], bytes]](), False, Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                outer.got.append((dict(self.headers.items()), body))
                if outer.hold:
                    outer.over.wait(20)
                self.send_response(outer.code)
                self.send_header("Location", f"/{CANARY}/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/{CANARY}"

    def texts(self) -> list[Any]:
        return [json.loads(body) for _, body in self.got]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.over.set()
    one.server.shutdown()
    one.server.server_close()


def config(*settings: dict[str, str]) -> dict[str, str]:
    return {CHANNELS: json.dumps(settings)}


# Channels


def test_without_a_list_there_is_the_terminal() -> None:
    [only] = load_channels({})
    assert isinstance(only, Terminal)


def test_a_list_comes_from_the_environment_or_a_file(tmp_path: Any) -> None:
    text = "- {kind: slack, url: 'https://x'}\n- {name: pager, kind: webhook, url: 'https://y', secret: s}\n"
    (tmp_path / "channels.yaml").write_text(text)
    for given_ in (text, str(tmp_path / "channels.yaml")):
        slack, pager = load_channels({CHANNELS: given_})
        assert isinstance(slack, Slack)
        assert isinstance(pager, Webhook)
        assert (slack.name, pager.name) == ("slack", "pager")


@pytest.mark.parametrize(
    "text",
    [
        f"- {{kind: slack, url: https://x/{CANARY}, {CANARY}: 1}}",
        f"- {{kind: slack, ulr: https://x/{CANARY}}}",
        f"- {{kind: webhook, url: [https://x/{CANARY}]}}",
        f"- {{kind: {CANARY}}}",
        f"https://x/{CANARY}",
        f"- {{kind: slack, url: 'https://x/{CANARY}",
        f"- {{kind: slack, url: {CANARY}}}\n- {{kind: slack, url: {CANARY}}}",
        "[]",
        f"/nowhere/{CANARY}",
    ],
)
def test_a_wrong_list_is_a_sentence_that_shows_nothing_of_it(text: str) -> None:
    with pytest.raises(ValueError, match=CHANNELS) as wrong:
        load_channels({CHANNELS: text})
    assert CANARY not in repr(wrong.value)
    assert wrong.value.__cause__ is None


def test_a_webhook_gets_signed_json(receiver: Receiver) -> None:
    [hook] = load_channels(config({"kind": "webhook", "url": receiver.url, "secret": "s3"}))
    hook.tell(NOTICE)
    [(head, body)] = receiver.got
    text = b"v1:%s:%s" % (head[TIMESTAMP].encode(), body)
    assert head[SIGNATURE] == "v1=" + hmac.new(b"s3", text, hashlib.sha256).hexdigest()
    assert json.loads(body)["broke"] == NOTICE.broke


@pytest.mark.parametrize("code", [302, 400, 404, 500])
def test_an_answer_that_is_none_names_code_and_no_address(receiver: Receiver, code: int) -> None:
    receiver.code = code
    [slack] = load_channels(config({"kind": "slack", "url": receiver.url}))
    with pytest.raises(NotTold, match=f"it answered {code}"):
        slack.tell(NOTICE)
    assert len(receiver.got) == 1
    assert CANARY not in repr(slack)


@pytest.mark.parametrize(
    "url",
    [
        f"http://127.0.0.1:1/{CANARY}", f"http://no such host/{CANARY}", f"ftp://x/{CANARY}", f"http:///{CANARY}",
        f"http://x:y/{CANARY}", f"file:///{CANARY}",
    ],
)  # fmt: skip
def test_an_address_that_leads_nowhere_is_not_shown(url: str) -> None:
    [slack] = load_channels(config({"kind": "slack", "url": url}))
    with pytest.raises(NotTold) as no:
        slack.tell(NOTICE)
    assert CANARY not in repr(no.value)


@given(st.text(max_size=400), st.text(max_size=2000))
def test_nothing_from_the_cluster_is_markup_for_slack(broke: str, doing: str) -> None:
    body = slack_body(Notice("n", "opened", broke, doing, "https://c/incidents/i?a=1&b=<", {}))
    *texts, link = [body["text"], *(b["text"]["text"] for b in body["blocks"][:2]), body["blocks"][2]]
    for text in texts:
        assert "<" not in text
        assert ">" not in text
    assert [b["text"]["type"] for b in body["blocks"][:2]] == ["plain_text", "plain_text"]
    assert link["elements"][0]["text"] == "<https://c/incidents/i?a=1&amp;b=&lt;|Open the incident>"
    assert len(body["blocks"][0]["text"]["text"]) <= 150
    assert len(body["blocks"][1]["text"]["text"]) <= 3000


def test_no_mention_gets_through() -> None:
    nasty = "<!channel> <@U123> @here @channel <https://x|click> & more"
    text = json.dumps(slack_body(Notice("n", "o", nasty, nasty, "quietpager show i", {})))
    for mention in ("<!channel>", "<@U123>", "@here", "@channel", "<https://x"):
        assert mention not in text


# Delivery


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


class World:
    """One message that is to be told."""

    def __init__(self) -> None:
        self.store, self.clock = MemoryStore(), Clock()
        owner = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web", uid="u")
        one = Incident(
            id="inc-1", cause="workload:u", episode=1, cluster="c", family="crash",
            failure_class="oom_killed", owner=owner, state=State.PLANNING, opened_at=NOW,
            state_since=NOW, since=NOW, deadline_at=NOW, recheck_every=10.0, symptom_count=2,
        )  # fmt: skip
        self.trace = new_trace()
        self.message = Message(
            id="inc-1.1.0", type="dev.quietpager.incident.opened", attributes={TRACE: self.trace},
            data={"incident": "inc-1", "tell": "inc-1.1.0"},
        )  # fmt: skip
        self.store.transact(
            [
                Put(records.incident("inc-1"), one.to_json(), 0),
                Put(records.tell("inc-1.1.0"), {"what": "opened", "text": "2 restarts\nand more"}, 0),
                Due(records.talk("inc-1.1.0"), NOW, timedelta(seconds=5), self.message.to_json()),
            ]
        )
        lazy = Lazy(lambda: self.store, lambda: pytest.fail("notify reads no cluster"))
        policy = Policy(notify_tries=3)
        self.ctx: Context = make_context("people-notify", lazy, policy=policy, clock=self.clock)

    def deliver(self) -> None:
        handled(handle, self.message, self.ctx)

    def tick(self) -> None:
        """Let the time come at which it speaks again."""
        [due] = self.store.due_items()
        self.clock.now = due.at
        for one in self.store.claim_due(self.clock.now, 9):
            handled(handle, Message.from_json(one.message).but(id=f"{one.id}@later"), self.ctx)

    @property
    def told(self) -> list[tuple[str, Any]]:
        return [(e.kind, e.body) for e in self.store.audit("inc-1")]

    @property
    def over(self) -> bool:
        return self.store.get(records.tell("inc-1.1.0")) is None and self.store.due_items() == []


@pytest.fixture
def world() -> World:
    return World()


def use(monkeypatch: pytest.MonkeyPatch, *settings: dict[str, str]) -> None:
    monkeypatch.setenv(CHANNELS, json.dumps(settings))


TERMINAL = {"kind": "terminal"}


def test_three_lines_and_an_end(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world.deliver()
    world.deliver()
    assert capsys.readouterr().out == (
        "[opened] oom_killed on Deployment shop/web (2 affected)\n"
        "  2 restarts and more\n"
        "  quietpager show inc-1\n"
    )
    assert world.over
    assert world.told == [("told", {"what": "opened", "channels": ["terminal"]})]


def test_the_link_is_the_consoles_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CONSOLE_URL, "https://console/ ")
    assert incident_link("inc-1") == "https://console/incident/inc-1"
    monkeypatch.delenv(CONSOLE_URL)
    assert incident_link("inc-1") == ""


def test_one_that_fails_neither_stops_nor_repeats_the_others(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use(monkeypatch, {"kind": "webhook", "url": receiver.url}, TERMINAL)
    receiver.code = 500
    world.deliver()
    world.tick()
    assert capsys.readouterr().out.count("oom_killed") == 1
    assert len(receiver.got) == 2
    receiver.code = 200
    world.tick()
    assert world.over
    assert capsys.readouterr().out == ""
    assert world.told == [("told", {"what": "opened", "channels": ["terminal", "webhook"]})]
    assert {text["id"] for text in receiver.texts()} == {"inc-1.1.0"}
    [trace] = {text[TRACE][:35] for text in receiver.texts()}
    assert trace == world.trace[:35]


def test_each_try_comes_later_and_the_last_is_audited(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, {"kind": "slack", "url": receiver.url}, TERMINAL)
    receiver.code = 503
    waits: list[float] = []
    world.deliver()
    while not world.over:
        [due] = world.store.due_items()
        waits.append((due.at - world.clock.now).total_seconds())
        world.tick()
    assert len(receiver.got) == 3
    assert waits == [10.0, 20.0]
    [(kind, body), last] = world.told
    assert (kind, body["note"]) == ("not told", "Channel slack was not told after 3 tries: it answered 503.")
    assert last == ("told", {"what": "opened", "channels": ["terminal"]})


def test_a_channel_that_hangs_is_given_its_time_and_no_more(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "TIMEOUT", 0.2)
    use(monkeypatch, {"kind": "slack", "url": receiver.url}, TERMINAL)
    receiver.hold = True
    world.deliver()
    assert "oom_killed" in capsys.readouterr().out
    assert not world.over


def test_a_death_after_one_channel_repeats_no_other(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(monkeypatch, {"kind": "webhook", "url": receiver.url}, TERMINAL)

    def die(*_: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(Terminal, "tell", die)
        with pytest.raises(MemoryError):
            world.deliver()
    world.tick()
    assert len(receiver.got) == 1
    assert world.over


def test_no_secret_is_in_log_audit_or_store(
    world: World, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = {"kind": "webhook", "url": receiver.url, "secret": f"{CANARY}-2"}
    use(monkeypatch, secret, {"kind": "slack", "url": f"http://127.0.0.1:1/{CANARY}"})
    receiver.code = 500
    with capture_logs() as logs:
        world.deliver()
        kept = str([world.store.get(records.tell("inc-1.1.0")), world.store.due_items()])
        while not world.over:
            world.tick()
    assert logs
    assert CANARY not in f"{logs}{kept}{world.told}"


def test_a_list_that_cannot_be_read_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(CHANNELS, "- {kind: smoke}")
    with pytest.raises(Retry):
        world.deliver()
    monkeypatch.delenv(CHANNELS)
    world.tick()
    assert world.over


def test_another_message_is_refused(world: World) -> None:
    with pytest.raises(BadMessage):
        handle(Message(id="x", type=FINDING), world.ctx)


# The alarm


def test_an_alarm_needs_neither_store_nor_broker_and_tries_every_channel(
    receiver: Receiver, capsys: pytest.CaptureFixture[str]
) -> None:
    env = config(
        {"kind": "slack", "url": "http://127.0.0.1:1/x"}, {"kind": "webhook", "url": receiver.url}, TERMINAL
    )
    failed = alarm("the clock stands still", env=env)
    assert list(failed) == ["slack"]
    assert receiver.texts()[0]["doing"] == "the clock stands still"
    assert "the clock stands still" in capsys.readouterr().out
