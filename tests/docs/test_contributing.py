"""CONTRIBUTING and SECURITY name what is there: paths exist, make targets and commands are real."""

import re

import pytest
from click.testing import CliRunner

from infra.docs import ROOT
from quietpager.cli.main import main as command

TEXTS = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("CONTRIBUTING.md", "SECURITY.md")}
WANTED = (
    "failure class", "family", "action", "kind of write", "guard", "owner kind", "channel", "store",
    "evidence source",
)  # fmt: skip
"""Where a stranger must find each of these."""


def rows() -> list[list[str]]:
    table = TEXTS["CONTRIBUTING.md"].split("## Where does it go?")[1].split("\n## ")[0]
    lines = [line for line in table.splitlines() if line.startswith("| ")][1:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize("what", WANTED)
def test_the_list_says_where_it_goes(what: str) -> None:
    assert sum(f" {what}" in row[0] for row in rows()) >= 1, what


@pytest.mark.parametrize("name", TEXTS)
def test_every_path_exists(name: str) -> None:
    named = re.findall(r"`([\w.]+/[\w./]*|[\w]+\.(?:md|toml))`", TEXTS[name])
    named += [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", TEXTS[name])]
    ours = [path for path in named if path not in {"cases/", "runbook.md", "channels.yaml"}]
    assert ours
    assert [path for path in ours if not (ROOT / path).exists()] == []


def test_a_family_and_an_action_have_the_files_that_the_list_names() -> None:
    for row in rows():
        if row[0] in {"a family of failure classes", "an action"}:
            files = [one for one in re.findall(r"`([\w./]+)`", row[2]) if one != "cases/"]
            folder = ROOT / row[1].strip("`")
            some = [one for one in folder.iterdir() if (one / "func.yaml").exists()]
            assert any(all((one / file).exists() for file in files) for one in some), row


@pytest.mark.parametrize("name", TEXTS)
def test_make_targets_and_commands_are_real(name: str) -> None:
    targets = set(re.findall(r"(?m)^([\w.-]+):", (ROOT / "Makefile").read_text(encoding="utf-8")))
    for words in re.findall(r"(?m)(?:^|`)make ([a-z.][a-z0-9. -]*)", TEXTS[name]):
        assert set(words.split()) <= targets, words
    for words in re.findall(r"(?m)^quietpager ([a-z -]+)$", TEXTS[name]):
        assert CliRunner().invoke(command, [*words.split(), "--help"]).exit_code == 0, words


def test_every_heading_that_is_linked_is_there() -> None:
    for text in TEXTS.values():
        for file, heading in re.findall(r"\]\(([\w./-]+)#([\w-]+)\)", text):
            titles = re.findall(r"(?m)^#+ (.+)$", (ROOT / file).read_text(encoding="utf-8"))
            assert heading in {re.sub(r"[^\w-]", "", one.lower().replace(" ", "-")) for one in titles}
