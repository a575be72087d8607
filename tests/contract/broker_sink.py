"""Subscribers of a real broker: answer as they were told, and remember what they got.

Runs as a process inside the test bed's network namespace, where pods can reach it:
`python tests/contract/broker_sink.py ADDRESS`. It prints its port. Needs nothing but Python.

    PUT  /answers   {"/path#case": [answer, ...]}: what events of a case (their attribute `case`) are
                    answered there, in turn, the last one for ever
    GET  /got       everything since the start, as [{path, at, headers, body}]; body in base64
    GET  /got?N     the same, from the Nth on
    POST /anything  an event; where nothing was told it is answered 204

An answer is {status, headers, body, delay (seconds), drop (hang up without an answer)}.
"""

import base64
import http.server
import json
import sys
import time
from collections import Counter
from threading import Lock
from typing import Any

ANSWERS: dict[str, list[dict[str, Any]]] = {}
GOT: list[dict[str, Any]] = []
TURNS: Counter[str] = Counter()
LOCK = Lock()


class Handler(http.server.BaseHTTPRequestHandler):
    """One subscriber for each path, and the test's way in."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_PUT(self) -> None:
        ANSWERS.update(json.loads(self._body()))
        self._say(204)

    def do_GET(self) -> None:
        first = int(self.path.partition("?")[2] or 0)
        with LOCK:
            body = json.dumps(GOT[first:])
        self._say(200, {"Content-Type": "application/json"}, body.encode())

    def do_POST(self) -> None:
        body, path = self._body(), self.path
        headers = {name.lower(): value for name, value in self.headers.items()}
        key = f"{path}#{headers.get('ce-case', '')}"
        with LOCK:
            turn = TURNS[key]
            TURNS[key] += 1
            encoded = base64.b64encode(body).decode()
            GOT.append({"path": path, "at": time.time(), "headers": headers, "body": encoded})
        answers = ANSWERS.get(key) or [{"status": 204}]
        answer = answers[min(turn, len(answers) - 1)]
        time.sleep(answer.get("delay", 0))
        if answer.get("drop"):
            self.close_connection = True
            return
        self._say(answer["status"], answer.get("headers", {}), answer.get("body", "").encode())

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _say(self, status: int, headers: dict[str, str] | None = None, body: bytes = b"") -> None:
        try:
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            if status != 204:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:  # it did not wait for the answer: that is what a delay is for
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(http.server.ThreadingHTTPServer):
    """A server that a burst of deliveries finds open."""

    request_queue_size = 256


def main() -> None:
    server = Server((sys.argv[1], 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
