"""A cgroup for each host of a lab: its root, and the place where whatever is left of it is found.

Both kinds of kernel: one hierarchy (v2), or one per controller (v1).
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

ROOT = Path("/sys/fs/cgroup")
PARENT = "gridplane-lab"
_TICK_S = 0.02
_GONE_S = 20.0
_INHERITED = ("cpuset.cpus", "cpuset.mems")
"""Of v1: empty in a new cgroup, and nothing may enter before they are set."""
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


def is_unified() -> bool:
    """Whether this kernel runs with one hierarchy."""
    return (ROOT / "cgroup.controllers").is_file()


def hierarchies() -> list[Path]:
    """Where a cgroup of ours has to be made; empty where nothing is mounted."""
    if is_unified():
        return [ROOT]
    if not ROOT.is_dir():
        return []
    return sorted(
        p for p in ROOT.iterdir() if not p.is_symlink() and (p / "cgroup.procs").is_file()
    )


def enter(*names: str) -> None:
    """Move this process into the cgroup `gridplane-lab/<names>` of each hierarchy; made where missing.

    Raises:
        OSError: the kernel refuses.
    """
    for hierarchy in hierarchies():
        place = hierarchy
        for name in (PARENT, *names):
            _delegate(place)
            inherited = {file: place / file for file in _INHERITED if (place / file).is_file()}
            place /= name
            place.mkdir(exist_ok=True)
            for file, source in inherited.items():
                if not is_unified() and not (place / file).read_text().strip():
                    (place / file).write_text(source.read_text())
        (place / "cgroup.procs").write_text(str(os.getpid()))


def _delegate(place: Path) -> None:
    """On v2 a cgroup's children have the controllers that it names."""
    if is_unified():
        for controller in (place / "cgroup.controllers").read_text().split():
            with contextlib.suppress(OSError):
                (place / "cgroup.subtree_control").write_text(f"+{controller}")


def members(*names: str) -> set[int]:
    """The processes in `gridplane-lab/<names>` and below."""
    found: set[int] = set()
    for hierarchy in hierarchies():
        # It leaves out what vanishes while it walks: a kubelet may be removing pods.
        for folder, _, _ in os.walk(hierarchy.joinpath(PARENT, *names)):
            with contextlib.suppress(OSError):
                text = Path(folder, "cgroup.procs").read_text()
                found.update(int(pid) for pid in text.split())
    return found


def rss_bytes(*names: str) -> int:
    """What the processes of `gridplane-lab/<names>` hold in memory."""
    total = 0
    for pid in members(*names):
        with contextlib.suppress(OSError, IndexError, ValueError):
            total += int(Path("/proc", str(pid), "statm").read_text().split()[1]) * _PAGE_BYTES
    return total


def remove(*names: str) -> None:
    """End every process in `gridplane-lab/<names>` and below, and remove the cgroups.

    Raises:
        OSError: one stays busy: a process that the kernel does not let end.
    """
    until = time.monotonic() + _GONE_S
    while members(*names) and time.monotonic() < until:
        for pid in members(*names):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_TICK_S)
    for hierarchy in hierarchies():
        top = hierarchy.joinpath(PARENT, *names)
        for folder, _, _ in os.walk(top, topdown=False):
            _rmdir(Path(folder), until)
        # The common parent goes with the last lab.
        with contextlib.suppress(OSError):
            (hierarchy / PARENT).rmdir()


def _rmdir(folder: Path, until: float) -> None:
    """A dead process leaves its cgroup a moment after it is gone from sight."""
    while True:
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(_TICK_S)
        else:
            return
