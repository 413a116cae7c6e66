"""A simulated site as a process: sockets on loopback, a network map, a control socket."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import NamedTuple

from control_plane.core.fleet import Site
from control_plane.simulator.build import Start, build_site
from control_plane.simulator.clock import RealSimClock
from control_plane.simulator.control import SOCKET, Control, listen
from control_plane.simulator.floor import Floor
from control_plane.simulator.nodes import SimNodes, bmc_addresses
from control_plane.simulator.server import TRUE_PORTS, NetworkMap, Server, addresses_of
from control_plane.simulator.site import SimSite

MAP = "network-map.json"
AUTHORITY = "bmc-authority.pem"
"""Beside it: who signs the BMCs' certificates, for clients that know no map."""
REDFISH = "redfish"
"""Stands for a family among passwords: that of all BMCs."""
BMC_PORT = 18443
"""Where BMCs' own port is looked for first."""


class Serving(NamedTuple):
    """A simulation that runs."""

    site: SimSite
    server: Server
    control: Control
    map: NetworkMap
    map_path: Path
    control_path: Path


@contextlib.asynccontextmanager
async def serving(
    site: Site,
    *,
    state: Path,
    time_scale: float = 1.0,
    seed: int = 0,
    start: Start = "converged",
    floor: Floor | None = None,
    passwords: Mapping[str, str] | None = None,
    ports: Mapping[int, int] = TRUE_PORTS,
    declared: bool = False,
) -> AsyncIterator[Serving]:
    """Serve a site until the block is left.

    Args:
        site: the declaration.
        state: folder for the network map and the control socket; made where missing.
        time_scale: device seconds per real second.
        seed: as in `build_site`.
        start: as in `build_site`.
        floor: as in `build_site`.
        passwords: by family; that of BMCs by `REDFISH`.
        ports: true port → the one to try.
        declared: answer at the declared addresses and ports; needs a network namespace of its own. BMCs are
            left out: there hosts are booted, and a simulated one would have no power over them.

    Raises:
        OSError: the state folder or the network cannot be used.
    """
    map_path, control_path = _places(state)
    authority = map_path.with_name(AUTHORITY)
    clock, epoch_s = RealSimClock(time_scale), time.time()
    known = dict(passwords or {})
    of_bmcs = known.pop(REDFISH, None)
    sim = build_site(
        site,
        clock=clock,
        seed=seed,
        floor=floor,
        start=start,
        passwords=known,
        epoch_s=epoch_s,
    )
    later = [device.address for device in site.devices if device.renumbering and device.address]
    addresses = addresses_of(sim.network, sim.leases.values(), (*later, *bmc_addresses(site)))
    nodes = None
    if bmc_addresses(site) and not declared:
        nodes = SimNodes(
            site,
            asyncio.get_running_loop(),
            sim.network,
            clock=clock,
            epoch_s=epoch_s,
            seed=seed,
            password=of_bmcs,
            also_at=lambda address: (addresses.actual(address),),
        )
        sim.add_nodes(nodes)
        ports = {**ports, nodes.port: ports.get(nodes.port, BMC_PORT)}
    of_meters = {meter.port: meter.port for meter in site.meters.values()}
    server = Server(sim.network, addresses, ports={**of_meters, **ports}, declared=declared)
    control = Control(sim, connections=lambda: server.connections)
    await server.start()
    for node in () if nodes is None else nodes.values():
        address = addresses.actual(node.station.address)
        node.url = f"https://{address}:{server.ports[node.port]}"
    try:
        listener = await listen(control, control_path)
        try:
            authority_pem = None if nodes is None else nodes.authority_pem
            if authority_pem is not None:
                authority.write_text(authority_pem, encoding="ascii")
            told = server.write_map(
                map_path, time_scale=time_scale, epoch_s=epoch_s, authority_pem=authority_pem
            )
            yield Serving(sim, server, control, told, map_path, control_path)
        finally:
            listener.close()
            authority.unlink(missing_ok=True)
            control_path.unlink(missing_ok=True)
            map_path.unlink(missing_ok=True)
    finally:
        if nodes is not None:
            nodes.stop()
        await server.stop()


def _places(state: Path) -> tuple[Path, Path]:
    state.mkdir(parents=True, exist_ok=True)
    return state / MAP, state / SOCKET


async def serve(
    site: Site,
    *,
    state: Path,
    time_scale: float = 1.0,
    seed: int = 0,
    start: Start = "converged",
    floor: Floor | None = None,
    passwords: Mapping[str, str] | None = None,
    ready: asyncio.Future[Serving] | None = None,
) -> None:
    """Serve a site until the control socket says stop, or the task is cancelled.

    `ready` gets the running simulation. Arguments and errors as `serving`.
    """
    async with serving(
        site,
        state=state,
        time_scale=time_scale,
        seed=seed,
        start=start,
        floor=floor,
        passwords=passwords,
    ) as running:
        if ready is not None and not ready.done():
            ready.set_result(running)
        await running.control.stopped.wait()
