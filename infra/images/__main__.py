"""`python -m infra.images [FN ...]`: build and import images, e.g. of detect/crash.

Without a name: of all functions, and of PostgreSQL.
"""

import sys

from infra.images.build import ensure, ensure_postgres


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(names: list[str]) -> None:
    """Build what is named, or everything."""
    if {"-h", "--help"} & set(names):
        _say(str(__doc__))
        return
    ensure(names, _say)
    if not names:
        ensure_postgres(_say)


if __name__ == "__main__":
    main(sys.argv[1:])
