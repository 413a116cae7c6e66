"""`gridplane workorder`."""

from __future__ import annotations

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit
from control_plane.cli.nodes import check_node, names_below
from control_plane.cli.reading import of_reading
from control_plane.cli.workplace import Workplace, load_declared
from control_plane.core.fleet import Site
from control_plane.core.work_order import WorkOrder, spoken, work_orders
from control_plane.views.work_orders import sheet

_RULE = "\n\n" + "-" * 72 + "\n\n"


@click.command("workorder")
@click.argument("node", required=False)
@click.option(
    "--planned",
    is_flag=True,
    help="Of the inventory as it is on disk, accepted or not.  [default: the accepted one]",
)
@of_reading
@options.output
def command(*, node: str | None, planned: bool, place: Workplace, output: str) -> int:
    """Print what a person does where machines are to change their firmware family: steps, slots, images.

    gridplane never does that itself, and writes nothing to such a machine until it answers as the family
    that is declared. NODE is a rack or feed, or a device: only its machines. Asks no device.

    \b
    gridplane workorder --site ga-macon
    gridplane workorder ga-a1-r02 --site ga-macon > sheet.txt
    gridplane workorder --planned --site ga-macon -o json
    """
    site = _site(place, planned=planned)
    if node is not None:
        check_node(site, node)
    told = spoken(place.store.sightings())
    found = [_below(order, site, node) for order in work_orders(site, told)]
    orders = [order for order in found if order.slots]
    text = _RULE.join(map(sheet, orders)) or "No machine is to change its firmware family."
    emit(output, orders, table=text, names=[s.asset for o in orders for s in o.slots])
    return Exit.OK


def _site(place: Workplace, *, planned: bool) -> Site:
    accepted = place.store.accepted()
    if planned or accepted is None:
        return load_declared(place.inventory, place.site).site
    return place.revisions().site(accepted.digest)


def _below(order: WorkOrder, site: Site, node: str | None) -> WorkOrder:
    if node is None:
        return order
    names = names_below(site, node)
    slots = tuple(slot for slot in order.slots if slot.asset in names)
    return msgspec.structs.replace(order, slots=slots)
