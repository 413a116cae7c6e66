"""Simulated BMCs on HTTPS sockets of loopback, and our driver towards them."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import msgspec

from control_plane.core.memory import Pin
from control_plane.core.ports import BmcTarget
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.drivers.net import NetworkMap, StreamNet
from control_plane.drivers.redfish import RedfishBmc
from control_plane.engine.adapters import SystemClock
from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_chassis import BareChassis, Chassis
from control_plane.simulator.bmc_profiles import SUPERMICRO, Profile
from control_plane.simulator.bmc_server import BmcServer, station_of
from control_plane.simulator.bmc_web import PORT, BmcDevice
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.network import Network, Station
from control_plane.simulator.wire import SimClock

ADDRESS = "127.31.0.1"
SERIAL = "S412345X4B07777"
USER, PASSWORD = "gridplane", "s3cret-of-this-one"


@dataclass
class Bench:
    """One BMC, and who speaks to it."""

    bmc: Bmc
    device: BmcDevice
    station: Station
    server: BmcServer
    driver: RedfishBmc
    clock: SimClock
    target: BmcTarget
    asked: list[str] = field(default_factory=list)

    def later(self, seconds: float) -> None:
        """Let device time pass."""
        assert isinstance(self.clock, ManualSimClock)
        self.clock.advance(seconds)
        self.bmc.settle()

    def as_user(self, user: str, password: str) -> BmcTarget:
        """The target with another credential."""
        return msgspec.structs.replace(self.target, user=user, password=Secret(password))

    def wrote(self) -> list[str]:
        """Requests that change something, logins apart."""
        return [
            line
            for line in self.device.asked
            if not line.startswith("GET ") and not line.endswith("/Sessions")
        ]


def yes() -> str | None:
    """A permit."""
    return None


@contextlib.asynccontextmanager
async def a_bmc(
    profile: Profile = SUPERMICRO,
    *,
    chassis: Chassis | None = None,
    bmc: Bmc | None = None,
    is_on: bool = True,
    clock: SimClock | None = None,
    scale: float = 1.0,
    address: str = ADDRESS,
) -> AsyncIterator[Bench]:
    """One of a maker, running, or the one of a host; `scale` is that of the driver's policy time."""
    if bmc is None:
        clock = clock or ManualSimClock(1000.0)
        chassis = chassis or BareChassis(SERIAL)
        bmc = Bmc(profile, chassis, clock, user=USER, password=PASSWORD, is_on=is_on)
    chassis, clock = bmc.chassis, bmc.clock
    network = Network()
    station = station_of(bmc, "gpu-1", address)
    network.add(station)
    server = BmcServer(network)
    await server.start()
    net = StreamNet(NetworkMap([("127.31.0.0/16", "127.31.0.0/16")], server.ports))
    driver = RedfishBmc(net, SystemClock(scale=scale))
    assert station.certificate is not None
    assert isinstance(station.device, BmcDevice)
    target = BmcTarget(
        asset="gpu-1",
        address=address,
        port=PORT,
        user=USER,
        password=Secret(PASSWORD),
        tls=TlsPin(sha256=station.certificate.sha256),
        pin=Pin(mac=None, serial=chassis.serial, source="placement"),
    )
    try:
        yield Bench(bmc, station.device, station, server, driver, clock, target)
    finally:
        await driver.close()
        await server.stop()
