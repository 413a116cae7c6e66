"""Halls of simulated GPU hosts in virtual time, for tests of what looks at them."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from control_plane.core.cluster import NODE, POD, Object
from control_plane.core.fleet import DeviceKind, Site
from control_plane.core.memory import Pin
from control_plane.core.ports import BmcTarget
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.drivers.nvml import NvmlLibrary
from control_plane.drivers.redfish import RedfishBmc
from control_plane.hosts.connection import READ_S, Command, Reply, shell
from control_plane.hosts.errors import DeadlinePassed
from control_plane.hosts.gpu_host import read_facts
from control_plane.inventory.load import load
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_controllers import Controllers
from control_plane.simulator.api_pods import PodStatus, status_of
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.gpu_hall import GpuHall
from control_plane.simulator.gpu_host import GpuMachine, NoAnswer
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.nvml import FakeLibrary, install
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual
from tests.stock import ROOT

HORIZON_S = 200_000.0


def lab(nodes: int = 2) -> Site:
    """The lab, with so many GPU nodes."""
    found = load(ROOT / "inventory", sites={"lab"}).fleet
    assert found is not None
    site = found.sites["lab"]
    first = next(d for d in site.devices if d.type.kind is DeviceKind.GPU_NODE)
    made = tuple(
        msgspec.structs.replace(
            first, asset=f"lab-g1-n{n}", slot=n, bmc=f"10.90.{16 + n // 250}.{n % 250 + 1}"
        )
        for n in range(1, nodes + 1)
    )
    return msgspec.structs.replace(site, devices=made)


class OverSsh:
    """The port `hosts.Connection`, into a simulated host without a socket between."""

    def __init__(self, host: GpuMachine) -> None:
        self.name, self._host = host.name, host

    def run(
        self, *commands: Command, stdin: bytes | Path = b"", deadline_s: float = READ_S
    ) -> Reply:
        assert isinstance(stdin, bytes)
        try:
            ended = self._host.ssh(shell(commands), stdin)
        except NoAnswer:
            raise DeadlinePassed(f"{self.name}: no answer within {deadline_s:g} s") from None
        return Reply(code=ended.code, out=ended.out.decode(), err=ended.err.decode())


@dataclass(kw_only=True)
class Floor:
    """A hall, and everything that looks at it."""

    loop: VirtualLoop
    clock: VirtualClock
    server: ApiServer
    rest: Controllers
    client: ApiClient
    hall: GpuHall
    driver: RedfishBmc
    library: FakeLibrary

    @property
    def one(self) -> GpuMachine:
        """The first host."""
        return self.hall["lab-g1-n1"]

    def node(self, name: str = "lab-g1-n1") -> dict[str, Any]:
        """Its `Node`, as the API server has it."""
        found: dict[str, Any] = msgspec.json.decode(
            msgspec.json.encode(self.server.get(NODE, name))
        )
        return found

    def ready(self, name: str = "lab-g1-n1") -> str:
        """Status of its condition `Ready`."""
        (one,) = [c for c in self.node(name)["status"]["conditions"] if c["type"] == "Ready"]
        return str(one["status"])

    def gpus(self, name: str = "lab-g1-n1") -> str:
        """What of its GPUs is allocatable."""
        return str(self.node(name)["status"]["allocatable"]["nvidia.com/gpu"])

    def _pods(self) -> tuple[Object, ...]:
        return self.server.list_page(
            POD, lambda _each: True, limit=10_000, page="", says_remaining=False
        ).items

    def pods(self) -> list[str]:
        """Names of all pods, ending ones too."""
        return [pod.metadata.name for pod in self._pods()]

    def ends(self) -> list[str]:
        """Those that were told to end."""
        return [pod.metadata.name for pod in self._pods() if pod.metadata.deletion_timestamp]

    def pod(self, name: str) -> PodStatus:
        """How one stands."""
        return status_of(next(pod for pod in self._pods() if pod.metadata.name == name))

    def target(self, name: str = "lab-g1-n1") -> BmcTarget:
        """Its BMC, as the driver is handed it."""
        return BmcTarget(
            asset=name,
            address=self.hall.stations[name].address,
            user=self.hall.user,
            password=Secret(self.hall.password),
            tls=TlsPin(sha256=self.hall.digests[name]),
            pin=Pin(mac=None, serial=self.hall[name].serial, source="placement"),
        )

    def ssh(self, name: str = "lab-g1-n1") -> OverSsh:
        """Logged in to a host."""
        return OverSsh(self.hall[name])

    def boot_ids(self, name: str = "lab-g1-n1") -> set[str]:
        """As SSH and the `Node` have it."""
        node = self.node(name)["status"]["nodeInfo"]["bootID"]
        return {node, read_facts(self.ssh(name)).boot_id}

    def nvml(self, name: str = "lab-g1-n1") -> NvmlLibrary:
        """The library of a host, as its agent has it."""
        return NvmlLibrary(before=lambda: self.library.turn_to(self.hall[name].gpus))


def on_a_floor(
    case: Callable[[Floor], Coroutine[Any, Any, None]],
    nodes: int = 2,
    *,
    boots_s: Mapping[str, float] | None = None,
) -> None:
    """Run a case in virtual time."""

    async def main(loop: VirtualLoop) -> None:
        clock = VirtualClock(loop)
        server = ApiServer(clock, collects=False)
        rest = Controllers(server)
        hall = GpuHall(lab(nodes), loop, server=server, rest=rest, boots_s=boots_s)
        driver = RedfishBmc(MemoryNet(hall.network), clock)
        library = FakeLibrary()
        install(library)
        try:
            await case(
                Floor(
                    loop=loop, clock=clock, server=server, rest=rest,
                    client=ApiClient(server, clock), hall=hall, driver=driver, library=library,
                )
            )  # fmt: skip
        finally:
            await driver.close()
            hall.stop()
            install(None)

    run_virtual(main, horizon_s=HORIZON_S)
