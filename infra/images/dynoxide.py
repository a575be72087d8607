"""The image of dynoxide, a DynamoDB for the test bed; `make dynamodb` builds the program.

Who calls it: `make deploy ARGS="--store dynamodb"`.
"""

from pathlib import Path
from typing import Final

from infra.images.oci import File, Image, Json, Layer, files_layer
from quietpager.local import dynoxide

REFERENCE: Final = f"localhost/quietpager/dynoxide:{dynoxide.VERSION}"
PORT: Final = 8000
CONFIG: Final[Json] = {
    "Entrypoint": [
        "/usr/bin/dynoxide", "serve", "--host", "0.0.0.0", "--port", str(PORT),  # noqa: S104 (inside a pod)
        "--db-path", "/data/dynoxide.db",
    ],
    "ExposedPorts": {f"{PORT}/tcp": {}},
    "User": "1000:1000",
    "WorkingDir": "/data",
}  # fmt: skip


def dynoxide_image(base: Layer) -> Image:
    """Make the image on top of the Python base, which has the C library that it needs.

    Raises:
        SystemExit: the program is not there.
    """
    program = dynoxide.find()
    if program is None:
        raise SystemExit(dynoxide.MISSING)
    binary = File(Path(program).read_bytes(), executable=True)
    return Image(REFERENCE, (base, files_layer({"usr/bin/dynoxide": binary}, folders=["data"])), CONFIG)
