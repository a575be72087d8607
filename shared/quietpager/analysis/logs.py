"""Reduces a container's log to a few lines for a person. Pure and bounded; it accepts any bytes."""

import re
from collections.abc import Iterable
from typing import Final

from quietpager.masking.mask import mask
from quietpager.masking.told import Told
from quietpager.model.data import Data
from quietpager.model.text import clean

TAIL: Final = 100
"""Lines asked for."""
MOST: Final = 1 << 16
"""Bytes that are read of one log at most."""
LINES: Final = 8
"""Lines that are kept of one log."""
LONGEST: Final = 300
"""Characters of a line that are kept."""

_TELLING: Final = re.compile(
    r"(?i)error|fail|refus|denied|forbidden|exception|panic|fatal|timed? ?out|cannot|unable|missing|invalid"
)
_READABLE: Final = re.compile(r"[\x20-\x7e\t\u00a1-\ud7ff]{6,}")
_ODD: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd]")
_COLOUR: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Tail(Data):
    """What is kept of a log. `note` says in a sentence what was done to it, if anything was."""

    lines: tuple[Told, ...]
    note: Told = ""


def tail_of(raw: bytes, *, cut: bool = False) -> Tail:
    """Clean, mask and shorten a log. `cut`: there was more than was read."""
    raw = raw[-MOST:] if len(raw) > MOST else raw
    text = _COLOUR.sub("", raw.decode("utf-8", errors="replace"))
    notes = [f"It is long: {len(raw)} bytes were read, the rest was not."] if cut else []
    odd = len(_ODD.findall(text))
    if odd * 10 > len(text):
        notes.append(f"It is binary ({odd} of {len(text)} characters cannot be shown); readable pieces only.")
        text = "\n".join(_READABLE.findall(text))
    # Masked as a whole first, for a key may span lines; cut afterwards, for half a key has no shape.
    lines = [clean(line.strip(), LONGEST) for line in mask(text).splitlines() if line.strip()]
    return Tail(lines=_chosen(lines), note=" ".join(notes))


def _chosen(lines: list[str]) -> tuple[str, ...]:
    """Keep the last telling lines and the very last ones, in order, with a count for repeats."""
    counted: dict[str, int] = {}
    for line in lines:
        counted[line] = counted.get(line, 0) + 1
    # By its last occurrence: what was said last is nearest to the fault.
    distinct = list(dict.fromkeys(reversed(lines)))[::-1]
    telling = [line for line in distinct if _TELLING.search(line)][-LINES // 2 :]
    rest = [line for line in distinct if line not in telling][-(LINES - len(telling)) :]
    keep = {*telling, *rest}
    return tuple(_with_count(line, counted[line]) for line in distinct if line in keep)


def _with_count(line: str, count: int) -> str:
    return line if count == 1 else f"{line} (\N{MULTIPLICATION SIGN}{count})"


def joined(tails: Iterable[Tail]) -> str:
    """All lines in one text, for the search of similar incidents."""
    return " ".join(line for tail in tails for line in tail.lines)
