"""`gridplane run`."""

from __future__ import annotations

from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.converging import converge, local_grants, refuse_second_raiser
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.workplace import Workplace, pick_site
from control_plane.engine.loop import NothingAccepted, Pace


@click.command("run")
@options.of_site
@click.option("--take-over", is_flag=True, help="Act although the site declares a cluster.")
@options.interval
@click.option(
    "--images",
    help="Folder or http:// URL with the images of the catalogue.  [default: the site's firmware_store]",
)
def command(
    *,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    take_over: bool,
    interval_s: float,
    images: str | None,
) -> int:
    """Keep a site converged to its accepted revision until stopped.

    One process acts on a site at a time. Holds, releases, trust and newly applied revisions of other
    processes on this host reach it through the state folder, within a second.

    \b
    gridplane run --site lab
    systemd-run gridplane run --site ga-macon --state /var/lib/gridplane/ga-macon
    """
    name = pick_site(inventory, site)
    place = Workplace(
        site=name, state=state, inventory=inventory, network_map=network_map, creates=True
    )
    record = place.store.accepted() if place.has_state() else None
    if record is None:
        raise NothingAccepted(f"no revision of {name} was accepted yet: run `gridplane apply`")
    refuse_second_raiser(place.revisions().site(record.digest), take_over=take_over)
    fence = place.fence()
    if fence is None:
        status = place.engine_status()
        who = f"process {status.pid} ({status.mode})" if status else "another process"
        raise Stop(f"{who} acts on {name} already", Exit.REFUSED)
    granting = local_grants(place, fence, images)
    converge(place, fence, mode="run", pace=Pace(interval_s=interval_s), granting=granting)
    return Exit.OK
