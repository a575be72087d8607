"""Makes bytecode that stays valid in an image, and finds what has none.

Who calls it: all that puts Python code into a layer.

Files in a layer are of 1970, so a usual `.pyc`, which carries its source's time, is never valid: a
function would compile all it imports at every cold start, and could not even keep the result. It is
then ready after 0.72 s instead of 0.21 s (detect-crash, measured on 2 cores). PEP 552's unchecked
hash-based `.pyc` is always taken, so it must be right: `invalid` says where it is not.
"""

import importlib.util
import shutil
import struct
import sys
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from infra.images.shell import need, output
from infra.testbed import layout

VERSION: Final = (3, 11)
"""The Python of the images: Debian 12's."""
MAGIC: Final = (3495).to_bytes(2, "little") + b"\r\n"
"""How bytecode of 3.11 begins (CPython, `importlib/_bootstrap_external.py`)."""
_COMPILE: Final = "import compileall; compileall.main()"
"""Unlike `-m compileall` it ends with 0 also where a file is no Python: templates in packages are none."""
UNCHECKED: Final = 0b01
"""PEP 552: hash-based, and the source is never looked at."""


def python() -> str:
    """Give a Python 3.11: this one, or the one on the path.

    Raises:
        SystemExit: there is none.
    """
    if sys.version_info[:2] == VERSION:
        return sys.executable
    need("python3.11")
    return shutil.which("python3.11") or "python3.11"


def compile_tree(root: Path, folder: str, place: str = "/") -> None:
    """Compile all below `root/folder` in place; a file that is no valid Python is left alone.

    One process and one order: bytecode depends on what else its process has compiled (`marshal`
    marks what is referred to more than once), and two builds must give the same bytes.

    Args:
        root: the tree; compiled code does not remember it.
        folder: what to compile, relative to it.
        place: what `root` is called in the image; tracebacks show it.
    """
    where = ["-s", str(root), "-p", place]
    how = ["-q", "-q", "-f", "-j", "1", "-r", "50", "--invalidation-mode", "unchecked-hash"]
    begin = [python(), "-P", "-S", "-c", _COMPILE]
    output([*begin, *how, *where, str(root / folder)], env={"PYTHONHASHSEED": "0"})


def compile_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Give the bytecode of the Python files among these: path of each `.pyc` → content.

    What is compiled together is one unit and kept: the same unit gives the same bytes, whatever
    else is built. Paths are the image's, without a leading slash.

    Raises:
        SystemExit: a file is not valid Python; the text says which line.
    """
    sources = {path: data for path, data in sorted(files.items()) if path.endswith(".py")}
    key = sha256(repr((_COMPILE, sources)).encode()).hexdigest()
    kept = layout.BASE / "bytecode" / key
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".", dir=kept.parent) as work:
            tree = Path(work) / "tree"
            tree.mkdir()
            for path, data in sources.items():
                (tree / path).parent.mkdir(parents=True, exist_ok=True)
                (tree / path).write_bytes(data)
            compile_tree(tree, ".")
            _all_compiled(tree, sources)
            _move(tree, kept)
    return {name: (kept / name).read_bytes() for name in map(pyc, sources)}


def pyc(source: str) -> str:
    """Give the path of a source's bytecode."""
    folder, _, name = source.rpartition("/")
    cached = f"__pycache__/{name.removesuffix('.py')}.cpython-311.pyc"
    return f"{folder}/{cached}" if folder else cached


def invalid(files: Mapping[str, bytes]) -> list[str]:
    """List the Python files whose bytecode would not be taken, or is not that of their source."""
    sources = {path: data for path, data in files.items() if path.endswith(".py")}
    return [path for path, data in sources.items() if not _valid(files.get(pyc(path), b""), data)]


def uncompiled(root: Path) -> list[str]:
    """List the same of a tree on disk, relative to it."""
    return [name for name in _python_files(root) if not _valid(_read(root / pyc(name)), _read(root / name))]


def _python_files(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*.py"))


def _read(file: Path) -> bytes:
    return file.read_bytes() if file.exists() else b""


def _valid(bytecode: bytes, source: bytes) -> bool:
    head = MAGIC + struct.pack("<I", UNCHECKED) + importlib.util.source_hash(source)
    return bytecode.startswith(head)


def _all_compiled(tree: Path, sources: Mapping[str, bytes]) -> None:
    for path, data in sources.items():
        if not (tree / pyc(path)).exists():
            try:
                compile(data, path, "exec")
            except SyntaxError as wrong:
                raise SystemExit(f"{path}, line {wrong.lineno}, is no valid Python: {wrong.msg}.") from None
            raise SystemExit(f"{path} was not compiled, although it is valid Python.")


def _move(tree: Path, kept: Path) -> None:
    try:
        tree.rename(kept)
    except OSError:
        if not kept.exists():  # somebody else made the same unit meanwhile, which is as good
            raise
