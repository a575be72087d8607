r"""What a route's `message` may say, and whether one message can match two of them.

    ^Back-off restarting                    the message begins with it
    failed (liveness|startup) probe         it stands anywhere in the message; one of several words
    (configmap|secret) ".*" not found       first this, later that
    MountVolume\.SetUp                      a sign that means something here is written with a backslash

It is a small part of Python's regular expressions and means the same as there. The rest is refused, for two
reasons: that two routes overlap can then be decided exactly and at once, and a message that somebody has
written on purpose can never make a search slow.

A pattern is a list of alternatives, and each alternative is a list of texts that follow one another. Two
alternatives can match one message unless both say how it begins and neither beginning continues the other:
where one may stand anywhere, a message that holds first one and then the other matches both.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Final

MOST: Final = 64
"""Alternatives of one pattern, once its groups are multiplied out."""
LONGEST: Final = 1000
"""Characters of one pattern."""
DEEPEST: Final = 8
"""Groups in one another."""
SIGNS: Final = frozenset(".^$*+?{}[]|()\\")
"""What is no plain text in a regular expression."""
_GAP: Final = None
"""Stands in a list of texts for `.*`."""

Texts = tuple[str | None, ...]


@dataclass(frozen=True, slots=True)
class Alternative:
    """Texts that follow one another in a message; the first one begins it where `begins`."""

    begins: bool
    texts: tuple[str, ...]

    def matches(self, message: str) -> bool:
        """Tell whether a message holds them all, in this order."""
        first, *rest = self.texts
        at = (0 if message.startswith(first) else -1) if self.begins else message.find(first)
        for before, text in zip(self.texts, rest, strict=False):
            if at < 0:
                return False
            at = message.find(text, at + len(before))
        return at >= 0

    def meets(self, other: "Alternative") -> bool:
        """Tell whether there is a message that matches both."""
        one, two = self.texts[0], other.texts[0]
        return not (self.begins and other.begins) or one.startswith(two) or two.startswith(one)


@lru_cache(maxsize=512)
def pattern(text: str) -> tuple[Alternative, ...]:
    """Read a pattern.

    Raises:
        ValueError: it says something that a route's `message` may not say; the text names it.
    """
    if len(text) > LONGEST:
        raise ValueError(f"a message pattern has at most {LONGEST} characters, and this has {len(text)}")
    reader = _Reader(text)
    found: list[Alternative] = []
    while True:
        begins = reader.take("^")
        found += [_alternative(begins, texts) for texts in reader.sequence(0)]
        if not reader.take("|"):
            break
    if not reader.done:
        raise ValueError(f"{text!r} closes a group that it has not opened")
    if len(found) > MOST:
        raise _too_many(text)
    return tuple(dict.fromkeys(found))


def matches(text: str, message: str) -> bool:
    """Tell whether a message matches a pattern."""
    return any(one.matches(message) for one in pattern(text))


def meet(one: str, two: str) -> bool:
    """Tell whether there is a message that matches both patterns."""
    return any(a.meets(b) for a in pattern(one) for b in pattern(two))


def _alternative(begins: bool, parts: Texts) -> Alternative:
    """Join what stands side by side; a gap at the begin takes the anchor's meaning away."""
    texts: list[str] = [""]
    for part in parts:
        if part is _GAP:
            texts.append("")
        else:
            texts[-1] += part
    if len(texts) > 1 and not texts[0]:
        begins = False
    kept = [one for one in texts if one]
    return Alternative(begins and bool(kept), tuple(kept) or ("",))


def _too_many(text: str) -> ValueError:
    return ValueError(f"{text!r} stands for more than {MOST} texts; write several routes")


@dataclass(slots=True)
class _Reader:
    """Reads a pattern from left to right."""

    text: str
    at: int = 0

    @property
    def done(self) -> bool:
        """Tell whether nothing is left."""
        return self.at >= len(self.text)

    def take(self, sign: str) -> bool:
        """Take a sign if it comes next."""
        if not self.text.startswith(sign, self.at):
            return False
        self.at += len(sign)
        return True

    def sequence(self, depth: int) -> list[Texts]:
        """Read parts that follow one another, up to `|`, `)` or the end; gives every way to say them."""
        ways: list[Texts] = [()]
        while not self.done and self.text[self.at] not in "|)":
            more = self._part(depth)
            ways = [(*before, *after) for before, after in product(ways, more)]
            if len(ways) > MOST:
                raise _too_many(self.text)
        return ways

    def _part(self, depth: int) -> list[Texts]:
        if self.take(".*"):
            return [(_GAP,)]
        if self.take("("):
            return self._group(depth + 1)
        sign = self.text[self.at]
        if sign == "\\" and self.text[self.at + 1 : self.at + 2] in SIGNS and self.at + 1 < len(self.text):
            self.at += 2
            return [(self.text[self.at - 1],)]
        if sign in SIGNS:
            raise ValueError(
                f"{self.text!r} has {sign!r} at character {self.at + 1}. A route's message may say plain "
                "text, `^` at its begin, `(one|another)` and `.*`; before a sign that is meant as "
                "itself write a backslash"
            )
        self.at += 1
        return [(sign,)]

    def _group(self, depth: int) -> list[Texts]:
        if depth > DEEPEST:
            raise ValueError(f"{self.text!r} has more than {DEEPEST} groups in one another")
        ways = self.sequence(depth)
        while self.take("|"):
            ways += self.sequence(depth)
            if len(ways) > MOST:
                raise _too_many(self.text)
        if not self.take(")"):
            raise ValueError(f"{self.text!r} opens a group and does not close it")
        return ways
