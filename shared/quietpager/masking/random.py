"""Tells random text (a key, a token) from a name, a path or an id. Who calls it: `mask`."""

import math
import re
from collections import Counter
from typing import Final

_UUID: Final = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}", re.IGNORECASE)
_DIGEST: Final = re.compile(r"sha(?:256|384|512)[:-][0-9a-f]+", re.IGNORECASE)
_HEX: Final = re.compile(
    r"(?:[0-9a-f]{2}-)?(?:[0-9a-f]{32}|[0-9a-f]{40}|[0-9a-f]{64})(?:-[0-9a-f]{16}-[0-9a-f]{2})?"
)
_ID_OF: Final = re.compile(
    r"(?i)(?:(?:trace|traceparent|span|request|req|correlation|commit|revision|rev|git|tree|head|tag|branch"
    r"|checkout|container|sandbox|podsandbox|pod|task|shim|image|layer|snapshot|build|digest|checksum|docker|cri-o"
    r"|containerd|object|blob|machine|boot|etag|reserved)[\w.-]{0,12}(?: (?:for|id|named|is))?"
    r"|Container\w{1,12}[\"'\\]{1,2},[\"'\\]{1,2}Data)[\"'\\]{0,2}[\s=:/@({\[]{1,4}[\"'\\({\[]{0,3}$"
)
_ID: Final = re.compile(r"(?i)(?<![\w-])id[\"'\\]{0,2}[\s=:]{1,2}[\"'\\]{0,2}$")
_IMAGE: Final = re.compile(r"[a-z0-9][\w.-]*(?::\d{1,5})?/[\w./-]*:(?:[\w.]{1,12}-)?$")
_AWS: Final = re.compile(r"[A-Za-z0-9/+]{40}")
_RANDOM: Final = 3.6
"""Bits for each character (Shannon) from which mixed letters and digits count as random."""


def stays(before: str, word: str) -> bool:
    """Tell whether what stands before a long word says that it is an id: a digest, a commit, a container.

    Only whole hexadecimal ids (32, 40 or 64 digits) stay for their name's sake; a key beside a
    secret's name was masked before.
    """
    if before.lower().endswith(("sha256:", "sha512:", "sha384:")) and _DIGEST.match(f"{before[-7:]}{word}"):
        return True
    bare = word.rsplit("/", 1)[-1].removeprefix("sha-")
    if not _HEX.fullmatch(bare):
        return False
    led = f"{before}{word.removesuffix(bare)}"[-48:]
    return bool(_ID_OF.search(led) or _IMAGE.search(led) or (len(bare) == 64 and _ID.search(led)))


def looks_random(word: str) -> bool:
    """Tell whether a long word looks drawn by lot: a token, a key, a hash; names and paths do not."""
    word = _UUID.sub("", word)
    digits = sum(c.isdigit() for c in word)
    upper, lower = any(c.isupper() for c in word), any(c.islower() for c in word)
    if upper and lower and digits and _AWS.fullmatch(word) and _entropy(word) >= 4.2:
        return True  # the length of an AWS secret key
    if digits < 2 or not (upper or lower):
        return False
    if upper and lower:
        return _entropy(word) >= _RANDOM
    # One case only: hyphens and slashes are those of names (a pod's) and paths; keys have none.
    pieces = re.split(r"[-/_=+]", word)
    longest = max(pieces, key=len)
    return len(longest) >= 24 and _entropy(word) >= 3.0


def _entropy(word: str) -> float:
    """Bits for each character."""
    return -sum(n / len(word) * math.log2(n / len(word)) for n in Counter(word).values()) if word else 0.0
