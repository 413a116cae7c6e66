"""`gridplane trust`."""

from __future__ import annotations

from pathlib import Path

import click

from control_plane.cli import options
from control_plane.cli.emit import emit, say
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.looking import look_at
from control_plane.cli.nodes import below, check_node
from control_plane.cli.saying import Saying
from control_plane.cli.saying_afar import Where, saying_at
from control_plane.cli.workplace import confirm
from control_plane.core.memory import Pin
from control_plane.core.observation import Identity, Observation
from control_plane.core.world import pinned
from control_plane.engine.records import Order, OrderKind
from control_plane.views.table import table

_SHOWN = 20


@click.command("trust")
@click.argument("nodes", nargs=-1, required=True)
@options.of_site
@options.cluster
@options.by
@options.yes
@options.output
@click.option("--replace", is_flag=True, help="Also move a pin to the machine that answers now.")
def command(
    *,
    nodes: tuple[str, ...],
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    kubeconfig: Path | None,
    namespace: str | None,
    by: str,
    yes: bool,
    output: str,
    replace: bool,
) -> int:
    """Pin the machines that answer now as the assets declared there, by MAC and serial.

    Nothing is written to a device whose identity is not pinned. A device that has a pin already is
    left alone, unless --replace says that the machine in its slot was exchanged.

    \b
    gridplane trust lab-r1 --site lab
    gridplane trust m-000253 --replace --by j.ortiz --site ga-macon
    """
    where = Where(
        inventory=inventory,
        site=site,
        state=state,
        network_map=network_map,
        kubeconfig=kubeconfig,
        namespace=namespace,
    )
    with saying_at(where, creates=True, reads=True) as saying:
        return _trust(saying, nodes, by=by, yes=yes, output=output, replace=replace)


def _trust(
    saying: Saying, nodes: tuple[str, ...], *, by: str, yes: bool, output: str, replace: bool
) -> int:
    if saying.declared is None:
        raise Stop("without a declaration there is nothing to pin", Exit.INVALID)
    declared = saying.declared
    for node in nodes:
        check_node(declared, node)
    place = saying.place
    memories = place.store.memories()
    wanted = {
        d.asset: pinned(d, memories.get(d.asset)).pin
        for node in nodes
        for d in below(declared, node)
        if d.is_managed
    }
    if not replace:
        wanted = {asset: pin for asset, pin in wanted.items() if pin is None}
    seen = look_at(place, declared, wanted)
    answers: dict[str, Identity] = {}
    for asset, sighting in seen.items():
        if isinstance(sighting, Observation) and sighting.identity is not None:
            pin = wanted[asset]
            if pin is None or pin.matches(sighting.identity) is not True:
                answers[asset] = sighting.identity
    if not answers:
        click.echo(f"nothing to pin: {len(wanted):,} unpinned, {len(seen):,} looked at", err=True)
        return Exit.OK
    rows = [
        (asset, i.model, i.mac, i.serial, pin.mac if (pin := wanted[asset]) else None)
        for asset, i in sorted(answers.items())
    ]
    say(table(("DEVICE", "MODEL", "MAC", "SERIAL", "PINNED SO FAR"), rows[:_SHOWN]), err=True)
    if len(rows) > _SHOWN:
        click.echo(f"... and {len(rows) - _SHOWN:,} more", err=True)
    confirm(f"Pin these {len(answers):,} machines?", yes=yes)
    now_s = place.clock.wall_s()
    pins = {
        asset: Pin(mac=identity.mac, serial=identity.serial, source=by)
        for asset, identity in sorted(answers.items())
    }
    saying.orders(
        [
            Order(kind=OrderKind.TRUST, target=asset, by=by, at_s=now_s, pin=pin)
            for asset, pin in pins.items()
        ]
    )
    emit(output, sorted(answers), table=f"{len(answers):,} pinned", names=sorted(answers))
    return Exit.OK
