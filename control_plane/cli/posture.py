"""`gridplane posture`."""

from __future__ import annotations

import click

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.nodes import below, check_node
from control_plane.cli.progress import ProgressLine
from control_plane.cli.reading import of_reading
from control_plane.cli.workplace import Workplace, load_declared, read_network_map, run_async
from control_plane.core.fleet import Device
from control_plane.core.observation import Observation, Unseen, UnseenReason
from control_plane.core.ports import Target
from control_plane.core.posture import Password, Posture, found_posture, urgency
from control_plane.core.renumbering import first_place
from control_plane.core.secret import Secret
from control_plane.core.world import World
from control_plane.engine.postures import ask_each, known_postures, may_ask
from control_plane.engine.secrets import SystemSecrets
from control_plane.views.posture import posture_table

_ANSWERS = frozenset({UnseenReason.AUTH_REJECTED, UnseenReason.SECRET_MISSING})
"""Failed looks after which a device may still be asked."""


@click.command("posture")
@click.argument("node", required=False)
@click.option(
    "--ask",
    is_flag=True,
    help="Try the maker's password where nothing is known: once a device, at most once a day.",
)
@click.option("--all", "every", is_flag=True, help="Also devices with which nothing is to be done.")
@of_reading
@options.output
def command(*, node: str | None, ask: bool, every: bool, place: Workplace, output: str) -> int:
    """List how open devices are: whose password is still its maker's, whose write API is open or closed.

    Asks no device: a login that works tells what its password is, and looks tell of the write API. With
    --ask the devices below NODE of which that is not enough are asked, each by one login that changes
    nothing. A missing password on this host leaves devices unknown.

    \b
    gridplane posture --site ga-macon
    gridplane posture ga-a1-r02 --ask --site ga-macon
    gridplane posture --all --site ga-macon -o json
    """
    record = place.store.accepted()
    site = (
        place.revisions().site(record.digest)
        if record
        else load_declared(place.inventory, place.site).site
    )
    if node is not None:
        check_node(site, node)
    devices = {d.asset: d for d in (below(site, node) if node is not None else site.devices)}
    world = place.world(site, record.digest if record else "")
    known = known_postures(site, world, SystemSecrets())
    found = {asset: posture for asset, posture in known.items() if asset in devices}
    if ask:
        found |= _ask(place, world, devices, found)
    shown = sorted((p for p in found.values() if every or p.needs_somebody), key=urgency)
    emit(
        output,
        shown,
        table=posture_table(shown, of=len(found)),
        names=[posture.asset for posture in shown],
    )
    return Exit.OK


def _ask(
    place: Workplace, world: World, devices: dict[str, Device], found: dict[str, Posture]
) -> dict[str, Posture]:
    from control_plane.drivers.factory_login import try_factory_login
    from control_plane.drivers.net import StreamNet

    if not place.is_own:
        raise Stop(
            "--ask works where the state of the site is: a copy of it would forget that it was asked",
            Exit.USAGE,
        )
    now_s = place.clock.wall_s()
    wanted = [
        asset
        for asset, posture in found.items()
        if posture.password is Password.UNKNOWN and _is_there(world, asset)
    ]
    assets = [asset for asset in wanted if may_ask(place.store, asset, now_s)]
    if len(assets) < len(wanted):
        click.echo(
            f"gridplane: {len(wanted) - len(assets):,} were asked within a day: not asked again; "
            "`gridplane explain DEVICE` has what came of it",
            err=True,
        )
    net = StreamNet(read_network_map(place.network_map))

    async def asking(asset: str) -> Posture:
        device = devices[asset]
        target = Target(asset=asset, address=_address(world, device), user="", password=Secret(""))
        told = await try_factory_login(net, target, device.intent.family)
        return found_posture(device, told.password, told.write_api, told.how)

    with ProgressLine("trying the makers' passwords", quiet=not assets) as line:
        return run_async(
            ask_each(assets, store=place.store, clock=place.clock, asking=asking, told=line.count)
        )


def _is_there(world: World, asset: str) -> bool:
    """Whether a device answered last time, in its declared family, and is not under way for firmware."""
    sighting = world.sightings.get(asset)
    if asset in world.locked:
        return False
    if isinstance(sighting, Unseen):
        return sighting.reason in _ANSWERS
    return isinstance(sighting, Observation)


def _address(world: World, device: Device) -> str:
    memory = world.memories.get(device.asset)
    return first_place(device, memory.located if memory else None) or ""
