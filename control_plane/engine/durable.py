"""Small files that are replaced as a whole: after a power failure there is the old one or the new one."""

from __future__ import annotations

import os
from pathlib import Path

from control_plane.core.errors import StoreError


def replace_file(path: Path, data: bytes, *, is_durable: bool = True) -> None:
    """Have a file hold this when it returns; its folder is made where there is none.

    One process writes it. Without `is_durable` a power failure may still lose it, never cut it.

    Raises:
        StoreError: the disk did not take it; what was there still is.
    """
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            if is_durable:
                os.fsync(file.fileno())
        new.replace(path)
        if is_durable:
            sync_folder(path.parent)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def sync_folder(folder: Path) -> None:
    """Have names in a folder on the disk: a file that is renamed into it is not there before.

    Raises:
        OSError: it did not take them.
    """
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
