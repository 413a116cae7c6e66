"""`gridplane simulate`: a site's devices on loopback, and a hand that lets things go wrong."""

from __future__ import annotations

import asyncio
import shlex
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.workplace import keep_what_is, load_declared, pick_site, run_async
from control_plane.core.errors import DeclarationError
from control_plane.core.fleet import Site
from control_plane.core.rotation import ref_in_use
from control_plane.engine.secrets import SystemSecrets
from control_plane.simulator.bmc_web import PORT
from control_plane.simulator.build import FACTORY_PASSWORDS, Start
from control_plane.simulator.control import SOCKET, ControlClient, ControlError
from control_plane.simulator.faults import FaultKind
from control_plane.simulator.floor import Floor, load_floor
from control_plane.simulator.gpu_hall import PASSWORD as BMC_PASSWORD
from control_plane.simulator.gpu_hall import USER as BMC_USER
from control_plane.simulator.gpu_host import Mends
from control_plane.simulator.meters import MeterFault
from control_plane.simulator.network import Trouble
from control_plane.simulator.nodes import bmc_addresses
from control_plane.simulator.serve import REDFISH, Serving, serving
from control_plane.simulator.server import TRUE_PORTS
from control_plane.views.table import counted, table

ENV = "env"
"""Beside the network map: what a shell has to export for the other verbs to find the simulation."""

_CHOSEN = {"rack": "rack", "node": "node", "asset": "asset", "family": "family"}

simulation = click.option(
    "--simulation",
    type=click.Path(path_type=Path, file_okay=False),
    envvar="GRIDPLANE_SIMULATION",
    help="Folder of the simulation.  [default: .gridplane/sim/<site>]",
)


@click.group("simulate")
def command() -> None:
    """Serve a declared site's devices on loopback, and let things go wrong with them.

    Each device answers its firmware's own protocols at an address of its own in 127.0.0.0/8, each BMC
    Redfish over HTTPS; nothing but loopback is bound. The network map that `serve` writes leads every
    other verb there; the file `env` beside it, read into a shell with `.`, names it and the factory's
    passwords.

    \b
    gridplane simulate serve --site lab --start stock
    . .gridplane/sim/lab/env && gridplane observe --site lab
    gridplane simulate fault hijack rack:lab-r1 --site lab
    gridplane simulate truth rack:lab-r1 --site lab
    gridplane simulate fault lockout lab-g1-n1 --site lab
    """


@command.command("serve")
@options.inventory
@options.site
@simulation
@click.option(
    "--seed", type=int, default=0, show_default=True, help="Chooses all that is left to chance."
)
@click.option(
    "--start",
    type=click.Choice(["converged", "stock"]),
    default="converged",
    show_default=True,
    help="converged: as declared. stock: as a new manager finds a site.",
)
@click.option(
    "--floor",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What stands on the floor otherwise than recorded (examples/floor/).",
)
@click.option(
    "--time-scale",
    type=click.FloatRange(0.1, 10_000.0),
    default=1.0,
    show_default=True,
    help="Device and policy seconds per second: boot, ramp, soak. The wire is never scaled.",
)
@click.option(
    "--true-ports",
    is_flag=True,
    help="Listen on the devices' own ports (80, 443, 502, 4028), for clients that know no map.",
)
@click.option(
    "--declared",
    is_flag=True,
    help="Answer at declared addresses and ports; in a network namespace, as `lab up` makes it. No BMCs.",
)
def serve_command(
    *,
    inventory: Path,
    site: str | None,
    simulation: Path | None,
    seed: int,
    start: Start,
    floor: Path | None,
    time_scale: float,
    true_ports: bool,
    declared: bool,
) -> int:
    """Serve until Ctrl-C or `gridplane simulate stop`.

    \b
    gridplane simulate serve --site ga-macon --start stock --floor examples/floor/ga-macon.yaml
    """
    name = pick_site(inventory, site)
    site_declared = load_declared(inventory, name).site
    folder = simulation or _default(name)
    passwords, hints = _passwords(site_declared)
    known = read_floor(floor)
    bmc_port = site_declared.bmc.port if site_declared.bmc else PORT

    async def main() -> None:
        async with serving(
            site_declared,
            state=folder,
            time_scale=time_scale,
            seed=seed,
            start=start,
            floor=known,
            passwords=passwords,
            ports={port: port for port in (*TRUE_PORTS, bmc_port)} if true_ports else TRUE_PORTS,
            declared=declared,
        ) as running:
            keep_what_is()
            env = running.map_path.with_name(ENV)
            map_path = shlex.quote(str(running.map_path.resolve()))
            exports = (f"export GRIDPLANE_NETWORK_MAP={map_path}", *hints)
            env.write_text("".join(f"{line}\n" for line in exports), encoding="utf-8")
            _say(running, env)
            loop = asyncio.get_running_loop()
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.add_signal_handler(number, running.control.stopped.set)
            await running.control.stopped.wait()
            env.unlink(missing_ok=True)

    try:
        run_async(main())
    except OSError as error:
        raise Stop(f"cannot serve {name}: {error}", Exit.FAILED) from error
    except ValueError as error:
        raise Stop(str(error), Exit.INVALID) from error
    return Exit.OK


