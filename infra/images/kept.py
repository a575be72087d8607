"""Keeps the large layers on disk, each with a stamp of what it was made from.

Who calls it: the Python base, the dependencies and PostgreSQL. A layer is made again only when its
recipe changes. Debian's security updates do not change a recipe: delete the folder `layout.BASE`
to have them.
"""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from infra.images.oci import Layer
from infra.testbed import layout

MAKERS: Final = ("bytecode.py", "debian.py", "oci.py")
"""Modules that decide what every kept layer is, besides the one that asks."""


def kept_layer(name: str, maker: str, recipe: Any, make: Callable[[Path, Path], Layer]) -> Layer:
    """Give the kept layer, or make it.

    Args:
        name: names its files in `layout.BASE`.
        maker: the file name of the module that asks; a change of it makes the layer again.
        recipe: what decides besides what the layer is; JSON-like.
        make: gets an empty folder to work in, and the file to write the tar to.
    """
    folder = layout.BASE / "layers"
    tar, stamp = folder / f"{name}.tar", folder / f"{name}.json"
    ours = [Path(__file__).with_name(module).read_text(encoding="utf-8") for module in (*MAKERS, maker)]
    key = sha256(json.dumps([recipe, ours], sort_keys=True).encode()).hexdigest()
    if stamp.exists() and tar.exists():
        known = json.loads(stamp.read_text(encoding="utf-8"))
        if known["recipe"] == key and tar.stat().st_size == known["size"]:
            return Layer(known["digest"], known["size"], tar)
    folder.mkdir(parents=True, exist_ok=True)
    part = folder / f".{name}.{os.getpid()}.tar"
    try:
        with TemporaryDirectory(prefix=f"{name}-", dir=layout.BASE) as work:
            layer = make(Path(work), part)
        # The stamp goes first and comes last: a tar without its stamp is made again.
        stamp.unlink(missing_ok=True)
        part.replace(tar)
    finally:
        part.unlink(missing_ok=True)
    said = {"recipe": key, "digest": layer.digest, "size": layer.size}
    stamp.write_text(json.dumps(said), encoding="utf-8")
    return replace(layer, data=tar)
