"""Build the container image of gridplane, or lay out what a builder needs: `make image`, `make wheels`."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from control_plane.core.errors import ControlPlaneError
from control_plane.lab import images, oci, wheels

CHECKOUT = Path(__file__).resolve().parent.parent


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="make image", description=__doc__)
    parser.add_argument(
        "--wheels", type=Path, metavar="FOLDER", help="gather the wheels there, and build nothing"
    )
    asked = parser.parse_args(arguments)
    try:
        if asked.wheels:
            shutil.rmtree(asked.wheels, ignore_errors=True)
            asked.wheels.mkdir(parents=True)
            wheels.gather(CHECKOUT, asked.wheels, epoch_s=oci.TIME_S)
        else:
            show(*images.gridplane(CHECKOUT, lambda text: print(text, file=sys.stderr)))
    except ControlPlaneError as error:
        print(f"make image: {error}", file=sys.stderr)
        return 1
    return 0


def show(reference: str, archive: Path) -> None:
    print(f"image    {reference}")
    print(f"digest   {oci.digest(archive)}")
    print(f"archive  {archive} ({archive.stat().st_size / 1e6:.0f} MB)")
    print(f"load it  ctr -n k8s.io images import {archive}")
    print(f"         podman load -i {archive}")


if __name__ == "__main__":
    sys.exit(main())
