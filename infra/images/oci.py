"""Writes layers and image archives: same content, same digest, byte for byte.

Who calls it: everything else in this package, and the test bed for its static Go programs.

A layer is an uncompressed tar: nothing is gained by compressing what never leaves the machine, and
its digest is then also its diff id. An archive is an OCI image layout in a tar (image-spec v1.0,
`image-layout.md`), with the name of each image in the annotation `io.containerd.image.name`, where
containerd's import looks for it (containerd 1.6, `images/annotations.go`).

A layer whose `data` is None is named in the manifest but not carried. containerd takes it from its
content store, which keeps a layer's blob as long as an image refers to it; so a change of a
function travels as some kilobytes.
"""

import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import file_digest, sha256
from pathlib import Path
from shutil import copyfileobj
from typing import Any, Final

from infra.images.shell import output
from infra.testbed import layout

Json = dict[str, Any]

CREATED: Final = "1970-01-01T00:00:00Z"
"""The creation time of every image: a real one would change its digest."""
NONROOT: Final = "65532:65532"
"""User and group of images that need no particular one (the number that `ko` and distroless use)."""
PASSWD: Final = b"root:x:0:0:root:/root:/bin/sh\nnonroot:x:65532:65532::/tmp:/bin/false\n"
GROUP: Final = b"root:x:0:\nnonroot:x:65532:\n"
STICKY: Final = frozenset({"tmp", "var/tmp"})
"""Folders that anybody may write to."""

_MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
_CONFIG: Final = "application/vnd.oci.image.config.v1+json"
_LAYER: Final = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer: its SHA-256 in hex, its size in bytes, and where its tar is.

    `data` is the tar itself, a file that holds it (large layers), or None where containerd has it.
    """

    digest: str
    size: int
    data: bytes | Path | None = field(repr=False)

    def left_out(self) -> "Layer":
        """Give the same layer for an archive that does not carry it."""
        return replace(self, data=None)


@dataclass(frozen=True, slots=True)
class File:
    """One file of a layer."""

    data: bytes
    executable: bool = False


@dataclass(frozen=True, slots=True)
class Image:
    """One image under one name. `config` is what a container gets: `Entrypoint`, `User`, `Env`, ..."""

    reference: str
    layers: tuple[Layer, ...]
    config: Json

    def config_file(self) -> bytes:
        """Give the image's configuration file; its digest is the image's identity."""
        return _json(
            {
                "architecture": "amd64",
                "os": "linux",
                "created": CREATED,
                "config": self.config,
                "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer.digest}" for layer in self.layers]},
                "history": [{"created": CREATED, "created_by": "infra.images"} for _ in self.layers],
            }
        )

    def manifest(self) -> bytes:
        """Give the image's manifest; its digest is what containerd has under the image's name."""
        config = self.config_file()
        return _json(
            {
                "schemaVersion": 2,
                "mediaType": _MANIFEST,
                "config": {"mediaType": _CONFIG, **_descriptor(config)},
                "layers": [
                    {"mediaType": _LAYER, "digest": f"sha256:{layer.digest}", "size": layer.size}
                    for layer in self.layers
                ],
            }
        )


def image_digest(layers: Sequence[Layer], config: Json) -> str:
    """Give the hex digest of an image's configuration: all its content, but not its name."""
    return sha256(Image("", tuple(layers), config).config_file()).hexdigest()


def _keep_all(_: str) -> bool:
    return False


def tree_layer(
    root: Path, prefix: str = "", skip: Callable[[str], bool] = _keep_all, file: Path | None = None
) -> Layer:
    """Make a layer of a folder.

    Owners, times and the umask of whoever made the folder are left out: files are 0644 or 0755,
    folders 0755 (1777 for `tmp`), all of root and of 1970.

    Args:
        root: the folder; symbolic links are kept as they are.
        prefix: where it goes in the image, without a leading slash.
        skip: asked for each path relative to `root`; a folder that is skipped is not entered.
        file: write the tar here rather than keep it in memory.
    """
    entries = sorted(_walk(root, "", skip))
    return _layer(_tree_entries(root, prefix, entries), file)


