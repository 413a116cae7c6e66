"""Where firmware images lie, a folder or a web server: checked by digest before a byte is given out."""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from control_plane.core.catalogue import Image
from control_plane.core.errors import ControlPlaneError

_PIECE_BYTES = 1 << 20
_STALLED_S = 30.0
"""Wire seconds without a byte of the store."""
_SETTLED_NS = 2 * 10**9
"""A file that changed less than that ago may change again without its times showing it: file systems keep
them in steps, of up to two seconds on FAT. Its digest is not remembered."""
_Stamp = tuple[int, int, int, int, int]
"""Device, inode, bytes, and when its content and itself changed, in ns. Nobody can set the last one."""


class ImageUnfit(ControlPlaneError):
    """The image is not there, or is not the one of the catalogue; whoever fills the store acts."""


class OpenImage:
    """A `core.ports.ImageFile` on a file that stays open: what lies at its path may change meanwhile."""

    def __init__(self, image: Image, descriptor: int) -> None:
        self._image, self._descriptor = image, descriptor

    @property
    def image(self) -> Image:
        """Which one."""
        return self._image

    def read(self, offset: int, size: int) -> bytes:
        """At most `size` bytes from `offset`."""
        return os.pread(self._descriptor, size, offset)

    def close(self) -> None:
        """Done with it."""
        os.close(self._descriptor)


class ImageFolder:
    """Images by name, below one folder. Each is read once to be checked, and once per device.

    The digest of a file is remembered for as long as nothing of the file changes: keep the folder, and use it
    from one event loop.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._digests: dict[str, tuple[_Stamp, str]] = {}
        self._turn = asyncio.Lock()

    async def open(self, image: Image) -> OpenImage:
        """The image, whole and with the digest of the catalogue.

        Raises:
            ImageUnfit: it is not; the message says what is there.
        """
        path = self.folder / image.file
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise ImageUnfit(f"firmware image {path}: {error.strerror}") from error
        try:
            await self._check(path, image, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return OpenImage(image, descriptor)

    async def _check(self, path: Path, image: Image, descriptor: int) -> None:
        """Hold an open file against the catalogue."""
        size = os.fstat(descriptor).st_size
        if size != image.size_bytes:
            raise ImageUnfit(
                f"firmware image {path} has {size:,} bytes, and the catalogue says {image.size_bytes:,}"
            )
        digest = self._known(image.file, descriptor)
        if digest is None:
            # Who waits here finds the digest that the first one made.
            async with self._turn:
                digest = self._known(image.file, descriptor)
                if digest is None:
                    digest = await self._hash(image.file, descriptor)
        if digest != image.sha256:
            raise ImageUnfit(
                f"firmware image {path} has the SHA-256 {digest:.16}…, and the catalogue says "
                f"{image.sha256:.16}…"
            )

    def _known(self, name: str, descriptor: int) -> str | None:
        stamp, digest = self._digests.get(name, (None, None))
        return digest if stamp == _stamp(descriptor) else None

    async def _hash(self, name: str, descriptor: int) -> str:
        """The digest of an open file, a megabyte at a time: some milliseconds each."""
        began_ns, stamp = time.time_ns(), _stamp(descriptor)
        sha = hashlib.sha256()
        for offset in range(0, stamp[2], _PIECE_BYTES):
            sha.update(os.pread(descriptor, _PIECE_BYTES, offset))
            await asyncio.sleep(0)
        digest = sha.hexdigest()
        has_settled = began_ns - max(stamp[3:]) >= _SETTLED_NS
        if has_settled and stamp == _stamp(descriptor):
            self._digests[name] = (stamp, digest)
        return digest


class ImageStore:
    """Images of a plain web server, by name; each is brought once into a folder, and looked for there."""

    def __init__(self, url: str, cache: Path) -> None:
        self._url = url.rstrip("/")
        self._cache = ImageFolder(cache)
        self._turn = asyncio.Lock()

    async def open(self, image: Image) -> OpenImage:
        """The image, whole and with the digest of the catalogue.

        Raises:
            ImageUnfit: the store does not have it, or another one under its name.
        """
        async with self._turn:
            try:
                return await self._cache.open(image)
            except ImageUnfit:
                await asyncio.to_thread(self._bring, image)
            return await self._cache.open(image)

    def _bring(self, image: Image) -> None:
        """One byte more than there may be is enough to know that it is another one."""
        url, place = f"{self._url}/{image.file}", self._cache.folder / image.file
        fresh = place.with_name(f"{place.name}.part")
        self._cache.folder.mkdir(parents=True, exist_ok=True)
        try:
            with (
                urllib.request.urlopen(url, timeout=_STALLED_S) as answer,  # noqa: S310 - http alone, as declared
                fresh.open("wb") as file,
            ):
                left = image.size_bytes + 1
                while left and (piece := answer.read(min(left, _PIECE_BYTES))):
                    file.write(piece)
                    left -= len(piece)
        except OSError as error:
            if isinstance(error, urllib.error.HTTPError):
                error.close()
            raise ImageUnfit(f"firmware image {url}: {error}") from error
        fresh.replace(place)


def images_at(place: str, cache: Path) -> ImageFolder | ImageStore:
    """A folder, or a web server whose images are brought into a cache."""
    return ImageStore(place, cache) if "://" in place else ImageFolder(Path(place))


def _stamp(descriptor: int) -> _Stamp:
    found = os.fstat(descriptor)
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
