"""The middle layer: what requirements/run.in names, in the versions and with the hashes of dev.txt.

Who calls it: `function`. Which packages that is follows from the metadata of those installed here,
so nothing is resolved a second time; and pip, which is told to insist on hashes, refuses the
result if a package were missing in it.
"""

import re
import shutil
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from infra.images import bytecode
from infra.images.kept import kept_layer
from infra.images.oci import Layer, tree_layer
from infra.images.shell import output

BUILD_ONLY: Final = frozenset({"hatchling", "editables"})
"""In run.in because they install the checkout; an image needs no installer."""
WHERE: Final = "func/lib"
"""Where the packages are in the image."""
UNUSED: Final = frozenset({"__pycache__", "bin", "tests", "testing"})
"""Names of folders in packages that nobody asks for at run time; `__pycache__` is made anew."""


def dependency_layer(requirements: Path) -> Layer:
    """Give the layer, made with pip if the pinned requirements are new.

    Args:
        requirements: the folder with run.in and dev.txt.
    """
    names = closure(wanted((requirements / "run.in").read_text(encoding="utf-8")))
    pins = pinned((requirements / "dev.txt").read_text(encoding="utf-8"), names)
    return kept_layer("dependencies", Path(__file__).name, pins, lambda work, file: _make(pins, work, file))


def wanted(text: str) -> list[Requirement]:
    """Read run.in, without what only installs the checkout."""
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    found = [Requirement(line) for line in lines if line]
    return [one for one in found if canonicalize_name(one.name) not in BUILD_ONLY]


def _installed(name: str) -> list[str]:
    try:
        return requires(name) or []
    except PackageNotFoundError:
        raise SystemExit(
            f"{name} is not installed here: make the environment first (`make .venv`)."
        ) from None


def closure(roots: Iterable[Requirement], ask: Callable[[str], list[str]] = _installed) -> frozenset[str]:
    """Name all packages that these need, and these.

    Args:
        roots: where to begin.
        ask: gives the requirements of a package; those of the installed one where not given.

    Raises:
        SystemExit: a package is not installed.
    """
    done: set[tuple[str, str]] = set()
    todo = [(canonicalize_name(one.name), extra) for one in roots for extra in ("", *one.extras)]
    while todo:
        name, extra = todo.pop()
        if (name, extra) in done:
            continue
        done.add((name, extra))
        for line in ask(name):
            need = Requirement(line)
            if need.marker is None or need.marker.evaluate({"extra": extra}):
                todo += [(canonicalize_name(need.name), also) for also in ("", *need.extras)]
    return frozenset(name for name, _ in done)


def pinned(lock: str, names: Iterable[str]) -> str:
    """Take the entries of these packages out of a hash-pinned requirements file.

    Raises:
        SystemExit: a package is not pinned.
    """
    entries = {_name(entry): entry for entry in re.split(r"(?m)^(?=[A-Za-z0-9])", lock) if entry.strip()}
    wants = sorted(names)
    if missing := [name for name in wants if name not in entries]:
        raise SystemExit(f"requirements/dev.txt does not pin {', '.join(missing)}: run `make lock`.")
    return "".join(entries[name] for name in wants)


def _name(entry: str) -> str:
    return canonicalize_name(entry.partition("==")[0].strip())


def _make(pins: str, work: Path, file: Path) -> Layer:
    pinned_file, root = work / "pinned.txt", work / "root"
    pinned_file.write_text(pins, encoding="utf-8")
    pip = [bytecode.python(), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    how = ["--no-compile", "--only-binary", ":all:", "--require-hashes", "--target", str(root)]
    output([*pip, *how, "-r", str(pinned_file)])
    trim(root)
    bytecode.compile_tree(root, ".", f"/{WHERE}")
    if missing := bytecode.uncompiled(root):
        raise SystemExit(f"Dependencies have files without bytecode: {', '.join(missing[:10])}.")
    return tree_layer(root, WHERE, file=file)


def trim(root: Path) -> None:
    """Delete tests, scripts and type stubs."""
    for folder in sorted(
        (one for one in root.rglob("*") if one.is_dir() and one.name in UNUSED), reverse=True
    ):
        shutil.rmtree(folder)
    for stub in root.rglob("*.pyi"):
        stub.unlink()
