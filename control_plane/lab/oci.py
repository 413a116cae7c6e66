"""Image archives, the same to the byte wherever and whenever they are written.

An archive is an OCI image layout that also carries the `manifest.json` of `docker save`: containerd, Docker
and Podman load it without a registry. The layer is not compressed: what is loaded on the same machine
gains nothing by it, and no compressor's version can change a digest.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import msgspec

TIME_S = 315_532_800
"""Every file of an image is of 1980-01-01, the first day that zip files know too."""
_CREATED = "1980-01-01T00:00:00Z"
_COPY_BYTES = 1024 * 1024
_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_CONFIG = "application/vnd.oci.image.config.v1+json"
_LAYER = "application/vnd.oci.image.layer.v1.tar"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One path of an image."""

    kind: bytes
    """As `tarfile` has it: REGTYPE, DIRTYPE, SYMTYPE, LNKTYPE."""
    mode: int
    uid: int = 0
    gid: int = 0
    content: Path | bytes = b""
    link: str = ""
    """What a symbolic or a hard link names."""


class Config(msgspec.Struct, frozen=True, kw_only=True):
    """How a container of the image is run where its user says nothing else."""

    entrypoint: tuple[str, ...]
    environment: tuple[str, ...] = (
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    )
    user: str = ""
    """`uid:gid`; empty: root."""
    folder: str = "/"
    labels: Mapping[str, str] = {}
    architecture: str = "amd64"


def folder(mode: int = 0o755) -> Entry:
    """An empty folder of root."""
    return Entry(kind=tarfile.DIRTYPE, mode=mode)


def file(content: Path | bytes, mode: int = 0o644) -> Entry:
    """A file of root."""
    return Entry(kind=tarfile.REGTYPE, mode=mode, content=content)


def tree(root: Path, leave_out: Callable[[str], bool] = lambda _path: False) -> dict[str, Entry]:
    """Everything below a folder, owners and hard links included, by its path from there.

    Sockets and devices are no part of an image. `leave_out` sees each path; a folder that is left out is
    not entered.
    """
    found: dict[str, Entry] = {}
    first: dict[tuple[int, int], str] = {}
    for path in _walk(root, "", leave_out):
        place = root / path
        seen = place.lstat()
        kind, content, link = tarfile.REGTYPE, b"", ""
        if stat.S_ISDIR(seen.st_mode):
            kind = tarfile.DIRTYPE
        elif stat.S_ISLNK(seen.st_mode):
            kind, link = tarfile.SYMTYPE, str(place.readlink())
        elif not stat.S_ISREG(seen.st_mode):
            continue
        elif first.setdefault((seen.st_dev, seen.st_ino), path) != path:
            kind, link = tarfile.LNKTYPE, first[seen.st_dev, seen.st_ino]
        found[path] = Entry(
            kind=kind,
            mode=stat.S_IMODE(seen.st_mode),
            uid=seen.st_uid,
            gid=seen.st_gid,
            content=place if kind == tarfile.REGTYPE else content,
            link=link,
        )
    return found


def write(out: BinaryIO, reference: str, config: Config, entries: Mapping[str, Entry]) -> str:
    """Write an archive of one image with one layer; nothing of it is held in memory.

    Args:
        out: an empty file that can seek.
        reference: the image's full name and tag, as a pod names it.
        config: how it is run.
        entries: by path, relative to the root; folders that a path goes through are added.

    Returns:
        The digest of the image's manifest, `sha256:...`: the same content has the same digest.
    """
    layer = _append(out, lambda blob: _write_layer(blob, entries))
    settings = _append(out, lambda blob: blob.write(_json(_config(config, layer[0]))))
    manifest = _append(
        out,
        lambda blob: blob.write(
            _json(
                {
                    "schemaVersion": 2,
                    "mediaType": _MANIFEST,
                    "config": _descriptor(_CONFIG, settings),
                    "layers": [_descriptor(_LAYER, layer)],
                }
            )
        ),
    )
    names = {
        # containerd reads the first, Podman the second.
        "io.containerd.image.name": reference,
        "org.opencontainers.image.ref.name": reference,
    }
    index = {
        "schemaVersion": 2,
        "manifests": [{**_descriptor(_MANIFEST, manifest), "annotations": names}],
    }
    docker = [
        {
            "Config": _blob_path(settings[0]),
            "RepoTags": [reference],
            "Layers": [_blob_path(layer[0])],
        }
    ]
    for name, content in (
        ("index.json", _json(index)),
        ("manifest.json", _json(docker)),
        ("oci-layout", _json({"imageLayoutVersion": "1.0.0"})),
    ):
        out.write(_header(name, len(content)))
        out.write(content)
        _pad(out, len(content))
    out.write(bytes(2 * tarfile.BLOCKSIZE))
    return f"sha256:{manifest[0]}"


