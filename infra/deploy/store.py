"""The store's Secret: made once with a password of its own, read by functions and by people's commands."""

import base64
import json
import secrets
from typing import Any, Final

from infra.deploy.objects import create
from infra.render.workloads import STORE
from infra.testbed.addons import kubectl

Json = dict[str, Any]

NAMESPACE: Final = "quietpager"
DATABASE: Final = "quietpager"


def ensure_secret() -> None:
    """Make the Secret where there is none; an existing one is never touched."""
    if not kubectl("-n", NAMESPACE, "get", f"secret/{STORE}", check=False).returncode:
        return
    password = secrets.token_urlsafe(24)
    url = _url(password, f"postgres.{NAMESPACE}.svc.cluster.local")
    create(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": STORE, "namespace": NAMESPACE},
            "stringData": {"password": password, "url": url},
        }
    )


def store_url() -> str:
    """Give the store's address as seen from this machine, which has no cluster DNS.

    Raises:
        SystemExit: nothing is deployed; the text is kubectl's.
    """
    secret = _get(f"secret/{STORE}")
    password = base64.b64decode(secret["data"]["password"]).decode()
    return _url(password, _get("service/postgres")["spec"]["clusterIP"])


def _url(password: str, host: str) -> str:
    return f"postgresql://{DATABASE}:{password}@{host}:5432/{DATABASE}"


def _get(what: str) -> Json:
    found: Json = json.loads(kubectl("-n", NAMESPACE, "get", what, "-o", "json").stdout)
    return found
