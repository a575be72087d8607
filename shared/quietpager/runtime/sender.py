"""Checks the token that comes with a message, where the Broker authenticates senders.

Knative delivers to a function with a JWT of the Trigger's own ServiceAccount, made for the audience that the
Trigger names for its subscriber (knative/eventing v0.49.2, pkg/broker/filter). Such a token proves that the
Broker's filter sends, and for this function. So a function behind such a Broker takes nothing without one:

    no token, a broken, foreign, expired one, or one for another audience     401
    a good one of an account that is not among this function's senders        403
    the keys cannot be had just now                                           503: delivered again

Who calls it: the edge, where `QUIETPAGER_AUDIENCE` is set (`quietpager render --authentication`). The keys
are the API server's, `/openid/v1/jwks`; every ServiceAccount may read them (ClusterRole
`system:service-account-issuer-discovery`).
"""

import http.client
import json
import os
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import structlog
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import GuestProtocol, KeySet

from quietpager.errors import NotAllowed, NotProven, Retry
from quietpager.model.text import clean

AUDIENCE: Final = "QUIETPAGER_AUDIENCE"
"""Environment variable: the audience that a token must be made for. Without it no token is asked for."""
SENDERS: Final = "QUIETPAGER_SENDERS"
"""Environment variable: the accounts that may send to this function, as a token's `sub` names them."""
IDENTITY: Final = "QUIETPAGER_IDENTITY"
"""Environment variable: the folder with `token` and `ca.crt`, which open the API server's page of keys."""

ALGORITHMS: Final = ("RS256", "ES256", "ES384", "ES512")
"""With which an API server signs tokens (kubernetes, pkg/serviceaccount/jwt.go). No other is even tried."""
LONGEST_TOKEN: Final = 8192
LARGEST_ANSWER: Final = 1 << 20
LEEWAY: Final = 30
"""Seconds by which two machines' clocks may differ."""
FRESH: Final = 600.0
"""Seconds after which the keys are read again: a key that the cluster gave up must not count for ever."""
PAUSE: Final = 2.0
"""Seconds, at least, between two reads, however many tokens name keys that nobody knows."""
PATIENCE: Final = 3.0

ISSUER_PAGE: Final = "/.well-known/openid-configuration"
KEYS_PAGE: Final = "/openid/v1/jwks"

Fetch = Callable[[str], bytes]
"""Reads one page of the API server; raises OSError, or ValueError for an answer that is none."""

log = structlog.get_logger()