def files_layer(
    files: Mapping[str, bytes | File], folders: Iterable[str] = (), links: Mapping[str, str] | None = None
) -> Layer:
    """Make a layer of files in memory; parent folders are added.

    Args:
        files: path in the image, without a leading slash → content.
        folders: further folders, which may stay empty.
        links: path in the image → where the symbolic link points to.
    """
    links = links or {}
    parents = {up for path in (*files, *folders, *links) for up in _parents(path)}
    entries: dict[str, tuple[tarfile.TarInfo, bytes]] = {
        path: (_folder(path), b"") for path in parents | set(folders)
    }
    for path, given in files.items():
        one = given if isinstance(given, File) else File(given)
        entries[path] = (_file(path, len(one.data), executable=one.executable), one.data)
    entries |= {path: (_link(path, target), b"") for path, target in links.items()}
    return _layer(((info, io.BytesIO(data)) for _, (info, data) in sorted(entries.items())), None)


def write_image(reference: str, layers: Sequence[Layer], config: Json, archive: Path) -> None:
    """Write an archive of one image; see `write_images`."""
    write_images([Image(reference, tuple(layers), config)], archive)


def write_images(images: Sequence[Image], archive: Path) -> None:
    """Write an OCI archive of some images; a blob that several share is in it once.

    The file appears under its name only when it is complete. Layers without data are left out.
    """
    blobs: dict[str, bytes | Path] = {}
    manifests = []
    for image in images:
        for layer in image.layers:
            if layer.data is not None:
                blobs[layer.digest] = layer.data
        manifest = image.manifest()
        for data in (image.config_file(), manifest):
            blobs[sha256(data).hexdigest()] = data
        name = {"io.containerd.image.name": image.reference}
        manifests.append({"mediaType": _MANIFEST, **_descriptor(manifest), "annotations": name})
    index = _json({"schemaVersion": 2, "manifests": manifests})
    archive.parent.mkdir(parents=True, exist_ok=True)
    part = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        with part.open("wb") as out:
            _write_tar(_archive_entries(blobs, index), out)
        part.replace(archive)
    finally:
        part.unlink(missing_ok=True)


def one_file(
    reference: str,
    binary: Path,
    archive: Path,
    user: str = NONROOT,
    extra: Mapping[str, bytes | File] | None = None,
    config: Json | None = None,
) -> None:
    """Write the image of one static program: `/ko-app/<name>`, as `ko` would place it.

    Args:
        reference: the image's name.
        binary: the program; must need no shared library.
        archive: where the archive is written.
        user: `uid:gid` that it runs as.
        extra: further files, path → content (certificates, static files).
        config: further fields of the image's configuration; they win over ours.
    """
    name = f"ko-app/{binary.name}"
    files = {
        name: File(binary.read_bytes(), executable=True),
        "etc/passwd": PASSWD,
        "etc/group": GROUP,
        **(extra or {}),
    }
    layer = files_layer(files, folders=["tmp", "var/run"])
    basic = {"Entrypoint": [f"/{name}"], "User": user, "Env": ["PATH=/ko-app"], "WorkingDir": "/"}
    write_image(reference, [layer], {**basic, **(config or {})}, archive)


def busybox(archive: Path, binary: Path = Path("/bin/busybox"), applets: Iterable[str] = ()) -> None:
    """Write `localhost/busybox:1` and `:2` (the same image, for rollouts) from Debian's busybox-static.

    Args:
        archive: where the archive is written.
        binary: a static busybox.
        applets: the names it answers to; all that it lists itself where none is given.
    """
    layer = busybox_layer(binary, applets)
    config = {"Cmd": ["sh"], "Env": ["PATH=/bin"], "WorkingDir": "/"}
    write_images([Image(f"localhost/busybox:{tag}", (layer,), config) for tag in (1, 2)], archive)


def busybox_layer(binary: Path, applets: Iterable[str] = ()) -> Layer:
    """Make the only layer of `busybox`."""
    if not binary.exists():
        raise SystemExit(f"There is no {binary}: install the Debian package busybox-static.")
    names = sorted(set(applets or output([str(binary), "--list"]).split()) - {"busybox"})
    files: dict[str, bytes | File] = {
        "bin/busybox": File(binary.read_bytes(), executable=True),
        "etc/passwd": PASSWD,
        "etc/group": GROUP,
    }
    folders = ["dev", "proc", "root", "sys", "tmp", "var"]
    return files_layer(files, folders, {f"bin/{name}": "busybox" for name in names})


