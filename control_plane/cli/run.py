"""`gridplane run`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from control_plane.cli import options
from control_plane.cli.converging import converge, local_grants, refuse_second_raiser, warn
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.workplace import Workplace, pick_site
from control_plane.engine.loop import NothingAccepted, Pace

if TYPE_CHECKING:
    from control_plane.core.fleet import Site
    from control_plane.core.world import World
    from control_plane.engine.store import Store


@click.command("run")
@options.of_site
@click.option("--take-over", is_flag=True, help="Act although the site declares a cluster.")
@options.interval
@click.option(
    "--images",
    help="Folder or http:// URL with the images of the catalogue.  [default: the site's firmware_store]",
)
@click.option(
    "--guard",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="GRIDPLANE_GUARD",
    help="Folder of the guard on this host: it is given what it follows, and what it did is taken up.",
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
    guard: Path | None,
) -> int:
    """Keep a site converged to its accepted revision until stopped.

    One process acts on a site at a time. Holds, releases, trust and newly applied revisions of other
    processes on this host reach it through the state folder, within a second.

    \b
    gridplane run --site lab
    gridplane run --site ga-macon --guard /var/lib/gridplane/guard
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
    with _beside(place, guard):
        converge(place, fence, mode="run", pace=Pace(interval_s=interval_s), granting=granting)
    return Exit.OK


@contextlib.contextmanager
def _beside(place: Workplace, folder: Path | None) -> Iterator[None]:
    """The guard of this host is kept up to date meanwhile."""
    if folder is None:
        yield
        return
    from control_plane.drivers.registry import all_capabilities
    from control_plane.engine.store import Store
    from control_plane.engine.world import read_world
    from control_plane.guard.beside import Beside

    accepted, capabilities = place.revisions(), all_capabilities()

    def world(store: Store) -> tuple[Site, World, str] | None:
        record, revisions = store.accepted(), accepted.over(store)
        if record is None:
            return None
        declared = revisions.site(record.digest)
        found = read_world(
            store, declared, record.digest, site_of=revisions.site, capabilities=capabilities,
            now_s=place.clock.wall_s(), time_scale=place.clock.scale,
        )  # fmt: skip
        return declared, found, record.digest

    beside = Beside(
        folder, lambda: Store(place.state / "state.sqlite"), world,
        now_s=place.clock.wall_s, say=warn,
    )  # fmt: skip
    beside.start()
    try:
        yield
    finally:
        beside.stop()
