"""BMCs of the lab's hosts, on real HTTPS sockets: what they switch is a host's power.

`python -m tests.lab.bmcs LAB PASSWORD SCALE OUT NAME=ADDRESS=UUID...`, in the lab's network; who signs their
certificates stands in OUT once they answer. They live SCALE times as fast as their hosts boot. The simulated
GPUs of a host whose power was cut have forgotten what they were told, but that there was another boot: a GPU
that fell off its bus is back, unless that is among the orders that last.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec

from control_plane.lab.cluster import ClusterLab
from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_profiles import DELL
from control_plane.simulator.bmc_server import BmcServer, station_of
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.network import Network
from control_plane.simulator.tls import make_authority, make_certificate
from tests.lab.machines import host
from tests.lab.orders import LASTING, ORDERS

QUICK = msgspec.structs.replace(DELL, post_s=5.0)
"""A host of the lab has no memory to train."""


class LabChassis:
    """The power of one host. What a BMC asks for is done in its order, beside the loop."""

    def __init__(self, lab: ClusterLab, name: str, board: str) -> None:
        self.serial, self.board = f"LAB-{name}", board
        self.is_on, self.hears_button = True, True
        self._lab, self._name, self._boots = lab, name, 0
        self._doing = ThreadPoolExecutor(1, thread_name_prefix=name)

    @property
    def boot_id(self) -> str:
        return f"boot-{self._boots}"

    def draw_w(self) -> float:
        return 2_000.0 if self.is_on else 500.0

    def boot(self) -> None:
        self._boots += 1
        self.is_on = True
        self._doing.submit(self._lab.power, self._name, "on")

    def cut(self) -> None:
        self.is_on = False
        self._doing.submit(self._cut)

    def _cut(self) -> None:
        reboots = '{"do": "reboot"}\n' * (self._boots + 1)
        write = f"cat > {ORDERS}; if test -f {LASTING}; then cat {LASTING} >> {ORDERS}; fi"
        self._lab.hosts.run(host(self._lab, self._name), write, text=reboots)
        self._lab.power(self._name, "off")


async def serve(lab: ClusterLab, password: str, scale: float, out: Path, places: list[str]) -> None:
    """Until it is ended."""
    authority = make_authority("bmcs.example")
    network = Network()
    clock = LoopSimClock(asyncio.get_running_loop(), time_scale=scale)
    for place in places:
        name, address, board = place.split("=")
        bmc = Bmc(QUICK, LabChassis(lab, name, board), clock, password=password)
        network.add(station_of(bmc, name, address, make_certificate(address, authority)))
    await BmcServer(network, declared=True).start()
    fresh = out.with_suffix(".new")
    fresh.write_bytes(authority.pem)
    fresh.replace(out)
    await asyncio.Event().wait()


if __name__ == "__main__":
    folder, password, scale, out, *places = sys.argv[1:]
    asyncio.run(serve(ClusterLab(Path(folder)), password, float(scale), Path(out), places))
