"""The image of a function: Python, the dependencies, and a top layer with the code of this one only.

Who calls it: `build`. The top layer mirrors a checkout, so that the library finds the function's own
rule beside it where no `QUIETPAGER_FUNCTIONS` names another folder:

    /func/app/quietpager                the library, without what only people and their machines run
    /func/app/quietpager/functions      packages' `__init__.py`, and this function's folder
    /func/app/service/main.py       `entry`

Nothing is written at run time: an image works with a read-only root file system. The tag is made of
the content, so the same sources have the same tag, and a changed line a new one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from infra.images.bytecode import compile_files
from infra.images.oci import Image, Json, Layer, files_layer, image_digest
from quietpager.render import FunctionFolder, function_folders
from quietpager.runtime.context import function_roots

ROOT: Final = Path(__file__).resolve().parents[2]
"""The checkout."""
APP: Final = "func/app"
REPOSITORY: Final = "localhost/quietpager"

LEFT_OUT: Final = frozenset({"__pycache__", "cases", "tests"})
"""Folders that do not go into an image."""
NOT_FUNCTIONS: Final = frozenset({"cli", "eventing", "functions", "local", "render", "sandbox"})
"""Packages of the library that no function imports; of `functions` an image has its own only."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The files of one function's image, by place in it (without a leading slash).

    `library` and `own` are compiled apart: then a changed function leaves the library's bytecode.
    """

    library: Mapping[str, bytes]
    own: Mapping[str, bytes]


def find(names: Sequence[str] = (), root: Path = ROOT) -> list[FunctionFolder]:
    """Find functions by folder, e.g. `detect/crash`; all of them where none is named.

    Raises:
        SystemExit: there is no such function; the text lists those there are.
    """
    roots = function_roots() if root == ROOT else (root / "functions",)
    known = {one.place: one for one in function_folders(roots)}
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"There is no function {', '.join(unknown)}. There are: {', '.join(known)}.")
    return [known[name] for name in names] if names else list(known.values())


def sources(function: FunctionFolder, root: Path = ROOT) -> Sources:
    """Read all that goes into the top layer of a function's image."""
    stage, _, folder = function.place.partition("/")
    packages = (f"functions/{name}" for name in ("__init__.py", f"{stage}/__init__.py"))
    own = {f"{APP}/quietpager/{name}": (root / name).read_bytes() for name in packages}
    own |= _read(function.path, f"{APP}/quietpager/functions/{stage}/{folder}")
    own[f"{APP}/service/main.py"] = (Path(__file__).parent / "entry.py").read_bytes()
    library = _read(root / "shared" / "quietpager", "")
    wanted = {name: data for name, data in library.items() if name.split("/")[1] not in NOT_FUNCTIONS}
    return Sources({f"{APP}/quietpager{name}": data for name, data in wanted.items()}, own)


def top_layer(of: Sources) -> Layer:
    """Make the top layer; nothing but the sources decides what it is."""
    compiled = compile_files(of.library) | compile_files(of.own)
    return files_layer({**of.library, **of.own, **compiled})


def config(function: FunctionFolder) -> Json:
    """Give what a container of this function is started with."""
    environment = {
        "LISTEN_ADDRESS": "0.0.0.0:8080",
        "PATH": "/usr/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONPATH": f"/{APP}:/func/lib",
        "PYTHONUNBUFFERED": "1",
        "QUIETPAGER_NAME": function.name,
        "QUIETPAGER_PLACE": function.place,
    }
    return {
        "Cmd": ["python3", "-P", f"/{APP}/service/main.py"],
        "Env": [f"{name}={value}" for name, value in sorted(environment.items())],
        "ExposedPorts": {"8080/tcp": {}},
        "User": "1000:1000",
        "WorkingDir": "/func",
    }


def function_image(function: FunctionFolder, below: tuple[Layer, ...], root: Path = ROOT) -> Image:
    """Make the image of a function on top of the layers `below`."""
    layers = (*below, top_layer(sources(function, root)))
    settings = config(function)
    return Image(f"{REPOSITORY}/{function.name}:{image_digest(layers, settings)[:12]}", layers, settings)


def _read(folder: Path, place: str) -> dict[str, bytes]:
    found = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder).as_posix(): path for path in found}
    return {f"{place}/{name}": path.read_bytes() for name, path in sorted(names.items()) if belongs(name)}


def belongs(name: str) -> bool:
    """Tell whether a file of a function or of the library is needed at run time."""
    *folders, last = name.split("/")
    hidden = any(part.startswith(".") for part in (*folders, last))
    test = last.startswith("test_") or last == "conftest.py"
    return not (hidden or test or last.endswith((".md", ".pyc")) or LEFT_OUT.intersection(folders))
