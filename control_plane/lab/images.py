"""Which container images the lab has: built here from programs and trees, kept in the cache, never pulled.

An archive is named for what it was made of. It is written beside its place and renamed into it: one that
is there is whole. Builders of one image wait for one another.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from control_plane import __version__
from control_plane.core.errors import ControlPlaneError
from control_plane.lab import containerfile, debian, oci, wheels
from control_plane.lab.commands import run
from control_plane.lab.programs import KUBERNETES_VERSION, cache_folder, find, find_all

REGISTRY = "lab.gridplane.dev"
"""kubeadm's `imageRepository`. Nobody answers there: an image that is missing is an error, not a pull."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_WORK = ".work"
_KEEP_S = 3600.0
"""Older archives of a name go when a new one is made, unless somebody used them since."""

_BASES = {
    "kube-proxy": debian.Spec(
        name="kube-proxy",
        packages=("conntrack", "iptables", "kmod", "nftables", "usr-is-merged"),
    )
}
"""The programs that call others. What is not here is one static binary and nothing else."""

_OF_THE_MACHINE = (
    "dev/", "etc/apt/sources.list", "proc/", "run/", "sys/", "tmp/", "var/cache/", "var/lib/apt/lists/",
    "var/log/",
)  # fmt: skip
"""What a tree has of where and when it was made, and what a runtime mounts over an image anyway."""

Say = Callable[[str], None]


class ImageError(ControlPlaneError):
    """An image cannot be built on this machine. The operator acts."""


def _silent(_text: str) -> None:
    pass


def control_plane(say: Say = _silent) -> Sequence[Path]:
    """The archives of all that kubeadm asks for, under the names that it asks for.

    Raises:
        ProgramMissing: a program has to be built first; all of them are named.
        ImageError: one is not kept yet, and we are not root, or the disk is full.
        TreeError: mmdebstrap is missing or failed.
    """
    references = _asked_by_kubeadm()
    programs = find_all([_name(reference) for reference in references])
    return [_of_program(reference, programs[_name(reference)], say) for reference in references]


def gridplane(checkout: Path, say: Say = _silent) -> tuple[str, Path]:
    """The image of gridplane as it stands in a checkout. Needs root where it is not kept yet.

    Returns:
        Its reference, whose tag says what it was made of, and its archive. The same sources make the same
        bytes, in whatever folder.

    Raises:
        ImageError: one is not kept yet, and we are not root, or the disk is full.
        TreeError: mmdebstrap is missing or failed.
        CommandFailed: a wheel cannot be had, or a step of the Containerfile ended with an error.
        NotUnderstood: the Containerfile has an instruction that is not carried out here.
    """
    recipe = containerfile.read((checkout / "Containerfile").read_text(encoding="utf-8"))
    base = debian.Spec(name="gridplane", packages=recipe.packages)
    name = reference(checkout)

    def write(archive: Path) -> None:
        below = _tree(base, say)
        with tempfile.TemporaryDirectory(
            prefix=f"{_WORK}-", dir=archive.parent, ignore_cleanup_errors=True
        ) as made:
            work = Path(made)
            context, root = work / "context", work / "root"
            (context / "dist" / "wheels").mkdir(parents=True)
            say("gathering the wheels of gridplane")
            wheels.gather(checkout, context / "dist" / "wheels", epoch_s=oci.TIME_S)
            say("installing them in the image")
            run("cp", "-a", "--reflink=auto", below, root)
            containerfile.carry_out(recipe, root, context, epoch_s=oci.TIME_S)
            config = oci.Config(
                entrypoint=recipe.entrypoint,
                environment=tuple(f"{k}={v}" for k, v in recipe.environment.items()),
                user=recipe.user,
                folder=recipe.folder,
                architecture=_architecture(),
            )
            with archive.open("wb") as out:
                oci.write(out, name, config, oci.tree(root, _is_of_the_machine))

    return name, _kept("gridplane", [name], write, say)


