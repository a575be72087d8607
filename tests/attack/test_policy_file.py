"""The policy's file is broken, emptied, made huge, swapped or taken away, before the start or while it runs.

Nothing may be written to the cluster then: not by the policy of before, which somebody may have wanted to
change, and not by what is left of the new one. Looking goes on, and the sentence says where and what.
"""

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from quietpager.cli.main import main as command
from quietpager.errors import Retry
from quietpager.incident.policy import MOST_BYTES, POLICY_FILE
from quietpager.incident.policy_file import PolicyFile
from quietpager.model.incident import Autonomy
from quietpager.model.message import APPLY, PING, UNDO, Message
from quietpager.runtime.context import Context, Lazy, make_context
from quietpager.runtime.edge import Function
from quietpager.runtime.pulse import PATH
from quietpager.runtime.remediating import remediate
from quietpager.store.memory import MemoryStore
from tests.acts import intents, tell
from tests.deciding import world

GOOD = (
    "autonomy: auto\ndials: [{namespace: shop, autonomy: auto}]\nbudget: {cluster: 4, namespace: 100}\n"
    'namespaces: {allow: ["*"]}\n'
)
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n" for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "line 1: it is empty"),
    "white space": (b" \n\n", "line 1: it is empty"),
    "half a line": (GOOD.encode()[:-20], "is no YAML"),
    "no YAML": (b"autonomy: [auto\n", "is no YAML"),
    "a text": (b"auto\n", "line 1"),
    "a list": (b"- autonomy: auto\n", "line 1"),
    "an unknown key": (
        b"autonomy: auto\nbudgets: {}\n",
        "line 2: there is no field budgets; did you mean budget",
    ),
    "a wrong type": (b"autonomy: auto\ntick: often\n", "line 2: tick is 'often'"),
    "a number that is none": (b"tick: .nan\n", "line 1: tick"),
    "a key twice": (b"autonomy: analyze\nautonomy: auto\n", "line 2: autonomy is there twice"),
    "no UTF-8": (b"autonomy: auto\nopt_in_label: \xff\n", "line 2: it is not written in UTF-8"),
    "UTF-16": (GOOD.encode("utf-16"), "line 1: it is not written in UTF-8"),
    "a NUL": (b"autonomy: auto\0\n", "is no YAML"),
    "huge": (b"#" * (MOST_BYTES + 1), f"larger than {MOST_BYTES} bytes"),
    "an alias bomb": (BOMB.encode(), "line 1: &a is an anchor"),
    "a map that holds itself": (b"budget: &b {actions: *b}\n", "line 1: &b is an anchor"),
    "a merge": (b"change: &c {cordoned: 1}\nstorm: {<<: *c}\n", "line 1: &c is an anchor"),
    "deep": (b"dials: " + b"[" * 50_000 + b"\n", "nesting depth"),
    "an object of Python": (b"autonomy: !!python/object/apply:os.system [id]\n", "names a type"),
    "two documents": (b"autonomy: auto\n---\nautonomy: auto\n", "is no YAML"),
}


def named(monkeypatch: pytest.MonkeyPatch, folder: Path, content: bytes = GOOD.encode()) -> Path:
    path = folder / "policy.yaml"
    path.write_bytes(content)
    monkeypatch.setenv(POLICY_FILE, str(path))
    return path