def read_floor(path: Path | None) -> Floor | None:
    """The floor of a file.

    Raises:
        Stop: it is none.
    """
    if path is None:
        return None
    try:
        return load_floor(path)
    except (OSError, msgspec.DecodeError) as error:
        raise Stop(f"{path} is no floor: {error}", Exit.INVALID) from error


def _default(site: str) -> Path:
    return Path(".gridplane") / "sim" / site


def _passwords(site: Site) -> tuple[Mapping[str, str], list[str]]:
    """What devices take as password, by family; and what to set so that the other verbs know it.

    The reference of the declaration is asked first; where it leads nowhere, the factory's holds.
    """
    secrets = SystemSecrets()
    known: dict[str, str] = {}
    hints: dict[str, None] = {}
    for intent in {id(d.intent): d.intent for d in site.devices}.values():
        given, family = intent.credentials, intent.family
        if given is None or family not in FACTORY_PASSWORDS or family in known:
            continue
        # Of a password that is rotated in, machines have the one before.
        ref = ref_in_use(given, None)
        try:
            known[family] = secrets.resolve(ref).reveal()
        except DeclarationError:
            known[family] = FACTORY_PASSWORDS[family]
            scheme, _, where = ref.partition(":")
            if scheme == "env":
                hints[f"export {where}={FACTORY_PASSWORDS[family]}  # the factory's"] = None
    if site.bmc is not None:
        ref = ref_in_use(site.bmc.credentials, None)
        try:
            known[REDFISH] = secrets.resolve(ref).reveal()
        except DeclarationError:
            scheme, _, where = ref.partition(":")
            if scheme == "env":
                hints[f"export {where}={BMC_PASSWORD}  # the simulated BMCs'"] = None
    elif bmc_addresses(site):
        hints[f"# BMCs take user {BMC_USER}, password {BMC_PASSWORD}"] = None
    return known, list(hints)


def _say(running: Serving, env: Path) -> None:
    site = running.site
    absent = ", ".join(f"{count:,} {why}" for why, count in sorted(site.absent.items()))
    served = counted(len(site.stations), "device")
    if site.nodes:
        served += f" and {counted(len(site.nodes), 'BMC')}"
    click.echo(f"serving {served} of {site.id}; not there: {absent or 'none'}")
    click.echo(f"in another shell:  . {env}  (where it answers, and the factory's passwords)")


# --- the hand --------------------------------------------------------------------------------


def _client(site: str | None, inventory: Path, simulation: Path | None) -> ControlClient:
    folder = simulation or _default(pick_site(inventory, site))
    return ControlClient(folder / SOCKET)


def _ask(client: ControlClient, request: dict[str, Any]) -> dict[str, Any]:
    try:
        return client.request(request)
    except ControlError as error:
        raise Stop(str(error), Exit.REFUSED) from error


