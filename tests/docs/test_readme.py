"""The README's walkthrough works as it stands, and the documents are complete and current."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from infra.docs import ROOT, commands
from quietpager.cli.main import main
from quietpager.model.folders import place_of
from quietpager.runtime import loading

README = (ROOT / "README.md").read_text(encoding="utf-8")
HEADINGS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]
FUNCTIONS = sorted(p for p in ROOT.glob("functions/*/*") if p.is_dir() and p.name != "__pycache__")
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FILE = re.compile(r"# (functions/\S+)\n")


def walkthrough() -> list[tuple[str, str]]:
    section = README.split("## Write a rule in five minutes\n")[1].split("\n## ")[0]
    return BLOCK.findall(section)


def shell(script: str, folder: Path) -> str:
    env = os.environ | {
        "QUIETPAGER_FUNCTIONS": str(folder / "functions"),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
    }  # fmt: skip
    done = subprocess.run(
        ["sh", "-ec", script], cwd=folder, env=env, capture_output=True, text=True, timeout=50, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """A checkout's functions and case, where the walkthrough may write."""
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "functions", tmp_path / "functions", ignore=unwanted)
    shutil.copytree(ROOT / "tests/docs/14-liveness", tmp_path / "tests/docs/14-liveness")
    return tmp_path


def test_the_readmes_rule_works_as_it_stands(copy: Path) -> None:
    case = "tests/docs/14-liveness"
    assert not (copy / "functions/detect/probe").exists(), "the README's example is taken: choose another"
    assert json.loads(shell(f"quietpager replay --json {case}", copy))["failure_class"] == "unknown"
    said = ""
    folder = copy / "functions/detect/probe"
    for language, body in walkthrough():
        if language == "sh":
            said = shell(body, copy)
            if "rule new" in body:
                fails_with_a_sentence(folder)
        elif language == "text":
            assert said == body
        else:
            name = FILE.match(body)
            assert name is not None, body
            (copy / name[1]).write_text(body, encoding="utf-8")
    answer = json.loads(shell(f"quietpager replay --json {case}", copy))
    assert (answer["failure_class"], answer["family"]) == ("liveness_probe_failing", "probe")
    assert answer["would_act"] == []
    assert "1 passed" in tried(folder).stdout


def tried(folder: Path) -> subprocess.CompletedProcess[str]:
    env = os.environ | {"QUIETPAGER_FUNCTIONS": str(folder.parents[1])}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(
        command, cwd=folder, env=env, capture_output=True, text=True, timeout=50, check=False
    )


def fails_with_a_sentence(folder: Path) -> None:
    done = tried(folder)
    assert done.returncode == 1
    assert (
        "detect/probe/diagnose.py finds nothing in cases/14-liveness: nothing is written yet" in done.stdout
    )
    assert "Write there what tells liveness_probe_failing from the live objects" in done.stdout


def test_the_readmes_function_answers_as_a_function(copy: Path) -> None:
    for language, body in walkthrough():
        if language == "sh" and "replay" not in body:
            shell(body, copy)
        elif (name := FILE.match(body)) is not None:
            (copy / name[1]).write_text(body, encoding="utf-8")
    script = "from quietpager.runtime import loading as l; l.new(p := 'detect/probe')"
    script += "; print(l.code(p, 'diagnose').__file__)"
    assert shell(f'{sys.executable} -c "{script}"', copy).startswith(str(copy))
    assert "family: probe" in shell("quietpager render", copy)


def test_the_readmes_python_is_in_order(copy: Path) -> None:
    shutil.copy(ROOT / "pyproject.toml", copy)
    body = next(body for language, body in walkthrough() if language == "python")
    (copy / "diagnose.py").write_text(body, encoding="utf-8")
    ruff = f"{Path(sys.executable).parent / 'ruff'}"
    ignore = "--ignore INP001"
    shell(
        f"{ruff} check --no-cache {ignore} diagnose.py && {ruff} format --no-cache --check diagnose.py", copy
    )


@pytest.mark.parametrize("command", [path for path, _ in commands(main)])
def test_every_command_is_documented(command: str) -> None:
    assert f"\n## {command}\n" in (ROOT / "docs/cli.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", FUNCTIONS, ids=lambda p: f"{p.parent.name}/{p.name}")
def test_every_function_is_whole(folder: Path) -> None:
    for name in ("__init__.py", "func.yaml"):
        assert (folder / name).is_file(), f"{folder} has no {name}"
    place = place_of(folder / "func.yaml")
    if loading.code(place, "web") is None:
        loading.handler(place)  # raises where the folder has no code
    text = (folder / "runbook.md").read_text(encoding="utf-8")
    assert re.findall(r"^## .*$", text, re.MULTILINE) == HEADINGS
    assert all(part.strip() for part in re.split(r"^## .*$", text, flags=re.MULTILINE)[1:])


@pytest.mark.parametrize("family", ["crash", "image"])
def test_every_failure_class_of_a_rule_is_in_its_runbook(family: str) -> None:
    import yaml  # noqa: PLC0415 (only here)

    folder = ROOT / "functions/detect" / family
    classes = yaml.safe_load((folder / "rule.yaml").read_text(encoding="utf-8"))["classes"]
    text = (folder / "runbook.md").read_text(encoding="utf-8")
    assert [name for name in classes if f"`{name}`" not in text] == []


def test_nothing_generated_is_stale() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "infra.docs", "--check"], cwd=ROOT, capture_output=True, text=True,
        timeout=50, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_every_link_of_the_documents_leads_somewhere() -> None:
    pages = [
        ROOT / "README.md",
        ROOT / "functions/README.md",
        *ROOT.glob("docs/*.md"),
        *ROOT.glob("docs/adr/*.md"),
    ]
    for page in pages:
        for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text(encoding="utf-8")):
            assert "://" in link or (page.parent / link).exists(), f"{page.name}: {link}"
