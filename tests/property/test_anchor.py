"""What is anchored can be computed again from today's chains; whatever was done to them since is found."""

import json
import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quietpager.model.store import Audit, AuditEntry, Record
from quietpager.store.anchor import (
    Anchor,
    Anchored,
    AnchorUnavailable,
    Head,
    Snapshot,
    heads_of,
    retreats,
    verify_anchors,
)
from quietpager.store.anchors import FileAnchor, GitAnchor, open_anchor
from quietpager.store.audit import HEAD, verify, verify_all
from quietpager.store.memory import MemoryStore
from quietpager.store.merkle import root_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def grow(store: MemoryStore, *chains: str, actor: str = "me") -> None:
    store.transact([Audit(chain, NOW, "k", actor, {"n": 1}) for chain in chains])


def snapshot(store: MemoryStore, minutes: int = 0) -> Snapshot:
    return Snapshot.of(heads_of(store), NOW + timedelta(minutes=minutes))


def anchored(*snapshots: Snapshot) -> list[Anchored]:
    return [Anchored(f"a{n}", one.to_text()) for n, one in enumerate(snapshots, 1)]


@pytest.fixture
def store() -> MemoryStore:
    """Three chains of three entries; each test anchors them and then does something."""
    made = MemoryStore()
    for _ in range(3):
        grow(made, "a", "b", "c")
    return made


# --- the tree


