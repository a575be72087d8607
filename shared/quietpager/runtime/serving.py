"""Sets how long our servers keep an idle connection.

Knative's dispatcher sends with Go's `http.DefaultTransport`, which keeps an idle connection for 90 seconds
(Go, net/http/transport.go: `IdleConnTimeout: 90 * time.Second`) and then closes it itself. hypercorn's
default is 5 seconds. Where the server is the first to close, a delivery can be written into a connection that
is just being closed; Knative then counts a delivery without an answer. So we wait longer than the sender.

hypercorn's `keep_alive_max_requests` needs no change: the last answer on such a connection says
`Connection: close`, so the sender opens a new one.

Who calls it: `runtime.loading`, before func-python's host makes its configuration, and the local host.
"""

from typing import Final

from hypercorn.config import Config

SENDERS_IDLE: Final = 90.0
"""Seconds for which Go's default transport keeps an idle connection."""
IDLE: Final = 120.0
"""Seconds for which we keep one; more than `SENDERS_IDLE`, whatever the two clocks and the network add."""


def keep_connections() -> None:
    """Let every hypercorn of this process keep idle connections for `IDLE` seconds.

    func-python's host makes its own configuration and offers no way to change it, so the default is changed.
    """
    Config.keep_alive_timeout = IDLE
