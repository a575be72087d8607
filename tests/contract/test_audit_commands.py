"""`quietpager audit`, by hand: anchor, verify against anchors, export."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietpager.cli.main import main as command
from quietpager.model.store import Audit
from quietpager.store.postgres import PostgresStore
from tests.roles import forget_chain

NOW = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)


def test_the_commands_anchor_verify_and_export(
    new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, place, file = new_database(), tmp_path / "anchors", tmp_path / "audit.jsonl"
    monkeypatch.setenv("QUIETPAGER_STORE", url)
    store = PostgresStore(url, connections=1)
    store.transact([Audit(chain, NOW, "k", "me") for chain in ("a", "b", "a")])

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(command, ["audit", *words])
        return done.exit_code, done.output

    assert run("verify") == (0, "2 chains, 0 faults\n")
    code, said = run("verify", "--anchor", str(place))
    assert (code, "is no folder" in said) == (1, True)
    place.mkdir()
    code, said = run("verify", "--anchor", str(place))
    assert (code, "There is no anchor in" in said) == (1, True)
    assert run("anchor", str(place))[1].endswith(": anchored.\n")
    assert run("anchor", str(place))[1].endswith("nothing was written.\n")
    assert run("verify", "--anchor", str(place)) == (
        0, "2 chains, 0 faults; 1 anchors compared, the newest is line 1\n",
    )  # fmt: skip
    assert run("export", "--out", str(file))[0] == 0
    assert len(file.read_text().splitlines()) == 6
    assert run("export", "--incident", "b")[1].count("\n") == 3
    assert run("export", "--incident", "x") == (
        1,
        "There is no chain x; `quietpager incidents` lists them.\n",
    )
    forget_chain(url, "b")
    assert run("verify") == (0, "1 chains, 0 faults\n")
    code, said = run("verify", "--anchor", str(place))
    assert (code, "chain b is gone, head and all: it had 1 entries then" in said) == (1, True)
    code, said = run("anchor", str(place))
    assert (code, said.startswith("Chain b is gone")) == (1, True)
    store.close()
