"""Putting images into a store, and looking whether a store has what the catalogue says. Blocking."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import os
import stat
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import msgspec

from control_plane.core.catalogue import Image
from control_plane.engine.durable import sync_folder
from control_plane.engine.images import ImageUnfit

_PIECE_BYTES = 1 << 20
_STALLED_S = 30.0
"""Wire seconds without a byte of the store."""

Told = Callable[[int], None]
"""Is told how many bytes more were read."""


class Shelved(StrEnum):
    """How an image of the catalogue stands in a store."""

    OK = "ok"
    MISSING = "missing"
    TRUNCATED = "truncated"
    """It is shorter than the catalogue says."""
    TOO_LONG = "too_long"
    WRONG_DIGEST = "wrong_digest"
    """Of the right length, and other bytes."""
    UNREADABLE = "unreadable"
    """Nobody knows what is there."""
    SUPERFLUOUS = "superfluous"
    """The store has a file that the catalogue does not name."""


class Look(msgspec.Struct, frozen=True):
    """What came of looking at one image."""

    state: Shelved
    detail: str = ""


def digest_of(path: Path, told: Told) -> tuple[int, str]:
    """Length and SHA-256 of a plain file.

    Raises:
        ImageUnfit: it cannot be read, or is none.
    """
    try:
        with _plain(path) as file:
            return _hashed(file, told)
    except OSError as error:
        raise ImageUnfit(f"firmware image {path}: {error.strerror}") from error


def put_in(folder: Path, source: Path, image: Image, told: Told) -> bool:
    """Put an image into a folder under its name: all of it, or nothing; never over another.

    Returns:
        Whether it was put there; `False` where it lay there already.

    Raises:
        ImageUnfit: another one lies there, or the source is not the image any more.
    """
    place = folder / image.file
    if place.exists() or place.is_symlink():
        there = digest_of(place, told)
        if there != (image.size_bytes, image.sha256):
            raise ImageUnfit(
                f"{place} lies there already, with another SHA-256 ({there[1]:.16}…, not "
                f"{image.sha256:.16}…): nothing was written. Give the new image a name of its own"
            )
        return False
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f".{image.file}.{os.getpid()}.part"
    try:
        with _plain(source) as taken, draft.open("xb") as file:
            found = _hashed(taken, told, into=file)
            file.flush()
            os.fsync(file.fileno())
        if found != (image.size_bytes, image.sha256):
            raise ImageUnfit(f"{source} was changed while it was read: nothing was kept")
        draft.chmod(0o644)
        try:
            # A link, not a rename: it fails where somebody else was faster.
            os.link(draft, place)
        except FileExistsError:
            raise ImageUnfit(f"{place} came there meanwhile: look at it, then try again") from None
    except OSError as error:
        raise ImageUnfit(f"firmware image {place}: {error.strerror}") from error
    finally:
        draft.unlink(missing_ok=True)
    sync_folder(folder)
    return True


def look_at(place: str, image: Image, told: Told) -> Look:
    """How an image stands in a folder or on a web server; all of it is read."""
    try:
        with _opened(place, image.file) as (file, length):
            if length is not None and length != image.size_bytes:
                return _of_size(length, image)
            size, sha256 = _hashed(file, told, most=image.size_bytes + 1)
    except FileNotFoundError:
        return Look(Shelved.MISSING)
    except OSError as error:
        if isinstance(error, urllib.error.HTTPError):
            error.close()
            if error.code in {404, 410}:
                return Look(Shelved.MISSING)
        return Look(Shelved.UNREADABLE, error.strerror or str(error))
    except http.client.HTTPException as error:
        return Look(
            Shelved.UNREADABLE, f"the store answers what is no HTTP: {type(error).__name__}"
        )
    if size != image.size_bytes:
        return _of_size(size, image)
    if sha256 != image.sha256:
        return Look(
            Shelved.WRONG_DIGEST, f"it has {sha256:.16}…, the catalogue {image.sha256:.16}…"
        )
    return Look(Shelved.OK)


def superfluous(place: str, known: Iterable[str]) -> list[str] | None:
    """Files of a store that the catalogue does not name; `None` where a store cannot be listed."""
    folder = Path(place)
    if "://" in place or not folder.is_dir():
        return None
    return sorted({path.name for path in folder.iterdir()} - set(known))


def _of_size(size: int, image: Image) -> Look:
    state = Shelved.TRUNCATED if size < image.size_bytes else Shelved.TOO_LONG
    more = "" if state is Shelved.TRUNCATED else " or more"
    return Look(state, f"{size:,} bytes{more}, the catalogue says {image.size_bytes:,}")


@contextlib.contextmanager
def _opened(place: str, name: str) -> Iterator[tuple[BinaryIO, int | None]]:
    """A file of a store, and its length where that is told beforehand."""
    if "://" not in place:
        with _plain(Path(place) / name) as file:
            yield file, os.fstat(file.fileno()).st_size
        return
    url = f"{place.rstrip('/')}/{name}"
    with urllib.request.urlopen(url, timeout=_STALLED_S) as answer:  # noqa: S310 - http alone, as declared
        yield answer, None


@contextlib.contextmanager
def _plain(path: Path) -> Iterator[BinaryIO]:
    """A plain file; a pipe or a device is never waited for."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:  # noqa: PTH123 - a descriptor that is open already
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(0, "not a plain file")
        yield file


def _hashed(
    file: BinaryIO, told: Told, *, into: BinaryIO | None = None, most: int | None = None
) -> tuple[int, str]:
    """Length and SHA-256 of what is left in a file, at most so many bytes."""
    sha, size = hashlib.sha256(), 0
    while most is None or size < most:
        piece = file.read(_PIECE_BYTES if most is None else min(_PIECE_BYTES, most - size))
        if not piece:
            break
        sha.update(piece)
        if into is not None:
            into.write(piece)
        size += len(piece)
        told(len(piece))
    return size, sha.hexdigest()
