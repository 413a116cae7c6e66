"""`gridplane resume`."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.saying import Saying
from control_plane.core.curtailing import of_programme, programmes_in


class ResumeResult(msgspec.Struct, frozen=True, kw_only=True):
    """From `resume`."""

    site: str
    programme: str
    devices: int
    """That may run again."""
    acts: str | None
    """Who raises them; `None`: nobody acts on the site now, and nothing is raised until somebody does."""


@click.command("resume")
@click.argument("programme", default="manual")
@click.option("--who", default=options.user, show_default="the login name", help="Who says so.")
@options.of_site
@options.output
def command(
    *,
    programme: str,
    who: str,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    output: str,
) -> int:
    """End a curtailment. What may run again is raised by whoever acts on the site, within headroom.

    Nobody but the process that holds the fence raises: without one, this says so, and it is done once one
    runs.

    \b
    gridplane resume peak --site ga-macon
    """
    saying = Saying(inventory, site, state, network_map)
    overlays = saying.store.overlays()
    own = of_programme(overlays, programme)
    if not own:
        there = ", ".join(programmes_in(overlays)) or "none"
        raise Stop(
            f"no curtailment '{programme}' is in force at {saying.site}: {there}", Exit.REFUSED
        )
    saying.resume(programme, own, by=who)
    acting = saying.place.engine_status()
    count = len(frozenset().union(*(o.assets for o in own)))
    result = ResumeResult(
        site=saying.site,
        programme=programme,
        devices=count,
        acts=acting.mode if acting else None,
    )
    told = f"{saying.site}: {programme} is over; {count:,} machines may run again"
    told += (
        f", and are raised within headroom by process {acting.pid} ({acting.mode})"
        if acting
        else ". Nobody acts on the site now: nothing is raised until `gridplane run` does"
    )
    emit(output, result, table=told, names=[programme])
    return Exit.OK
