"""A host's power supply: `python -m control_plane.lab.supply FOLDER` runs the host until it is ended.

It runs in a mount namespace of its own, made by the caller: with it, all mounts of the host are gone.
A guest that reboots ends its systemd-nspawn, which is started again; one that powers off stays off.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from types import FrameType

import msgspec

from control_plane.lab import cgroups
from control_plane.lab.commands import run
from control_plane.lab.network import Network
from control_plane.lab.records import HostRecord

FILE = "supply.json"
_REBOOT = 133
"""How systemd-nspawn ends under --keep-unit when its guest reboots."""


class Supply(msgspec.Struct, frozen=True, kw_only=True):
    """How a host is run."""

    tag: str
    """The lab's name in what the whole machine shares."""
    host: HostRecord
    tree: str
    """The Debian tree below its own writes."""
    binds: tuple[tuple[str, str], ...] = ()
    """(here, there): folders that cannot be on an overlay."""
    shown: tuple[tuple[str, str], ...] = ()
    """(here, there), read-only."""


def command(supply: Supply, root: Path, network: Path) -> list[str]:
    """The systemd-nspawn that runs a host.

    Without --register and --keep-unit it wants a system bus; kubelets want /dev/kmsg.
    """
    return [
        "systemd-nspawn", f"--directory={root}", "--boot", "--quiet", "--register=no", "--keep-unit",
        f"--network-namespace-path={network}", "--capability=all", "--bind=/dev/kmsg",
        f"--machine={supply.tag}-{supply.host.name}", "--console=pipe", "--resolv-conf=off", "--timezone=off",
        *(f"--bind={here}:{there}" for here, there in supply.binds),
        *(f"--bind-ro={here}:{there}" for here, there in supply.shown),
    ]  # fmt: skip


def main(folder: Path) -> int:
    """Run the host; the exit code of its last systemd-nspawn."""
    supply = msgspec.json.decode((folder / FILE).read_bytes(), type=Supply)
    is_off = False

    def off(_number: int, _frame: FrameType | None) -> None:
        # systemd-nspawn is in our process group: it hears the same, and powers its guest off.
        nonlocal is_off
        is_off = True

    signal.signal(signal.SIGTERM, off)
    signal.signal(signal.SIGINT, off)
    root = folder / "root"
    layers = f"lowerdir={supply.tree},upperdir={folder / 'writes'},workdir={folder / 'work'}"
    run("mount", "-t", "overlay", "overlay", "-o", layers, root)
    environment = {
        **os.environ,
        # Its filter of system calls makes runc fail: "unable to create session key".
        "SYSTEMD_SECCOMP": "0",
        # Nobody else knows this root, and a lock would outlive a power cut.
        "SYSTEMD_NSPAWN_LOCK": "0",
    }
    network = Network(supply.tag)
    while True:
        network.plug(supply.host)
        done = subprocess.run(  # noqa: S603 - made above
            command(supply, root, network.path(supply.host.name)),
            env=environment,
            check=False,
            # Not this process: a v2 cgroup with children that have controllers holds no process itself.
            preexec_fn=lambda: cgroups.enter(supply.tag, supply.host.name),
        )
        if is_off or done.returncode != _REBOOT:
            return done.returncode
        sys.stdout.write(f"{supply.host.name} reboots\n")
        sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(Path(sys.argv[1])))
