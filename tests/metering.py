"""Simulated meters in memory and on sockets, and who reads them: for the suites of both sides."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec

from control_plane.core.findings import SourceRef
from control_plane.core.meter import Meter
from control_plane.core.ports import Clock, Meters
from control_plane.drivers.modbus import ModbusMeters
from control_plane.drivers.net import NetworkMap, StreamNet
from control_plane.engine.adapters import SystemClock
from control_plane.simulator.clock import LoopSimClock, RealSimClock
from control_plane.simulator.machine import World
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.meters import MemoryMeters, SimMeters
from control_plane.simulator.network import Network
from control_plane.simulator.server import Server
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual

GATEWAY, OWN = "127.41.0.1", "127.41.0.2"
PAD_W, GRID_W = 1_234_567.0, 41_000_000.0


def a_meter(name: str = "m-1", **how: object) -> Meter:
    given = {
        "node": "pad-1", "address": GATEWAY, "unit": 1, "model": "janitza-umg96", "interval_s": 1.0,
        "gateway": "gw-1", "range_w": 3_937_500.0, "where": SourceRef(path="power.yaml"),
    } | how  # fmt: skip
    return Meter(name=name, **given)  # type: ignore[arg-type]


METERS = (
    a_meter("m-1"),
    a_meter("m-2", unit=2, model="eastron-sdm630"),
    a_meter("m-3", unit=3, model="schneider-pm5000"),
    a_meter("m-4", unit=4, model="sunspec-203", register_offset=-1),
    a_meter("m-5", unit=5, model="janitza-umg96", scale=120.0),
    a_meter("m-6", unit=6, model="schneider-pm5000", is_reversed=True),
    a_meter("m-0", node="grid", address=OWN, unit=1, model="sunspec-213", gateway=None,
            range_w=62_500_000.0, accuracy_class=0.2),
)  # fmt: skip


@dataclass
class Bench:
    """Meters, and the port towards them."""

    meters: Meters
    sims: SimMeters
    clock: Clock
    flows: dict[str, float]

    def meter(self, name: str) -> Meter:
        return self.sims.meters[name].meter


Play = Callable[[Bench], Awaitable[None]]


def _sims(world: World) -> tuple[SimMeters, dict[str, float]]:
    flows = {"pad-1": PAD_W, "grid": GRID_W}
    return SimMeters(METERS, world, lambda: flows), flows


async def _virtually(play: Play, loop: VirtualLoop, *, by_wire: bool) -> None:
    sims, flows = _sims(World(LoopSimClock(loop)))
    clock = VirtualClock(loop)
    network = Network()
    sims.join(network)
    port: Meters = (
        ModbusMeters(MemoryNet(network), clock) if by_wire else MemoryMeters(sims, clock.wall_s)
    )
    try:
        await play(Bench(port, sims, clock, flows))
    finally:
        await port.close()


def twin(play: Play) -> None:
    run_virtual(lambda loop: _virtually(play, loop, by_wire=False))


def in_memory(play: Play) -> None:
    run_virtual(lambda loop: _virtually(play, loop, by_wire=True))


def on_sockets(play: Play) -> None:
    async def main() -> None:
        # Meters' intervals pass four times as fast; the wire does not.
        sims, flows = _sims(World(RealSimClock(4.0)))
        network = Network()
        sims.join(network)
        server = Server(network, ports={502: 0})
        await server.start()
        known = NetworkMap([("127.41.0.0/16", "127.41.0.0/16")], server.ports)
        clock = SystemClock(scale=4.0, epoch_s=time.time())
        port = ModbusMeters(StreamNet(known), clock)
        try:
            await play(Bench(port, sims, clock, flows))
        finally:
            await port.close()
            await server.stop()

    asyncio.run(main())


CARRIERS = {"twin": twin, "in memory": in_memory, "on sockets": on_sockets}


def renamed(meter: Meter, **how: object) -> Meter:
    return msgspec.structs.replace(meter, **how)
