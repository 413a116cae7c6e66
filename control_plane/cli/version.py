"""`gridplane version`."""

from __future__ import annotations

import platform

import click

import control_plane
from control_plane.api.v1alpha1 import API_VERSION
from control_plane.cli import options
from control_plane.cli.emit import emit


@click.command("version")
@options.output
def command(output: str) -> None:
    """Print the versions of gridplane, of the inventory schema and of Python."""
    versions = {
        "gridplane": control_plane.__version__,
        "api": API_VERSION,
        "python": platform.python_version(),
    }
    table = "\n".join(f"{name:<10} {value}" for name, value in versions.items())
    emit(output, versions, table=table, names=[control_plane.__version__])