class Keys:
    """The cluster's public keys and its issuer's name: kept, read again now and then, and never in a rush."""

    def __init__(self, fetch: Fetch, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is read yet. `clock` gives seconds that only go forward."""
        self._fetch, self._clock = fetch, clock
        self._reading = threading.Lock()
        self._tried, self._read = -PAUSE, -FRESH
        self._set: KeySet | None = None
        self.issuer = ""

    def find(self, kid: object) -> KeySet:
        """Give the one key of this id, as a set.

        Raises:
            Retry: it is not known, and whether it exists cannot be asked just now.
            NotProven: the cluster has no such key.
        """
        if self._clock() - self._read > FRESH:
            self._refresh(must=self._set is None)
        found = self._known(kid)
        if found is None:
            self._refresh(must=True)
            found = self._known(kid)
        if found is None:
            raise NotProven("The token is signed with a key that this cluster does not have.")
        return found

    def _known(self, kid: object) -> KeySet | None:
        keys = [] if self._set is None else [one for one in self._set.keys if one.kid == kid]
        return KeySet(keys) if keys else None

    def _refresh(self, *, must: bool) -> None:
        """Read the keys; one thread at a time, and not again at once.

        The others go on with what is known; while nothing is, they wait for it.
        """
        first = self._set is None
        if not self._reading.acquire(timeout=2 * PATIENCE if first else 0):
            if must:
                raise Retry("The cluster's keys are just being read.")
            return
        try:
            if first and self._set is not None:
                return
            if self._clock() - self._tried < PAUSE:
                if must:
                    raise Retry("The cluster's keys were read a moment ago; the token's is not among them.")
                return
            self._tried = self._clock()
            try:
                issuer = json.loads(self._fetch(ISSUER_PAGE))["issuer"]
                keys = KeySet.import_key_set(json.loads(self._fetch(KEYS_PAGE)))
            except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError, JoseError) as no:
                log.warning("the cluster's keys cannot be read", error=clean(str(no), 300))
                if must:
                    raise Retry(f"The cluster's keys cannot be read: {clean(str(no), 200)}") from no
                return
            self._set, self.issuer, self._read = keys, str(issuer), self._clock()
        finally:
            self._reading.release()


class Senders:
    """Who may send to one function, and the proof that it is they. Who calls it: the edge."""

    def __init__(
        self,
        audience: str,
        subjects: frozenset[str],
        keys: Keys,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`subjects`: the allowed accounts; `clock`: seconds since the epoch."""
        self.audience, self.subjects = audience, subjects
        self._keys, self._clock = keys, clock

    def check(self, headers: Mapping[str, str]) -> str:
        """Give the account that sends a request; header names in lower case.

        Raises:
            NotProven: there is no token, or it proves nothing here.
            NotAllowed: it is a good one, of somebody who may not send this.
            Retry: the keys cannot be had just now.
        """
        kind, _, token = headers.get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not token:
            raise NotProven("The message comes without a token. Only the Broker may send to this function.")
        if len(token) > LONGEST_TOKEN:
            raise NotProven(f"The token is longer than {LONGEST_TOKEN} characters.")
        claims = self._claims(token)
        subject = claims["sub"]
        if subject not in self.subjects:
            raise NotAllowed(f"{clean(str(subject), 200)} may not send to this function.")
        return str(subject)

    def _claims(self, token: str) -> jwt.Claims:
        try:
            found = jwt.decode(token, self._key, algorithms=ALGORITHMS)
            self.rules().validate(found.claims)
        except (NotProven, Retry):
            raise
        except Exception as no:  # noqa: BLE001 (whatever is wrong with a stranger's text, it proves nothing)
            raise NotProven(f"The token proves nothing here: {clean(str(no), 200)}") from None
        return found.claims

    def _key(self, signature: GuestProtocol) -> KeySet:
        return self._keys.find(signature.headers().get("kid"))

    def rules(self) -> jwt.JWTClaimsRegistry:
        """Give what a token's claims must say; all of it must be there."""
        return jwt.JWTClaimsRegistry(
            now=int(self._clock()),
            leeway=LEEWAY,
            iss={"essential": True, "value": self._keys.issuer},
            aud={"essential": True, "value": self.audience},
            exp={"essential": True},
            sub={"essential": True},
        )


def from_environment() -> Senders:
    """Make the check that the environment asks for. Who calls it: `runtime.connect`.

    Raises:
        ValueError: it is not said who may send: the function must not start.
    """
    audience = os.environ[AUDIENCE]
    subjects = frozenset(os.environ.get(SENDERS, "").split())
    if not subjects:
        raise ValueError(
            f"{AUDIENCE} is set and {SENDERS} is not: nobody could send to this function. Render both "
            "with `quietpager render --authentication`."
        )
    return Senders(audience, subjects, Keys(api_server(Path(os.environ.get(IDENTITY, "")))))


def api_server(identity: Path) -> Fetch:
    """Read pages of the pod's own API server; its token is read anew each time, for the kubelet renews it."""

    def fetch(page: str) -> bytes:
        host, port = os.environ["KUBERNETES_SERVICE_HOST"], int(os.environ["KUBERNETES_SERVICE_PORT"])
        trusted = ssl.create_default_context(cafile=str(identity / "ca.crt"))
        token = (identity / "token").read_text(encoding="ascii").strip()
        asked = http.client.HTTPSConnection(host, port, timeout=PATIENCE, context=trusted)
        try:
            asked.request("GET", page, headers={"Authorization": f"Bearer {token}"})
            answer = asked.getresponse()
            body = answer.read(LARGEST_ANSWER)
        finally:
            asked.close()
        if answer.status != http.client.OK:
            raise ValueError(f"the API server answers {answer.status} at {page}")
        return body

    return fetch
