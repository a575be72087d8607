"""`python -m infra.func [FN ...]`: assemble functions for Knative's `func`, e.g. detect/crash, in build/.

Without a name: all functions.
"""

import sys
from pathlib import Path

from infra.func.project import write
from infra.images.function import ROOT, find
from quietpager.render import DEFAULTS


def main(names: list[str], into: Path = ROOT / "build") -> None:
    """Assemble what is named, or everything."""
    if {"-h", "--help"} & set(names):
        sys.stdout.write(f"{__doc__}\n")
        return
    for folder in find(names):
        place = write(folder, into / folder.name, DEFAULTS)
        sys.stdout.write(f"{place.relative_to(into.parent)}: `func deploy --builder host` from there\n")


if __name__ == "__main__":
    main(sys.argv[1:])
