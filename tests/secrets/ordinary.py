"""Ordinary lines that must stay readable: hand-written ones with generated ids, and recorded messages."""

import random
import re
from functools import cache
from pathlib import Path
from uuid import UUID

HERE = Path(__file__).parent
TURNS = 2
"""Each hand-written line comes this often, with other ids."""
_ID = re.compile(r"<(pod|uuid|cid|git|ip|n|d|hex12|hex16|hex32)>")
_NAME = "bcdfghjklmnpqrstvwxz2456789"


@cache
def written() -> tuple[str, ...]:
    """Give the hand-written lines with their ids; the same ones each time."""
    lines = (HERE / "ordinary_lines.txt").read_text(encoding="utf-8").splitlines()
    return tuple(_line(line, turn) for line in lines for turn in range(TURNS))


@cache
def recorded() -> tuple[str, ...]:
    """Give what real clusters said: Events, conditions, containers' last words."""
    return tuple((HERE / "recorded_lines.txt").read_text(encoding="utf-8").splitlines())


def _line(line: str, turn: int) -> str:
    dice = random.Random(f"{turn} {line}")  # noqa: S311 (ids of nothing)

    def hexadecimal(length: int) -> str:
        return f"{dice.getrandbits(4 * length):0{length}x}"

    def made(found: re.Match[str]) -> str:
        match found[1]:
            case "pod":
                return f"web-{hexadecimal(9)}-{''.join(dice.choices(_NAME, k=5))}"
            case "uuid":
                return str(UUID(int=dice.getrandbits(128), version=4))
            case "cid":
                return hexadecimal(64)
            case "git":
                return hexadecimal(40)
            case "ip":
                return f"10.244.{dice.randrange(256)}.{dice.randrange(256)}"
            case "n":
                return str(dice.randrange(100, 99999))
            case "d":
                return str(dice.randrange(10))
            case other:
                return hexadecimal(int(other.removeprefix("hex")))

    return _ID.sub(made, line)
