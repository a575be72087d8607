"""What the commands say and how they end where something is missing: the store, a kubeconfig, a case."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from quietpager.cli import switch
from quietpager.cli.main import main as command
from quietpager.cluster import kubeconfig
from quietpager.runtime.connect import STORE
from quietpager.runtime.context import functions_folder

ASKING = [
    ["incidents"], ["show", "inc-1"], ["approve", "inc-1"], ["reject", "inc-1"], ["take-over", "inc-1"],
    ["modify", "inc-1", "--action", "raise-memory", "--set", "factor=2", "--set", "ceiling=1Gi"],
    ["ledger"], ["audit", "verify"], ["audit", "export"], ["audit", "anchor", "."],
    ["console", "--port", "1"], ["policy", "explain", "inc-1"], ["policy", "explain", "inc-1", "--now"],
]  # fmt: skip
AWAY = {
    "away": "postgresql://nobody:secret-word@127.0.0.1:1/none",
    "no URL": "what-is-this",
    "no such scheme": "mysql://127.0.0.1/x",
    "no region": "dynamodb://",
    "not set": "",
}


@pytest.mark.parametrize("url", AWAY)
@pytest.mark.parametrize("words", ASKING, ids=" ".join)
def test_where_the_store_is_away_each_command_says_so_in_a_sentence(
    words: list[str], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(STORE, AWAY[url])
    done = CliRunner().invoke(command, words)
    assert done.exit_code in {1, 2}, done.output
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    assert "Traceback" not in done.output
    assert "secret-word" not in done.output
    assert "store" in done.output.lower()
    assert len(done.output.splitlines()) <= 3


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
