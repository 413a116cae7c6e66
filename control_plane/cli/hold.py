"""`gridplane hold`."""

from __future__ import annotations

from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.durations import DURATION
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.saying_afar import Where, saying_at
from control_plane.core.overlay import OverlayKind


@click.command("hold")
@click.argument("node")
@options.of_site
@options.cluster
@options.journal
@options.output
@click.option(
    "--kind",
    type=click.Choice(["safety", "maintenance"]),
    required=True,
    help="safety: hands in the machine, no end. maintenance: needs --ttl.",
)
@options.by
@click.option("--reason", required=True, help="Why; it is kept and shown.")
@click.option("--ttl", type=DURATION, help="When a maintenance hold ought to be over: 90m, 4h, 2d.")
def command(
    *,
    node: str,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    kubeconfig: Path | None,
    namespace: str | None,
    journal: Path | None,
    output: str,
    kind: str,
    by: str,
    reason: str,
    ttl: float | None,
) -> int:
    """Forbid every write but a stop to NODE and all below it. Works with nothing else up.

    NODE is a device, rack, switch, feed node or the site. In force at once in the gate that every
    write passes, and until it is released: an expired maintenance hold pages and goes on holding.
    Writes that had left before are listed: nobody can call them back.
    Only its owner (--by) releases a safety hold.

    \b
    gridplane hold ga-a1-r07 --kind safety --by j.ortiz --reason "PDU swap" --site ga-macon
    gridplane hold ga-a1 --kind maintenance --ttl 4h --reason "filter change" --site ga-macon
    gridplane hold ga-a1-r07 --kind safety --reason "PDU swap" --site ga-macon --kubeconfig ga.kubeconfig
    """
    if kind == "maintenance" and ttl is None:
        raise Stop("a maintenance hold needs --ttl, such as --ttl 4h", Exit.USAGE)
    if kind == "safety" and ttl is not None:
        raise Stop("a safety hold has no --ttl: it ends when its owner releases it", Exit.USAGE)
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
        saying.check(node)
        overlay = saying.set_overlay(
            OverlayKind(kind), node=node, owner=by, reason=reason, ttl_s=ttl
        )
        size = saying.size_of(overlay)
        told = f"{overlay.id}: {kind} hold on {node} of {saying.site}{size}, {saying.in_force}"
        saying.tell_overlay(overlay, told, by=by, output=output)
    return Exit.OK
