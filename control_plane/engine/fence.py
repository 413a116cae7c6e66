"""The fence of one site: exclusive file locks, and an epoch that grows at each take-over.

The lock beside the Store keeps two healthy processes apart. The epoch, checked inside each intent
transaction, keeps out one that was suspended and wakes up after another took over. The lock of the
site keeps apart processes of one machine that use different Stores: neither would see the other's holds.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from control_plane.core.errors import ControlPlaneError, StoreError
from control_plane.engine.store import Store

_TEXT_MAX = 4096


class ActsElsewhere(ControlPlaneError):
    """Another process of this machine acts on the site from another state folder; use that one."""

    def __init__(self, site_lock: Path, folder: str) -> None:
        known = f"from the state folder {folder}: say --state {folder}" if folder else "already"
        super().__init__(f"another process acts on the site {known} (it holds {site_lock})")


class Fence:
    """Held until `release()` or the end of the process."""

    def __init__(self, descriptors: tuple[int, ...], epoch: int) -> None:
        self._descriptors = descriptors
        self.epoch = epoch

    def release(self) -> None:
        """Let another process take over; safe to call twice."""
        for descriptor in self._descriptors:
            os.close(descriptor)
        self._descriptors = ()


def try_fence(path: Path, store: Store, *, site_lock: Path | None = None) -> Fence | None:
    """The fence of the site, or `None` where another process holds it.

    Args:
        path: the lock beside the Store.
        store: whose epoch grows.
        site_lock: one file for all state folders of the site on this machine.

    Raises:
        ActsElsewhere: a process with another state folder acts on the site.
        StoreError: a lock file cannot be opened, or the Store is damaged.
    """
    mine = _lock(path)
    if mine is None:
        return None
    held = [mine]
    try:
        store.check()
        if site_lock is not None:
            held.append(_lock_site(site_lock, path.parent))
        return Fence(tuple(held), store.take_over())
    except BaseException:
        for descriptor in held:
            os.close(descriptor)
        raise


def _lock_site(site_lock: Path, folder: Path) -> int:
    descriptor = _lock(site_lock)
    if descriptor is None:
        raise ActsElsewhere(site_lock, _text(site_lock))
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, str(folder.resolve()).encode(), 0)
    return descriptor


def refuse_elsewhere(path: Path, site_lock: Path) -> None:
    """Nothing, unless another state folder than the one of `path` is acted from now.

    Raises:
        ActsElsewhere: what is said here would not reach the process that acts.
        StoreError: the lock file cannot be opened.
    """
    here = str(path.parent.resolve())
    if not site_lock.exists() or _text(site_lock) == here:
        # To ask by locking would stand in the way of whoever begins to act just now.
        return
    descriptor = _lock(site_lock)
    if descriptor is not None:
        os.close(descriptor)
        return
    folder = _text(site_lock)
    if folder != here:
        raise ActsElsewhere(site_lock, folder)


def _lock(path: Path) -> int | None:
    """A descriptor that holds the lock of a file, or `None`."""
    descriptor = _open(path)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    return descriptor


def _open(path: Path) -> int:
    """Open, or make for every user of the machine: the site's lock stands in a folder of all."""
    flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        try:
            return os.open(path, flags)
        except FileNotFoundError:
            descriptor = os.open(path, flags | os.O_CREAT, 0o666)
            os.fchmod(descriptor, 0o666)
            return descriptor
    except OSError as error:
        raise StoreError(f"{path}: {error.strerror}") from error


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_TEXT_MAX).decode(errors="replace")


def pid_space() -> str:
    """Where process ids mean the same thing; empty where that cannot be known."""
    try:
        return str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        return ""


def is_gone(pid: int, space: str) -> bool:
    """Whether a process has ended for sure: it was of this pid space and is not there any more."""
    if not space or space != pid_space():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
