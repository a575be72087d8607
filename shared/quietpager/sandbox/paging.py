"""Lists in pages, `limit` and `continue`, as kube-apiserver gives them.

All pages show the state of the first one; the token says which state that was, and after which object to
go on.
https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks; what
is in a token: k8s.io/apiserver, pkg/storage/continue.go.
"""

import base64
import json
from collections.abc import Mapping
from typing import Any, Final

from quietpager.sandbox import answers
from quietpager.sandbox.selection import Matches
from quietpager.sandbox.store import Store

Json = dict[str, Any]
Place = tuple[str, str]
"""Namespace and name: the order of a list."""

_NOW: Final = -1
"""The state that a token names where an expired list goes on."""
_BEFORE_ALL: Final[Place] = ("", "")


def page(
    store: Store, kind: str, namespace: str, query: Mapping[str, str], wanted: Matches
) -> tuple[list[Json], Json]:
    """Give a page's objects, and the metadata of the list.

    Raises:
        Problem: 400 for parameters that are none, 410 for a state that is gone.
    """
    limit, token = _limit(query.get("limit", "")), query.get("continue", "")
    version, after = _read(token) if token else (store.version, _BEFORE_ALL)
    if version == _NOW:
        version = store.version
    every = store.as_of(kind, namespace, version) if token else store.select(kind, namespace)
    if every is None:
        raise answers.list_expired(_write(_NOW, after))
    left = [obj for obj in every if _place(obj) > after and wanted(obj)]
    chosen = left[:limit] if limit else left
    about: Json = {"resourceVersion": str(version)}
    if len(chosen) < len(left):
        about["continue"] = _write(version, _place(chosen[-1]))
        if not (query.get("labelSelector") or query.get("fieldSelector")):
            about["remainingItemCount"] = len(left) - len(chosen)
    return chosen, about


def _place(obj: Json) -> Place:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]


def _limit(text: str) -> int:
    if not text:
        return 0
    try:
        return max(int(text), 0)
    except ValueError as error:
        why = f'strconv.ParseInt: parsing "{text}": invalid syntax'
        raise answers.bad_request(why) from error


def _write(version: int, after: Place) -> str:
    body = {"v": "meta.k8s.io/v1", "rv": version, "start": "/".join(after) + "\0"}
    return base64.urlsafe_b64encode(json.dumps(body).encode()).decode().rstrip("=")


def _read(token: str) -> tuple[int, Place]:
    try:
        body = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
        namespace, name = str(body["start"]).rstrip("\0").split("/")
        return int(body["rv"]), (namespace, name)
    except (ValueError, KeyError, TypeError) as error:
        raise answers.bad_token(f"illegal base64 data or content ({type(error).__name__})") from error
