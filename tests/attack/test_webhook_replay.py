"""A webhook's message that was overheard is sent again, later or changed, to a receiver that trusts it.

The receiver is the one of docs/webhooks.md, run as a program of its own on loopback; the sender is the
channel that `people/notify` and `quietpager watchdog` use.
"""

import hmac
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.docs import ROOT
from quietpager.model.time import system_clock
from quietpager.people import channels
from quietpager.people.channels import (
    SIGNATURE,
    TIMESTAMP,
    Notice,
    NotTold,
    Webhook,
    alarm,
    signed,
)

KEY = "shared by two"
NOTICE = Notice("n-1", "opened", "oom_killed on web", "raising memory", "https://c/incident/1", {})
EXAMPLE = (
    (ROOT / "docs/webhooks.md").read_text(encoding="utf-8").split("```python\n")[1].partition("\n```")[0]
)


@contextmanager
def receiver(folder: Path, source: str = EXAMPLE) -> Iterator[tuple[str, "subprocess.Popen[str]"]]:
    program = folder / "receiver.py"
    program.write_text(source, encoding="utf-8")
    with subprocess.Popen(
        [sys.executable, "-I", "-S", str(program), "0"],
        env=os.environ | {"SECRET": KEY}, stdout=subprocess.PIPE, text=True,
    ) as child:  # fmt: skip
        try:
            assert child.stdout is not None
            port = child.stdout.readline().split()[-1]
            yield f"http://127.0.0.1:{port}/", child
        finally:
            child.kill()


@pytest.fixture
def at(tmp_path: Path) -> Iterator[str]:
    with receiver(tmp_path) as (url, _):
        yield url


def hook(url: str, *, minutes: float = 0, key: str = KEY) -> Webhook:
    return Webhook(
        "pager", SecretStr(url), SecretStr(key), lambda: system_clock() + timedelta(minutes=minutes)
    )


def overheard(monkeypatch: pytest.MonkeyPatch, url: str, minutes: float = 0) -> tuple[bytes, dict[str, str]]:
    """What the channel sends, caught before it arrives."""
    caught: list[tuple[bytes, dict[str, str]]] = []
    with monkeypatch.context() as patched:
        patched.setattr(channels, "_post", lambda _url, body, head, **_how: caught.append((body, dict(head))))
        hook(url, minutes=minutes).tell(NOTICE)
    return caught[0]


def send(url: str, body: bytes, head: dict[str, str]) -> tuple[int, str]:
    request = urllib.request.Request(url, body, head, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=5) as answer:
            return answer.status, ""
    except urllib.error.HTTPError as no:
        with no:
            return no.code, no.reason


def test_a_message_arrives_once_although_it_is_sent_again(tmp_path: Path) -> None:
    with receiver(tmp_path) as (url, child):
        hook(url).tell(NOTICE)
        hook(url).tell(NOTICE)
        failed = alarm(
            "nobody answers",
            env={"QUIETPAGER_CHANNELS": f"- {{kind: webhook, url: '{url}', secret: {KEY}}}"},
        )
        assert failed == {}
        assert child.stdout is not None
        said = [child.stdout.readline(), child.stdout.readline()]
    assert [one.partition(" |")[0] for one in said] == ["opened", "alarm"]


@pytest.mark.parametrize("minutes", [-6, -60 * 24, 6, 60 * 24])
def test_an_old_message_is_refused_and_one_from_the_future(
    at: str, monkeypatch: pytest.MonkeyPatch, minutes: float
) -> None:
    body, head = overheard(monkeypatch, at, minutes)
    assert send(at, body, head) == (403, "it is too old, or from the future: check both clocks")


@pytest.mark.parametrize("minutes", [-4, 4])
def test_clocks_that_differ_by_minutes_do_no_harm(at: str, minutes: float) -> None:
    hook(at, minutes=minutes).tell(NOTICE)


def test_an_old_message_with_a_new_timestamp_is_refused(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body, head = overheard(monkeypatch, at, -60)
    fresh = str(int(system_clock().timestamp()))
    assert send(at, body, head | {TIMESTAMP: fresh}) == (403, "the signature does not fit")


def test_whatever_is_changed_is_refused(at: str, monkeypatch: pytest.MonkeyPatch) -> None:
    body, head = overheard(monkeypatch, at)
    stamp = head[TIMESTAMP]
    for other, changed in {
        "another body": (body.replace(b"raising", b"running"), head),
        "nothing signed": (body, {}),
        "no signature": (body, {TIMESTAMP: stamp}),
        "no timestamp": (body, {SIGNATURE: head[SIGNATURE]}),
        "an odd timestamp": (body, head | {TIMESTAMP: f"{stamp}.0"}),
        "a timestamp with a sign": (body, head | {TIMESTAMP: f"+{stamp}"}),
        "a signature of the body alone": (body, head | {SIGNATURE: "sha256=" + head[SIGNATURE][3:]}),
        "a byte moved between the two": (b":" + body, head),
        "an empty body": (b"", head),
        "another secret": (body, signed(b"other", body, int(stamp))),
    }.items():
        assert send(at, *changed)[0] == 403, other
    with pytest.raises(NotTold, match="it answered 403"):
        hook(at, key="of another").tell(NOTICE)
    assert send(at, body, head) == (200, "")


def test_without_the_age_an_old_message_wakes_somebody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutants: a receiver that asks for no age, and one whose timestamp is not signed."""
    check = "abs(now - int(stamp)) > MOST_AGE"
    assert check in EXAMPLE
    with receiver(tmp_path, EXAMPLE.replace(check, "False")) as (url, _):
        assert send(url, *overheard(monkeypatch, url, -60)) == (200, "")
    bare = EXAMPLE.replace('f"v1:{stamp}:".encode() + body', "body")
    assert bare != EXAMPLE
    with receiver(tmp_path, bare) as (url, _):
        monkeypatch.setattr(
            channels, "signed",
            lambda secret, body, at: {TIMESTAMP: str(at), SIGNATURE: "v1=" + hmac.new(
                secret, body, "sha256").hexdigest()},
        )  # fmt: skip
        body, head = overheard(monkeypatch, url, -60)
        fresh = str(int(system_clock().timestamp()))
        assert send(url, body, head | {TIMESTAMP: fresh}) == (200, "")
