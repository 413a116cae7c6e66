"""The lab's offline bundle: what turns a machine with nothing but sshd into one that kubeadm takes.

Programs that `make tools` built, the packages that the lab's nodes have and its bare hosts lack, and the
images that kubeadm asks for. A bundle is named for what it was made of, kept in the cache, and whole once it
is there.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from control_plane.hosts.bundle import FORM, MANIFEST, Bundle, Supply, write_bundle
from control_plane.lab import debian, images
from control_plane.lab.commands import run
from control_plane.lab.hosts import NODE_PROGRAMS
from control_plane.lab.programs import KUBERNETES_VERSION, cache_folder, find_all, keep

_RECIPE = "1"
_EVERYWHERE = ("coredns", "kube-proxy", "pause")
"""Images of agents, too."""
_WAKES = {"kubelet": ("kubelet.service",)}
_PIECE_BYTES = 1 << 20
_LEVEL = 1
"""Of gzip: half the bytes for a sixth of the time of its default."""
_OF_THE_TREE = ("dev", "proc", "run", "sys", "tmp")
_OF_THE_HOST = frozenset({"etc/hostname", "etc/hosts", "etc/machine-id", "etc/resolv.conf"})

Say = Callable[[str], None]


def bundle(checkout: Path | None = None, say: Say = lambda _text: None) -> Path:
    """The folder of the bundle. Needs root where it is not kept yet.

    Args:
        checkout: of gridplane, whose image is in the bundle then.
        say: told of what takes long.

    Raises:
        ProgramMissing: a program has to be built first.
        ImageError, TreeError, CommandFailed: something cannot be made here.
    """
    programs = find_all(NODE_PROGRAMS)
    archives = list(images.control_plane(say))
    if checkout:
        archives.append(images.gridplane(checkout, say)[1])
    bare, node = debian.tree(debian.BARE, say), debian.tree(debian.NODE, say)
    told = (
        _RECIPE,
        bare.name,
        node.name,
        *map(str, programs.values()),
        *(a.name for a in archives),
    )
    place = cache_folder() / "bundles" / hashlib.sha256("\0".join(told).encode()).hexdigest()[:16]
    if place.is_dir():
        return place
    say("packing the offline bundle")
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".bundle-", dir=place.parent) as made:
        folder = Path(made) / "bundle"
        folder.mkdir()
        supplies = [
            _packages(bare, node, folder),
            *(_program(name, path, folder) for name, path in programs.items()),
            *(_image(archive, folder) for archive in archives),
        ]
        found = Bundle(form=FORM, kubernetes=KUBERNETES_VERSION, supplies=tuple(supplies))
        (folder / MANIFEST).write_bytes(write_bundle(found))
        keep(folder, place)
    return place


def _packages(bare: Path, node: Path, folder: Path) -> Supply:
    """Every file of the nodes' tree that a bare host lacks or has otherwise."""
    packed = folder / "packages.tar"
    listed = "\0".join(_beyond(bare, node))
    names = folder / "names"
    names.write_text(listed, encoding="utf-8")
    run(
        "tar", "--create", "--file", packed, "--directory", node, "--numeric-owner", "--sort=name",
        "--no-recursion", "--null", "--files-from", names,
    )  # fmt: skip
    names.unlink()
    file = _compressed(packed, folder / "packages.tar.gz")
    packed.unlink()
    return Supply(
        name="packages", file=file.name, kind="tree", sha256=_digest(file),
        wakes=("containerd.service",),
    )  # fmt: skip


def _beyond(bare: Path, node: Path) -> Sequence[str]:
    found: list[str] = []
    for folder, folders, names in os.walk(node):
        here = Path(folder)
        if here == node:
            folders[:] = [name for name in folders if name not in _OF_THE_TREE]
        for name in [*folders, *names]:
            path = here / name
            place = str(path.relative_to(node))
            if place not in _OF_THE_HOST and _differs(path, bare / place):
                found.append(place)
    return sorted(found)


def _differs(path: Path, other: Path) -> bool:
    if not os.path.lexists(other):
        return True
    if path.is_symlink():
        return not other.is_symlink() or path.readlink() != other.readlink()
    if path.is_dir():
        return False
    mine, theirs = path.stat(), other.stat()
    return mine.st_size != theirs.st_size or path.read_bytes() != other.read_bytes()


def _program(name: str, path: Path, folder: Path) -> Supply:
    shutil.copyfile(path, folder / name)
    return Supply(
        name=name, file=name, kind="file", sha256=_digest(path), target=f"/usr/bin/{name}",
        wakes=_WAKES.get(name, ()),
    )  # fmt: skip


def _image(archive: Path, folder: Path) -> Supply:
    name = archive.stem.rpartition("-")[0]
    file = _compressed(archive, folder / f"{archive.name}.gz")
    return Supply(
        name=f"image-{name}", file=file.name, kind="image", sha256=_digest(file),
        servers_only=name.startswith(("etcd", "kube-")) and name not in _EVERYWHERE,
    )  # fmt: skip


def _compressed(source: Path, target: Path) -> Path:
    """Without a time in it: the same content is the same file."""
    with (
        source.open("rb") as plain,
        target.open("wb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", compresslevel=_LEVEL, mtime=0, filename="") as packed,
    ):
        shutil.copyfileobj(plain, packed, _PIECE_BYTES)
    return target


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
