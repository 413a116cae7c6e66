"""The fence of one site: an exclusive file lock, and an epoch that grows at each take-over.

The lock keeps two healthy processes apart. The epoch, checked inside each intent transaction,
keeps out one that was suspended and wakes up after another took over.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from control_plane.core.errors import StoreError
from control_plane.engine.store import Store


class Fence:
    """Held until `release()` or the end of the process."""

    def __init__(self, descriptor: int, epoch: int) -> None:
        self._descriptor = descriptor
        self.epoch = epoch

    def release(self) -> None:
        """Let another process take over; safe to call twice."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def try_fence(path: Path, store: Store) -> Fence | None:
    """The fence of the site, or `None` where another process holds it.

    Raises:
        StoreError: the lock file cannot be opened.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return Fence(descriptor, store.take_over())
