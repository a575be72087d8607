"""Stores JSON in JSONB without a change: it escapes what PostgreSQL would refuse or change.

Who calls it: the PostgreSQL store and mailbox. PostgreSQL's JSONB and text refuse U+0000 and lone
surrogates (messages of containers hold both), and JSONB keeps numbers as decimals, so that the
float 1e16 comes back as the integer 10000000000000000 and -0.0 as 0.0. Both would break a hash
over what was written.

The escape character is U+E000, of the private use area: U+E000 + `0` stands for U+0000, U+E000 +
`d8ab` for the surrogate U+D8AB, U+E000 + `1` for U+E000 itself, and a whole string U+E000 + `f` +
digits for a float. It is reversible, so nothing is lost; a person who looks with psql sees the
escaped form.
"""

import json
import math
import re
from typing import Any, Final

from quietpager.model.store import Json

_MARK: Final = "\ue000"
_SPECIAL: Final = re.compile("[\x00\ue000\ud800-\udfff]")
_ESCAPED: Final = re.compile(f"{_MARK}(0|1|d[89a-f][0-9a-f]{{2}})")

# In JSON text: anything that may need an escape. It may cry wolf (a text with "1e+3" in it); then
# the slow way is taken for nothing.
_SUSPICIOUS: Final = re.compile("\\\\u0000|[\ue000\ud800-\udfff]|[0-9]e\\+|-0\\.0")

_EXACT_UP_TO: Final = 1e16
"""From here on Python writes floats with an exponent, and JSONB gives them back as integers."""


def escape(text: str) -> str:
    """Make any string fit a text column."""
    return _SPECIAL.sub(_escape_one, text) if _SPECIAL.search(text) else text


def unescape(text: str) -> str:
    """Undo `escape`."""
    return _ESCAPED.sub(_unescape_one, text) if _MARK in text else text


def dump(body: Json) -> str:
    """Write JSON that JSONB takes and keeps.

    Raises:
        ValueError: NaN or an infinity, which JSON does not have.
        TypeError: the value is not JSON.
    """
    # Not as ASCII: backslashes are what psycopg and PostgreSQL are slow at in arrays of text.
    text = json.dumps(body, allow_nan=False, ensure_ascii=False)
    if _SUSPICIOUS.search(text):
        text = json.dumps(_guard(json.loads(text)), ensure_ascii=False)
    return text


def load(text: str) -> Json:
    """Read what `dump` wrote, from PostgreSQL's rendering of it."""
    body: Json = json.loads(text)
    return _restore(body) if _MARK in text else body


def _guard(value: Any) -> Any:
    match value:
        case str():
            return escape(value)
        case float() if abs(value) >= _EXACT_UP_TO or (value == 0 and math.copysign(1, value) < 0):
            return f"{_MARK}f{value!r}"
        case dict():
            return {escape(name): _guard(item) for name, item in value.items()}
        case list():
            return [_guard(item) for item in value]
        case _:
            return value


def _restore(value: Any) -> Any:
    match value:
        case str() if value.startswith(f"{_MARK}f"):
            return float(value[2:])
        case str():
            return unescape(value)
        case dict():
            return {unescape(name): _restore(item) for name, item in value.items()}
        case list():
            return [_restore(item) for item in value]
        case _:
            return value


def _escape_one(found: re.Match[str]) -> str:
    character = found[0]
    if character == "\x00":
        return f"{_MARK}0"
    return f"{_MARK}1" if character == _MARK else f"{_MARK}{ord(character):04x}"


def _unescape_one(found: re.Match[str]) -> str:
    code = found[1]
    if code == "0":
        return "\x00"
    return _MARK if code == "1" else chr(int(code, 16))