def digest(archive: Path) -> str:
    """The digest of the image in an archive of ours, as `write` returned it."""
    with tarfile.open(archive) as whole:
        index = whole.extractfile("index.json")
        assert index is not None  # noqa: S101 - `write` put it there
        return str(json.load(index)["manifests"][0]["digest"])


class _Blob(io.RawIOBase):
    """Passes on what is written, and knows its length and digest."""

    def __init__(self, out: BinaryIO) -> None:
        self._out, self._hash, self.length = out, hashlib.sha256(), 0

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]  # tarfile and we hand over bytes
        self._hash.update(data)
        self.length += len(data)
        return self._out.write(data)

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()


def _append(out: BinaryIO, fill: Callable[[_Blob], object]) -> tuple[str, int]:
    """One blob of the layout. Its name is its digest: the header is written when that is known."""
    at = out.tell()
    out.write(bytes(tarfile.BLOCKSIZE))
    blob = _Blob(out)
    fill(blob)
    _pad(out, blob.length)
    out.seek(at)
    out.write(_header(_blob_path(blob.digest), blob.length))
    out.seek(0, os.SEEK_END)
    return blob.digest, blob.length


def _write_layer(blob: _Blob, entries: Mapping[str, Entry]) -> None:
    with tarfile.open(
        mode="w|", fileobj=blob, format=tarfile.PAX_FORMAT, bufsize=_COPY_BYTES
    ) as layer:
        whole = _with_parents(entries)
        # A folder's content follows it at once: who unpacks sets its time when the next one begins.
        for path in sorted(whole, key=lambda path: path.split("/")):
            entry = whole[path]
            info = tarfile.TarInfo(path)
            info.type, info.mode, info.mtime = entry.kind, entry.mode, TIME_S
            info.uid, info.gid, info.linkname = entry.uid, entry.gid, entry.link
            if entry.kind != tarfile.REGTYPE:
                layer.addfile(info)
            elif isinstance(entry.content, bytes):
                info.size = len(entry.content)
                layer.addfile(info, io.BytesIO(entry.content))
            else:
                with entry.content.open("rb") as content:
                    info.size = os.fstat(content.fileno()).st_size
                    layer.addfile(info, content)


def _with_parents(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    whole = dict(entries)
    for path in entries:
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                whole.setdefault(str(parent), folder())
    return whole


def _walk(root: Path, below: str, leave_out: Callable[[str], bool]) -> Iterator[str]:
    for entry in sorted(os.scandir(root / below), key=lambda e: e.name):
        path = f"{below}/{entry.name}" if below else entry.name
        if leave_out(path):
            continue
        yield path
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(root, path, leave_out)


def _config(config: Config, layer: str) -> Mapping[str, object]:
    run: dict[str, object] = {
        "Entrypoint": list(config.entrypoint),
        "Env": list(config.environment),
        "WorkingDir": config.folder,
    }
    if config.user:
        run["User"] = config.user
    if config.labels:
        run["Labels"] = dict(config.labels)
    return {
        "architecture": config.architecture,
        "os": "linux",
        "created": _CREATED,
        "config": run,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{layer}"]},
        "history": [{"created": _CREATED, "created_by": "gridplane"}],
    }


def _descriptor(media: str, blob: tuple[str, int]) -> Mapping[str, object]:
    return {"mediaType": media, "digest": f"sha256:{blob[0]}", "size": blob[1]}


def _blob_path(digest: str) -> str:
    return f"blobs/sha256/{digest}"


def _json(value: object) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()


def _header(name: str, size: int) -> bytes:
    info = tarfile.TarInfo(name)
    info.size, info.mtime = size, TIME_S
    return info.tobuf(tarfile.USTAR_FORMAT)


def _pad(out: BinaryIO, length: int) -> None:
    out.write(bytes(-length % tarfile.BLOCKSIZE))
