"""A subscriber of everything: notes each message of the broker with its time of arrival, answers 204.

Runs as a process inside the test bed's network namespace, where pods can reach it:
`python tests/e2e/spy.py ADDRESS PORT FILE`. Needs nothing but Python. The file gets one JSON object a line.
"""

import http.server
import json
import sys
import time
from pathlib import Path
from threading import Lock
from typing import TextIO


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers every POST with 204."""

    protocol_version = "HTTP/1.1"
    out: TextIO
    lock = Lock()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        attributes = {k.lower()[3:]: v for k, v in self.headers.items() if k.lower().startswith("ce-")}
        line = json.dumps({"at": time.time(), **attributes, "data": body.decode(errors="replace")})
        with self.lock:
            self.out.write(line + "\n")
            self.out.flush()
        self.send_response(204)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def main() -> None:
    address, port, file = sys.argv[1:]
    with Path(file).open("a", encoding="utf-8") as Handler.out:
        http.server.ThreadingHTTPServer((address, int(port)), Handler).serve_forever()


if __name__ == "__main__":
    main()
