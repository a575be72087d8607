"""The one HTTP client for whatever leaves the product, other than for the API server and the store.

Who calls it: the channels to people, the forge of proposed changes, a function that says one more message,
the watchdog, `quietpager send`. Nobody else opens a URL (ruff holds that).

A credential (a token in a header, or an address that is a secret itself) goes by https alone, and only to
the host that was configured: no redirect is followed, ever. Proxies are the environment's, for https alone,
where they see a tunnel and nothing in it. Answers are bounded in time and in bytes.
"""

import http.client
import ipaddress
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Final
from urllib import error, request
from urllib.parse import SplitResult, urlsplit

LOOPBACK: Final = "QUIETPAGER_LOOPBACK_HTTP"
"""Environment variable: any value lets credentials go by http to a loopback address, for tests and a demo."""

MOST: Final = 1 << 20
"""Bytes of an answer that are read (1 MiB); one that is longer counts as no answer."""


class NoAnswer(Exception):  # noqa: N818 (what happened, in words)
    """Nothing was sent, or nothing usable came back. The text names neither address nor credential."""

    def __init__(self, sentence: str, why: str = "") -> None:
        """Say it as a sentence, and `why` in as few words as there are."""
        self.why = why or sentence
        super().__init__(sentence)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back, whatever its status."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class _NoRedirect(request.HTTPRedirectHandler):
    """A redirect would carry the credential, or the message, to an address nobody configured."""

    def redirect_request(self, *_args: Any, **_more: Any) -> None:
        """Follow none; the redirect itself is then the answer."""
        return


def ask(
    method: str,
    url: str,
    *,
    seconds: float,
    body: bytes | None = None,
    head: Mapping[str, str] | None = None,
    credential: bool = False,
    most: int = MOST,
) -> Answer:
    """Send one request and read the answer, also one that is an error.

    Args:
        method: GET or POST.
        url: http or https.
        seconds: for all of it.
        body: what is sent.
        head: its headers.
        credential: a header or the address itself is a secret, so it must be https.
        most: bytes of the answer.

    Raises:
        NoAnswer: a sentence for the audit.
    """
    _allowed(url, credential=credential)
    end = monotonic() + seconds
    try:
        asked = request.Request(url, body, dict(head or {}), method=method)  # noqa: S310 (looked at above)
        try:
            answer = _opener().open(asked, timeout=seconds)
        except error.HTTPError as no:
            answer = no
        with answer:
            return Answer(answer.status, _read(answer, most, end), dict(answer.headers.items()))
    except (OSError, ValueError, http.client.HTTPException) as away:
        # Their texts may hold the address, so the kind must do.
        kind = getattr(away, "reason", away)
        raise NoAnswer(f"no answer ({type(kind).__name__})", type(kind).__name__) from None


def _opener() -> request.OpenerDirector:
    """Open http and https and nothing else: no file, no ftp, and no handler that follows."""
    made = request.OpenerDirector()
    proxies = {scheme: at for scheme, at in request.getproxies().items() if scheme == "https"}
    for handler in (
        request.ProxyHandler(proxies), request.HTTPHandler(), request.HTTPSHandler(), _NoRedirect(),
        request.HTTPDefaultErrorHandler(), request.HTTPErrorProcessor(),
    ):  # fmt: skip
        made.add_handler(handler)
    return made


def _allowed(url: str, *, credential: bool) -> None:
    try:
        parts = urlsplit(url)
    except ValueError:
        raise NoAnswer("its url cannot be read") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise NoAnswer("its url is neither http nor https")
    secret = credential or parts.password is not None or parts.username is not None
    if secret and parts.scheme != "https" and not (os.environ.get(LOOPBACK) and _loopback(parts)):
        raise NoAnswer("its url is not https, and a credential is never sent in the clear")


def _loopback(parts: SplitResult) -> bool:
    host = parts.hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _read(answer: Any, most: int, end: float) -> bytes:
    kept = b""
    while chunk := answer.read1(1 << 16):
        kept += chunk
        if len(kept) > most:
            raise NoAnswer(f"it answered with more than {most} bytes")
        if monotonic() > end:
            raise NoAnswer("its answer did not end in time")
    return kept
