"""The store's Secret: made once with passwords of its own, and the database's two roles.

The functions and people's commands come as the role that can only add to the audit (`url`); the owner's
address (`owner-url`) is for `make deploy` alone, which makes the tables, and no pod is given it.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from typing import Any, Final

from infra.deploy import dynamodb
from infra.deploy.objects import apply, create
from infra.testbed.addons import kubectl
from quietpager.render.workloads import STORE
from quietpager.store.opening import DYNAMODB
from quietpager.store.roles import FUNCTIONS

Json = dict[str, Any]

NAMESPACE: Final = "quietpager"
DATABASE: Final = "quietpager"
OWNER: Final = "quietpager"
HOST: Final = f"postgres.{NAMESPACE}.svc.cluster.local"
DYNAMODB_HOST: Final = f"{dynamodb.NAME}.{NAMESPACE}.svc.cluster.local"


def ensure_secret(*, with_dynamodb: bool = False) -> bool:
    """Make the Secret where there is none, and change it where it is of an older version or another store.

    A password that is there is never changed: the database has it. Gives whether the functions' store is
    another one than before.
    """
    if kubectl("-n", NAMESPACE, "get", f"secret/{STORE}", check=False).returncode:
        create(_secret(filled({}, with_dynamodb=with_dynamodb)))
        return False
    there = _known()
    wanted = filled(there, with_dynamodb=with_dynamodb)
    if there != wanted:
        apply([_secret(wanted)])
    return there.get("url") != wanted["url"]


def filled(there: Mapping[str, str], *, with_dynamodb: bool = False) -> dict[str, str]:
    """Give all keys of the Secret; passwords that are there stay."""
    owner = there.get("password") or secrets.token_urlsafe(24)
    functions = there.get("functions-password") or secrets.token_urlsafe(24)
    return {
        "password": owner,
        "functions-password": functions,
        "url": dynamodb.url(DYNAMODB_HOST) if with_dynamodb else _url(FUNCTIONS, functions, HOST),
        "owner-url": _url(OWNER, owner, HOST),
    }


def store_url() -> str:
    """Give the store's address as seen from this machine, which has no cluster DNS; the functions' role.

    Raises:
        SystemExit: nothing is deployed; the text is kubectl's.
    """
    if on_dynamodb():
        return dynamodb.url(_address(dynamodb.NAME))
    return _url(FUNCTIONS, _known()["functions-password"], _address())


def owner_url() -> str:
    """Give the same for the tables' owner. Raises as `store_url` does."""
    return _url(OWNER, _known()["password"], _address())


def on_dynamodb() -> bool:
    """Tell whether the functions' store is the test bed's DynamoDB. Raises as `store_url` does."""
    return _known()["url"].startswith(DYNAMODB)


def _address(service: str = "postgres") -> str:
    address: str = _get(f"service/{service}")["spec"]["clusterIP"]
    return address


def _known() -> dict[str, str]:
    data: dict[str, str] = _get(f"secret/{STORE}")["data"]
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def _secret(keys: Mapping[str, str]) -> Json:
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": STORE, "namespace": NAMESPACE},
        "stringData": dict(keys),
    }


def _url(role: str, password: str, host: str) -> str:
    return f"postgresql://{role}:{password}@{host}:5432/{DATABASE}"


def _get(what: str) -> Json:
    found: Json = json.loads(kubectl("-n", NAMESPACE, "get", what, "-o", "json").stdout)
    return found
