"""Takes secrets out of text before anything is stored or shown. Who calls it: all of `analysis`.

It cannot know every secret. So what is likely to hold one is never read (Secrets), never kept (values
of environment variables), or masked by its shape here; when in doubt it is masked.

No pattern may take more than linear time, so each repeat is bounded or always matches: a log is 64 KiB
of whatever a container likes, and a quadratic pattern would let any container stop the analyst.
"""

import math
import re
from collections import Counter
from typing import Final

MASK: Final = "[masked]"

_PEM: Final = re.compile(r"-----BEGIN [A-Z ]{3,40}-----.*?(?:-----END [A-Z ]{3,40}-----|\Z)", re.DOTALL)
_IN_URL: Final = re.compile(r"(?<=://)[^\s/@]{1,500}@")
_HEADER: Final = re.compile(r"(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}")
_NAMED: Final = re.compile(
    r"""(?ix)
    ( (?: passw(?:or)?d | passphrase | pwd | secret | token | api[_-]?key | access[_-]?key | private[_-]?key
        | account[_-]?key | credentials? | authorization | cookie | session[_-]?id | signature )
      [\w.-]{0,60} ["']? \s{0,8} [=:] \s{0,8} )
    ( "(?:[^"\\\n]|\\.)*"? | '(?:[^'\\\n]|\\.)*'? | [^\s,;&"'})\]]+ )"""
)
_OPTION: Final = re.compile(
    r"(?i)(-[\w-]{0,40}?(?:password|passwd|secret|token|api-?key)[\w-]{0,40}\s{1,8})(?!-)(\S+)"
)
_KNOWN: Final = re.compile(
    r"\beyJ[\w-]{6,}(?:\.[\w-]*)*"  # a JSON Web Token
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{12,}"
    r"|\b(?:gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|sk-|sk_live_|rk_live_|AIza|npm_|pypi-|dop_v1_|hvs\.)"
    r"[\w-]{10,}"
)
_LONG: Final = re.compile(r"[A-Za-z0-9+/=_-]{20,}")
_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_DIGEST: Final = re.compile(r"sha(?:256|512):[0-9a-f]+", re.IGNORECASE)
_RANDOM: Final = 3.6
"""Bits for each character (Shannon) from which mixed letters and digits count as random."""


def mask(text: str) -> str:
    """Replace what looks like a secret. Idempotent; image digests and UUIDs stay."""
    text = _PEM.sub(MASK, text)
    text = _IN_URL.sub(f"{MASK}@", text)
    text = _HEADER.sub(lambda found: f"{found[1]} {MASK}", text)
    text = _NAMED.sub(_value, text)
    text = _OPTION.sub(lambda found: found[1] + MASK, text)
    text = _KNOWN.sub(MASK, text)
    return _LONG.sub(lambda found: _long(found, text), text)


def _value(found: re.Match[str]) -> str:
    """Mask a named value, but keep the scheme of a header, whose credentials are masked already."""
    return found[0] if found[2].lower() in ("bearer", "basic") else found[1] + MASK


def _long(found: re.Match[str], text: str) -> str:
    word = found[0]
    before = text[max(found.start() - 7, 0) : found.start()]
    if before.lower().startswith("sha") and _DIGEST.match(f"{before}{word}"):
        return word
    return MASK if looks_random(_UUID.sub("", word)) else word


def looks_random(word: str) -> bool:
    """Tell whether a long word looks drawn by lot: a token, a key, a hash; names and paths do not."""
    digits = sum(c.isdigit() for c in word)
    upper, lower = any(c.isupper() for c in word), any(c.islower() for c in word)
    if digits < 2 or not (upper or lower):
        return False
    if upper and lower:
        return _entropy(word) >= _RANDOM
    # One case only: hyphens and slashes are those of names (a pod's) and paths; keys have none.
    pieces = re.split(r"[-/_=+]", word)
    return max(map(len, pieces)) >= 24 and _entropy(word) >= 3.0


def _entropy(word: str) -> float:
    """Bits for each character."""
    return -sum(n / len(word) * math.log2(n / len(word)) for n in Counter(word).values())
