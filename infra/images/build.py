"""Builds images and brings them to the cluster, if one runs here.

Who calls it: the deploy code (`ensure`) and `python -m infra.images`.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Final

from infra.images import containerd
from infra.images.dependencies import dependency_layer
from infra.images.dynoxide import dynoxide_image
from infra.images.function import ROOT, find, function_image
from infra.images.git import PROGRAM, git_layer
from infra.images.oci import Image, Layer, write_images
from infra.images.postgres import postgres_image
from infra.images.python_base import base_layer
from infra.images.shell import Failed
from infra.testbed import layout
from quietpager.render import FunctionFolder

Say = Callable[[str], None]

LAYERS: Final = {
    2: ("base", "program"),
    3: ("base", "dependencies", "function"),
    4: ("base", "dependencies", "git", "function"),
}
"""What the layers of our images are called, by their number."""


@dataclass(frozen=True, slots=True)
class Came:
    """How images came to containerd, or did not."""

    imported: tuple[str, ...]
    left_in: Path | None
    """The archive, where no cluster runs."""
    travelled: int
    """Bytes of layers in the archive that was imported."""


def _quiet(_: str) -> None:
    return


def ensure(fn_paths: Sequence[str] = (), say: Say = _quiet) -> dict[str, str]:
    """Build the images of functions and import those that containerd does not have.

    Args:
        fn_paths: folders, e.g. `detect/crash`; all functions where none is named.
        say: gets a line for each image and one for the import.

    Returns:
        Function name → image reference, e.g. `detect-crash` → `localhost/quietpager/detect-crash:…`.

    Raises:
        SystemExit: a program, a package or a function is missing; the text says which.
    """
    begun = time.monotonic()
    functions = find(fn_paths)
    below = (base_layer(), dependency_layer(ROOT / "requirements"))
    images = [function_image(one, (*below, *program_layers(one))) for one in functions]
    _say_images(images, begun, say)
    bring(images, layout.IMAGES / "functions.tar", say)
    return {one.name: image.reference for one, image in zip(functions, images, strict=True)}


def program_layers(function: FunctionFolder) -> list[Layer]:
    """Give the layers of the programs that a function calls; SystemExit where there is none for one."""
    if unknown := set(function.programs) - {PROGRAM}:
        raise SystemExit(f"{function.name} wants {', '.join(sorted(unknown))}; images have {PROGRAM} only.")
    return [git_layer() for _ in function.programs]


def ensure_postgres(say: Say = _quiet) -> str:
    """Build the image of PostgreSQL, import it if containerd does not have it, and name it."""
    return _ensure_program("postgres", postgres_image, say)


def ensure_dynoxide(say: Say = _quiet) -> str:
    """The same with dynoxide, a DynamoDB."""
    return _ensure_program("dynoxide", dynoxide_image, say)


def _ensure_program(name: str, make: Callable[[Layer], Image], say: Say) -> str:
    begun = time.monotonic()
    image = make(base_layer())
    _say_images([image], begun, say)
    bring([image], layout.IMAGES / f"{name}.tar", say)
    return image.reference


def bring(images: Sequence[Image], archive: Path, say: Say = _quiet) -> Came:
    """Import images, carrying only the layers that containerd does not have.

    Where no cluster runs here, a whole archive stays at `archive`, to be imported by whoever starts
    one.
    """
    if not containerd.running():
        write_images(images, archive)
        say(f"No cluster runs here: left {len(images)} images in {archive}.")
        return Came((), archive, 0)
    begun = time.monotonic()
    there = containerd.images()
    missing = [one for one in images if there.get(one.reference) != sha256(one.manifest()).hexdigest()]
    travelled = 0
    if missing:
        known = containerd.blobs()
        part = archive.with_name(f"new-{archive.name}")
        try:
            travelled = _carry([_delta(image, known) for image in missing], part)
        except Failed:
            # A layer may have been collected since we looked.
            travelled = _carry(missing, part)
        finally:
            part.unlink(missing_ok=True)
    seconds = time.monotonic() - begun
    say(
        f"Imported {len(missing)} images ({travelled / 1e6:.1f} MB of layers) in {seconds:.2f} s;"
        f" {len(images) - len(missing)} were there."
    )
    return Came(tuple(image.reference for image in missing), None, travelled)


def _say_images(images: Sequence[Image], begun: float, say: Say) -> None:
    """Say name and sizes of each image, and how long all took."""
    for image in images:
        names = LAYERS.get(len(image.layers), ())
        sizes = ", ".join(
            f"{name} {layer.size / 1e6:.2f} MB" for name, layer in zip(names, image.layers, strict=False)
        )
        say(f"{image.reference}  {sizes}")
    say(f"Built {len(images)} images in {time.monotonic() - begun:.2f} s.")


def _delta(image: Image, known: frozenset[str]) -> Image:
    layers = (layer.left_out() if layer.digest in known else layer for layer in image.layers)
    return replace(image, layers=tuple(layers))


def _carry(images: Sequence[Image], archive: Path) -> int:
    write_images(images, archive)
    containerd.import_archive(archive)
    carried = {layer.digest: layer.size for one in images for layer in one.layers if layer.data is not None}
    return sum(carried.values())
