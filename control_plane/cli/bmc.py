"""`gridplane bmc`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.progress import each
from control_plane.cli.workplace import (
    clock_of,
    load_declared,
    pick_site,
    read_network_map,
    run_async,
)
from control_plane.core.bmc import BmcSeen, Part, SensorKind
from control_plane.core.errors import ControlPlaneError
from control_plane.core.fleet import BmcAccess, Site
from control_plane.core.ports import Bmc
from control_plane.engine.bmcs import BmcPlace, bmcs_of, target_of
from control_plane.engine.secrets import SystemSecrets
from control_plane.views.table import table

_AT_ONCE = 32
"""BMCs that are asked at the same time: one command each."""
_PARTS = {part.value: part for part in Part}


class BmcRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one look."""

    asset: str
    address: str
    seen: BmcSeen | None = None
    trouble: str | None = None
    """Why nothing is known. It says nothing of the machine: it is not "off"."""


@click.command("bmc")
@click.argument("nodes", nargs=-1)
@click.option(
    "--part",
    "parts",
    multiple=True,
    type=click.Choice(list(_PARTS)),
    default=("draw",),
    help="What is asked beside the system itself; each costs requests. Default: draw.",
)
@options.inventory
@options.site
@options.network_map
@options.output
def command(
    *,
    nodes: tuple[str, ...],
    parts: tuple[str, ...],
    inventory: Path,
    site: str | None,
    network_map: Path | None,
    output: str,
) -> int:
    """Look at the BMCs of GPU nodes and hosts, by Redfish. Nothing is written to any.

    NODES are GPU nodes, hosts or racks; without any, all of the site are asked. How they are reached stands
    in site.yaml under `bmc`. A BMC whose certificate nobody named is not spoken to. `silent` does not mean
    that a machine is off.

    \b
    gridplane bmc --site ga-macon
    gridplane bmc ga-g1-r001 --part sensors --part log -o json
    """
    name = pick_site(inventory, site)
    declared = load_declared(inventory, name).site
    if declared.bmc is None:
        raise Stop(
            f"inventory/sites/{name}/site.yaml says nothing of BMCs: add `bmc: {{credentials: {{user: …, "
            "secret_ref: …}}}`, and the certificate of each, or who signs them",
            Exit.REFUSED,
        )
    places = _chosen(declared, nodes)
    rows = _look(declared.bmc, places, frozenset(_PARTS[part] for part in parts), network_map)
    answered = sum(row.seen is not None for row in rows)
    text = "\n".join(
        [f"{answered:,} of {len(rows):,} BMCs answered", "", table(_HEADER, map(_cells, rows))]
    )
    emit(output, rows, table=text, names=[row.asset for row in rows])
    return Exit.OK


def _chosen(site: Site, nodes: Sequence[str]) -> list[BmcPlace]:
    places = list(bmcs_of(site))
    if not places:
        raise Stop(f"no GPU node and no host of {site.id} has a BMC", Exit.REFUSED)
    for node in nodes:
        if not any(node in {place.asset, place.rack} for place in places):
            raise Stop(f"{node} is no GPU node, host or rack of {site.id} with a BMC", Exit.USAGE)
    return [p for p in places if not nodes or not {p.asset, p.rack}.isdisjoint(nodes)]


def _look(
    access: BmcAccess, places: Sequence[BmcPlace], parts: frozenset[Part], network_map: Path | None
) -> list[BmcRow]:
    from control_plane.drivers.net import StreamNet
    from control_plane.drivers.redfish import RedfishBmc

    driver: Bmc = RedfishBmc(StreamNet(read_network_map(network_map)), clock_of(network_map))
    secrets, room = SystemSecrets(), asyncio.Semaphore(_AT_ONCE)

    async def one(place: BmcPlace) -> BmcRow:
        async with room:
            row = BmcRow(asset=place.asset, address=place.address)
            try:
                seen = await driver.look(target_of(access, place, secrets), parts)
                return msgspec.structs.replace(row, seen=seen)
            except ControlPlaneError as error:
                return msgspec.structs.replace(row, trouble=str(error))

    async def every() -> list[BmcRow]:
        try:
            return await each("BMCs", places, one)
        finally:
            await driver.close()

    return run_async(every())


_HEADER = (
    "NODE",
    "ADDRESS",
    "POWER",
    "HEALTH",
    "W",
    "CAP W",
    "HOTTEST",
    "MODEL",
    "SERIAL",
    "BIOS",
    "BMC",
)


def _cells(row: BmcRow) -> tuple[object, ...]:
    seen = row.seen
    if seen is None:
        return (
            row.asset,
            row.address,
            "silent",
            None,
            None,
            None,
            None,
            row.trouble,
            None,
            None,
            None,
        )
    return (
        row.asset,
        row.address,
        seen.power.value if seen.power else None,
        seen.health.value if seen.health else None,
        seen.power_w,
        seen.cap.watts if seen.cap else None,
        _hottest(seen),
        seen.model,
        seen.serial,
        seen.bios_version,
        seen.bmc_version,
    )


def _hottest(seen: BmcSeen) -> str | None:
    known = [
        (sensor.value, sensor.name)
        for sensor in seen.sensors or ()
        if sensor.kind is SensorKind.TEMPERATURE_C and sensor.value is not None
    ]
    if not known:
        return None
    value, name = max(known)
    return f"{name} {value:.0f} °C"
