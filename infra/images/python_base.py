"""The lowest layer of every image with Python or PostgreSQL: Debian's Python 3.11 and its libraries.

Who calls it: `function` and `postgres`. It holds no shell, no package manager and no pip. It is kept
in `layout.BASE` (see `kept`). Where a package or a program is missing, the sentence of `debian` or
`shell` says which.
"""

import shutil
from pathlib import Path
from typing import Final

from infra.images import bytecode, debian
from infra.images.kept import kept_layer
from infra.images.oci import Layer, tree_layer

PACKAGES: Final = (
    "ca-certificates",
    "libbz2-1.0",
    "libc6",
    "libcrypt1",
    "libexpat1",
    "libffi8",
    "libgcc-s1",
    "liblzma5",
    "libpython3.11-minimal",
    "libpython3.11-stdlib",
    "libssl3",
    "libstdc++6",
    "libuuid1",
    "media-types",
    "netbase",
    "python3.11-minimal",
    "tzdata",
    "zlib1g",
)
"""Python, what its extension modules link to, certificates, time zones, names of ports and media."""

UNUSED: Final = (
    "etc/python3.11",
    "usr/games",
    "usr/lib/python3.11/EXTERNALLY-MANAGED",
    "usr/lib/python3.11/ensurepip",
    "usr/lib/python3.11/idlelib",
    "usr/lib/python3.11/lib2to3",
    "usr/lib/python3.11/pydoc_data",
    "usr/lib/python3.11/sitecustomize.py",
    "usr/lib/python3.11/test",
    "usr/lib/python3.11/tkinter",
    "usr/lib/python3.11/turtledemo",
    "usr/lib/x86_64-linux-gnu/audit",
    "usr/lib/x86_64-linux-gnu/gconv",
    "usr/lib/x86_64-linux-gnu/perl-base",
    "usr/sbin",
    "usr/share/bash-completion",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/gcc",
    "usr/share/gdb",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/zoneinfo/posix",
    "usr/share/zoneinfo/right",
    "var",
)
"""What nobody asks for at run time, or what a read-only container cannot use."""

UNLINKED: Final = (
    "_crypt",
    "_curses",
    "_curses_panel",
    "_dbm",
    "_gdbm",
    "_sqlite3",
    "_tkinter",
    "nis",
    "readline",
)
"""Extension modules whose libraries are not in PACKAGES."""

USERS: Final = "root:x:0:0:root:/root:/bin/false\nfunc:x:1000:1000::/func:/bin/false\n"
GROUPS: Final = "root:x:0:\nfunc:x:1000:\n"
# Without it the C library asks the DNS before /etc/hosts; usually base-files' script makes it.
NSSWITCH: Final = "passwd: files\ngroup: files\nhosts: files dns\n"


def base_layer() -> Layer:
    """Give the base layer, made from Debian packages if it is not there yet."""
    return kept_layer("python-base", Path(__file__).name, [], _make)


def _make(root: Path, file: Path) -> Layer:
    debian.unpack(PACKAGES, root)
    trim(root)
    (root / "etc").mkdir(exist_ok=True)
    (root / "etc" / "passwd").write_text(USERS, encoding="utf-8")
    (root / "etc" / "group").write_text(GROUPS, encoding="utf-8")
    (root / "etc" / "nsswitch.conf").write_text(NSSWITCH, encoding="utf-8")
    for name in ("python3", "python"):
        (root / "usr" / "bin" / name).symlink_to("python3.11")
    _trust(root)
    for folder in ("dev", "func", "proc", "root", "sys", "tmp", "var/run"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    bytecode.compile_tree(root, "usr/lib/python3.11")
    if missing := bytecode.uncompiled(root):
        raise SystemExit(f"The standard library has files without bytecode: {', '.join(missing[:10])}.")
    return tree_layer(root, file=file)


def trim(root: Path) -> None:
    """Delete what nobody asks for at run time."""
    for path in UNUSED:
        where = root / path
        if where.is_dir():
            shutil.rmtree(where)
        else:
            where.unlink(missing_ok=True)
    modules = root / "usr" / "lib" / "python3.11" / "lib-dynload"
    for name in UNLINKED:
        for module in modules.glob(f"{name}.cpython-*"):
            module.unlink()


def _trust(root: Path) -> None:
    """Make what the scripts of ca-certificates and openssl make: one bundle where OpenSSL looks."""
    source = root / "usr" / "share" / "ca-certificates"
    bundle = b"".join(one.read_bytes() for one in sorted(source.rglob("*.crt")))
    certificates = root / "etc" / "ssl" / "certs" / "ca-certificates.crt"
    certificates.parent.mkdir(parents=True, exist_ok=True)
    certificates.write_bytes(bundle)
    shutil.rmtree(source)
    library = root / "usr" / "lib" / "ssl"
    library.mkdir(exist_ok=True)
    (library / "certs").symlink_to("/etc/ssl/certs")
    (library / "cert.pem").symlink_to("/etc/ssl/certs/ca-certificates.crt")