def pause(archive: Path, binary: Path = layout.BIN / "pause") -> None:
    """Write `localhost/pause:1`, the container that holds a pod's namespaces."""
    layer = files_layer({"pause": File(binary.read_bytes(), executable=True)})
    write_image("localhost/pause:1", [layer], {"Entrypoint": ["/pause"], "User": "65535:65535"}, archive)


def read_layer(layer: Layer) -> Iterator[tuple[tarfile.TarInfo, bytes]]:
    """Give every entry of a layer, with the content of the files.

    Raises:
        ValueError: its data were left out.
    """
    if layer.data is None:
        raise ValueError(f"Layer {layer.digest} carries no data: it was left out of an archive.")
    source = io.BytesIO(layer.data) if isinstance(layer.data, bytes) else layer.data.open("rb")
    with source, tarfile.open(fileobj=source) as tar:
        for info in tar:
            content = tar.extractfile(info) if info.isfile() else None
            yield info, content.read() if content else b""


def _walk(root: Path, under: str, skip: Callable[[str], bool]) -> Iterator[str]:
    for entry in os.scandir(root / under):
        path = f"{under}/{entry.name}" if under else entry.name
        if skip(path):
            continue
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, path, skip)


def _tree_entries(
    root: Path, prefix: str, paths: Iterable[str]
) -> Iterator[tuple[tarfile.TarInfo, io.BufferedIOBase]]:
    for up in (*_parents(prefix), prefix) if prefix else ():
        yield _folder(up), io.BytesIO()
    for path in paths:
        source, name = root / path, f"{prefix}/{path}" if prefix else path
        mode = source.lstat().st_mode
        if stat.S_ISLNK(mode):
            yield _link(name, str(source.readlink())), io.BytesIO()
        elif stat.S_ISDIR(mode):
            yield _folder(name), io.BytesIO()
        elif stat.S_ISREG(mode):
            with source.open("rb") as content:
                yield _file(name, source.stat().st_size, executable=bool(mode & 0o111)), content
        else:
            raise ValueError(f"{source} is no file, folder or link; a layer can only hold these.")


def _archive_entries(
    blobs: Mapping[str, bytes | Path], index: bytes
) -> Iterator[tuple[tarfile.TarInfo, io.BufferedIOBase]]:
    version = _json({"imageLayoutVersion": "1.0.0"})
    yield _file("oci-layout", len(version)), io.BytesIO(version)
    yield _file("index.json", len(index)), io.BytesIO(index)
    for name, data in sorted(blobs.items()):
        where = f"blobs/sha256/{name}"
        if isinstance(data, bytes):
            yield _file(where, len(data)), io.BytesIO(data)
        else:
            with data.open("rb") as content:
                yield _file(where, data.stat().st_size), content


def _layer(entries: Iterable[tuple[tarfile.TarInfo, io.BufferedIOBase]], file: Path | None) -> Layer:
    if file is None:
        out = io.BytesIO()
        _write_tar(entries, out)
        data = out.getvalue()
        return Layer(sha256(data).hexdigest(), len(data), data)
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w+b") as target:
        _write_tar(entries, target)
        size = target.tell()
        target.seek(0)
        return Layer(file_digest(target, "sha256").hexdigest(), size, file)


def _write_tar(entries: Iterable[tuple[tarfile.TarInfo, io.BufferedIOBase]], out: Any) -> None:
    # Written entry by entry and never with tarfile.add: that would look owners and times up.
    for info, content in entries:
        out.write(info.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape"))
        copyfileobj(content, out, 1 << 20)
        out.write(bytes(-info.size % tarfile.BLOCKSIZE))
    out.write(bytes(2 * tarfile.BLOCKSIZE))


def _parents(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[:n]) for n in range(1, len(parts))]


def _file(path: str, size: int, *, executable: bool = False) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.size, info.mode = size, 0o755 if executable else 0o644
    return info


def _folder(path: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.mode = tarfile.DIRTYPE, 0o1777 if path in STICKY else 0o755
    return info


def _link(path: str, target: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type, info.mode, info.linkname = tarfile.SYMTYPE, 0o777, target
    return info


def _descriptor(data: bytes) -> Json:
    return {"digest": f"sha256:{sha256(data).hexdigest()}", "size": len(data)}


def _json(value: Json) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
