"""A host that is trusted with a credential sends us on to another one, and waits there for the credential.

The attack: GitHub's API, a webhook, the Git server or a probe answers with a redirect to a host of
the attacker. Two servers on loopback stand for the two hosts; the second writes down whatever arrives.
"""

import os
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib import request

import pytest
import trustme
from pydantic import SecretStr

from quietpager import outgoing
from quietpager.errors import Refused
from quietpager.functions.remediate.propose_change import git
from quietpager.functions.remediate.propose_change.pull_request import GitHub
from quietpager.outgoing import LOOPBACK, NoAnswer, ask
from quietpager.people.channels import Notice, NotTold, Slack, Webhook

TOKEN = "made-up-token-4711"  # noqa: S105 (it opens nothing)
NOTICE = Notice("n", "opened", "web is down", "look", "quietpager show i", {})


class Host:
    """A server that writes down what arrives, and redirects to `to` where there is one."""

    def __init__(self, to: str = "", code: int = 302, context: ssl.SSLContext | None = None) -> None:
        self.got: list[str] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                outer.got.append(f"{self.path}\n{self.headers}{self.rfile.read(size)!r}")
                self.send_response(code if to else 200)
                if to:
                    self.send_header("Location", f"{to}{self.path}")
                self.send_header("Content-Length", "2")
                self.end_headers()
                self.wfile.write(b"[]")

            do_POST = do_GET  # noqa: N815 (the server's names)

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        if context is not None:
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_port}"


@contextmanager
def hosts(code: int = 302, context: ssl.SSLContext | None = None) -> Iterator[tuple[Host, Host]]:
    other = Host(context=context)
    trusted = Host(other.url, code, context)
    for one in (trusted, other):
        Thread(target=one.server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        yield trusted, other
    finally:
        for one in (trusted, other):
            one.server.shutdown()
            one.server.server_close()


def pull_request(url: str) -> None:
    with pytest.raises(Refused):
        GitHub(url, "https://github.com/shop/manifests.git", TOKEN).show("b", "main", "t", "b")


def webhook(url: str) -> None:
    with pytest.raises(NotTold):
        Webhook("w", SecretStr(f"{url}/{TOKEN}"), SecretStr("s")).tell(NOTICE)


def slack(url: str) -> None:
    with pytest.raises(NotTold):
        Slack("s", SecretStr(f"{url}/{TOKEN}")).tell(NOTICE)


SENDERS = {"pull request": pull_request, "webhook": webhook, "slack": slack}


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("sender", SENDERS)
def test_no_credential_follows_a_redirect(sender: str, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOPBACK, "1")
    with hosts(code) as (trusted, other):
        SENDERS[sender](trusted.url)
        assert [TOKEN in one for one in trusted.got] == [True]
        assert other.got == []


def test_with_redirects_followed_the_token_arrives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(LOOPBACK, "1")
    monkeypatch.setattr(outgoing, "_NoRedirect", request.HTTPRedirectHandler)
    with hosts() as (trusted, other):
        head = {"Authorization": f"Bearer {TOKEN}"}
        ask("GET", trusted.url, seconds=5, head=head, credential=True)
        assert [TOKEN in one for one in other.got] == [True]


def test_no_credential_is_sent_in_the_clear(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LOOPBACK, raising=False)
    with hosts() as (trusted, _):
        for sender in (pull_request, slack):
            sender(trusted.url)
        with pytest.raises(NoAnswer, match="https"):
            ask("GET", trusted.url.replace("//", f"//me:{TOKEN}@"), seconds=5)
        assert trusted.got == []
    monkeypatch.setenv(LOOPBACK, "1")
    with pytest.raises(NoAnswer, match="https"):  # the flag is for loopback alone
        ask("GET", "http://registry.example.com/", seconds=5, credential=True)


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.1/x", "data:,x", "//x", "http:///x"])
def test_nothing_but_http_is_opened(url: str) -> None:
    with pytest.raises(NoAnswer):
        ask("GET", url, seconds=5)


def test_an_answer_is_bounded() -> None:
    with hosts() as (_, other):
        assert ask("GET", other.url, seconds=5, most=2).body == b"[]"
        with pytest.raises(NoAnswer, match="more than 1 bytes"):
            ask("GET", other.url, seconds=5, most=1)


def test_a_proxy_is_for_https_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    with hosts() as (trusted, other):
        monkeypatch.setenv("http_proxy", trusted.url)
        monkeypatch.setenv("no_proxy", "")
        ask("GET", other.url, seconds=5)
        assert trusted.got == []


# Git


@pytest.fixture
def tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """Make certificates for the loopback address that Git believes."""
    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("GIT_SSL_CAINFO", str(tmp_path / "ca.pem"))
    return context


def asked_by_git(url: str, home: Path) -> None:
    home.mkdir()
    one = git.Git(f"{url}/shop/manifests.git", home, {**os.environ, git.TOKEN: TOKEN})
    said = ""
    try:
        one.heads("b")
    except Refused as no:
        said = str(no)
    assert TOKEN not in said
    assert git._basic(TOKEN) not in said


def test_git_follows_no_redirect(tls: ssl.SSLContext, tmp_path: Path) -> None:
    with hosts(context=tls) as (trusted, other):
        asked_by_git(trusted.url, tmp_path / "home")
        assert [git._basic(TOKEN) in one for one in trusted.got] == [True]
        assert other.got == []


def test_with_redirects_followed_git_goes_to_the_other_host(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = git._command

    def following(arguments: Any) -> list[str]:
        return [part.replace("followRedirects=false", "followRedirects=true") for part in real(arguments)]

    monkeypatch.setattr(git, "_command", following)
    with hosts(context=tls) as (trusted, other):
        asked_by_git(trusted.url, tmp_path / "home")
        assert other.got != []


def test_git_sends_its_token_by_https_alone_and_asks_nobody(tmp_path: Path) -> None:
    env = git._environment(
        "http://127.0.0.1/x", tmp_path, {git.TOKEN: TOKEN, "GIT_ASKPASS": "/bin/echo"}, TOKEN
    )
    assert TOKEN not in str(env)
    assert git._basic(TOKEN) not in str(env)
    assert env["GIT_ALLOW_PROTOCOL"] == "https:ssh:file"
    assert env["GIT_TERMINAL_PROMPT"] == "0"
    assert "GIT_ASKPASS" not in env
    scoped = git._environment("https://git.example.com/a.git", tmp_path, {}, TOKEN)
    assert scoped["GIT_CONFIG_KEY_0"] == "http.https://git.example.com/a.git.extraHeader"
