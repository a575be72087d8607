"""Reading a list in pages that stay small, whatever a tenant puts into its objects.

    limit=100 ──▶ 4 MiB and no end: dropped ──▶ limit=25, continue ──▶ … ──▶ 410: its own token, go on

A list is never held whole. A page is bounded by its number of objects and by its bytes: one that grows beyond
MOST_PAGE is dropped while it is read, and asked for again with fewer. A page's objects are given one by one,
with the fields that are judged and no others, and forgotten.

Who calls it: `client`, for everything that it lists.
Paging: https://kubernetes.io/docs/reference/using-api/api-concepts/#retrieving-large-results-sets-in-chunks.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import BaseModel

from quietpager.model.cluster import ClusterUnavailable, Json, Kind
from quietpager.objects.kinds.pod import KIND as POD
from quietpager.objects.types import Pod

FIRST_LIMIT: Final = 100
"""Objects of the first page; an ordinary pod has some ten kilobytes."""
MOST_LIMIT: Final = 500
"""Objects of any page, as kubectl has it."""
MOST_PAGE: Final = 4 << 20
"""Bytes of a page. Parsed, it may be ten times as much."""
MOST_OBJECT: Final = 16 << 20
"""Bytes of a page of one object; etcd takes 1.5 MiB of one by default, so no object is larger."""

View = Mapping[str, Any]
"""Which fields of an object are kept: name to those below it, or to None for all that is there."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the API server said to one page. `body` is None where it was dropped for its size."""

    status: int
    body: bytes | None


Ask = Callable[[dict[str, str], int], Answer]
"""Sends one list call with these parameters, and reads so many bytes of the answer at most."""


def pages(ask: Ask, query: Mapping[str, str], fail: Callable[[int, bytes], Exception]) -> Iterator[Json]:
    """Give one page after the other, as the API server's own list objects.

    Where the API server no longer has the state that the list began with (410), it goes on with the state of
    now, by the token that came with that answer: an object may then be there in neither or in both states.
    Who needs a list of one moment must watch.

    Raises:
        ClusterUnavailable: no answer, or one that is no list.
        Whatever `fail` makes of an error's code and body.
    """
    limit, token = FIRST_LIMIT, ""
    while True:
        asked = dict(query) | {"limit": str(limit)} | ({"continue": token} if token else {})
        answer = ask(asked, MOST_PAGE if limit > 1 else MOST_OBJECT)
        if answer.body is None:
            if limit == 1:
                raise ClusterUnavailable(f"one object of the list has more than {MOST_OBJECT} bytes")
            limit = max(1, limit // 4)
            continue
        if answer.status >= 300:
            fresh = _token(_parsed(answer.body, strict=False)) if answer.status == 410 and token else ""
            if not fresh:
                raise fail(answer.status, answer.body)
            token = fresh
            continue
        size = len(answer.body)
        page = _parsed(answer.body, strict=True)
        del answer
        token = _token(page)
        yield page
        if not token:
            return
        del page
        # Half of what is allowed, so that a page that is larger than the last one still fits.
        wanted = limit * (MOST_PAGE // 2) // max(size, 1)
        limit = min(max(wanted, limit // 4, 1), 2 * limit, MOST_LIMIT)


def items(page: Json, kind: Kind, api_version: str) -> Iterator[Json]:
    """Give a page's objects one by one, each with its kind, and let go of each."""
    # The API leaves kind and apiVersion out of the items of a list.
    about = {"apiVersion": api_version, "kind": kind}
    found = page.pop("items", None) or []
    found.reverse()
    while found:
        yield about | found.pop()


def judged(kind: Kind, raw: Json) -> Json:
    """Keep of a pod what anything here judges by: neither env, args nor annotations. Others stay whole."""
    if kind != POD.name:
        return raw
    kept: Json = _kept(raw, _view())
    return kept


@cache
def _view() -> View:
    view = dict(_fields_of(Pod))
    view["metadata"] = {k: v for k, v in view["metadata"].items() if k != "annotations"}
    return view


def _fields_of(model: type[BaseModel]) -> View:
    """Read off a typed view which fields it has, by the API's names."""
    return {str(field.alias or name): _below(field.annotation) for name, field in model.model_fields.items()}


def _below(annotation: Any) -> View | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return _fields_of(annotation)
    inner = [one for one in getattr(annotation, "__args__", ()) if one is not type(None) and one is not ...]
    found = [_below(one) for one in inner if one is not str]
    return next((one for one in found if one is not None), None)


def _kept(raw: Any, view: View | None) -> Any:
    if view is None:
        return raw
    if isinstance(raw, list):
        return [_kept(one, view) for one in raw]
    if isinstance(raw, dict):
        return {key: _kept(raw[key], below) for key, below in view.items() if key in raw}
    return raw


def _token(page: Json) -> str:
    about = page.get("metadata")
    return str(about.get("continue") or "") if isinstance(about, dict) else ""


def _parsed(body: bytes, *, strict: bool) -> Json:
    try:
        found = json.loads(body)
    except ValueError as error:
        if not strict:
            return {}
        raise ClusterUnavailable("the API server's answer is not JSON") from error
    if not isinstance(found, dict):
        if not strict:
            return {}
        raise ClusterUnavailable("the API server's answer is not an object")
    return found
