"""All that hosts of the lab are made of, made beforehand: `make hosts`. What is there already takes no time.

Debian packages of this machine, the hosts' trees, the images of the control plane and of gridplane. Needs
root and apt; where one of them is missing it says what to do, and the tests that boot hosts say that they
did not run.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from control_plane.core.errors import ControlPlaneError
from control_plane.lab import bundle, cluster, debian, probe
from control_plane.lab.commands import run, which

CHECKOUT = Path(__file__).resolve().parents[1]


def main() -> int:
    try:
        _install(probe.missing_packages())
        lacking = probe.missing()
        if lacking:
            _say("this machine cannot boot hosts; everything else works:")
            for what in lacking:
                _say(f"  - {what}")
            return 0
        for spec in (debian.BARE, debian.NODE):
            debian.tree(spec, _say)
        cluster.seed_of(CHECKOUT, _say)
        bundle.bundle(CHECKOUT, _say)
    except ControlPlaneError as error:
        _say(f"make hosts: {error}")
        return 1
    return 0


def _install(packages: list[str]) -> None:
    """The packages, where we may; else `probe` names them."""
    if not packages or os.geteuid() != 0 or which("apt-get") is None:
        return
    _say(f"installing the Debian packages {' '.join(packages)}")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run("apt-get", "update", "-qq", environment=quiet)
    run(
        "apt-get", "install", "-qq", "--yes", "--no-install-recommends", *packages, environment=quiet
    )  # fmt: skip


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
