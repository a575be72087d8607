"""The proxy does to a connection what its fault says: else the tests behind it would show nothing."""

import gc
import socket
import threading
import warnings
from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.faults.proxy import Fault, Kind, Proxy, running, to_tcp

SOON = 0.3
"""Seconds without an answer that count as silence here."""


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    """A proxy in front of a server that says everything back."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(one: socket.socket) -> None:
            with closing(one):
                try:
                    while data := one.recv(1 << 16):
                        one.sendall(data)
                except OSError:
                    return

        def take() -> None:
            while True:
                try:
                    one, _ = server.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(one,), daemon=True).start()

        threading.Thread(target=take, daemon=True).start()
        with running(to_tcp("127.0.0.1", server.getsockname()[1])) as proxy:
            yield proxy
        server.shutdown(socket.SHUT_RDWR)


def dial(proxy: Proxy) -> socket.socket:
    return socket.create_connection(("127.0.0.1", proxy.port), timeout=10)


def ask(line: socket.socket, text: bytes = b"hello") -> bytes:
    line.sendall(text)
    return line.recv(1 << 16)


def silent(line: socket.socket, text: bytes = b"hello") -> bool:
    line.settimeout(SOON)
    try:
        return not ask(line, text)
    except TimeoutError:
        return True


def answered(line: socket.socket) -> bool:
    try:
        return bool(ask(line))
    except ConnectionError:
        return False


def fresh(proxy: Proxy) -> bool:
    try:
        with dial(proxy) as line:
            return answered(line)
    except ConnectionError:
        return False


@pytest.mark.parametrize("kind", [Kind.WELL, Kind.LATENCY])
def test_what_only_takes_longer_comes_through(proxy: Proxy, kind: Kind) -> None:
    with dial(proxy) as line:
        proxy.become(Fault(kind, seconds=0.01))
        assert ask(line) == b"hello"


@pytest.mark.parametrize("kind", [Kind.RESET, Kind.REFUSED])
def test_what_stands_is_reset_and_what_is_new_fails_until_it_is_well_again(proxy: Proxy, kind: Kind) -> None:
    with dial(proxy) as line:
        assert ask(line) == b"hello"
        proxy.become(Fault(kind))
        assert not answered(line)
    assert not fresh(proxy)
    proxy.become(Fault())
    with dial(proxy) as line:
        assert ask(line) == b"hello"


def test_half_open_takes_connections_and_answers_none(proxy: Proxy) -> None:
    with dial(proxy) as old:
        assert ask(old) == b"hello"
        proxy.become(Fault(Kind.HALF_OPEN))
        with dial(proxy) as new:
            assert silent(old)
            assert silent(new)
            proxy.become(Fault())
            assert silent(old)
            assert silent(new)
    with dial(proxy) as line:
        assert ask(line) == b"hello"


def test_a_black_hole_swallows_everything_after_so_many_bytes(proxy: Proxy) -> None:
    with dial(proxy) as line:
        assert ask(line) == b"hello"
        proxy.become(Fault(Kind.BLACK_HOLE, after=6))
        line.settimeout(SOON)
        line.sendall(b"0123456789")
        with pytest.raises(TimeoutError):
            line.recv(1 << 16)
        proxy.become(Fault())
        assert silent(line)


def test_what_it_took_at_its_last_moment_is_closed_too() -> None:
    """Else a warning about a socket that nobody closed fails whichever test comes next."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(200):
            with running(to_tcp("127.0.0.1", 9)) as proxy:
                proxy.become(Fault(Kind.HALF_OPEN))
                line = dial(proxy)
            line.close()
        gc.collect()
    assert [str(one.message) for one in seen] == []
