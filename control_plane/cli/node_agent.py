"""`gridplane node-agent`."""

from __future__ import annotations

import asyncio
import contextlib
import random
import signal
import socket
import time
from collections.abc import Callable
from pathlib import Path

import click

from control_plane.agent.api import Api, Server, in_cluster
from control_plane.agent.following import Follower
from control_plane.agent.kept import KeptFile
from control_plane.agent.loop import Agent, StaleLibrary
from control_plane.cli.exits import Exit, Stop
from control_plane.cli.pod import own_namespace
from control_plane.core import limits
from control_plane.core.cluster import ClusterError
from control_plane.core.errors import StoreError
from control_plane.core.ports import Nvml
from control_plane.engine.adapters import SystemClock

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


@click.command("node-agent")
@click.option(
    "--node",
    envvar="GRIDPLANE_NODE",
    default=socket.gethostname,
    show_default="the host name; in a pod, set it to spec.nodeName",
    help="Name of this `Node`; the `GpuNode` whose `spec.nodeName` it is, is obeyed.",
)
@click.option(
    "--namespace",
    envvar="GRIDPLANE_NAMESPACE",
    help="Of that object.  [default: the pod's own, or default]",
)
@click.option("--server", help="Of the API, with https://.  [default: as a pod finds it]")
@click.option(
    "--token", type=click.Path(path_type=Path, dir_okay=False), help="File, with --server."
)
@click.option(
    "--authority",
    type=click.Path(path_type=Path, dir_okay=False),
    help="PEM file that the server's certificate is held against, with --server.",
)
@click.option(
    "--kept",
    type=click.Path(path_type=Path, dir_okay=False),
    default=Path("/var/lib/gridplane-node-agent/kept.json"),
    show_default=True,
    help="Where the last grant is kept; it has to outlive the pod.",
)
@click.option(
    "--interval",
    "interval_s",
    type=click.FloatRange(min=0.1, max=3_600),
    default=limits.GPU_LOOK_S,
    show_default=True,
    help="Seconds between two looks.",
)
@click.option(
    "--simulated",
    type=click.Choice(["h100", "h200", "b200"]),
    help="Eight simulated GPUs of this kind instead of the host's.",
)
@click.option(
    "--orders",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with what happens to the simulated GPUs, one order in JSON a line.",
)
@click.option(
    "--network-map",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    envvar="GRIDPLANE_NETWORK_MAP",
    help="Of the simulation whose time it goes by, with --simulated.",
)
def command(
    *,
    node: str,
    namespace: str | None,
    server: str | None,
    token: Path | None,
    authority: Path | None,
    kept: Path,
    interval_s: float,
    simulated: str | None,
    orders: Path | None,
    network_map: Path | None,
) -> int:
    """Keep the GPUs of this node at their cap and settings, and tell how they are.

    A pod on each GPU node runs this. It obeys the node's `GpuNode` alone. Without the API server it keeps the
    last grant, lowers what is above it, and raises nothing. When it ends, limits stay as they are.

    \b
    gridplane node-agent --node gpu-0101
    gridplane node-agent --node gpu-0101 --simulated h100 --orders orders.jsonl --kept kept.json
    """
    if server is not None and token is None:
        raise click.UsageError("--server needs --token")
    if network_map is not None and simulated is None:
        raise click.UsageError("--network-map is a simulation's: it needs --simulated")
    space = namespace or own_namespace()
    try:
        if server is not None and token is not None:
            found = Server(url=server, token=token, authority=authority, namespace=space)
        else:
            found = in_cluster(space)
        api = Api(found)
    except ClusterError as error:
        raise click.UsageError(str(error)) from error
    nvml, boot = _simulated(simulated, orders) if simulated else (_of_this_host(), _boot_id)
    clock = _clock(network_map) if network_map is not None else SystemClock()
    going = _run(
        api, node, nvml, boot=boot, kept=KeptFile(kept), clock=clock, interval_s=interval_s
    )
    try:
        asyncio.run(going)
    except StoreError as error:
        raise Stop(str(error), Exit.STATE) from error
    except StaleLibrary as error:
        raise Stop(f"starts anew: {error}", Exit.HALTED) from error
    return Exit.OK


async def _run(
    api: Api,
    node: str,
    nvml: Nvml,
    *,
    boot: Callable[[], str],
    kept: KeptFile,
    clock: SystemClock,
    interval_s: float,
) -> None:
    agent = Agent(nvml, api, kept, clock=clock, boot=boot, say=_say, interval_s=interval_s)
    follower = Follower(
        api, node, told=agent.heard, say=_say, clock=clock, rng=random.SystemRandom()
    )
    both = [asyncio.ensure_future(agent.run()), asyncio.ensure_future(follower.run())]
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, both[0].cancel)
    _say(f"follows the GpuNode of {node}")
    try:
        # Whichever ends first does so by an error, or because it was told to.
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        ended = [task for task in both if task.done() and not task.cancelled()]
        for task in both:
            task.cancel()
        await asyncio.wait(both)
        for task in ended:
            task.result()


def _of_this_host() -> Nvml:
    try:
        from control_plane.drivers.nvml_host import HostNvml
    except ModuleNotFoundError as error:
        raise Stop(f"{error}: install gridplane with the extra 'gpu'", Exit.USAGE) from error
    return HostNvml()


def _simulated(model: str, orders: Path | None) -> tuple[Nvml, Callable[[], str]]:
    from control_plane.drivers.nvml import NvmlLibrary
    from control_plane.drivers.nvml_host import HostNvml
    from control_plane.simulator.gpu_orders import OrderedHost
    from control_plane.simulator.gpus import GpuHost
    from control_plane.simulator.nvml import FakeLibrary, install

    host = OrderedHost(GpuHost(model, now_s=time.monotonic), orders, say=_say)
    install(FakeLibrary(host.host))
    return HostNvml(
        NvmlLibrary(before=host.obey, sees_all=True)
    ), lambda: f"simulated-{host.host.boots}"


def _clock(network_map: Path) -> SystemClock:
    # It imports what no agent of a real host needs.
    from control_plane.cli.workplace import clock_of

    return clock_of(network_map)


def _boot_id() -> str:
    with contextlib.suppress(OSError):
        return _BOOT_ID.read_text(encoding="ascii").strip()
    return ""


def _say(line: str) -> None:
    click.echo(line, err=True)
