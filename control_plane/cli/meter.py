"""`gridplane meter`."""

from __future__ import annotations

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
from control_plane.core.errors import ControlPlaneError
from control_plane.core.fleet import Site
from control_plane.core.meter import Freshness, Meter, Reading, freshness
from control_plane.core.ports import Meters
from control_plane.views.table import counted, power, span, table


class MeterRow(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What came of one read."""

    meter: str
    node: str | None
    rating_w: float | None = None
    """Of its node."""
    reading: Reading | None = None
    age_s: float | None = None
    """When the last meter had answered or not."""
    freshness: Freshness = Freshness.NEVER
    trouble: str | None = None
    """Why nothing is known. It says nothing of the node: it does not mean 0 W."""


@click.group("meter")
def command() -> None:
    """The power meters of a site, by Modbus TCP. Nothing is written to any.

    \b
    gridplane meter list --site ga-macon
    gridplane meter read --site ga-macon ga-m0 ga-mt1 -o json
    """


@command.command("list")
@click.argument("meters", nargs=-1)
@options.inventory
@options.site
@options.output
def list_(*, meters: tuple[str, ...], inventory: Path, site: str | None, output: str) -> int:
    """List the meters that power.yaml declares: where each is read, and as what. Asks none of them.

    METERS are meters or feed nodes; without any all are listed.

    \b
    gridplane meter list --site ga-macon
    gridplane meter list --site ga-macon ga-pad-3 -o yaml
    """
    declared = load_declared(inventory, pick_site(inventory, site)).site
    chosen = _chosen(declared, meters)
    rows = [
        (
            one.name, one.node, f"{one.address}:{one.port}", one.unit, one.model, one.gateway,
            one.accuracy_class, one.interval_s, power(one.range_w),
        )
        for one in chosen
    ]  # fmt: skip
    head = (
        "METER", "NODE", "ADDRESS", "UNIT", "MODEL", "GATEWAY", "CLASS %", "EVERY S", "RANGE",
    )  # fmt: skip
    emit(output, chosen, table=table(head, rows), names=[one.name for one in chosen])
    return Exit.OK


@command.command("read")
@click.argument("meters", nargs=-1)
@options.inventory
@options.site
@options.network_map
@options.output
def read_command(
    *,
    meters: tuple[str, ...],
    inventory: Path,
    site: str | None,
    network_map: Path | None,
    output: str,
) -> int:
    """Read meters once, all gateways at the same time, each gateway's meters one after another.

    METERS are meters or feed nodes; without any all are read. A meter that is silent does not mean that
    nothing flows. `quality` is what this one reading shows of itself; a meter that is stuck shows only to
    who reads it again and again.

    \b
    gridplane meter read --site ga-macon
    gridplane meter read --site ga-macon ga-m0 -o json
    """
    declared = load_declared(inventory, pick_site(inventory, site)).site
    rows = _read(declared, _chosen(declared, meters), network_map)
    answered = sum(row.reading is not None for row in rows)
    lines = [f"{answered:,} of {counted(len(rows), 'meter')} answered", ""]
    lines.append(table(_HEADER, [_cells(row) for row in rows]))
    emit(output, rows, table="\n".join(lines), names=[row.meter for row in rows])
    return Exit.OK


def _chosen(site: Site, names: Sequence[str]) -> list[Meter]:
    if not site.meters:
        raise Stop(
            f"{site.id} declares no meters: add `meters` to its power.yaml, and `meter` to the nodes that "
            "they measure",
            Exit.REFUSED,
        )
    for name in names:
        if not any(name in {one.name, one.node} for one in site.meters.values()):
            raise Stop(
                f"{name} is no meter of {site.id}, and no feed node that has one", Exit.USAGE
            )
    return [
        one
        for one in site.meters.values()
        if not names or not {one.name, one.node}.isdisjoint(names)
    ]


def _read(site: Site, chosen: Sequence[Meter], network_map: Path | None) -> list[MeterRow]:
    from control_plane.drivers.modbus import ModbusMeters
    from control_plane.drivers.net import StreamNet

    clock = clock_of(network_map)
    driver: Meters = ModbusMeters(StreamNet(read_network_map(network_map)), clock)

    async def one(meter: Meter) -> MeterRow:
        node = site.feeds.get(meter.node or "")
        row = MeterRow(meter=meter.name, node=meter.node, rating_w=node.rating_w if node else None)
        try:
            return msgspec.structs.replace(row, reading=await driver.read(meter))
        except ControlPlaneError as error:
            return msgspec.structs.replace(row, trouble=str(error))

    async def every() -> list[MeterRow]:
        try:
            rows = await each("meters", chosen, one)
        finally:
            await driver.close()
        now_s = clock.wall_s()
        return [
            msgspec.structs.replace(
                row,
                age_s=now_s - row.reading.at_s if row.reading else None,
                freshness=freshness(meter, row.reading, now_s),
            )
            for meter, row in zip(chosen, rows, strict=True)
        ]

    return run_async(every())


_HEADER = ("METER", "NODE", "POWER", "OF RATING", "ENERGY MWH", "VOLTS", "AGE", "QUALITY")


def _cells(row: MeterRow) -> tuple[object, ...]:
    reading = row.reading
    if reading is None:
        return (row.meter, row.node, None, None, None, None, "silent", row.trouble)
    watts, wh = reading.power_w, reading.import_wh
    share = f"{watts / row.rating_w:.0%}" if watts is not None and row.rating_w else None
    return (
        row.meter,
        row.node,
        None if watts is None else power(watts),
        share,
        None if wh is None else f"{wh / 1e6:,.1f}",
        reading.voltage_v,
        span(row.age_s or 0.0),
        reading.quality.value,
    )
