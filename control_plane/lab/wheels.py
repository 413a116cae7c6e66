"""The wheels of an image: those of the lock, checked by pip against their hashes, and gridplane's own.

Where packages come from is what this machine's pip is set to.
"""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from control_plane.lab.commands import run
from control_plane.lab.programs import cache_folder, keep

PYTHON = "3.11"
"""Debian bookworm's."""
_GLIBC_MINORS = range(36, 16, -1)
"""Debian bookworm has glibc 2.36: wheels for it and for older ones, newest first."""
_MARKER = re.compile(r" ; [^\\\n]*")
_PIP = (sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet")


def gather(checkout: Path, into: Path, *, epoch_s: int) -> None:
    """Fill an empty folder with all that the Containerfile installs: wheels, and the lock as runtime.txt.

    Args:
        checkout: of gridplane.
        into: an empty folder.
        epoch_s: the time of the files in gridplane's own wheel, in seconds since 1970.

    Raises:
        CommandFailed: pip cannot get or build one; its words are in the message.
    """
    lock = checkout / "requirements" / "runtime.txt"
    for wheel in _locked(lock).iterdir():
        shutil.copy(wheel, into)
    shutil.copy(lock, into)
    _own(checkout, into, epoch_s)


def sources(checkout: Path) -> Iterator[tuple[str, Path]]:
    """What gridplane's own wheel is built from, in order: (path in the checkout, file)."""
    yield "pyproject.toml", checkout / "pyproject.toml"
    for path in sorted((checkout / "control_plane").rglob("*")):
        if path.is_file() and path.suffix != ".pyc":
            yield str(path.relative_to(checkout)), path


def _locked(lock: Path) -> Path:
    """The wheels of a lock, in the cache."""
    machine = platform.machine()
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in _GLIBC_MINORS]
    key = hashlib.sha256(f"{PYTHON} {machine}\n".encode() + lock.read_bytes()).hexdigest()[:16]
    place = cache_folder() / "wheels" / key
    if place.is_dir():
        return place
    place.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{key}-", dir=place.parent) as made:
        # Markers speak of the Python that runs pip; in the image, pip reads the lock with them.
        wanted = Path(made) / "runtime.txt"
        wanted.write_text(_MARKER.sub(" ", lock.read_text()))
        fresh = Path(made) / "wheels"
        run(
            *_PIP, "download", "--no-deps", "--require-hashes", "--only-binary=:all:",
            "--implementation=cp", f"--python-version={PYTHON}",
            *(f"--platform={name}" for name in (*platforms, f"manylinux2014_{machine}")),
            f"--requirement={wanted}", f"--dest={fresh}",
        )  # fmt: skip
        keep(fresh, place)
    return place


def _own(checkout: Path, into: Path, epoch_s: int) -> None:
    """Built from a copy: what an earlier build left beside the sources never gets into the wheel."""
    with tempfile.TemporaryDirectory(prefix="gridplane-wheel-") as made:
        copy = Path(made)
        for name, path in sources(checkout):
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
            target.chmod(0o644)
        run(
            *_PIP, "wheel", "--no-deps", "--no-index", "--no-build-isolation",
            f"--wheel-dir={into}", copy,
            environment={"SOURCE_DATE_EPOCH": str(epoch_s)},
        )  # fmt: skip
