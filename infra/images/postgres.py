"""The image of PostgreSQL 15 for the test bed, from Debian's packages, on the Python base.

Who calls it: `build`. One layer holds the server, the libraries it links to and a busybox (initdb
needs a shell); the base below has the C library, OpenSSL and the time zones.

How it is run:

    user 1001:1001; a read-only root file system; volumes (or emptyDirs) at /data and /tmp
    POSTGRES_PASSWORD             the password of the role `quietpager`, set when the data are made
    POSTGRES_FUNCTIONS_PASSWORD   that of the role `quietpager_functions`
    postgresql://quietpager:PASSWORD@HOST:5432/quietpager

The first owns the database and is no superuser, the other is the functions' (docs/audit.md). The
superuser `postgres` comes in only through the socket in /tmp, so only from inside the container.
"""

import shutil
from pathlib import Path
from typing import Final

from infra.images import debian
from infra.images.kept import kept_layer
from infra.images.oci import Image, Json, Layer, tree_layer
from infra.images.shell import output

REFERENCE: Final = "localhost/quietpager/postgres:15"

PACKAGES: Final = (
    "busybox-static",
    "libaudit1",
    "libcap-ng0",
    "libcap2",
    "libcom-err2",
    "libgcrypt20",
    "libgmp10",
    "libgnutls30",
    "libgpg-error0",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libicu72",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblz4-1",
    "libnettle8",
    "libp11-kit0",
    "libpam0g",
    "libpq5",
    "libsasl2-2",
    "libsystemd0",
    "libtasn1-6",
    "libunistring2",
    "libxml2",
    "libzstd1",
    "postgresql-15",
    "postgresql-client-15",
)
"""The server, its clients, and what both link to beyond the base; no JIT, no procedural languages."""

UNUSED: Final = (
    "etc",
    "lib/systemd",
    "usr/lib/postgresql/15/lib/bitcode",
    "usr/lib/postgresql/15/lib/llvmjit.so",
    "usr/lib/postgresql/15/lib/llvmjit_types.bc",
    "usr/lib/postgresql/15/lib/pgxs",
    "usr/sbin",
    "usr/share/bug",
    "usr/share/doc",
    "usr/share/initramfs-tools",
    "usr/share/lintian",
    "usr/share/locale",
    "usr/share/man",
    "usr/share/pam",
    "usr/share/pam-configs",
    "usr/share/postgresql/15/man",
    "usr/share/postgresql-common",
    "var",
)

USERS: Final = (
    "root:x:0:0:root:/root:/bin/sh\nfunc:x:1000:1000::/func:/bin/false\npostgres:x:1001:1001::/tmp:/bin/sh\n"
)
GROUPS: Final = "root:x:0:\nfunc:x:1000:\npostgres:x:1001:\n"

ENTRY: Final = Path(__file__).with_name("postgres_entry.py")

CONFIG: Final[Json] = {
    "Entrypoint": ["python3", "-P", "/entry/main.py"],
    "Env": ["LANG=C", "PATH=/usr/lib/postgresql/15/bin:/usr/bin", "PYTHONDONTWRITEBYTECODE=1"],
    "ExposedPorts": {"5432/tcp": {}},
    # PostgreSQL's fast shutdown: the usual SIGTERM waits for clients, and ours keep their connections.
    "StopSignal": "SIGINT",
    "User": "1001:1001",
    "WorkingDir": "/data",
}


def postgres_image(base: Layer) -> Image:
    """Make the image on top of the Python base."""
    return Image(REFERENCE, (base, postgres_layer()), CONFIG)


def postgres_layer() -> Layer:
    """Give the layer with PostgreSQL, made from Debian packages if it is not there yet."""
    return kept_layer("postgres", Path(__file__).name, ENTRY.read_text(encoding="utf-8"), _make)


def _make(root: Path, file: Path) -> Layer:
    debian.unpack(PACKAGES, root)
    for path in UNUSED:
        where = root / path
        if where.is_dir() and not where.is_symlink():
            shutil.rmtree(where)
        else:
            where.unlink(missing_ok=True)
    files = {
        "etc/passwd": USERS,
        "etc/group": GROUPS,
        "entry/main.py": ENTRY.read_text(encoding="utf-8"),
    }
    for path, text in files.items():
        (root / path).parent.mkdir(exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    (root / "data").mkdir()
    for applet in output([str(root / "usr/bin/busybox"), "--list"]).split():
        link = root / "usr" / "bin" / applet
        if not link.exists():
            link.symlink_to("busybox")
    return tree_layer(root, file=file)
