"""`gridplane guard`."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import time
from collections.abc import Container, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from control_plane.cli import options
from control_plane.cli.emit import emit
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.workplace import Workplace, clock_of, pick_site, read_network_map, run_async

if TYPE_CHECKING:
    from control_plane.guard.given import Given, Shown
    from control_plane.guard.loop import GuardLoop

_folder = click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    envvar="GRIDPLANE_GUARD",
    help="The guard's own folder.  [env: GRIDPLANE_GUARD]",
)


@click.group("guard")
def command() -> None:
    """Keep a site below its caps: read its meters, lower machines; raise nothing, ask nobody.

    A process of its own, on a host that no shed can switch off. It follows what it was given last, and needs
    neither the engine, nor a cluster, nor a way out of the site.

    \b
    gridplane guard give --site ga-macon --folder /var/lib/gridplane/guard
    gridplane guard run --folder /var/lib/gridplane/guard
    gridplane guard show --folder /var/lib/gridplane/guard
    """


@command.command("give")
@options.of_site
@_folder
@click.option(
    "--cap",
    "caps",
    multiple=True,
    metavar="NODE=KW",
    help="Allow a node less than its rating gives. May be repeated.",
)
@options.output
def give_(
    *,
    inventory: Path,
    site: str | None,
    state: Path | None,
    network_map: Path | None,
    folder: Path,
    caps: tuple[str, ...],
    output: str,
) -> int:
    """Give a guard what it follows: tree, caps, meters, ways to machines, and who is shed first.

    Of the revision in force, and of machines as they were seen last. A guard that runs takes it up at its
    next look; one that cannot follow it keeps what it had.

    \b
    gridplane guard give --site ga-macon --folder /var/lib/gridplane/guard
    gridplane guard give --site ga-macon --folder guard --cap ga-f1=6500
    """
    from control_plane.guard.given import give
    from control_plane.guard.giving import given_of

    place = Workplace(
        site=pick_site(inventory, site), state=state, inventory=inventory, network_map=network_map
    )
    accepted = place.store.accepted()
    if accepted is None:
        raise Stop(
            f"no revision of {place.site} was accepted yet: run `gridplane apply`", Exit.REFUSED
        )
    declared = place.revisions().site(accepted.digest)
    caps_w = dict(_cap(text, declared.feeds) for text in caps)
    given = given_of(
        declared, place.world(declared, accepted.digest), accepted.digest, caps_w=caps_w
    )
    give(folder, given)
    emit(output, _summary(given), table=_given_words(given), names=[place.site])
    return Exit.OK


def _cap(text: str, known: Container[str]) -> tuple[str, float]:
    node, mark, number = text.partition("=")
    try:
        kilowatts = float(number)
    except ValueError:
        kilowatts = -1.0
    if not mark or not kilowatts > 0 or kilowatts == float("inf"):
        raise Stop(f"--cap {text}: say NODE=KW, such as ga-f1=6500", Exit.USAGE)
    if node not in known:
        raise Stop(f"--cap {text}: the site has no feed {node}", Exit.USAGE)
    return node, kilowatts * 1_000.0


class GivenSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What was given."""

    site: str
    revision: str
    made_at_s: float
    nodes: int
    metered: int
    machines: int
    sheddable: int
    """Of the machines: those that can be lowered, and are reached."""
    sheddable_w: float
    """What they could give up together."""


def _summary(given: Given) -> GivenSummary:
    bundle = given.bundle
    able = [d for d in bundle.devices if d.rungs and d.asset in given.ways]
    return GivenSummary(
        site=bundle.site,
        revision=bundle.revision,
        made_at_s=bundle.made_at_s,
        nodes=len(bundle.nodes),
        metered=sum(1 for node in bundle.nodes if node.meter),
        machines=len(bundle.devices),
        sheddable=len(able),
        sheddable_w=sum(d.permitted_w - d.rungs[-1].power_w for d in able),
    )


def _given_words(given: Given) -> str:
    one = _summary(given)
    return (
        f"{one.site}, revision {one.revision[:12]}: {one.nodes:,} nodes, {one.metered:,} of them metered; "
        f"{one.sheddable:,} of {one.machines:,} machines can be lowered, by {one.sheddable_w / 1e6:,.2f} MW "
        "together"
    )


@command.command("run")
@_folder
@options.network_map
def run_(*, folder: Path, network_map: Path | None) -> int:
    """Guard until stopped. What was lowered stays lowered.

    \b
    gridplane guard run --folder /var/lib/gridplane/guard
    systemd-run gridplane guard run --folder /var/lib/gridplane/guard
    """
    from control_plane.core.guard_bundle import BundleError
    from control_plane.drivers.modbus import ModbusMeters
    from control_plane.drivers.net import StreamNet
    from control_plane.drivers.registry import make_drivers
    from control_plane.engine.secrets import SystemSecrets
    from control_plane.guard.loop import GuardLoop

    _many_connections()
    with _alone(folder):
        clock = clock_of(network_map)
        net = StreamNet(read_network_map(network_map))
        loop = GuardLoop(
            folder, make_drivers(net, clock), ModbusMeters(net, clock), SystemSecrets(),
            clock=clock, scale=clock.scale, say=_say,
        )  # fmt: skip
        try:
            run_async(_until_told(loop))
        except BundleError as error:
            raise Stop(str(error), Exit.REFUSED) from error
    return Exit.OK


async def _until_told(loop: GuardLoop) -> None:
    task = asyncio.ensure_future(loop.serve())
    running = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        running.add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task


def _many_connections() -> None:
    """Have room for as many connections as writes may be under way at once."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """One guard in a folder.

    Raises:
        Stop: there is another one, or the folder cannot be used.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = os.open(folder / "guard.lock", os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise Stop(f"{folder}: {error.strerror}", Exit.STATE) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise Stop(f"another guard runs in {folder}", Exit.REFUSED) from None
    else:
        yield
    finally:
        os.close(lock)


def _say(message: str, /, *, level: str = "info", kind: str = "guard", **fields: object) -> None:
    line = {
        "at_s": round(time.time(), 3),
        "level": level,
        "kind": kind,
        "message": message,
        **fields,
    }
    # Nobody may listen any more: no reason to stop guarding.
    with contextlib.suppress(OSError):
        click.echo(msgspec.json.encode(line).decode(), err=True)


@command.command("show")
@_folder
@options.output
def show_(*, folder: Path, output: str) -> int:
    """Show what the guard in a folder does: pages that last, nodes that it guards, machines that it lowered.

    \b
    gridplane guard show --folder /var/lib/gridplane/guard
    gridplane guard show --folder /var/lib/gridplane/guard -o json
    """
    from control_plane.guard.given import shown_in

    shown = shown_in(folder)
    if shown is None:
        raise Stop(f"no guard has looked in {folder} yet: run `gridplane guard run`", Exit.REFUSED)
    emit(output, shown, table=_shown_words(shown), names=sorted(shown.lowered))
    return Exit.OK


def _shown_words(shown: Shown) -> str:
    from control_plane.views.table import table

    decision = shown.decision
    counts = f"{len(shown.lowered):,} machines lowered, {len(decision.guarded):,} nodes guarded"
    lines = [
        f"{shown.site}, revision {shown.revision[:12]}: {counts}, {len(decision.pages):,} pages"
    ]
    if decision.pages:
        rows = [(page.node, page.cause.value, page.detail) for page in decision.pages]
        lines += ["", table(("NODE", "CAUSE", "DETAIL"), rows)]
    return "\n".join(lines)