def _target(text: str | None, share: float | None, seed: int) -> dict[str, Any]:
    target: dict[str, Any] = {"seed": seed}
    if text is not None:
        kind, found, name = text.partition(":")
        if not found:
            kind, name = "asset", text
        if kind not in _CHOSEN:
            known = ", ".join(f"{one}:NAME" for one in _CHOSEN)
            raise Stop(f"'{text}' is no target; it is one of {known}", Exit.USAGE)
        target[_CHOSEN[kind]] = name
    if share is not None:
        target["share"] = share
    return target


seed_option = click.option(
    "--seed", type=int, default=0, show_default=True, help="Draws the share."
)
share_option = click.option(
    "--share", type=float, help="Of the target: a share below 1, or a count from 1."
)


@command.command("fault")
@click.argument("kind", type=click.Choice([kind.value for kind in FaultKind]))
@click.argument("target", required=False)
@options.inventory
@options.site
@simulation
@share_option
@seed_option
@click.option("--url", help="hijack: the pool.")
@click.option("--worker", help="hijack: the worker.")
@click.option("--mode", help="lower, raise: the mode.")
@click.option("--slot", type=int, help="dead_board: which.")
@click.option(
    "--trouble",
    type=click.Choice([one.value for one in Trouble]),
    help="trouble: what is wrong with the line.",
)
@click.option("--gpu", type=int, help="fall_off, xid: its index.")
@click.option(
    "--mends",
    type=click.Choice([mends.name.lower() for mends in Mends]),
    help="fall_off: the least that brings it back.",
)
@click.option("--xid", type=int, help="xid: the number.")
def fault_command(
    *,
    kind: str,
    target: str | None,
    inventory: Path,
    site: str | None,
    simulation: Path | None,
    share: float | None,
    seed: int,
    **details: Any,
) -> int:
    """Let KIND happen to TARGET: rack:NAME, node:NAME, family:NAME, an asset, or everything.

    It hits those that such a thing can happen to: a PDU that goes dark (`power_off node:…`) miners, GPU
    nodes and BMCs alike, a lockout BMCs alone.

    \b
    gridplane simulate fault hijack rack:ga-a1-r07 --site ga-macon
    gridplane simulate fault reboot --share 20 --seed 3 --site ga-macon
    gridplane simulate fault trouble m-000017 --trouble garbage --site ga-macon
    gridplane simulate fault power_off node:ga-pad-3 --site ga-macon    # the host curtails
    gridplane simulate fault fall_off ga-g1-r001-n1 --gpu 3 --mends power_cycle --site ga-macon
    gridplane simulate fault stuck_boot rack:ga-g1-r001 --site ga-macon
    gridplane simulate fault clear --site ga-macon
    """
    request = {"do": "fault", "kind": kind, "target": _target(target, share, seed), "seed": seed}
    request |= {name: value for name, value in details.items() if value is not None}
    hit = _ask(_client(site, inventory, simulation), request)["assets"]
    shown = ", ".join(hit[:8]) + (", ..." if len(hit) > 8 else "")  # noqa: PLR2004 - fits a line
    click.echo(f"{kind}: {counted(len(hit), 'device')}: {shown}")
    return Exit.OK


@command.command("meter")
@click.argument("kind", type=click.Choice([*(kind.value for kind in MeterFault), "clear"]))
@click.argument("meters", nargs=-1)
@options.inventory
@options.site
@simulation
@click.option("--late", "late_s", type=float, default=30.0, help="late: by how many seconds.")
def meter_command(
    *,
    kind: str,
    meters: tuple[str, ...],
    inventory: Path,
    site: str | None,
    simulation: Path | None,
    late_s: float,
) -> int:
    """Let KIND happen to METERS, or to all of the site; `clear` makes them well again.

    \b
    gridplane simulate meter frozen ga-mp3 --site ga-macon
    gridplane simulate meter times_ten ga-mf1 --site ga-macon
    gridplane simulate meter gateway_silent ga-mp1 --site ga-macon    # and all behind its gateway
    gridplane simulate meter clear --site ga-macon
    """
    request = {
        "do": "meter_fault", "kind": None if kind == "clear" else kind, "meters": meters,
        "late_s": late_s,
    }  # fmt: skip
    hit = _ask(_client(site, inventory, simulation), request)["meters"]
    click.echo(f"{kind}: {counted(len(hit), 'meter')}: {', '.join(hit)}")
    return Exit.OK


