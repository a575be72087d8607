"""A YAML file that stands for more than any machine holds, or for a program: in Git, a policy, channels.

Who may push to a repository of manifests could make the function that proposes changes hang for ever,
with one file that has ten lists of aliases in one another. One reader stands before all files that others
write, and reads plain data only. The one that is let through has a process of its own.
"""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from quietpager.errors import Refused
from quietpager.functions.remediate.propose_change import manifests
from quietpager.functions.remediate.propose_change.manifests import edit_text, edit_tree, fields_of
from quietpager.incident.policy import load_policy
from quietpager.model import yaml as reader
from quietpager.model.incident import Edit
from quietpager.model.reference import ObjectRef
from quietpager.model.yaml import NotPlain, load_documents, load_yaml, read_yaml
from quietpager.people.channels import CHANNELS, load_channels
from quietpager.rules.schema import load_rule

ROOT = Path(__file__).parents[2]
WEB = ObjectRef(api_version="apps/v1", kind="Deployment", namespace="shop", name="web", uid="u1")
LIMIT = Edit(path="/spec/limit", had="32Mi", gets="64Mi")
MANIFEST = "kind: Deployment\nmetadata:\n  name: web\n  namespace: shop\nspec:\n  limit: 32Mi\n"

NUMBER = "1:" + ":".join(["59"] * 300_000)
LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 30))

ATTACKS = {
    "billion laughs": (LAUGHS, "anchor"),
    "an alias to what it stands in": ("a: &a\n  b: *a\n", "anchor"),
    "an alias to nothing": ("a: *b\n", "alias"),
    "merge keys": ("a: {b: 1}\n<<: {c: 2}\n", "merges"),
    "lists in lists": ("a: " + "[" * 900 + "]" * 900, "levels deep"),
    "maps in maps": ("a: " + "{b: " * 2000 + "1" + "}" * 2000, "levels deep"),
    "a scalar without an end": ("a: '" + "x" * (2 << 20) + "'\n", "characters"),
    "a block without an end": ("a: |\n" + "  x\n" * (1 << 19), "characters"),
    "more values than anybody writes": ("a:\n" + "- 1\n" * 200_000, "values"),
    "a number to the base of sixty": (f"a: {NUMBER}\n", "a number of"),
    "a program": ("a: !!python/object/apply:os.system ['true']\n", "names a type"),
    "a name of a program": ("a: !!python/name:os.system\n", "names a type"),
    "a type of its own": ("a: !thing {b: 1}\n", "names a type"),
    "a field twice": ("a: 1\nb: 2\na: 3\n", "a is there twice, first on line"),
    "a field twice below": ("a:\n- {b: 1, b: 2}\n", "a.0.b is there twice"),
    "a map as a key": ("? {a: 1}\n: b\n", "key"),
}  # fmt: skip


@pytest.mark.parametrize("what", ATTACKS)
def test_only_plain_data_is_read(what: str, tmp_path: Path) -> None:
    text, sentence = ATTACKS[what]
    for load in (load_yaml, load_documents):
        with pytest.raises(NotPlain, match=sentence):
            load(text)
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(NotPlain, match=sentence):
        read_yaml(path)


@pytest.mark.parametrize("what", ATTACKS)
def test_no_manifest_in_git_hangs_a_proposal_and_a_person_gets_the_change(what: str, tmp_path: Path) -> None:
    text, sentence = ATTACKS[what]
    with pytest.raises(Refused, match=sentence):
        edit_text(f"{MANIFEST}{text}", WEB, fields_of([LIMIT], {"spec": {"limit": "32Mi"}}))
    if len(text) > manifests.LARGEST_FILE:
        return
    (tmp_path / "web.yaml").write_text(f"{MANIFEST}{text}")
    with pytest.raises(Refused, match=rf"web\.yaml names it, but .*{sentence}.*A person makes this change\."):
        edit_tree(tmp_path, "", WEB, fields_of([LIMIT], {"spec": {"limit": "32Mi"}}))


@pytest.mark.parametrize("what", ATTACKS)
def test_neither_policy_nor_rule_nor_channels_are_read(
    what: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(ATTACKS[what][0])
    with pytest.raises(ValueError, match=r"x\.yaml"):
        load_policy(str(path))
    with pytest.raises(ValueError, match="is not a rule"):
        load_rule(path)
    monkeypatch.setenv(CHANNELS, str(path))
    with pytest.raises(ValueError, match="must be plain YAML"):
        load_channels()


def test_a_manifest_next_to_a_bomb_is_still_edited(tmp_path: Path) -> None:
    (tmp_path / "bomb.yaml").write_text(f"# Deployment web\n{LAUGHS}")
    (tmp_path / "web.yaml").write_text(MANIFEST)
    edited = edit_tree(tmp_path, "", WEB, fields_of([LIMIT], {"spec": {"limit": "32Mi"}}))
    assert (edited.file, edited.text) == ("web.yaml", MANIFEST.replace("32Mi", "64Mi"))


def test_many_large_files_that_name_the_object_are_not_all_read(tmp_path: Path) -> None:
    filler = "".join(f"  - item {number}\n" for number in range(10_000))
    for number in range(30):
        (tmp_path / f"{number}.yaml").write_text(
            f"kind: Deployment\nmetadata: {{name: web-{number}}}\nx:\n{filler}"
        )
    with pytest.raises(Refused, match="name a `path` in the policy"):
        edit_tree(tmp_path, "", WEB, fields_of([LIMIT], {}))


PROGRAM = """
import sys, resource
resource.setrlimit(resource.RLIMIT_CPU, (3, 3))
import tests.attack.test_denial_yaml as attack
if sys.argv[1] == "open":
    attack.opened()
try:
    fields = attack.fields_of([attack.LIMIT], {"spec": {}})
    attack.edit_text(attack.MANIFEST + attack.LAUGHS, attack.WEB, fields)
except attack.Refused as no:
    print("refused", no)
"""


def opened() -> None:
    """Take the reader out: what is loaded is not looked at before."""
    loader: Any = reader._LOADER
    setattr(manifests, "check_plain", lambda _text: {})  # noqa: B010 (constants, for whoever reads types)
    manifests.load_documents = lambda text: list(yaml.load_all(text, Loader=loader))  # type: ignore[attr-defined]


@pytest.mark.parametrize("how", ["closed", "open"])
def test_without_the_reader_an_alias_bomb_hangs_the_proposal(how: str) -> None:
    """Held to three seconds of CPU, it is ended by the kernel; with the reader it is refused."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if how == "closed":
        assert done.stdout.startswith("refused")
    else:
        assert done.returncode < 0
