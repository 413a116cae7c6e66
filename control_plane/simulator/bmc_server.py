"""BMCs on real HTTPS sockets: one listening socket and one certificate for each address."""

from __future__ import annotations

import asyncio
import errno
import socket

from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_pulse import Pulse
from control_plane.simulator.bmc_web import PORT, BmcDevice
from control_plane.simulator.network import Network, Station
from control_plane.simulator.server import BACKLOG, Server, Wire
from control_plane.simulator.tls import Certificate, make_certificate


def station_of(
    bmc: Bmc, asset: str, address: str, certificate: Certificate | None = None
) -> Station:
    """A BMC behind its cable, with a self-signed certificate unless it is given one."""
    shown = certificate or make_certificate(address)
    return Station(asset, address, BmcDevice(bmc), shown)


class BmcServer(Server):
    """Sockets in front of BMCs that stand at addresses of loopback, all at one port."""

    def __init__(self, network: Network, *, port: int = 0, declared: bool = False) -> None:
        """`port` stands for 443; 0 takes a free one. `declared` as for `Server`: at 443 itself, then."""
        super().__init__(network, ports={PORT: PORT if declared else port}, declared=declared)
        self._pulses: list[Pulse] = []

    async def start(self) -> None:
        """Listen, and let what is due happen although nobody asks.

        Raises:
            OSError: an address or the port is taken, or not on loopback; or as for `Server.start`.
        """
        self._require_place()
        loop = asyncio.get_running_loop()
        for station in self._network:
            if station.certificate is None:
                raise OSError(errno.EINVAL, f"{station.asset} has no certificate")
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((station.address, self.ports.get(PORT, self._wanted[PORT])))
            self.ports[PORT] = sock.getsockname()[1]
            context = station.certificate.context()
            self._servers.append(
                await loop.create_server(self._wire, sock=sock, ssl=context, backlog=BACKLOG)
            )
            if isinstance(station.device, BmcDevice):
                self._pulses.append(Pulse(station.device.bmc, loop))

    async def stop(self) -> None:
        """Close everything."""
        for pulse in self._pulses:
            pulse.stop()
        await super().stop()

    def _wire(self) -> Wire:
        return Wire(self, PORT)
