"""BMCs on real HTTPS sockets, and time that passes for them although nobody asks."""

from __future__ import annotations

import asyncio
import errno

from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_pulse import Pulse
from control_plane.simulator.bmc_web import PORT, BmcDevice
from control_plane.simulator.network import Network, Station
from control_plane.simulator.server import Server
from control_plane.simulator.tls import Certificate, make_certificate


def station_of(
    bmc: Bmc, asset: str, address: str, certificate: Certificate | None = None
) -> Station:
    """A BMC behind its cable, with a self-signed certificate unless it is given one."""
    shown = certificate or make_certificate(address)
    return Station(asset, address, BmcDevice(bmc), shown)


class BmcServer(Server):
    """A `Server` of BMCs alone, which stand at addresses of loopback, or at declared ones."""

    def __init__(self, network: Network, *, port: int = 0, declared: bool = False) -> None:
        """`port` stands for 443; 0 takes a free one. `declared` as for `Server`: at 443 itself, then."""
        super().__init__(network, ports={PORT: port}, declared=declared)
        self._pulses: list[Pulse] = []

    async def start(self) -> None:
        """Listen, and let what is due happen.

        Raises:
            OSError: one has no certificate; or as for `Server.start`.
        """
        for station in self._network:
            if station.certificate is None:
                raise OSError(errno.EINVAL, f"{station.asset} has no certificate")
        await super().start()
        loop = asyncio.get_running_loop()
        self._pulses = [
            Pulse(station.device.bmc, loop)
            for station in self._network
            if isinstance(station.device, BmcDevice)
        ]

    async def stop(self) -> None:
        """Close everything."""
        for pulse in self._pulses:
            pulse.stop()
        await super().stop()
