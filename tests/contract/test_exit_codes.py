"""Every row of the table of exit codes happens, and no command is without a row."""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import click
import pytest
from click.testing import CliRunner

from quietpager.cli.exits import EXITS
from quietpager.cli.main import main as command
from quietpager.cluster.kubeconfig import IN_A_POD
from quietpager.incident import records
from quietpager.model.incident import State
from quietpager.model.store import Audit, Store
from quietpager.model.time import system_clock
from quietpager.runtime.connect import STORE
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.server import running
from quietpager.store.opening import open_store
from tests.asked import POLICY, Asked
from tests.flow.test_scan import post, write_kubeconfig

AWAY = "postgresql://nobody@127.0.0.1:1/none"


def names(group: click.Group, before: str = "") -> Iterator[str]:
    for name, one in group.commands.items():
        if isinstance(one, click.Group):
            yield from names(one, f"{before}{name} ")
        else:
            yield f"{before}{name}"


def test_every_command_has_a_row_and_no_row_is_of_another() -> None:
    assert sorted(names(command)) == sorted(EXITS)


@dataclass
class Place:
    """A store in which one incident asks for approval, a sandbox cluster, and a folder."""

    folder: Path
    store: Store
    url: str
    api: str
    patch: pytest.MonkeyPatch
    kubeconfig: Path = field(init=False)
    incident: str = field(init=False)

    def __post_init__(self) -> None:
        self.kubeconfig = write_kubeconfig(self.folder / "kubeconfig", self.api)
        asked = Asked(self.store, POLICY)
        self.incident = asked.fail("web")
        asked.plan(self.incident)
        assert asked.the(self.incident).state is State.APPROVAL
        self.patch.setattr("quietpager.cli.people.system_clock", lambda: asked.now)
        self.store.transact([Audit("chain", system_clock(), "k", "me")])

    def run(self, *words: str) -> int:
        done = CliRunner().invoke(command, words)
        return int(done.exit_code)

    def away(self) -> None:
        self.patch.setenv(STORE, AWAY)

    def file(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text, encoding="utf-8")
        return str(self.folder / name)


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """What a command sets for its own process is taken back."""
    with patch.dict(os.environ):
        yield


@pytest.fixture(scope="module")
def api() -> Iterator[str]:
    with running(speed=1) as url:
        yield url


