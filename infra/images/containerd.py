"""What containerd has, and how it gets more: `ctr` on the test bed's socket.

Who calls it: `build`, the test bed and the deploy code. Kubernetes looks for images in containerd's
namespace `k8s.io` (the CRI plugin's constant).
"""

import socket
from pathlib import Path
from typing import Final

from infra.images.shell import Failed, output
from infra.testbed import layout

NAMESPACE: Final = "k8s.io"


def running() -> bool:
    """Tell whether containerd answers at its socket."""
    with socket.socket(socket.AF_UNIX) as line:
        return line.connect_ex(str(layout.CONTAINERD_SOCKET)) == 0


def import_archive(archive: Path) -> None:
    """Import an archive; its images can be started when this returns.

    Raises:
        Failed: containerd does not run, or a layer that was left out of the archive is not there.
    """
    try:
        _ctr("images", "import", str(archive))
    except Failed as no:
        raise Failed(f"containerd did not take {archive.name}. {no}") from None


def present(reference: str) -> bool:
    """Tell whether there is an image of this name."""
    return reference in images()


def images() -> dict[str, str]:
    """List all images: name → hex digest of the manifest."""
    return read_table(_ctr("images", "list"))


def read_table(text: str) -> dict[str, str]:
    """Read what `ctr images list` prints: a line of titles, then name, type, digest and more."""
    rows = (line.split() for line in text.splitlines()[1:])
    return {row[0]: row[2].partition(":")[2] for row in rows}


def blobs() -> frozenset[str]:
    """List the hex digests of all that is in the content store."""
    found = (line.partition(":") for line in _ctr("content", "list", "-q").split())
    return frozenset(name for _, _, name in found)


def _ctr(*arguments: str) -> str:
    return output(["ctr", "-a", str(layout.CONTAINERD_SOCKET), "-n", NAMESPACE, *arguments])
