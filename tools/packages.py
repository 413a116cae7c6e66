"""Install the Debian packages that hosts of the lab need: `make packages`; a machine that has them is left alone.

Needs root and apt. Where one of them is missing it says what to install, and the tests that boot hosts say
that they did not run.
"""

from __future__ import annotations

import os
import subprocess
import sys

from control_plane.lab.commands import which
from control_plane.lab.probe import missing_packages


def main() -> int:
    wanted = missing_packages()
    if not wanted:
        return 0
    if os.geteuid() != 0 or which("apt-get") is None:
        print(
            f"hosts of the lab need Debian packages that this machine lacks: {' '.join(wanted)}. Install "
            "them, or run `make packages` as root; everything else works without.",
            file=sys.stderr,
        )
        return 0
    print(f"installing {' '.join(wanted)}", file=sys.stderr)
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (
        ["apt-get", "update", "-qq"],
        ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *wanted],
    ):
        done = subprocess.run(command, env=quiet, capture_output=True, text=True, check=False)
        if done.returncode:
            print(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}", file=sys.stderr)
            return done.returncode
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