@pytest.fixture
def place(
    api: str, new_database: Callable[[], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Place]:
    url = new_database()
    monkeypatch.setenv(STORE, url)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("KUBECONFIG", IN_A_POD):
        monkeypatch.delenv(name, raising=False)
    store = open_store(url)
    post(api, "forbid", [])
    yield Place(tmp_path, store, url, api, monkeypatch)
    store.close()


def asks_the_store(*words: str) -> Callable[[Place], int]:
    def run(place: Place) -> int:
        place.away()
        return place.run(*words)

    return run


def of_the_incident(*words: str) -> Callable[[Place], int]:
    return lambda place: place.run(words[0], place.incident, *words[1:])


def shorter(place: Place) -> int:
    """Anchor, then lose a chain."""
    from tests.roles import forget_chain  # noqa: PLC0415 (only here)

    anchors = place.folder / "anchors"
    anchors.mkdir()
    assert place.run("audit", "anchor", str(anchors)) == 0
    forget_chain(place.url, "chain")
    return place.run("audit", "anchor", str(anchors))


def anchored(place: Place) -> int:
    (place.folder / "anchors").mkdir()
    return place.run("audit", "anchor", str(place.folder / "anchors"))


def served(place: Place, *words: str) -> int:
    """Let what it would serve end at once, as a person's Ctrl-C does."""
    place.patch.setattr("quietpager.local.serve.serve", lambda *_: None)
    return place.run(*words)


def status(place: Place, *, ok: bool) -> int:
    if ok:
        from quietpager.runtime.pulse import Pulse, Reading  # noqa: PLC0415 (only here)

        place.patch.setattr(Pulse, "read", lambda _: Reading(system_clock(), ()))
    return place.run("status")


def demo(place: Place, code: int) -> int:
    """How the demo ends is shown by its own tests; here, that its code is the command's."""
    place.patch.setattr("quietpager.local.demo.run", lambda **_: code)
    return place.run("demo", "--once")


def ran(place: Place) -> int:
    place.patch.setattr("quietpager.local.run.run", lambda *_: 0)
    return place.run("run", "--kubeconfig", str(place.kubeconfig))


def migrate_without_a_store(place: Place) -> int:
    place.patch.delenv(STORE)
    return place.run("migrate")


def sent(place: Place, status_code: int) -> int:
    from quietpager.outgoing import Answer  # noqa: PLC0415 (only here)

    place.patch.setattr("quietpager.cli.send.ask", lambda *_, **__: Answer(status_code, b""))
    return place.run("send", place.file("event.json", "{}"))


def resumed(place: Place) -> int:
    """The sandbox has no ClusterRoleBindings; that they are made, the end-to-end tests see."""
    place.patch.setattr("quietpager.cli.switch.write_bindings", lambda *_: [])
    return place.run("resume", "--kubeconfig", str(place.kubeconfig))


def new_account(place: Place) -> int:
    words = ["console-user", "ann", "--users", str(place.folder / "users.json")]
    typed = "correct horse battery\n" * 2
    return int(CliRunner().invoke(command, words, input=typed).exit_code)


CASE = str(functions_folder() / "detect/crash/cases/30-oom-bounded")
MODIFY = ("--action", "raise-memory", "--set", "factor=2", "--set", "ceiling=2Gi")


def skeleton(kind: str, *, twice: bool = False) -> Callable[[Place], int]:
    def run(place: Place) -> int:
        words = (kind, "new", "probe", "--into", str(place.folder / "mine"))
        (place.folder / "mine").mkdir()
        if twice:
            assert place.run(*words) == 0
        return place.run(*words)

    return run


ROWS: dict[tuple[str, int], Callable[[Place], int]] = {
    ("action new", 0): skeleton("action"),
    ("action new", 1): skeleton("action", twice=True),
    ("rule new", 0): skeleton("rule"),
    ("rule new", 1): skeleton("rule", twice=True),
    ("approve", 0): of_the_incident("approve"),
    ("approve", 1): lambda p: p.run("approve", "inc-none"),
    ("approve", 2): asks_the_store("approve", "inc-1"),
    ("audit anchor", 0): anchored,
    ("audit anchor", 1): shorter,
    ("audit anchor", 2): asks_the_store("audit", "anchor", "."),
    ("audit export", 0): lambda p: p.run("audit", "export"),
    ("audit export", 1): lambda p: p.run("audit", "export", "--incident", "none"),
    ("audit export", 2): lambda p: p.run("audit", "export", "--out", "/nowhere/audit.jsonl"),
    ("audit verify", 0): lambda p: p.run("audit", "verify"),
    ("audit verify", 1): lambda p: p.run("audit", "verify", "--anchor", str(p.folder / "none")),
    ("audit verify", 2): lambda p: p.run("audit", "verify", "--file", str(p.folder / "none")),
    ("console", 0): lambda p: served(p, "console"),
    ("console", 2): asks_the_store("console"),
    ("console-user", 0): new_account,
    ("console-user", 1): lambda p: p.run("console-user", "ann", "--remove", "--users", f"{p.folder}/u.json"),
    ("demo", 0): lambda p: demo(p, 0),
    ("demo", 1): lambda p: demo(p, 1),
    ("demo", 2): lambda p: p.run("demo", "--once", "--store", AWAY),
    ("incidents", 0): lambda p: p.run("incidents"),
    ("incidents", 2): asks_the_store("incidents"),
    ("ledger", 0): lambda p: p.run("ledger"),
    ("ledger", 2): asks_the_store("ledger"),
    ("migrate", 0): lambda p: p.run("migrate"),
    ("migrate", 1): asks_the_store("migrate"),
    ("migrate", 2): migrate_without_a_store,
    ("modify", 0): of_the_incident("modify", *MODIFY),
    ("modify", 1): of_the_incident("modify", "--action", "none"),
    ("modify", 2): asks_the_store("modify", "inc-1", *MODIFY),
    ("policy check", 0): lambda p: p.run("policy", "check", p.file("policy.yaml", "autonomy: analyze")),
    ("policy check", 1): lambda p: p.run("policy", "check", p.file("policy.yaml", "autonomy: maybe")),
    ("policy check", 2): lambda p: p.run("policy", "check", "/nowhere/policy.yaml"),
    ("policy explain", 0): lambda p: p.run("policy", "explain", p.incident),
    ("policy explain", 1): lambda p: p.run("policy", "explain", "inc-none"),
    ("policy explain", 2): asks_the_store("policy", "explain", "inc-1"),
    ("policy schema", 0): lambda p: p.run("policy", "schema"),
    ("reject", 0): of_the_incident("reject"),
    ("reject", 1): lambda p: p.run("reject", "inc-none"),
    ("reject", 2): asks_the_store("reject", "inc-1"),
    ("render", 0): lambda p: p.run("render"),
    ("render", 1): lambda p: p.run("render", "--store", "no address"),
    ("replay", 0): lambda p: p.run("replay", CASE),
    ("replay", 2): lambda p: p.run("replay", CASE, str(p.folder / "none")),
    ("resume", 0): resumed,
    ("resume", 1): lambda p: p.run("resume"),
    ("run", 0): ran,
    ("run", 2): lambda p: p.run("run", "--kubeconfig", str(p.folder / "none")),
    ("scan", 0): lambda p: p.run("scan", "--kubeconfig", str(p.kubeconfig)),
    ("scan", 2): lambda p: p.run("scan", "--kubeconfig", str(p.kubeconfig), "-n", "nowhere"),
    ("send", 0): lambda p: sent(p, 202),
    ("send", 1): lambda p: sent(p, 400),
    ("send", 2): lambda p: p.run("send", p.file("event.json", "no JSON")),
    ("serve", 0): lambda p: served(p, "serve", "detect/crash"),
    ("serve", 2): lambda p: p.run("serve", "detect/none"),
    ("show", 0): of_the_incident("show"),
    ("show", 1): lambda p: p.run("show", "inc-none"),
    ("show", 2): asks_the_store("show", "inc-1"),
    ("status", 0): lambda p: status(p, ok=True),
    ("status", 1): lambda p: status(p, ok=False),
    ("stop", 0): lambda p: p.run("stop", "--kubeconfig", str(p.kubeconfig)),
    ("stop", 1): lambda p: p.run("stop"),
    ("take-over", 0): of_the_incident("take-over"),
    ("take-over", 1): lambda p: p.run("take-over", "inc-none"),
    ("take-over", 2): asks_the_store("take-over", "inc-1"),
    ("watchdog", 1): lambda p: p.run("watchdog", "--probe", "http://127.0.0.1:1", "--every", "soon"),
}


def test_every_row_has_a_test() -> None:
    assert set(ROWS) == {(name, code) for name, codes in EXITS.items() for code in codes}


@pytest.mark.parametrize(("name", "code"), ROWS, ids=lambda one: str(one).replace(" ", "-"))
def test_a_command_ends_as_the_table_says(place: Place, name: str, code: int) -> None:
    assert ROWS[name, code](place) == code


@pytest.mark.parametrize("name", EXITS)
def test_a_wrong_option_is_2_everywhere(name: str) -> None:
    assert CliRunner().invoke(command, [*name.split(), "--no-such-option"]).exit_code == 2


def test_with_json_an_invalid_case_is_an_answer(place: Place) -> None:
    done = CliRunner().invoke(command, ["replay", "--json", str(place.folder / "none")])
    assert done.exit_code == 0
    answer: dict[str, Any] = json.loads(done.output)
    assert answer["failure_class"] == "invalid_input"


def test_stop_says_which_half_it_did(place: Place) -> None:
    done = CliRunner().invoke(command, ["stop"])
    assert "The write bindings could NOT be changed: no kubeconfig is named" in done.output
    assert "Writing is stopped by" in done.output
    assert (record := place.store.get(records.SWITCH)) is not None
    assert record.body["stopped"] is True
    place.away()
    done = CliRunner().invoke(command, ["stop", "--kubeconfig", str(place.kubeconfig)])
    assert done.exit_code == 1
    assert "The write bindings are deleted" in done.output
    assert "The store's switch could NOT be changed" in done.output
