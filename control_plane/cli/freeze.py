"""`gridplane freeze`."""

from __future__ import annotations

from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.durations import DURATION
from control_plane.cli.exits import Exit
from control_plane.cli.saying_afar import Where, saying_at
from control_plane.core.overlay import OverlayKind


@click.command("freeze")
@click.argument("node", required=False)
@options.of_site
@options.cluster
@options.journal
@options.output
@options.by
@click.option("--reason", required=True, help="Why; it is kept and shown.")
@click.option(
    "--ttl", type=DURATION, help="When it ends by itself: 90m, 4h, 2d. Without: on release."
)
def command(
    *,
    node: str | None,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    kubeconfig: Path | None,
    namespace: str | None,
    journal: Path | None,
    output: str,
    by: str,
    reason: str,
    ttl: float | None,
) -> int:
    """Suspend configuration writes below NODE (default: the whole site). Lowering goes on.

    \b
    gridplane freeze --site ga-macon --reason "grid emergency, nobody touches anything" --ttl 6h
    gridplane freeze ga-a1 --site ga-macon --reason "auditor on site"
    """
    where = Where(
        inventory=inventory,
        site=site,
        state=state,
        network_map=network_map,
        kubeconfig=kubeconfig,
        namespace=namespace,
        journal=journal,
    )
    with saying_at(where) as saying:
        target = node or saying.site
        saying.check(target)
        overlay = saying.set_overlay(
            OverlayKind.FREEZE, node=target, owner=by, reason=reason, ttl_s=ttl
        )
        told = f"{overlay.id}: {target} is frozen{saying.size_of(overlay)}, {saying.in_force}"
        saying.tell_overlay(overlay, told, by=by, output=output)
    return Exit.OK