def reference(checkout: Path) -> str:
    """The name of the image that a checkout makes; its tag says what it is made of."""
    made_of = hashlib.sha256(_code_digest().encode())
    for name, path in (
        *wheels.sources(checkout),
        ("lock", checkout / "requirements" / "runtime.txt"),
        ("recipe", checkout / "Containerfile"),
    ):
        made_of.update(f"\0{name}\0".encode() + path.read_bytes())
    return f"{REGISTRY}/gridplane:{__version__}-{made_of.hexdigest()[:12]}"


def _tree(base: debian.Spec, say: Say) -> Path:
    if os.geteuid():
        raise ImageError(
            f"the image {base.name} is made from a Debian tree with its owners, and that needs root: run "
            "it once with sudo, and the archive is kept"
        )
    return debian.tree(base, say)


def _is_of_the_machine(path: str) -> bool:
    return path.startswith(_OF_THE_MACHINE)


def _asked_by_kubeadm() -> Sequence[str]:
    return run(
        find("kubeadm"), "config", "images", "list",
        "--image-repository", REGISTRY, "--kubernetes-version", f"v{KUBERNETES_VERSION}",
    ).split()  # fmt: skip


def _name(reference: str) -> str:
    return reference.rpartition("/")[2].partition(":")[0]


def _of_program(reference: str, program: Path, say: Say) -> Path:
    """A static binary, and for kube-proxy the Debian tree whose tools it calls."""
    name = _name(reference)
    seen = program.stat()
    inputs = [reference, str(program), str(seen.st_size), str(seen.st_mtime_ns)]
    base = _BASES.get(name)
    if base is not None:
        inputs.append(base.digest)

    def write(archive: Path) -> None:
        entries = {} if base is None else oci.tree(_tree(base, say), _is_of_the_machine)
        entries["tmp"] = oci.folder(0o1777)
        entries[f"usr/local/bin/{name}"] = oci.file(program, 0o755)
        config = oci.Config(entrypoint=(f"/usr/local/bin/{name}",), architecture=_architecture())
        with archive.open("wb") as out:
            oci.write(out, reference, config, entries)

    return _kept(name, inputs, write, say)


def _architecture() -> str:
    machine = platform.machine()
    return _ARCHITECTURES.get(machine, machine)


def _kept(name: str, inputs: Sequence[str], write: Callable[[Path], None], say: Say) -> Path:
    """The archive of these inputs: the one that is there, or a new one.

    Args:
        name: of the image, for people.
        inputs: all that decides what is written, beside the code that writes it.
        write: fills the file that it is given.
        say: told when it has to be written.

    Raises:
        ImageError: the disk is full, or refuses; nothing of it is kept.
    """
    folder = cache_folder() / "images"
    key = hashlib.sha256("\0".join([*inputs, _code_digest()]).encode()).hexdigest()[:16]
    place = folder / f"{name}-{key}.tar"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{name}.lock"):
        if not place.exists():
            say(f"writing the image {name}")
            # Whoever holds the lock owns this file; what a killed builder left is overwritten.
            part = folder / f"{name}.part"
            try:
                write(part)
            except OSError as error:
                part.unlink(missing_ok=True)
                raise ImageError(
                    f"the image {name} cannot be written: {error}. Where {folder} has too little room, make "
                    "some, or point GRIDPLANE_CACHE at a larger disk"
                ) from error
            part.replace(place)
            _forget_old(folder, name)
        os.utime(place)
    return place


def _code_digest() -> str:
    """The digest of the code that decides what is in an image."""
    found = hashlib.sha256()
    for module in (
        __file__,
        oci.__file__,
        containerfile.__file__,
        debian.__file__,
        wheels.__file__,
    ):
        found.update(Path(module).read_bytes())
    return found.hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_old(folder: Path, name: str) -> None:
    # What a killed builder left; its children may have gone on writing for a while.
    for path in folder.glob(f"{_WORK}-*"):
        if time.time() - path.stat().st_mtime > _KEEP_S:
            shutil.rmtree(path, ignore_errors=True)
    for path in folder.glob(f"{name}-{'[0-9a-f]' * 16}.tar"):
        if time.time() - path.stat().st_mtime > _KEEP_S:
            path.unlink(missing_ok=True)
