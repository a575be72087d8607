"""Finding the function folders: the product's own and those of a user, below one or more roots.

    ROOT/<stage>/<name>/rule.yaml        the place of this function is `<stage>/<name>`

Who calls it: whoever reads rules, actions or func.yaml files; the loader of function code.
"""

from collections.abc import Sequence
from pathlib import Path

Roots = Path | Sequence[Path]
"""One folder of functions, or several that count together."""


def roots_of(where: Roots) -> tuple[Path, ...]:
    """Give the roots as a tuple."""
    return (where,) if isinstance(where, Path) else tuple(where)


def place_of(path: Path) -> str:
    """Give the place of the function that a file belongs to, e.g. `detect/crash`."""
    return "/".join(path.parts[-3:-1])


def find(where: Roots, name: str, place: str = "*/*") -> list[Path]:
    """Find the files of one name in function folders, in the order of their places.

    Args:
        where: one root or more.
        name: the file's name, e.g. `rule.yaml`.
        place: which functions; `*` stands for any stage or name.

    Raises:
        ValueError: two roots have a function of the same place; which of them counts nobody could tell.
    """
    found: dict[str, Path] = {}
    for root in roots_of(where):
        for path in sorted(root.glob(f"{place}/{name}")):
            other = found.setdefault(place_of(path), path)
            if other != path:
                raise ValueError(
                    f"Two folders are the function {place_of(path)}: {other.parent} and {path.parent}. "
                    "Rename one of them, or take its folder out of QUIETPAGER_FUNCTIONS."
                )
    return [found[key] for key in sorted(found)]
