"""Clearing a lab away, whatever its form and however it ended: found by its marks, not by its memory."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

from control_plane.lab import cgroups, processes
from control_plane.lab.network import Network


def tag_of(folder: Path) -> str:
    """The name of a lab in what the whole machine shares: namespaces, cgroups, machines."""
    return hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:8]


def clear(folder: Path) -> None:
    """End every process of the lab below a folder and remove all that it left; also twice.

    Raises:
        OSError: a process cannot be ended: the kernel holds it.
    """
    tag = tag_of(folder)
    # Hosts first: with its guest gone, a power supply has nothing to start again.
    cgroups.remove(tag)
    processes.stop(folder.resolve())
    Network(tag).remove()
    for left in Path("/run/systemd/nspawn").glob(f"*/{tag}-*"):
        shutil.rmtree(left, ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)
