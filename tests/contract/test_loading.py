"""Functions are made from their folders: the product's own, and those of a user's own outside the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypercorn.config import Config

from quietpager.local import host
from quietpager.model.folders import find, place_of
from quietpager.render import function_folders
from quietpager.runtime import loading
from quietpager.runtime.context import BUILT_IN, FUNCTIONS, function_roots, functions_folder
from quietpager.runtime.edge import Function
from quietpager.runtime.serving import IDLE, SENDERS_IDLE, keep_connections

PLACES = [folder.place for folder in function_folders(functions_folder())]
DIAGNOSE = '''"""Is it late?"""

from quietpager.model.finding import Healthy, Verdict
from quietpager.model.signal import Signal
from quietpager.objects.live import Live


def diagnose(_signal: Signal, _live: Live) -> Verdict:
    """Say that it is not."""
    return Healthy(why="never late")
'''


@pytest.mark.parametrize("place", PLACES)
def test_every_function_is_made_from_its_folder(place: str) -> None:
    made = loading.new(place)
    try:
        assert isinstance(made, Function) or loading.code(place, "web") is not None
    finally:
        made.stop()


def test_no_folder_holds_what_the_runtime_makes() -> None:
    for path in find(functions_folder(), "__init__.py"):
        assert path.read_text(encoding="utf-8") == "", path
    for name in ("diagnose.py", "plan.py"):
        assert [one for one in find(functions_folder(), name) if one.with_name("handler.py").exists()] == []


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a user's own with one detector in it, beside the product's own."""
    folder = tmp_path / "mine" / "detect" / "late"
    folder.mkdir(parents=True)
    (folder / "diagnose.py").write_text(DIAGNOSE, encoding="utf-8")
    (folder / "rule.yaml").write_text("family: late\nclasses: {}\n", encoding="utf-8")
    spec = (functions_folder() / "detect/crash/func.yaml").read_text(encoding="utf-8")
    (folder / "func.yaml").write_text(spec.replace("crash", "late"), encoding="utf-8")
    monkeypatch.setenv(FUNCTIONS, f"{BUILT_IN}{os.pathsep}{tmp_path / 'mine'}")
    return folder


def in_a_process(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=50, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def test_a_users_own_folder_is_loaded_under_the_same_import_name(own: Path) -> None:
    said = in_a_process(
        "from quietpager.runtime import loading\n"
        "made = loading.new('detect/late')\n"
        "import quietpager.functions.detect.late.diagnose as late\n"
        "import quietpager.functions.detect.crash.diagnose as crash\n"
        "print(type(made).__name__, late.__file__, crash.__file__)\n"
        "made.stop()\n"
    )
    crash = functions_folder() / "detect/crash/diagnose.py"
    assert said == f"Function {own / 'diagnose.py'} {crash}"


def test_it_counts_beside_the_products_own(own: Path) -> None:
    places = [folder.place for folder in function_folders(function_roots())]
    assert places == sorted([*PLACES, "detect/late"])
    assert place_of(own / "rule.yaml") == "detect/late"


def test_the_product_renders_with_it(own: Path) -> None:
    said = in_a_process(
        "from click.testing import CliRunner\n"
        "from quietpager.cli.main import main\n"
        "print(CliRunner().invoke(main, ['render']).output)\n"
    )
    assert "name: detect-late" in said
    assert "name: detect-crash" in said
    assert own.exists()


def test_two_folders_of_one_name_are_refused(own: Path) -> None:
    twin = own.parents[1] / "detect" / "crash"
    shutil.copytree(functions_folder() / "detect/crash", twin)
    with pytest.raises(ValueError, match="Two folders are the function detect/crash") as caught:
        function_folders(function_roots())
    assert str(twin) in str(caught.value)
    assert str(functions_folder() / "detect/crash") in str(caught.value)


def test_code_of_another_folder_is_never_taken_for_this_one(
    own: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = tmp_path / "other"
    shutil.copytree(functions_folder() / "detect/crash", other / "detect/crash")
    assert loading.diagnose("detect/crash") is not None
    monkeypatch.setenv(FUNCTIONS, str(other))
    with pytest.raises(ValueError, match="this process has loaded"):
        loading.diagnose("detect/crash")
    assert own.exists()


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ("detect/nothing", "has no code that can be loaded"),
        ("nowhere/crash", "has no code that can be loaded"),
        ("detect", "a place is STAGE/NAME"),
        ("detect/../crash", "a place is STAGE/NAME"),
        ("detect/crash.diagnose", "a place is STAGE/NAME"),
        ("", "a place is STAGE/NAME"),
    ],
)
def test_what_is_no_function_is_said(place: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        loading.handler(place)


def test_a_module_that_cannot_be_imported_says_why(own: Path) -> None:
    (own / "diagnose.py").write_text("import there_is_no_such_module\n", encoding="utf-8")
    with pytest.raises(ModuleNotFoundError, match="there_is_no_such_module"):
        loading.diagnose("detect/late")


# --- connections ---------------------------------------------------------------------------------


def test_a_served_function_keeps_a_connection_for_longer_than_its_sender() -> None:
    """func-python makes its own `Config()` after `new()`. Tested in a process where only `new` sets it."""
    said = in_a_process(
        "from hypercorn.config import Config\n"
        "from quietpager.runtime import loading\n"
        "before = Config().keep_alive_timeout\n"
        "made = loading.new('detect/crash')\n"
        "print(before, Config().keep_alive_timeout)\n"
        "made.stop()\n"
    )
    before, after = map(float, said.split())
    assert before < SENDERS_IDLE < after == IDLE


def test_the_local_host_does_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Config, "keep_alive_timeout", 5.0)
    assert host.served_on(8080).keep_alive_timeout == IDLE


def test_without_it_a_sender_meets_a_connection_that_is_being_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutant: hypercorn's own default ends before the sender's."""
    monkeypatch.setattr(Config, "keep_alive_timeout", 5.0)
    assert Config().keep_alive_timeout < SENDERS_IDLE
    keep_connections()
    assert Config().keep_alive_timeout > SENDERS_IDLE
