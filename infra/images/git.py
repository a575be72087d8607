"""The layer with Debian's `git`, for functions that say they need the executable.

Who calls it: `build`. Enough to clone, commit and push over https; no ssh, no hooks' shell, no Perl scripts.
"""

import shutil
from pathlib import Path
from typing import Final

from infra.images import debian
from infra.images.kept import kept_layer
from infra.images.oci import Layer, tree_layer

PROGRAM: Final = "git"
"""What a func.yaml's annotation calls it."""

PACKAGES: Final = (
    "git",
    "libbrotli1",
    "libcom-err2",
    "libcurl3-gnutls",
    "libdb5.3",
    "libgmp10",
    "libgnutls30",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "libnettle8",
    "libnghttp2-14",
    "libp11-kit0",
    "libpcre2-8-0",
    "libpsl5",
    "librtmp1",
    "libsasl2-2",
    "libssh2-1",
    "libtasn1-6",
    "libunistring2",
    "libzstd1",
)
"""Git, and what its https helper links to beyond the Python base (Debian 12)."""

KEPT: Final = ("usr/bin/git", "usr/lib/git-core/git-remote-http", "usr/share/git-core/templates")
"""Beside the libraries. Everything else of Git is built into the one executable, or needs a shell or Perl."""
LIBRARIES: Final = "usr/lib/x86_64-linux-gnu"


def git_layer() -> Layer:
    """Give the layer, made from Debian packages if it is not there yet."""
    return kept_layer("git", Path(__file__).name, PACKAGES, _make)


def _make(root: Path, file: Path) -> Layer:
    whole, kept = root / "whole", root / "kept"
    debian.unpack(PACKAGES, whole)
    for path in KEPT:
        _take(whole / path, kept / path)
    for one in (whole / LIBRARIES).iterdir():
        # Plug-ins stand in folders of their own; none is asked for.
        if one.is_symlink() or one.is_file():
            _take(one, kept / LIBRARIES / one.name)
    core = kept / "usr/lib/git-core"
    (core / "git-remote-https").symlink_to("git-remote-http")
    (core / "git").symlink_to("../../bin/git")
    return tree_layer(kept, file=file)


def _take(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    else:
        shutil.copy2(source, target, follow_symlinks=False)