def swap(path: Path, content: bytes) -> None:
    """Replace it at once, as an editor or `mv` does; so its inode changes, whatever the clock's grain."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)


@pytest.mark.parametrize("how", BROKEN)
def test_with_a_broken_policy_nothing_starts_and_the_sentence_says_where(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content, sentence = BROKEN[how]
    path = named(monkeypatch, tmp_path, content)
    with pytest.raises(ValueError, match=r"policy\.yaml") as wrong:
        PolicyFile()
    assert sentence in str(wrong.value)
    assert len(str(wrong.value)) < 2000
    done = CliRunner().invoke(command, ["status"])
    assert done.exit_code != 0
    assert str(path) in done.output


@pytest.mark.parametrize("how", [*BROKEN, "gone", "a folder", "not ours to read"])
def test_while_it_runs_a_broken_policy_stops_all_acting_and_is_told(
    how: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = named(monkeypatch, tmp_path)
    file = PolicyFile()
    assert file.now()[0].autonomy is Autonomy.AUTO
    if how in BROKEN:
        swap(path, BROKEN[how][0])
    else:
        path.unlink()
        if how == "a folder":
            path.mkdir()
        elif how == "not ours to read":
            path.symlink_to(path)
    policy, fault = file.now()
    assert (policy.autonomy, policy.dials, policy.budget.cluster) == (Autonomy.ANALYZE, (), 4)
    assert "The policy cannot be read" in fault
    assert str(path) in fault
    assert BROKEN.get(how, (b"", ""))[1] in fault
    assert "Nothing is written to the cluster until it is mended" in fault
    store, ctx, _ = world(1, policy)
    tell(replace(ctx, policy_fault=fault), 0)
    assert intents(store) == []
    if path.is_dir():
        path.rmdir()
    swap(path, GOOD.encode())
    assert file.now() == (PolicyFile().now()[0], "")


@pytest.mark.parametrize("kind", [APPLY, UNDO])
def test_a_remediator_claims_nothing_while_the_policy_cannot_be_read(kind: str) -> None:
    store, ctx, _ = world(1)
    tell(ctx, 0)
    [intent] = intents(store)
    message = Message(id="m", type=kind, data={"intent": intent.id})

    def untouched() -> Any:
        raise AssertionError("nothing may be asked of the cluster")

    here = replace(ctx, lazy=Lazy(lambda: store, untouched), policy_fault="The policy cannot be read.")
    with pytest.raises(Retry, match="policy cannot be read"):
        remediate(message, here, "raise-memory", lambda *_: None)  # type: ignore[arg-type]
    assert intents(store) == [intent]
    with pytest.raises(AssertionError, match="nothing may be asked"):
        remediate(message, replace(here, policy_fault=""), "raise-memory", lambda *_: None)  # type: ignore[arg-type]


def test_a_mounted_config_map_that_is_swapped_counts_from_the_next_message_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As the kubelet does it: `policy.yaml` → `..data/policy.yaml`, and the link `..data` is renamed."""
    for name, text in {"one": GOOD, "two": "autonomy: alert\n", "three": "autonomy: [\n"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "policy.yaml").write_text(text)

    def link(to: str) -> None:
        (tmp_path / "..new").symlink_to(to)
        (tmp_path / "..new").rename(tmp_path / "..data")

    link("one")
    path = tmp_path / "policy.yaml"
    path.symlink_to("..data/policy.yaml")
    monkeypatch.setenv(POLICY_FILE, str(path))
    file = PolicyFile()
    assert file.now()[0].autonomy is Autonomy.AUTO
    link("two")
    assert file.now()[0].autonomy is Autonomy.ALERT
    link("three")
    assert (file.now()[0].autonomy, "is no YAML" in file.now()[1]) == (Autonomy.ANALYZE, True)
    link("one")
    assert (file.now()[0].autonomy, file.now()[1]) == (Autonomy.AUTO, "")


@pytest.mark.parametrize(
    "content", [b"\xef\xbb\xbf" + GOOD.encode(), GOOD.replace("\n", "\r\n").encode(), b"{}"]
)
def test_what_editors_leave_is_a_policy_all_the_same(
    content: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    named(monkeypatch, tmp_path, content)
    assert PolicyFile().now()[1] == ""


def served(heard: list[Context]) -> Function:
    store = MemoryStore()

    def handler(_message: Message, ctx: Context) -> list[Message]:
        heard.append(ctx)
        return []

    def make() -> Context:
        return make_context("test", Lazy(lambda: store, lambda: None))  # type: ignore[arg-type,return-value]

    return Function(handler, make, policy=PolicyFile)


def probe(function: Function) -> tuple[int, dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b""}

    async def send(part: dict[str, Any]) -> None:
        sent.append(part)

    asyncio.run(
        function.handle({"type": "http", "method": "GET", "path": PATH, "headers": []}, receive, send)
    )
    return sent[0]["status"], json.loads(sent[1]["body"])


def test_the_edge_gives_each_message_the_policy_of_now_and_the_heartbeat_shows_the_fault(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, heard = named(monkeypatch, tmp_path), list[Context]()
    function = served(heard)
    tick = Message(id="t", type=PING, attributes={"job": "clock"})
    function.call(tick)
    swap(path, b"autonomy: alert\n")
    function.call(tick)
    swap(path, b"autonomy: [\n")
    function.call(tick)
    assert [one.policy.autonomy.value for one in heard] == ["auto", "alert", "analyze"]
    assert [bool(one.policy_fault) for one in heard] == [False, False, True]
    code, body = probe(function)
    assert (code, body["ok"]) == (503, False)
    assert "policy.yaml" in body["policy"]
    swap(path, GOOD.encode())
    assert "policy" not in probe(function)[1]
    function.stop()


@pytest.mark.parametrize("take", ["kept", "read"])
def test_without_a_new_look_the_old_policy_goes_on_acting(
    take: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The mutants: a policy that is read once, and one whose last good version is kept for acting."""
    path = named(monkeypatch, tmp_path)
    file = PolicyFile()
    fixed: Callable[..., Any] = lambda _self: (1, 1, 1)  # noqa: E731
    if take == "kept":
        monkeypatch.setattr(PolicyFile, "_stopped", lambda self: self._good)
    else:
        monkeypatch.setattr(PolicyFile, "_mark", fixed)
        file = PolicyFile()
    swap(path, b"autonomy: [\n")
    policy, _ = file.now()
    store, ctx, _ = world(1, policy)
    tell(ctx, 0)
    assert len(intents(store)) == 1
    assert os.environ[POLICY_FILE] == str(path)
