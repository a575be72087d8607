"""The samples of `samples.yaml` with their generated values. Who calls it: tests/attack."""

import random
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from string import ascii_letters, ascii_lowercase, ascii_uppercase, digits

import yaml

HERE = Path(__file__).parent
_VALUE = re.compile(r"<(word|at|slash|an|b64|hex|up|digits)(?::(\d+))?>")
_LETTERS = {
    "an": ascii_letters + digits,
    "b64": ascii_letters + digits + "+/",
    "hex": digits + "abcdef",
    "up": ascii_uppercase + digits,
    "digits": digits,
}
_NEEDS = {"an": (ascii_lowercase, ascii_uppercase, digits), "b64": (ascii_lowercase, ascii_uppercase, digits)}


@dataclass(frozen=True)
class Sample:
    """One text, and the values in it that nobody may see."""

    kind: str
    text: str
    secrets: tuple[str, ...]

    def seen_in(self, said: str) -> list[str]:
        """Name the secrets that stand in a text."""
        return [secret for secret in self.secrets if secret in said]


@cache
def samples() -> tuple[Sample, ...]:
    """Read all samples; the same ones each time."""
    kinds = yaml.safe_load((HERE / "samples.yaml").read_text(encoding="utf-8"))
    return tuple(_sample(kind, text) for kind, texts in kinds.items() for text in texts)


def _sample(kind: str, text: str) -> Sample:
    dice, made = random.Random(text), list[str]()  # noqa: S311 (made-up secrets)

    def value(found: re.Match[str]) -> str:
        made.append(_made(found[1], int(found[2] or 0), dice))
        return made[-1]

    whole = _VALUE.sub(value, text)
    # What is shorter than a word (the tail of a split token) could stand in any text by chance.
    return Sample(
        kind, whole, tuple(one for one in made if len(one) >= 6 and not one.isdigit()) or tuple(made)
    )


def _made(kind: str, length: int, dice: random.Random) -> str:
    word = dice.choice(["Kite", "marble", "Otter", "violet", "Walnut", "ember"]) + str(
        dice.randrange(100, 999)
    )
    if kind == "word":
        return word + dice.choice(ascii_lowercase) * 2
    if kind == "at":
        return f"{word}@p/{dice.choice(ascii_lowercase)}9"
    if kind == "slash":
        return f"{word}/x{dice.randrange(10)}y"
    while True:
        drawn = "".join(dice.choices(_LETTERS[kind], k=length))
        if length < 8 or all(set(drawn) & set(some) for some in _NEEDS.get(kind, ())):
            return drawn