def by_the_book(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word: split at the largest power of two below n."""
    if not leaves:
        return sha256(b"").digest()
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1 << ((len(leaves) - 1).bit_length() - 1)
    return sha256(b"\x01" + by_the_book(leaves[:k]) + by_the_book(leaves[k:])).digest()


@given(st.lists(st.binary(max_size=4), max_size=40))
def test_the_root_is_that_of_rfc_6962(leaves: list[bytes]) -> None:
    assert root_of(leaves) == by_the_book(leaves).hex()


def test_a_known_root() -> None:
    """The test vectors of Certificate Transparency: no leaf, and one empty leaf."""
    assert root_of([]) == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert root_of([b""]) == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"


heads = st.lists(
    st.builds(
        Head, chain=st.text(max_size=5), seq=st.integers(1, 9), hash=st.text("0123456789abcdef", max_size=4)
    ),
    max_size=9,
    unique_by=lambda head: head.chain,
)


@given(heads, st.booleans())
def test_a_snapshot_is_read_as_it_was_written(some: list[Head], lines: bool) -> None:
    one = Snapshot.of(some, NOW)
    assert Snapshot.from_text(one.to_text(lines=lines)) == one
    assert Snapshot.of(reversed(some), NOW) == one


# --- what is found


def test_what_grew_since_is_no_fault(store: MemoryStore) -> None:
    before = snapshot(store)
    grow(store, "a", "b", "d")
    after = snapshot(store, 5)
    grow(store, "d")
    assert verify_anchors(store, anchored(before, after)) == []
    assert retreats(before, after) == []
    assert before.root != after.root


def drop(store: MemoryStore, chain: str) -> None:
    store._audit.pop(chain)
    store._state.pop(HEAD + chain)


def cut(store: MemoryStore, chain: str, by: int = 1) -> None:
    """Cut the tail and set the head back, as who knows the scheme would."""
    left = store._audit[chain] = store._audit[chain][:-by]
    store._state[HEAD + chain] = Record(HEAD + chain, 9, {"seq": left[-1].seq, "hash": left[-1].hash})


def rewrite(store: MemoryStore, chain: str, actor: str = "somebody") -> None:
    """Compute the chain anew, with its head, every entry in the right place."""
    drop(store, chain)
    for _ in range(3):
        grow(store, chain, actor=actor)


@pytest.mark.parametrize(
    ("tamper", "sentence"),
    [
        (
            lambda store: drop(store, "b"),
            "chain b is gone, head and all: it had 3 entries then, today there are none.",
        ),
        (
            lambda store: cut(store, "b"),
            "the tail of chain b is cut: it had 3 entries then, today there are 2.",
        ),
        (
            lambda store: rewrite(store, "b"),
            "chain b was rewritten: its first 3 entries are not those of 2026-01-01T00:00:00Z.",
        ),
    ],
)
def test_what_the_chains_alone_cannot_tell_is_found_with_a_sentence(
    store: MemoryStore, tamper: Callable[[MemoryStore], None], sentence: str
) -> None:
    before, sentence = snapshot(store), f"Anchor a1 (2026-01-01T00:00:00Z): {sentence}"
    tamper(store)
    assert verify_all(store) == []  # that is why there are anchors
    assert verify_anchors(store, anchored(before)) == [sentence]
    # Later anchors of the tampered store do not hide it, and it is told once.
    assert verify_anchors(store, anchored(before, before, snapshot(store, 5))) == [sentence]
    [said] = retreats(before, snapshot(store, 5))
    assert said.startswith("Chain b ")


def test_a_cut_tail_that_grew_again_is_found(store: MemoryStore) -> None:
    before = snapshot(store)
    cut(store, "c")
    grow(store, "c", "c", actor="other")
    assert verify_all(store) == []
    [said] = verify_anchors(store, anchored(before))
    assert "chain c was rewritten" in said


def entries(kind: str) -> Callable[[list[AuditEntry]], list[AuditEntry]]:
    def edit(**new: Any) -> Callable[[list[AuditEntry]], list[AuditEntry]]:
        return lambda some: [some[0], replace(some[1], **new), *some[2:]]

    ways: dict[str, Callable[[list[AuditEntry]], list[AuditEntry]]] = {
        "chain": edit(chain="x"),  # it is what the row is found by; its hash is over the name asked for
        "seq": lambda some: [some[0], some[2], some[1]],
        "at": edit(at=NOW + timedelta(microseconds=1)),
        "kind": edit(kind="K"),
        "actor": edit(actor="somebody"),
        "body": edit(body={"n": 2}),
        "infinite": edit(body={"n": float("inf")}),
        "previous": edit(previous="0" * 64),
        "hash": edit(hash="0" * 64),
        "deleted": lambda some: [some[0], *some[2:]],
        "doubled": lambda some: [*some[:2], *some[1:]],
        "moved": lambda some: [*some[1:], some[0]],
    }
    return ways[kind]


@pytest.mark.parametrize("kind", ["seq", "at", "kind", "actor", "body", "deleted", "doubled", "moved"])
def test_every_class_of_change_to_a_row_breaks_the_anchor(store: MemoryStore, kind: str) -> None:
    before = anchored(snapshot(store))
    store._audit["b"] = entries(kind)(store._audit["b"])
    assert any("chain b" in fault for fault in verify_anchors(store, before))


@pytest.mark.parametrize(
    "kind",
    [
        "chain",
        "seq",
        "at",
        "kind",
        "actor",
        "body",
        "infinite",
        "previous",
        "hash",
        "deleted",
        "doubled",
        "moved",
    ],
)
def test_every_class_of_change_to_a_row_breaks_the_chain(store: MemoryStore, kind: str) -> None:
    """`previous` and `hash` follow from the rest, so the anchor need not look at them: the chain does."""
    faults = verify(entries(kind)(store.audit("b")), store.get("CHAIN#b"), "b")
    assert faults
    assert all(fault.startswith("Chain b: ") for fault in faults)


def test_a_number_that_became_infinite_is_named_and_raises_nothing(store: MemoryStore) -> None:
    assert verify(entries("infinite")(store.audit("b")), store.get("CHAIN#b")) == [
        "Chain b: entry 2 was edited after it was written; its hash does not fit."
    ]


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda read: read | {"root": "0" * 64}, "does not fit its own list"),
        (lambda read: read | {"chains": 2}, "does not fit its own list"),
        (lambda read: read | {"heads": read["heads"][1:]}, "does not fit its own list"),
        (lambda read: read | {"heads": [["b", 3]]}, "cannot be read"),
        (lambda read: read | {"format": 2}, "cannot be read"),
        (lambda _: [], "cannot be read"),
    ],
)
def test_an_anchor_that_was_edited_is_told_of(
    store: MemoryStore, edit: Callable[[Any], Any], word: str
) -> None:
    text = json.dumps(edit(json.loads(snapshot(store).to_text())))
    [said] = verify_anchors(store, [Anchored("a1", text)])
    assert said.startswith("Anchor a1")
    assert word in said


# --- the places


def git(folder: Path, *words: str) -> str:
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, check=True)
    return done.stdout


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make an empty one; of the configuration of the person who runs the tests nothing counts."""
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    folder = tmp_path / "repository"
    folder.mkdir()
    git(folder, "init", "--quiet", "--initial-branch=main")
    return folder


@pytest.fixture(params=["file", "git"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Anchor:
    return open_anchor(request.getfixturevalue("repository") if request.param == "git" else tmp_path)


def test_a_place_keeps_every_anchor_and_nothing_twice(place: Anchor, store: MemoryStore) -> None:
    assert place.newest() is None
    assert place.all() == []
    first = snapshot(store)
    assert place.keep(first)
    assert not place.keep(snapshot(store, 5))  # later, and nothing new
    assert place.newest() == first
    grow(store, "a")
    second = snapshot(store, 10)
    assert place.keep(second)
    assert [Snapshot.from_text(one.text) for one in place.all()] == [first, second]
    assert verify_anchors(store, place.all()) == []
    drop(store, "c")
    assert [fault.partition(": ")[2][:15] for fault in verify_anchors(store, place.all())] == [
        "chain c is gone"
    ]


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    with pytest.raises(AnchorUnavailable, match="is no folder"):
        open_anchor(tmp_path / "nowhere")


def test_a_line_that_was_cut_short_is_told_of_and_spoils_no_other(tmp_path: Path, store: MemoryStore) -> None:
    place = FileAnchor(tmp_path)
    place.keep(snapshot(store))
    whole = place.path.read_text()
    place.path.write_text(whole[:-20])
    grow(store, "a")
    assert place.keep(snapshot(store, 5))
    assert [one.name for one in place.all()] == ["line 1", "line 2"]
    [said] = verify_anchors(store, place.all())
    assert said.startswith("Anchor line 1 cannot be read")


def test_only_our_file_is_committed_and_no_hook_is_run(repository: Path, store: MemoryStore) -> None:
    (repository / "other.txt").write_text("mine")
    git(repository, "add", "other.txt")
    hook = repository / ".git/hooks/pre-commit"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text("#!/bin/sh\nexit 1\n")
    hook.chmod(0o755)
    GitAnchor(repository).keep(snapshot(store))
    assert git(repository, "show", "--format=%an: %s", "--name-only").split("\n\n")[1].split() == [
        "anchor.json"
    ]
    assert git(repository, "status", "--porcelain").strip() == "A  other.txt"
    said = git(repository, "log", "--format=%an %s")
    assert said == f"quietpager Anchor 3 chains: {snapshot(store).root}\n"


def test_it_is_pushed_and_what_could_not_be_pushed_is_pushed_later(
    repository: Path, tmp_path: Path, store: MemoryStore
) -> None:
    remote = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    git(repository, "remote", "add", "origin", str(tmp_path / "away.git"))
    place = GitAnchor(repository)
    with pytest.raises(AnchorUnavailable, match=r"git push in .* failed"):
        place.keep(snapshot(store))
    git(repository, "remote", "set-url", "origin", str(remote))
    assert not place.keep(snapshot(store, 5))  # nothing new, but one to push
    assert open_anchor(remote).all() == place.all()
    assert verify_anchors(store, open_anchor(remote).all()) == []


def test_a_push_is_never_forced(repository: Path, tmp_path: Path, store: MemoryStore) -> None:
    remote = tmp_path / "remote.git"
    git(tmp_path, "init", "--quiet", "--bare", "--initial-branch=main", str(remote))
    git(repository, "remote", "add", "origin", str(remote))
    GitAnchor(repository).keep(snapshot(store))
    there = git(remote, "rev-parse", "main")
    git(repository, "update-ref", "-d", "refs/heads/main")  # history made anew, as a forger would
    with pytest.raises(AnchorUnavailable, match="push"):
        GitAnchor(repository).keep(snapshot(store, 5))
    assert git(remote, "rev-parse", "main") == there


def test_a_commit_is_signed_where_git_is_configured_so(
    repository: Path, tmp_path: Path, store: MemoryStore
) -> None:
    key = tmp_path / "key"
    try:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    except FileNotFoundError:
        pytest.skip("no ssh-keygen here")
    signers = tmp_path / "signers"
    signers.write_text(f"auditor@example.com {key.with_suffix('.pub').read_text()}")
    for name, value in {
        "user.name": "auditor", "user.email": "auditor@example.com", "gpg.format": "ssh",
        "user.signingKey": str(key), "commit.gpgSign": "true", "gpg.ssh.allowedSignersFile": str(signers),
    }.items():  # fmt: skip
        git(repository, "config", name, value)
    GitAnchor(repository).keep(snapshot(store))
    git(repository, "verify-commit", "HEAD")
    assert git(repository, "log", "--format=%G? %an").strip() == "G auditor"
