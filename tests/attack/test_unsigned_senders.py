"""A message from a stranger at a function's own door: whoever reached its Service got 200 and was believed.

With an audience set, a function takes a message only with a token of its own Trigger. The keys are made here;
the edge is the shipped one.
"""

import asyncio
import base64
import hmac
import json
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from quietpager.errors import NotAllowed, NotProven, Retry
from quietpager.model.message import Message
from quietpager.render.senders import audience_of, trigger_account
from quietpager.runtime.context import Context, Lazy, make_context
from quietpager.runtime.edge import Check, Function
from quietpager.runtime.sender import (
    FRESH,
    ISSUER_PAGE,
    KEYS_PAGE,
    LEEWAY,
    LONGEST_TOKEN,
    PAUSE,
    Keys,
    Senders,
)
from quietpager.store.memory import MemoryStore

Json = dict[str, Any]

NOW = 1_800_000_000
ISSUER = "https://kubernetes.default.svc"
AUDIENCE = audience_of("detect-crash", "quietpager")
SENDER = trigger_account("detect-crash", "quietpager")
CLAIMS: Json = {
    "iss": ISSUER, "aud": [AUDIENCE], "sub": SENDER, "iat": NOW, "nbf": NOW, "exp": NOW + 3600,
}  # fmt: skip


def new_key(kid: str = "k1") -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "alg": "RS256", "use": "sig"})


KEY, FOREIGN = new_key(), new_key()


class Server:
    """Stands for the API server's two pages; counts who reads, and may be away."""

    def __init__(self, *keys: RSAKey | ECKey) -> None:
        self.keys, self.reads, self.away = list(keys), 0, False
        self.seconds = 0.0

    def page(self, path: str) -> bytes:
        self.reads += path == KEYS_PAGE
        if self.away:
            raise OSError("the API server is away")
        if path == ISSUER_PAGE:
            return json.dumps({"issuer": ISSUER}).encode()
        return json.dumps(KeySet([*self.keys]).as_dict(private=False)).encode()

    def clock(self) -> float:
        return self.seconds


def senders(server: Server, kind: type[Senders] = Senders) -> Senders:
    return kind(AUDIENCE, frozenset({SENDER}), Keys(server.page, server.clock), lambda: NOW)


def token(claims: Mapping[str, object] | None = None, key: RSAKey | ECKey = KEY, **header: str) -> str:
    said = {name: value for name, value in (CLAIMS | dict(claims or {})).items() if value is not None}
    head = {"alg": "RS256", "kid": str(key.kid)} | header
    return jwt.encode(head, said, key, algorithms=[head["alg"]])


def bearing(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


def _part(said: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(said).encode()).rstrip(b"=").decode()


def unsigned(claims: Json) -> str:
    """Make a token of algorithm `none`, as RFC 7519 writes it."""
    return f"{_part({'alg': 'none', 'kid': 'k1'})}.{_part(claims)}."


def signed_with_the_public_key(claims: Json) -> str:
    """Sign by HMAC, with the bytes that everybody can read as the secret."""
    text = f"{_part({'alg': 'HS256', 'kid': 'k1'})}.{_part(claims)}"
    mac = hmac.digest(KEY.as_pem(private=False), text.encode(), "sha256")
    return f"{text}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def test_the_triggers_own_token_is_taken() -> None:
    assert senders(Server(KEY)).check(bearing(token())) == SENDER


def test_a_cluster_that_signs_on_a_curve_is_understood() -> None:
    key = ECKey.generate_key("P-256", {"kid": "e1", "alg": "ES256", "use": "sig"})
    assert senders(Server(KEY, key)).check(bearing(token(key=key, alg="ES256"))) == SENDER


NO_PROOF: dict[str, dict[str, str]] = {
    "no token": {},
    "another scheme": {"authorization": "Basic cXVpZXQ6cGFnZXI="},
    "an empty one": {"authorization": "Bearer "},
    "not a token": bearing("x.y.z"),
    "an endless one": bearing("x" * (LONGEST_TOKEN + 1)),
    "another audience": bearing(token({"aud": [audience_of("remediate-raise-memory", "quietpager")]})),
    "the API server's audience": bearing(token({"aud": [ISSUER]})),
    "no audience": bearing(token({"aud": None})),
    "expired": bearing(token({"exp": NOW - LEEWAY - 1})),
    "without an end": bearing(token({"exp": None})),
    "not valid yet": bearing(token({"nbf": NOW + LEEWAY + 1})),
    "another issuer": bearing(token({"iss": "https://evil.example.com"})),
    "no issuer": bearing(token({"iss": None})),
    "no subject": bearing(token({"sub": None})),
    "another key by the same name": bearing(token(key=FOREIGN)),
    "no signature": bearing(token().rpartition(".")[0] + "."),
    "another signature": bearing(f"{token().rpartition('.')[0]}.{token({'jti': 'x'}).rpartition('.')[2]}"),
    "algorithm none": bearing(unsigned(CLAIMS)),
    "HMAC with the public key": bearing(signed_with_the_public_key(CLAIMS)),
}


@pytest.mark.parametrize("name", NO_PROOF)
def test_what_proves_nothing_is_not_taken(name: str) -> None:
    with pytest.raises(NotProven):
        senders(Server(KEY)).check(NO_PROOF[name])


@pytest.mark.parametrize(
    "subject",
    [
        "system:serviceaccount:quietpager:detect-crash",
        "system:serviceaccount:shop:default",
        trigger_account("govern-decide", "quietpager"),
        trigger_account("detect-crash", "shop"),
    ],
)
def test_a_good_token_of_somebody_else_is_not_taken(subject: str) -> None:
    with pytest.raises(NotAllowed):
        senders(Server(KEY)).check(bearing(token({"sub": subject})))


class AnyAudience(Senders):
    """The mutant: a good token of the cluster is enough, whomever it was made for."""

    def rules(self) -> jwt.JWTClaimsRegistry:
        known = super().rules()
        del known.options["aud"]
        return known


def test_without_the_audience_a_token_for_another_function_opens_this_one() -> None:
    """A function that is hijacked could send on, as the Broker, what the Broker sent it."""
    with pytest.raises(NotProven):
        senders(Server(KEY)).check(NO_PROOF["another audience"])
    assert senders(Server(KEY), AnyAudience).check(NO_PROOF["another audience"]) == SENDER


# The keys


def test_the_keys_are_read_once_for_many_messages() -> None:
    server = Server(KEY)
    one = senders(server)
    for _ in range(50):
        one.check(bearing(token()))
    assert server.reads == 1


def test_messages_that_come_before_the_keys_are_there_wait_for_them() -> None:
    server, come, go = Server(KEY), threading.Event(), threading.Event()

    def slow(path: str) -> bytes:
        come.set()
        assert go.wait(30)
        return server.page(path)

    one = Senders(AUDIENCE, frozenset({SENDER}), Keys(slow, server.clock), lambda: NOW)
    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(one.check, bearing(token())) for _ in range(4)]
        assert come.wait(30)
        go.set()
        assert [each.result() for each in asked] == [SENDER] * 4
    assert server.reads == 1


