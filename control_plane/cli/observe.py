"""`gridplane observe`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit
from control_plane.cli.looking import look_at
from control_plane.cli.nodes import below, check_node
from control_plane.cli.workplace import Workplace, load_declared, pick_site
from control_plane.core.observation import Observation, Sighting, Unseen
from control_plane.views.table import hashrate, listed, table


@click.command("observe")
@click.argument("nodes", nargs=-1)
@options.of_site
@options.output
def command(
    *,
    nodes: tuple[str, ...],
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    output: str,
) -> int:
    """Look at devices once, at full depth, and remember what they say. Writes to no device.

    NODES are devices, racks, switches or feed nodes; without any the whole site is looked at.

    \b
    gridplane observe --site ga-macon
    gridplane observe --site ga-macon ga-a1-r01 -o json
    """
    name = pick_site(inventory, site)
    declared = load_declared(inventory, name)
    for node in nodes:
        check_node(declared.site, node)
    assets = {d.asset for node in nodes for d in below(declared.site, node)} if nodes else None
    place = Workplace(
        site=name, state=state, inventory=inventory, network_map=network_map, creates=True
    )
    seen = look_at(place, declared.site, assets)
    good = [s for s in seen.values() if isinstance(s, Observation)]
    silent = Counter(s.reason.value for s in seen.values() if not isinstance(s, Observation))
    total = hashrate(sum(o.telemetry.hashrate_ths or 0.0 for o in good))
    lines = [f"{len(good):,} of {len(seen):,} devices answered; they hash {total}"]
    if silent:
        lines.append(f"the others: {listed(silent.items())}")
    if nodes:
        lines += ["", table(_HEADER, [_row(seen[asset]) for asset in sorted(seen)])]
    emit(output, [seen[a] for a in sorted(seen)], table="\n".join(lines), names=sorted(seen))
    return Exit.OK


_HEADER = ("DEVICE", "MODEL", "FIRMWARE", "ACTIVITY", "TH/S", "W", "POOL")


def _row(sighting: Sighting) -> tuple[object, ...]:

    if isinstance(sighting, Unseen):
        return (sighting.asset, None, None, sighting.reason.value, None, None, None)
    telemetry, settings = sighting.telemetry, sighting.settings
    return (
        sighting.asset,
        sighting.identity.model if sighting.identity else None,
        settings.firmware,
        telemetry.activity.value if telemetry.activity else None,
        telemetry.hashrate_ths,
        telemetry.power_w,
        settings.pools[0].url.rpartition("/")[2] if settings.pools else None,
    )
