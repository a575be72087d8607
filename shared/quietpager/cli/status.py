"""`quietpager status`: shows which parts are alive, at the terminal or as an HTTP probe for outside monitors.

GET /health/heartbeat   200 where all is well, else 503; JSON
GET /health/liveness    200: the probe itself runs
GET /metrics            the heartbeats' ages as Prometheus text
"""

import http.server
import json
from collections.abc import Callable
from typing import Final

import click

from quietpager.incident.policy import Policy, load_policy
from quietpager.model.store import Store
from quietpager.model.text import clean
from quietpager.runtime.connect import open_store
from quietpager.runtime.metrics import PATH as METRICS
from quietpager.runtime.metrics import TEXT, Exposition, show_pulse
from quietpager.runtime.pulse import PATH, Pulse, table

Say = Callable[[str], None]

TIMEOUT: Final = 10
"""Seconds after which a client that says nothing is hung up on."""


class OneStore:
    """Opens the store at the first use and keeps it; where none is named, says so each time."""

    def __init__(self) -> None:
        """Nothing is opened yet."""
        self._store: Store | None = None

    def __call__(self) -> Store:
        """Give the store; raises Retry with a sentence where none is named."""
        if self._store is None:
            self._store = open_store()
        return self._store

    def close(self) -> None:
        """Give back connections."""
        if self._store is not None:
            self._store.close()


def policy_or_exit() -> Policy:
    """Read the policy, or end with the sentence that says what is wrong with it."""
    try:
        return load_policy()
    except (ValueError, OSError) as wrong:
        raise SystemExit(f"The policy cannot be read: {clean(str(wrong), 500)}") from None


def status(*, as_json: bool, say: Say) -> int:
    """Look once. Gives the exit code: 0 where every part is well, else 1."""
    store = OneStore()
    reading = Pulse(store, policy_or_exit()).read()
    store.close()
    say(json.dumps(reading.to_json()) if as_json else table(reading).rstrip())
    return 0 if reading.ok else 1


def address_of(text: str) -> tuple[str, int]:
    """Read HOST:PORT.

    Raises:
        click.BadParameter: it is none.
    """
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 <= int(port) <= 65535:
        raise click.BadParameter(f"{text!r} is no HOST:PORT, such as 127.0.0.1:8090.")
    return host.strip("[]"), int(port)


def server(pulse: Pulse, host: str, port: int) -> http.server.ThreadingHTTPServer:
    """Make the probe's server; port 0 takes a free one.

    Raises:
        OSError: the address is taken, or not this machine's.
    """
    exposition = Exposition()

    class Probe(http.server.BaseHTTPRequestHandler):
        """One request."""

        timeout = TIMEOUT

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            if path == PATH:
                self._say(*pulse.read().to_http(), "application/json")
            elif path == METRICS:
                show_pulse(exposition.metrics, pulse.read())
                self._say(200, exposition.text(), TEXT)
            elif path == "/health/liveness":
                self._say(200, b"OK", "text/plain")
            else:
                self._say(404, f"Ask for {PATH}.".encode(), "text/plain")

        def _say(self, code: int, body: bytes, kind: str) -> None:
            self.send_response(code)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing: it is asked every few seconds."""

    return http.server.ThreadingHTTPServer((host, port), Probe)


def serve(address: str, say: Say) -> None:
    """Serve the probe until interrupted.

    Raises:
        SystemExit: the address cannot be had; the text says why.
    """
    host, port = address_of(address)
    store = OneStore()
    try:
        probe = server(Pulse(store, policy_or_exit()), host, port)
    except OSError as wrong:
        raise SystemExit(f"{address} cannot be served on: {wrong}.") from None
    with probe:
        say(f"the pulse is on http://{host}:{probe.server_port}{PATH}")
        try:
            probe.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            store.close()
