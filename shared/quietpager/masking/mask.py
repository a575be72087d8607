"""Takes secrets out of text. Who calls it: `told`, and whatever reads a log or writes to a person.

It cannot know every secret. So what is likely to hold one is never read (Secrets), never kept (values
of environment variables), or masked by its shape here: by our own patterns, and then by the detectors of
detect-secrets (`library`). When in doubt it is masked, but a cause that a person must read stays.

No pattern may take more than linear time, so each repeat is bounded or always matches: a log is 64 KiB
of whatever a container likes, and a quadratic pattern would let any container stop its reader.
"""

import json
import re
from functools import lru_cache
from typing import Final

from quietpager.masking import library, named
from quietpager.masking.random import looks_random, stays
from quietpager.masking.shape import MASK

CACHED: Final = 2048
"""Characters of a text that is masked again and again (each time a record is read): that is remembered."""

DEEPEST: Final = 3
"""How often JSON may lie in a string of JSON (a log line in an answer in a dead letter) and is still read."""

_LITERAL: Final = re.compile(r'\\.|"((?:[^"\\]|\\.)*)("|\Z)', re.DOTALL)
_PEM: Final = re.compile(r"-----BEGIN [A-Z0-9 ]{3,40}-----.*?(?:-----END [A-Z0-9 ]{3,40}-----|\Z)", re.DOTALL)
_IN_URL: Final = re.compile(
    r"(?<=://)(?:[^\s/@:\"'<>]{0,200}:(?!\d{1,5}[/?#])[^\s\"'<>]{1,300}|[^\s/@\"'<>]{1,500})@(?=[\w\[$%.-])"
)
_DSN: Final = re.compile(r"(?<![\w.-])([\w.-]{1,64}:)(\S{1,200}?)(?=@(?:tcp|udp|unix|tcp6)\()")
_HOOK: Final = re.compile(
    r"(?i)(https?://(?:hooks\.slack\.com/(?:services|workflows)|discord(?:app)?\.com/api/webhooks"
    r"|[\w.-]{1,80}\.webhook\.office\.com)/)[^\s\"'<>]+"
)
_HEADER: Final = re.compile(
    r"(?i)\b(bearer|basic)\s{1,8}(?![A-Za-z_-]{1,30}=[\"\w])(?=[A-Za-z._~-]{0,200}[0-9=+/_])[A-Za-z0-9._~+/=-]{6,}"
)
_KNOWN: Final = re.compile(
    r"\beyJ[\w-]{6,}(?:\.[\w-]*)*"  # a JSON Web Token
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|\b(?:gh[opsur]_|github_pat_|gl(?:pat|ptt|dt|rt|ft|soat|agent|imt)-|glcbt-|glsa_|xox[abeprs][.-]|xapp-|sk-"
    r"|[sr]k_(?:live|test)_|whsec_|AIza|ya29\.|npm_|pypi-|dop_v1_|doo_v1_|hv[sbr]\.|dckr_pat_|shp(?:at|ss|ca|pa)_"
    r"|AGE-SECRET-KEY-|NRAK-|PMAK-|ATATT3|sntry[su]_|lin_api_|sq0(?:atp|csp)-|SG\.|pul-)[\w.=-]{10,}"
    r"|\b(?:s|b)\.[A-Za-z0-9]{24}\b"  # Vault, before 1.10
    r"|\bkey-[0-9a-f]{32}\b"  # Mailgun
)
_LONG: Final = re.compile(r"[A-Za-z0-9+/_-]{20,}={0,2}")


def mask(text: str) -> str:
    """Replace what looks like a secret. Idempotent; image digests, UUIDs, commits and ids stay."""
    return _remembered(text) if len(text) <= CACHED else _mask(text)


def _mask(text: str, depth: int = 0) -> str:
    if "\\" in text and depth < DEEPEST:
        text = _LITERAL.sub(lambda found: _unescaped(found, depth), text)
    text = _PEM.sub(MASK, text)
    text = _HOOK.sub(lambda found: found[1] + MASK, text)
    text = _IN_URL.sub(f"{MASK}@", text)
    text = _DSN.sub(lambda found: found[1] + MASK, text)
    text = named.mask_headers(text)
    text = _HEADER.sub(lambda found: f"{found[1]} {MASK}", text)
    text = named.mask_named(text)
    text = _KNOWN.sub(MASK, text)
    text = library.mask_known(text)
    return _LONG.sub(_long, text)


def _unescaped(found: re.Match[str], depth: int) -> str:
    """Mask a JSON string by what it says: its quotes and line ends are escaped, which no pattern knows."""
    body, end = found[1], found[2]
    if body is None or "\\" not in body:
        return found[0]
    try:
        plain = json.loads(f'"{body}"', strict=False)
    except ValueError:
        return found[0]
    said = _mask(plain, depth + 1)
    return found[0] if said == plain else f'"{json.dumps(said)[1:-1]}{end}'


_remembered = lru_cache(maxsize=1024)(_mask)


def _long(found: re.Match[str]) -> str:
    word = found[0]
    if stays(found.string[max(found.start() - 48, 0) : found.start()], word):
        return word
    return MASK if looks_random(word) else word
