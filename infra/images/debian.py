"""Unpacks Debian packages into a folder, without installing them and without being root.

Who calls it: the Python base and PostgreSQL. Wanted on the machine: `apt-get` with package lists
(`apt-get update`), `dpkg-deb` and `tar`. No maintainer script runs, so whoever calls this makes
what the scripts would have made.
"""

import subprocess
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from infra.images.shell import Failed, need, output
from infra.testbed import layout

MERGED = ("bin", "lib", "lib64", "sbin")
"""Folders that are links into `usr` since Debian 12; packages still name both."""


def unpack(packages: Sequence[str], root: Path) -> None:
    """Unpack the named packages, in the newest version that the machine's apt knows, into a folder.

    Raises:
        SystemExit: a program or a package is missing; the text says what to do.
    """
    need("apt-get", "dpkg-deb", "tar")
    for folder in MERGED:
        (root / "usr" / folder).mkdir(parents=True, exist_ok=True)
        if not (root / folder).is_symlink():
            (root / folder).symlink_to(f"usr/{folder}")
    for file in download(packages):
        _unpack_one(file, root)


def download(packages: Sequence[str]) -> list[Path]:
    """Fetch the packages' files; apt fetches only what is not there yet."""
    folder = layout.BASE / "debian"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with TemporaryDirectory() as empty:  # apt names only files that it would have to fetch
            uris = output(["apt-get", "download", "--print-uris", "-qq", *packages], cwd=Path(empty))
        output(["apt-get", "download", "-q", *packages], cwd=folder)
    except Failed as no:
        raise Failed(f"{no}\nThe package lists may be old or missing: run `apt-get update`.") from None
    return sorted(folder / line.split()[1] for line in uris.splitlines())


def _unpack_one(file: Path, root: Path) -> None:
    if not file.exists():
        raise SystemExit(f"apt-get did not fetch {file.name}; look at what `apt-get download` says.")
    source = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", file], stdout=subprocess.PIPE)
    # Owners do not matter: a layer belongs to root, whoever made it.
    into = ["tar", "-x", "--no-same-owner", "--keep-directory-symlink", "-C", str(root)]
    with source:
        subprocess.run(into, stdin=source.stdout, check=True)
    if source.returncode:
        raise SystemExit(f"{file} is no whole Debian package: delete it and build again.")
