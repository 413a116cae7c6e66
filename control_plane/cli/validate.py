"""`gridplane validate`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, colored
from control_plane.cli.workplace import refuse_unknown
from control_plane.engine.secrets import SystemSecrets, missing_secrets
from control_plane.inventory.load import load
from control_plane.views.findings import findings_data, render_findings
from control_plane.views.table import counted


@click.command("validate")
@options.inventory
@options.site
@options.output
def command(inventory: Path, site: str | None, output: str) -> int:
    """Check the inventory; every finding at once, with line, column and fix.

    \b
    gridplane validate
    gridplane validate --site ga-macon -o json
    """
    if site:
        refuse_unknown(inventory, site)
    began = time.monotonic()
    loaded = load(inventory, sites={site} if site else None)
    seconds = time.monotonic() - began
    lines: list[str] = []
    missing: list[str] = []
    if loaded.findings:
        lines.append(render_findings(loaded.findings, color=colored(sys.stdout)))
    if loaded.fleet is not None:
        sites = loaded.fleet.sites.values()
        devices = sum(len(one.devices) for one in sites)
        lines.append(
            f"{inventory}: valid; {counted(len(loaded.fleet.sites), 'site')}, "
            f"{counted(devices, 'slot')}, checked in {seconds:.2f} s"
        )
        # No finding: a host that only checks an inventory has no passwords and needs none.
        missing = missing_secrets((d for one in sites for d in one.devices), SystemSecrets())
        lines += [f"on this host, {text}" for text in missing]
    emit(
        output,
        {
            "valid": loaded.fleet is not None,
            "digests": dict(loaded.digests),
            "findings": findings_data(loaded.findings),
            "missing_secrets": missing,
        },
        table="\n".join(lines),
        names=sorted({str(finding.where) for finding in loaded.findings}),
        is_safe=True,
    )
    return Exit.OK if loaded.fleet is not None else Exit.INVALID
