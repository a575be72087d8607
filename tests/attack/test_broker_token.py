"""A function's token for the Broker, led away: a redirect to another host took it along.

What a function posts itself carries a projected token, which the kubelet renews in its file.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from quietpager.model.message import Message
from quietpager.runtime.connect import BROKER_TOKEN, SINK, post_to_sink

SIGNAL = Message(id="1", type="dev.quietpager.signal")


@contextmanager
def listening(status: int, location: str = "") -> Iterator[tuple[str, list[str | None]]]:
    """Serve on loopback; gives the address and the Authorization header of each request."""
    seen: list[str | None] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            seen.append(self.headers.get("Authorization"))
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self.send_response(status)
            if location:
                self.send_header("Location", location)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = _answer  # noqa: N815 (http.server's names)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def token(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "broker"
    path.write_text("first\n", encoding="ascii")
    monkeypatch.setenv(BROKER_TOKEN, str(path))
    return path


def test_each_post_carries_the_token_of_the_moment(token: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(202) as (address, seen):
        monkeypatch.setenv(SINK, address)
        post_to_sink(SIGNAL)
        token.write_text("second\n", encoding="ascii")
        post_to_sink(SIGNAL)
    assert seen == ["Bearer first", "Bearer second"]


@pytest.mark.usefixtures("token")
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_token_follows_no_redirect(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with listening(204) as (elsewhere, led_away), listening(status, elsewhere) as (address, seen):
        monkeypatch.setenv(SINK, address)
        with pytest.raises(OSError, match=str(status)):
            post_to_sink(SIGNAL)
    assert (seen, led_away) == (["Bearer first"], [])


def test_where_nobody_asks_for_a_token_none_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(BROKER_TOKEN, raising=False)
    with listening(202) as (address, seen):
        monkeypatch.setenv(SINK, address)
        post_to_sink(SIGNAL)
    assert seen == [None]
