"""`make dynamodb` builds dynoxide from its crate, once, below the cache folder.

The crate's own lock file pins what it is built from. Two minutes on two cores. How it is found and served:
`quietpager.local.dynoxide`.
"""

import shutil
import subprocess

from quietpager.local.dynoxide import HOME, VERSION, find


def build() -> str:
    """Build it, unless it is there; gives its path.

    Raises:
        SystemExit: there is no cargo, or it fails.
    """
    found = find()
    if found is not None:
        return found
    cargo = shutil.which("cargo")
    if cargo is None:
        raise SystemExit(
            "There is no `cargo` here: install Rust 1.88 or newer. Until then the tests use moto, which "
            "takes one request at a time."
        )
    done = subprocess.run(
        [
            cargo, "install", "dynoxide-rs", "--version", f"={VERSION}", "--locked", "--root", str(HOME),
            "--no-default-features", "--features", "native-sqlite,http-server,cli", "--quiet",
        ], check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(
            f"cargo could not build dynoxide {VERSION} (it needs Rust 1.88 or newer); see what it says above."
        )
    return str(HOME / "bin" / "dynoxide")
