"""What the commands say and how they end where something is missing: the store, a kubeconfig, a case."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import patch

import pytest
from click.testing import CliRunner

from quietpager.cli import switch
from quietpager.cli.exits import EXITS
from quietpager.cli.main import main as command
from quietpager.cluster import kubeconfig
from quietpager.outgoing import Answer
from quietpager.runtime.connect import STORE
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.server import running
from tests.flow.test_scan import write_kubeconfig
from tests.roles import functions_url

ASKING = [
    ["incidents"], ["show", "inc-1"], ["approve", "inc-1"], ["reject", "inc-1"], ["take-over", "inc-1"],
    ["modify", "inc-1", "--action", "raise-memory", "--set", "factor=2", "--set", "ceiling=1Gi"],
    ["ledger"], ["audit", "verify"], ["audit", "export"], ["audit", "anchor", "."],
    ["console", "--port", "1"], ["policy", "explain", "inc-1"], ["policy", "explain", "inc-1", "--now"],
    ["status"], ["migrate"], ["stop"], ["resume"], ["send", "EVENT"],
    ["run", "--kubeconfig", "KUBECONFIG"], ["demo", "--once", "--store", "STORE"],
]  # fmt: skip
"""Every command that asks the store, once at least. A word in capitals is filled in."""
ASKS_NOTHING = {
    "action new", "rule new", "console-user", "policy check", "policy schema", "render", "replay", "scan",
    "serve", "watchdog",
}  # fmt: skip
"""What needs no store: `serve` starts without, and its function answers 503 with a sentence."""
AWAY = {
    "away": "postgresql://nobody:secret-word@127.0.0.1:1/none",
    "no URL": "what-is-this",
    "no such scheme": "mysql://127.0.0.1/x",
    "no region": "dynamodb://",
    "not set": "",
    "DynamoDB away": "dynamodb://eu-west-1/none?endpoint=http://127.0.0.1:1",
    "DynamoDB without tables": "DYNAMODB",
    "not migrated": "POSTGRES",
}
ITS_OWN = {("not set", "run"), ("not set", "demo")}
"""Without a URL these two bring a PostgreSQL of their own."""
MIGRATES = {("not migrated", "migrate"), ("DynamoDB without tables", "migrate")}
"""What mends it is no failure."""


def test_every_command_is_on_one_of_the_two_lists() -> None:
    asking = {name for name in EXITS for words in ASKING if f"{' '.join(words)} ".startswith(f"{name} ")}
    assert asking | ASKS_NOTHING == set(EXITS)
    assert asking & ASKS_NOTHING == set()


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a command sets for its own process is taken back."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with running(speed=1) as url:
        yield url


@pytest.mark.parametrize("url", AWAY)
@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_where_the_store_is_away_each_command_says_so_in_a_sentence(
    words: list[str], url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, api: str,
    request: pytest.FixtureRequest,
) -> None:  # fmt: skip
    if (url, words[0]) in ITS_OWN | MIGRATES:
        return
    where = AWAY[url]
    if where == "DYNAMODB":
        where = f"dynamodb://eu-west-1/none?endpoint={request.getfixturevalue('dynamodb')}"
    elif where == "POSTGRES":
        where = functions_url(request.getfixturevalue("new_database")(), migrated=False)
    (tmp_path / "event.json").write_text("{}")
    given = {
        "STORE": where, "EVENT": str(tmp_path / "event.json"),
        "KUBECONFIG": str(write_kubeconfig(tmp_path / "kubeconfig", api)),
    }  # fmt: skip
    if words[0] == "send":
        monkeypatch.setattr("quietpager.cli.send.ask", lambda *_, **__: Answer(202, b""))
        if not where:
            return  # it says that no store is named, and is done
    if words[0] == "demo" and url == "DynamoDB without tables":
        return  # it makes them
    monkeypatch.setenv(STORE, where)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", kubeconfig.IN_A_POD):
        monkeypatch.delenv(name, raising=False)
    done = CliRunner().invoke(command, [given.get(word, word) for word in words])
    assert done.exit_code in {1, 2}, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.output
    assert "secret-word" not in done.output
    assert any(word in done.output for word in ("store", "Store", "STORE", "DynamoDB", "PostgreSQL"))
    assert len(done.output.splitlines()) <= (12 if words[0] == "status" else 4)


def test_a_real_process_ends_without_a_traceback() -> None:
    env = os.environ | {STORE: AWAY["away"]}
    done = subprocess.run(
        [sys.executable, "-c", "from quietpager.cli.main import main; main()", "incidents"],
        env=env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, "Traceback" in done.stderr) == (2, False)


def test_without_an_option_stop_and_resume_take_the_usual_kubeconfig(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    monkeypatch.delenv(kubeconfig.IN_A_POD, raising=False)
    assert switch.reach(None).cluster is None
    (tmp_path / ".kube").mkdir()
    (tmp_path / ".kube" / "config").write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: a\n"
        "clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}},"
        " {name: d, cluster: {server: 'http://127.0.0.1:2'}}]\n"
        "users: [{name: u, user: {token: t}}]\n"
        "contexts: [{name: a, context: {cluster: c, user: u}}, {name: b, context: {cluster: d, user: u}}]\n"
    )
    for context, address in ((None, "http://127.0.0.1:1"), ("b", "http://127.0.0.1:2")):
        open_cluster = switch.reach(None, context).cluster
        assert open_cluster is not None
        assert getattr(open_cluster(), "address", "") == address
    monkeypatch.setenv(STORE, "")
    for words in (["stop"], ["resume", "--context", "b"]):
        done = CliRunner().invoke(command, words)
        assert done.exit_code == 1
        assert "The write bindings could NOT be changed" in done.output


def test_replay_of_what_is_no_case_is_no_success(tmp_path: Path) -> None:
    good = next((functions_folder() / "detect/crash/cases").iterdir())
    (tmp_path / "event.json").write_text("{}")
    for cases, code in (([good], 0), ([tmp_path], 2), ([good, tmp_path], 2)):
        assert CliRunner().invoke(command, ["replay", *map(str, cases)]).exit_code == code
    assert CliRunner().invoke(command, ["replay", "--json", str(tmp_path)]).exit_code == 0