def test_a_new_key_of_the_cluster_is_found() -> None:
    server = Server(KEY)
    one = senders(server)
    one.check(bearing(token()))
    newer = new_key("k2")
    server.keys.append(newer)
    server.seconds += PAUSE
    assert one.check(bearing(token(key=newer))) == SENDER


def test_invented_keys_do_not_drive_the_api_server() -> None:
    server = Server(KEY)
    one = senders(server)
    one.check(bearing(token()))
    for number in range(100):
        with pytest.raises((NotProven, Retry)):
            one.check(bearing(token(key=FOREIGN, kid=f"invented-{number}")))
    assert server.reads == 1
    one.check(bearing(token()))  # who is known is served all the same


def test_a_key_that_the_cluster_gave_up_counts_no_more() -> None:
    server = Server(KEY)
    one = senders(server)
    one.check(bearing(token()))
    server.keys = [new_key("k2")]
    server.seconds += FRESH + 1
    with pytest.raises((NotProven, Retry)):
        one.check(bearing(token()))


def test_while_the_keys_cannot_be_had_nobody_is_believed_and_nothing_is_lost() -> None:
    server = Server(KEY)
    server.away = True
    one = senders(server)
    with pytest.raises(Retry):
        one.check(bearing(token()))
    server.away = False
    server.seconds += PAUSE
    assert one.check(bearing(token())) == SENDER
    server.away = True
    server.seconds += FRESH + 1
    assert one.check(bearing(token())) == SENDER  # what is known goes on


# The edge


def ask(check: Check | None, headers: Mapping[str, str]) -> tuple[int, list[Message]]:
    """Post one signal to a function's edge; gives the status and what its handler got."""
    got: list[Message] = []

    def handler(message: Message, _ctx: Context) -> list[Message]:
        got.append(message)
        return []

    store = MemoryStore()

    def make() -> Context:
        return make_context("detect-crash", Lazy(lambda: store, lambda: pytest.fail("no cluster")))

    function = Function(handler, make, check=check)
    known = {
        "ce-specversion": "1.0", "ce-id": "1", "ce-type": "dev.quietpager.signal", "ce-source": "/x",
        "content-type": "application/json", **headers,
    }  # fmt: skip
    sent: list[Json] = []

    async def receive() -> Json:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(part: Json) -> None:
        sent.append(part)

    raw = [(name.encode(), value.encode()) for name, value in known.items()]
    scope = {"type": "http", "method": "POST", "path": "/", "headers": raw}
    asyncio.run(function.handle(scope, receive, send))
    function.stop()
    return sent[0]["status"], got


def test_a_functions_door_opens_for_its_trigger_only() -> None:
    check = senders(Server(KEY)).check
    assert ask(check, {})[0] == 401
    assert ask(check, NO_PROOF["expired"])[0] == 401
    assert ask(check, bearing(token({"sub": "system:serviceaccount:shop:default"})))[0] == 403
    assert [ask(check, headers)[1] for headers in NO_PROOF.values()] == [[]] * len(NO_PROOF)
    status, got = ask(check, bearing(token()))
    assert (status, len(got)) == (204, 1)


def test_without_the_check_a_stranger_is_heard() -> None:
    """The mutant, and what holds where the Broker does not authenticate: a forged message costs a read."""
    status, got = ask(None, {})
    assert (status, len(got)) == (204, 1)


def test_a_machine_whose_clock_is_a_little_off_is_believed() -> None:
    one = senders(Server(KEY))
    assert one.check(bearing(token({"exp": NOW - LEEWAY + 1}))) == SENDER
    assert one.check(bearing(token({"nbf": NOW + LEEWAY - 1, "iat": NOW + LEEWAY - 1}))) == SENDER


def test_the_clock_is_the_machines() -> None:
    real = Senders(AUDIENCE, frozenset({SENDER}), Keys(Server(KEY).page))
    now = int(time.time())
    assert real.check(bearing(token({"iat": now, "nbf": now, "exp": now + 60}))) == SENDER
