"""Which container images the lab has: built here from programs and trees, kept in the cache, never pulled.

An archive is named for what it was made of. It is written beside its place and renamed into it: one that
is there is whole. Builders of one image wait for one another.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from control_plane.core.errors import ControlPlaneError
from control_plane.lab import debian, oci
from control_plane.lab.programs import KUBERNETES_VERSION, cache_folder, find, find_all

REGISTRY = "lab.gridplane.dev"
"""kubeadm's `imageRepository`. Nobody answers there: an image that is missing is an error, not a pull."""
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
_KEEP_S = 24 * 3600.0
"""Older archives of a name go when a new one is made, unless somebody used them since."""

_BASES = {
    "kube-proxy": debian.Spec(
        name="kube-proxy", packages=("conntrack", "iptables", "kmod", "nftables")
    )
}
"""The programs that call others. What is not here is one static binary and nothing else."""

Say = Callable[[str], None]


class ImageError(ControlPlaneError):
    """An image cannot be built on this machine. The operator acts."""


def _silent(_text: str) -> None:
    pass


def control_plane(say: Say = _silent) -> Sequence[Path]:
    """The archives of all that kubeadm asks for, under the names that it asks for.

    Raises:
        ProgramMissing: a program has to be built first; all of them are named.
    """
    references = _asked_by_kubeadm()
    programs = find_all([_name(reference) for reference in references])
    return [_of_program(reference, programs[_name(reference)], say) for reference in references]


def _asked_by_kubeadm() -> Sequence[str]:
    done = subprocess.run(  # noqa: S603 - our own kubeadm
        [
            find("kubeadm"), "config", "images", "list",
            "--image-repository", REGISTRY, "--kubernetes-version", f"v{KUBERNETES_VERSION}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    if done.returncode:
        raise ImageError(f"kubeadm does not say which images it wants: {done.stderr.strip()}")
    return done.stdout.split()


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
        entries = {} if base is None else oci.tree(debian.tree(base, say))
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
    """
    folder = cache_folder() / "images"
    key = hashlib.sha256("\0".join([*inputs, _recipe()]).encode()).hexdigest()[:16]
    place = folder / f"{name}-{key}.tar"
    folder.mkdir(parents=True, exist_ok=True)
    with _alone(folder / f"{name}.lock"):
        if not place.exists():
            say(f"writing the image {name}")
            # Whoever holds the lock owns this file; what an interrupted builder left is overwritten.
            part = folder / f"{name}.part"
            write(part)
            part.replace(place)
            _forget_old(folder, name)
        os.utime(place)
    return place


def _recipe() -> str:
    """The digest of the code that decides what is in an image."""
    found = hashlib.sha256()
    for module in (__file__, oci.__file__):
        found.update(Path(module).read_bytes())
    return found.hexdigest()


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_old(folder: Path, name: str) -> None:
    for path in folder.glob(f"{name}-{'[0-9a-f]' * 16}.tar"):
        if time.time() - path.stat().st_mtime > _KEEP_S:
            path.unlink(missing_ok=True)
