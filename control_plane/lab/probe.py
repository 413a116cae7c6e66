"""What a machine must have for the cluster form, tried and not guessed; all that is missing at once."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from control_plane.lab import cgroups
from control_plane.lab.commands import CommandFailed, run, which
from control_plane.lab.records import LabError

PACKAGES = {
    "ip": "iproute2",
    "nsenter": "util-linux",
    "unshare": "util-linux",
    "setsid": "util-linux",
    "mount": "mount",
    "ssh": "openssh-client",
    "systemd-nspawn": "systemd-container",
    "systemd-socket-activate": "systemd",
    "mmdebstrap": "mmdebstrap",
}
"""Program → the Debian package that has it."""
ROOM_BYTES = 4_000_000_000
"""Images unpacked once (1.5 GB), each host's own writes, trees."""
_CONTROLLERS = ("cpu", "cpuset", "memory", "pids")
_TRIES = {
    "network namespaces (CONFIG_NET_NS)": "unshare --net true",
    "mount namespaces of its own (CAP_SYS_ADMIN)": "unshare --mount --propagation=private true",
    "virtual Ethernet pairs (CONFIG_VETH)": "unshare --net ip link add name here type veth peer name there",
    "overlay file systems (CONFIG_OVERLAY_FS)": (
        'd=$(mktemp -d) && trap "rm -rf $d" EXIT && mkdir $d/l $d/u $d/w $d/m && unshare --mount '
        "--propagation=private mount -t overlay overlay -o lowerdir=$d/l,upperdir=$d/u,workdir=$d/w $d/m"
    ),
}
"""What the kernel has to let us do → a shell command that does it and leaves nothing."""


def missing() -> list[str]:
    """Everything that this machine lacks, each with what to do; empty where the lab can come up."""
    return [*_rights(), *_programs(), *_kernel()]


def require() -> None:
    """Refuse where something is missing.

    Raises:
        LabError: it names everything.
    """
    lacking = missing()
    if lacking:
        raise LabError(
            "this machine cannot run hosts:\n"
            + "".join(f"  - {what}\n" for what in lacking)
            + "The api form, `gridplane lab up`, needs none of this."
        )


def require_room(*folders: Path) -> None:
    """Refuse where a disk has no room for a lab.

    Raises:
        LabError: it names the disk.
    """
    for folder in folders:
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free
        if free < ROOM_BYTES:
            raise LabError(
                f"{there} has {free / 1e9:.1f} GB free, and hosts take up to {ROOM_BYTES / 1e9:.0f}: make "
                "room, or point XDG_STATE_HOME and GRIDPLANE_CACHE at a larger disk"
            )


def _rights() -> Iterator[str]:
    if os.geteuid() != 0:
        yield "hosts need root: run it with sudo"


def missing_packages() -> list[str]:
    """The Debian packages of the programs that this machine lacks."""
    return sorted({package for program, package in PACKAGES.items() if which(program) is None})


def _programs() -> Iterator[str]:
    packages = missing_packages()
    if packages:
        yield f"programs of this system: apt-get install {' '.join(packages)}"


def _kernel() -> Iterator[str]:
    if os.geteuid() != 0 or which("unshare") is None or which("ip") is None:
        return
    for feature, attempt in _TRIES.items():
        try:
            run("sh", "-c", attempt)
        except CommandFailed as error:
            yield f"the kernel refuses {feature}: {str(error).splitlines()[-1].strip()}"
    lacking = [name for name in _CONTROLLERS if name not in _controllers()]
    if lacking:
        yield f"cgroup controllers that are mounted and enabled: {', '.join(lacking)}"
    if not Path("/dev/kmsg").exists():
        yield "/dev/kmsg, which kubelets read (CONFIG_PRINTK)"


def _controllers() -> set[str]:
    if cgroups.is_unified():
        return set((cgroups.ROOT / "cgroup.controllers").read_text().split())
    return {place.name for place in cgroups.hierarchies()}
