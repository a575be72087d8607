"""What people read is plain English: no known riddle, no sentence that needs a second reading."""

import re
from collections.abc import Iterator, Mapping
from typing import Final

import pytest

from infra.docs import FILES, ROOT, commands
from quietpager.cli.main import main

LONGEST: Final = 35
"""Words of a sentence, at most; a `;` or `:` ends one, too."""

RIDDLES: Final = (
    "believed by nobody",
    "what is due",
    "may not read it names",
    "nothing asks you",
    "nothing that it may do",
    "which is what",
    "whoever has the rights",
    "holds to",
    "it is yours",
)
"""Phrases that readers had to read twice. The pull request that adds one says what to write instead."""

EXCEPTIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "docs/state-machine.md": ("finding failing (a symptom)",),  # a list of names
}
"""Openings of long sentences that may stay, for each page."""

PAGES: Final = sorted(
    str(path.relative_to(ROOT))
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *ROOT.glob("docs/*.md")]
)
CODE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
LINK: Final = re.compile(r"\]\([^)]*\)")
BLOCK: Final = re.compile(r"\n\s*\n|\n(?=\s*[-*#>] |\s*\d+\. |\s*\|)| \| |\|\n")
"""Where a paragraph, an entry of a list or a cell of a table ends."""
END: Final = re.compile(r"(?<=[.!?:;])\s+|(?<=:\*\*)\s+")


def sentences(text: str) -> Iterator[str]:
    """Give each sentence of a page, without its examples."""
    prose = LINK.sub("]", CODE.sub("\n\n", text))
    for block in BLOCK.split(prose):
        yield from (" ".join(one.split()) for one in END.split(block))


def console() -> str:
    """Give all text that the console's pages and its pure half hold."""
    folder = ROOT / "functions/people/console"
    return "\n".join(
        path.read_text(encoding="utf-8") for path in [folder / "views.py", *folder.glob("templates/*.html")]
    )


def riddles(text: str) -> list[str]:
    flat = " ".join(text.split()).lower()
    return [one for one in RIDDLES if one in flat]


def too_long(text: str, allowed: tuple[str, ...] = ()) -> list[str]:
    long = [one for one in sentences(text) if len(one.split()) > LONGEST]
    return [one for one in long if not one.startswith(allowed or ("\0",))]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_plain(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    where = "the code that infra/docs.py generates it from" if page in FILES else page
    assert riddles(text) == [], f"Write it as subject, verb, object, in {where}."
    assert too_long(text, EXCEPTIONS.get(page, ())) == [], f"Make two sentences of it, in {where}."


def test_the_help_of_every_command_is_plain() -> None:
    for path, text in commands(main):
        assert (path, riddles(text)) == (path, [])
        assert (path, too_long(text.split("\nOptions:")[0])) == (path, [])


def test_the_console_is_plain() -> None:
    assert riddles(console()) == []


def test_no_exception_is_left_over() -> None:
    for page, openings in EXCEPTIONS.items():
        long = too_long((ROOT / page).read_text(encoding="utf-8"))
        assert [one for one in openings if not any(each.startswith(one) for each in long)] == []


def test_a_riddle_and_a_long_sentence_are_found() -> None:
    assert riddles("A signal is a hint,\nbelieved by Nobody.") == ["believed by nobody"]
    assert too_long("word " * LONGEST + "word.") != []
    assert too_long("word " * LONGEST) == []