@command.command("meters")
@options.inventory
@options.site
@simulation
@options.output
def meters_command(
    *, inventory: Path, site: str | None, simulation: Path | None, output: str
) -> int:
    """Show what really flows through meters, whatever they show."""
    meters = _ask(_client(site, inventory, simulation), {"do": "meters"})["meters"]
    rows = [
        (m["name"], m["node"], f"{m['true_w']:,.0f}", m["fault"] or m["trouble"]) for m in meters
    ]
    head = ("METER", "NODE", "W", "TROUBLE")
    emit(output, meters, table=table(head, rows), names=[m["name"] for m in meters])
    return Exit.OK


@command.command("truth")
@click.argument("target", required=False)
@options.inventory
@options.site
@simulation
@share_option
@seed_option
@options.output
def truth_command(
    *,
    target: str | None,
    inventory: Path,
    site: str | None,
    simulation: Path | None,
    share: float | None,
    seed: int,
    output: str,
) -> int:
    """Show what machines really are and do, whatever they say."""
    client = _client(site, inventory, simulation)
    told = _ask(client, {"do": "truth", "target": _target(target, share, seed)})
    machines, nodes = told["machines"], told["nodes"]
    rows = [
        (
            m["asset"], m["address"], m["phase"], m["mode"], f"{m['drawn_w']:,.0f}",
            f"{m['hashrate_ths']:,.1f}", m["pools"][0][0] if m["pools"] else "-", m["trouble"] or "",
        )
        for m in machines
    ]  # fmt: skip
    head = ("ASSET", "ADDRESS", "PHASE", "MODE", "W", "TH/S", "POOL", "TROUBLE")
    of_nodes = [
        (
            n["asset"], n["url"], n["power"], n["progress"],
            f"{n['drawn_w']:,.0f}", _gpus(n), ", ".join(n["trouble"]),
        )
        for n in nodes
    ]  # fmt: skip
    head_of_nodes = ("NODE", "BMC", "POWER", "PROGRESS", "W", "GPUS", "TROUBLE")
    tables = [table(h, r) for h, r in ((head, rows), (head_of_nodes, of_nodes)) if r]
    every = [*machines, *nodes]
    emit(output, every, table="\n\n".join(tables), names=[one["asset"] for one in every])
    return Exit.OK


def _gpus(node: Mapping[str, Any]) -> str:
    """How many pods can have, and which are lost."""
    offered = node["gpus_offered"]
    lost = "".join(f" without {gpu}" for gpu in node["gpus_lost"])
    return "-" if offered is None else f"{offered}{lost}"


@command.command("status")
@options.inventory
@options.site
@simulation
@options.output
def status_command(
    *, inventory: Path, site: str | None, simulation: Path | None, output: str
) -> int:
    """Show how many machines are served, what they draw, and how many writes reached them."""
    client = _client(site, inventory, simulation)
    status = _ask(client, {"do": "status"}) | _ask(client, {"do": "totals"})
    text = (
        f"{status['site']}: {status['machines']:,} machines draw {status['drawn_w'] / 1e6:,.2f} MW at "
        f"{status['hashrate_ths'] / 1e6:,.3f} EH/s; {status['writes']:,} writes reached them"
    )
    if status["nodes"]:
        text += (
            f"; {status['nodes']:,} hosts with a BMC draw {status['nodes_drawn_w'] / 1e6:,.2f} MW"
        )
    emit(output, status, table=text)
    return Exit.OK


@command.command("stop")
@options.inventory
@options.site
@simulation
def stop_command(*, inventory: Path, site: str | None, simulation: Path | None) -> int:
    """End the simulation."""
    _ask(_client(site, inventory, simulation), {"do": "stop"})
    return Exit.OK
