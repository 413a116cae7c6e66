"""The GPU nodes of a site as simulated hosts: BMCs in a network, `Node`s in the API server twin.

    hall = GpuHall(site, loop, server=server, rest=rest, network=network)
    hall["lab-g1-n1"].fall_off(3, mends=Mends.REBOOT)
    RedfishBmc(MemoryNet(hall.network), clock)      # the driver, in virtual time

A BMC shows a certificate of `hall.authority`, unless its site is declared with digests: then take
`hall.digests` for `bmc_certificates`. Agents are outside: the simulator knows core alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from control_plane.core.fleet import Device, DeviceType, Site
from control_plane.core.gpu_domains import gpu_devices
from control_plane.simulator.api_controllers import Controllers
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.bmc import EPOCH_S
from control_plane.simulator.bmc_profiles import DELL, PLAIN, PROFILES, Profile
from control_plane.simulator.bmc_pulse import Pulse
from control_plane.simulator.bmc_web import PORT, BmcDevice
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.gpu_host import BOOT_S, GpuMachine
from control_plane.simulator.gpus import MODELS, Model
from control_plane.simulator.hosts.kubernetes import Cluster
from control_plane.simulator.hosts.machine import Machine
from control_plane.simulator.hosts.programs import SYSTEM
from control_plane.simulator.kubelet import GRACE_S, Kubelet
from control_plane.simulator.network import Network, Station
from control_plane.simulator.tls import Certificate, make_authority, make_certificate
from control_plane.simulator.wire import SimClock

USER: Final = "gridplane"
PASSWORD: Final = "s3cret-of-the-hall"  # noqa: S105 - made up


class GpuHall(Mapping[str, GpuMachine]):
    """Asset → its host. `stop` ends what waits for time to pass."""

    def __init__(
        self,
        site: Site,
        loop: asyncio.AbstractEventLoop,
        *,
        clock: SimClock | None = None,
        server: ApiServer | None = None,
        rest: Controllers | None = None,
        network: Network | None = None,
        user: str = USER,
        password: str = PASSWORD,
        authority: Certificate | None = None,
        profile: Profile | None = DELL,
        boot_s: float = BOOT_S,
        boots_s: Mapping[str, float] | None = None,
        grace_s: float = GRACE_S,
        epoch_s: float = EPOCH_S,
        also_at: Callable[[str], Iterable[str]] = lambda _address: (),
    ) -> None:
        """All of them run and are well.

        Args:
            site: whose GPU nodes; those that are managed.
            loop: lets what is due happen.
            clock: device time; the loop's, where there is none.
            server: where their `Node`s are; without one there are none.
            rest: what else runs in that cluster.
            network: where BMCs stand, at the addresses that are declared.
            user: of each BMC.
            password: of each BMC.
            authority: signs their certificates.
            profile: their maker; not every one has a reset `PowerCycle` (`SUPERMICRO`). `None`: as declared.
            boot_s: how long a boot takes.
            boots_s: the same of single ones, by asset.
            grace_s: from the last lease to NotReady.
            epoch_s: the calendar at device time 0.
            also_at: where else a BMC's certificate holds, by its address.
        """
        self.clock = clock or LoopSimClock(loop)
        self.network = Network() if network is None else network
        self.authority = authority or make_authority("bmcs.example")
        self.user, self.password = user, password
        self.stations: dict[str, Station] = {}
        """By asset, for trouble of the line to a BMC."""
        self.devices: dict[str, BmcDevice] = {}
        """BMCs as the network sees them: what they were asked."""
        self.kubelets: dict[str, Kubelet] = {}
        self.digests: dict[str, str] = {}
        """SHA-256 of the certificate that each BMC shows."""
        self._hosts: dict[str, GpuMachine] = {}
        cluster, port = Cluster(), site.bmc.port if site.bmc else PORT
        for number, device in enumerate(gpu_devices(site)):
            host = GpuMachine(
                device.asset,
                self.clock,
                model=model_of(device),
                gpus=device.type.gpus or 8,
                number=number,
                serial=device.serial,
                profile=profile or profile_of(device.type),
                boot_s=(boots_s or {}).get(device.asset, boot_s),
                user=user,
                password=password,
                machine=Machine(device.asset, device.address or "", SYSTEM, cluster),
                epoch_s=epoch_s,
            )
            self._hosts[device.asset] = host
            if device.bmc is not None:
                shown = make_certificate(device.bmc, self.authority, also=also_at(device.bmc))
                seen = self.devices[device.asset] = BmcDevice(host.bmc, port)
                station = Station(device.asset, device.bmc, seen, shown)
                self.network.add(station)
                self.stations[device.asset] = station
                self.digests[device.asset] = shown.sha256
            if server is not None:
                self.kubelets[device.asset] = Kubelet(host, server, rest, grace_s=grace_s)
        self._pulses = [Pulse(host.bmc, loop) for host in self._hosts.values()]

    def __getitem__(self, asset: str) -> GpuMachine:
        return self._hosts[asset]

    def __iter__(self) -> Iterator[str]:
        return iter(self._hosts)

    def __len__(self) -> int:
        return len(self._hosts)

    def stop(self) -> None:
        """Nothing happens by itself any more."""
        for pulse in self._pulses:
            pulse.stop()


def profile_of(kind: DeviceType) -> Profile:
    """The BMC of a declared make, with the declared model; of an unknown one as the standard has it."""
    profile = PROFILES.get(kind.make.casefold(), PLAIN)
    return msgspec.structs.replace(profile, manufacturer=kind.make, model=kind.model)


def model_of(device: Device) -> str | Model:
    """The GPUs that are declared, as the simulator has them; others are made of what is declared."""
    declared = device.type.gpu
    if declared is None:
        return "h200"
    for name, known in MODELS.items():
        if known.name.startswith(declared.model):
            return name
    return Model(
        name=declared.model, default_w=declared.max_limit_w, min_w=declared.min_limit_w,
        max_w=declared.max_limit_w, links=18, max_clock_mhz=1_980, idle_w=80,
        memory_mib=declared.memory_gib * 1_024, part="1650",
    )  # fmt: skip
