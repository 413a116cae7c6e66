"""What the agent knows over restarts: the last grant above all. One small file, replaced as a whole.

It is written before anything follows from it: a cap that was obeyed once is never forgotten by a power
failure.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Final

import msgspec

from control_plane.core.errors import StoreError
from control_plane.core.gpu import GpuSettings
from control_plane.core.gpu_cap import CapMemory, Caps
from control_plane.core.gpu_health import HealthMemory
from control_plane.core.gpu_settings import Locked
from control_plane.engine.durable import replace_file

VERSION: Final = 1
"""Of the form. A file of a newer release is not touched."""


class Kept(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of it."""

    version: int
    uid: str = ""
    """Of the object that it was granted by."""
    caps: Caps = Caps()
    settings: GpuSettings = GpuSettings()
    gpus: int | None = None
    """How many are declared."""
    held_by: str = ""
    limits: tuple[CapMemory, ...] = ()
    locked: tuple[Locked, ...] = ()
    health: HealthMemory = HealthMemory()


NOTHING: Final = Kept(version=VERSION)


class KeptFile:
    """The file. One process uses it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.damage = ""
        """Why what was kept could not be read, in words."""

    def read(self) -> Kept:
        """What was kept; nothing where there was no file, or a damaged one, which is put aside.

        Raises:
            StoreError: the folder cannot be read, or the file is of a newer release.
        """
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return NOTHING
        except OSError as error:
            raise StoreError(f"{self._path}: {error.strerror}") from error
        try:
            kept = msgspec.json.decode(data, type=Kept)
        except msgspec.DecodeError as error:
            aside = self._path.with_suffix(".damaged")
            self.damage = f"{self._path} was damaged ({error}) and is at {aside} now"
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            return NOTHING
        if kept.version > VERSION:
            raise StoreError(
                f"{self._path} is of a newer release (version {kept.version}): use that"
            )
        return kept

    def write(self, kept: Kept) -> None:
        """Have it on the disk when this returns.

        Raises:
            StoreError: the disk did not take it; what was kept before still is.
        """
        replace_file(self._path, msgspec.json.encode(kept))
