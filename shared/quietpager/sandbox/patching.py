"""JSON Patch (RFC 6902) and JSON Merge Patch (RFC 7386), as the API server understands them.

Written here and not taken from a library: what matters to the product is `test`, and Python
libraries compare with `==`, for which `True` is `1`. The API server's own library is laxer than the
RFC in places, and so is this (measured on kube-apiserver 1.35.4): `replace` may name a key that is
not there, a `test` for null holds for one, a missing value is null, and what stands before the first
slash of a path is ignored.
Nothing here changes its arguments.
"""

from collections.abc import Sequence
from typing import Any

Json = dict[str, Any]


class PatchError(Exception):
    """A `test` fails, or a path leads nowhere."""


def clone(value: Any) -> Any:
    """Copy JSON."""
    if isinstance(value, dict):
        return {key: clone(item) for key, item in value.items()}
    if isinstance(value, list):
        return [clone(item) for item in value]
    return value


def same(one: Any, other: Any) -> bool:
    """Compare as the API server does: a boolean is not a number, and 0 is not 0.0 (measured)."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


def merge(target: Any, patch: Any) -> Any:
    """Apply a merge patch: null removes, objects merge, everything else replaces."""
    if not isinstance(patch, dict):
        return clone(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge(merged.get(key), value)
    return merged


def apply(document: Json, operations: Sequence[Any]) -> Json:
    """Apply JSON Patch operations, all or none.

    Raises:
        PatchError: an operation is malformed, its path does not exist or its test fails.
    """
    root: Json = {"": clone(document)}
    for operation in operations:
        _apply_one(root, operation)
    result = root[""]
    if not isinstance(result, dict):
        raise PatchError("the patch leaves no object")
    return result


def _apply_one(root: Json, operation: Any) -> None:
    if not isinstance(operation, dict):
        raise PatchError("an operation is an object")
    verb, path = operation.get("op"), operation.get("path")
    match verb:
        case "add":
            _add(root, path, clone(operation.get("value")))
        case "remove":
            _remove(root, path)
        case "replace":
            _replace(root, path, clone(operation.get("value")))
        case "move":
            if isinstance(path, str) and path.startswith(f"{operation.get('from')}/"):
                raise PatchError("an object cannot be moved into itself")
            _add(root, path, _remove(root, operation.get("from")))
        case "copy":
            _add(root, path, clone(_find(root, operation.get("from"))))
        case "test":
            if not _holds(root, path, operation.get("value")):
                raise PatchError(f"the test of {path} fails")
        case _:
            raise PatchError(f"there is no operation {verb!r}")


def _holds(root: Json, path: Any, value: Any) -> bool:
    parent, last = _parent(root, path)
    if value is None and isinstance(parent, dict) and last not in parent:
        return True
    return same(_find(root, path), value)


def _tokens(path: Any) -> list[str]:
    if not isinstance(path, str) or (path and "/" not in path):
        raise PatchError(f"{path!r} is not a JSON pointer")
    return ["", *(token.replace("~1", "/").replace("~0", "~") for token in path.split("/")[1:])]


def _index(items: list[Any], token: str, end: int) -> int:
    plain = token.isascii() and token.isdecimal() and (len(token) == 1 or not token.startswith("0"))
    if not plain or int(token) > end:
        raise PatchError(f"{token!r} is not an index into {len(items)} items")
    return int(token)


def _step(value: Any, token: str) -> Any:
    if isinstance(value, dict) and token in value:
        return value[token]
    if isinstance(value, list):
        return value[_index(value, token, len(value) - 1)]
    raise PatchError(f"nothing is at {token!r}")


def _find(root: Json, path: Any) -> Any:
    value: Any = root
    for token in _tokens(path):
        value = _step(value, token)
    return value


def _parent(root: Json, path: Any) -> tuple[Any, str]:
    *above, last = _tokens(path)
    value: Any = root
    for token in above:
        value = _step(value, token)
    return value, last


def _add(root: Json, path: Any, value: Any) -> None:
    parent, last = _parent(root, path)
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent.insert(len(parent) if last == "-" else _index(parent, last, len(parent)), value)
    else:
        raise PatchError(f"nothing can be added at {path}")


def _replace(root: Json, path: Any, value: Any) -> None:
    parent, last = _parent(root, path)
    if isinstance(parent, dict):
        parent[last] = value
    elif isinstance(parent, list):
        parent[_index(parent, last, len(parent) - 1)] = value
    else:
        raise PatchError(f"nothing can be replaced at {path}")


def _remove(root: Json, path: Any) -> Any:
    if not path:
        raise PatchError("the whole object cannot be removed")
    parent, last = _parent(root, path)
    value = _step(parent, last)
    if isinstance(parent, dict):
        del parent[last]
    else:
        del parent[int(last)]
    return value
