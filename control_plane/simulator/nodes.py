"""The BMCs of a site as a simulation serves them: GPU nodes', with the hosts behind, and other hosts'."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import msgspec

from control_plane.core.fleet import DeviceKind, Site, SlotState
from control_plane.simulator.bmc import Bmc
from control_plane.simulator.bmc_chassis import BareChassis
from control_plane.simulator.bmc_profiles import PLAIN
from control_plane.simulator.bmc_pulse import Pulse
from control_plane.simulator.bmc_web import PORT, BmcDevice
from control_plane.simulator.gpu_hall import PASSWORD, USER, GpuHall
from control_plane.simulator.gpu_host import BOOT_S, GpuMachine
from control_plane.simulator.machine import mix, seed_of
from control_plane.simulator.network import Network, Station
from control_plane.simulator.tls import make_authority, make_certificate
from control_plane.simulator.wire import SimClock

HOST: Final = "host"
"""Stands for a family, of hosts that are no GPU nodes."""
_BOOT_SPREAD: Final = 0.1
"""Boots of a hall differ by so much, either way: an assumption, so that not all come back at once."""


class NodeTruth(msgspec.Struct, frozen=True, kw_only=True):
    """What a host with a BMC really is and does, whatever either says."""

    asset: str
    family: str
    address: str
    """Of its BMC."""
    url: str
    """Where that answers."""
    serial: str
    """Of the host; its BMC may tell another."""
    power: str
    progress: str
    """How far it has booted, in Redfish's words."""
    running: bool
    """Whether an operating system runs and answers."""
    boot_id: str
    drawn_w: float
    gpus_offered: int | None
    """GPUs that pods can have; `None` while nobody offers any."""
    gpus_lost: tuple[int, ...]
    """Indices of those that fell off the bus."""
    kernel_log: tuple[str, ...]
    """What the kernel said since it booted."""
    resets: tuple[str, ...]
    """What its BMC was asked for so far."""
    trouble: tuple[str, ...]
    """What is wrong with BMC and line."""


class SimNode:
    """A BMC behind its cable, and the host that it has power over."""

    __slots__ = (
        "asset",
        "bmc",
        "family",
        "host",
        "lost_password",
        "places",
        "port",
        "station",
        "url",
    )

    def __init__(
        self, family: str, places: tuple[str, ...], station: Station, host: GpuMachine | None
    ) -> None:
        """`places` are its rack, then feed nodes from the leaf up; `host` is `None` of no GPU node."""
        assert isinstance(station.device, BmcDevice)  # noqa: S101 - made below
        self.asset, self.family, self.places = station.asset, family, places
        self.station, self.host = station, host
        self.bmc: Bmc = station.device.bmc
        self.port = station.device.port
        self.lost_password: str | None = None
        """What it took before somebody changed it."""
        self.url = f"https://{station.address}"
        """Where it answers."""

    def truth(self) -> NodeTruth:
        """What is so now."""
        self.bmc.settle()
        host, bmc, line = self.host, self.bmc, self.station.trouble
        wrong = [name for name, value in msgspec.structs.asdict(bmc.faults).items() if value]
        gpus = host.gpus.gpus if host else ()
        return NodeTruth(
            asset=self.asset,
            family=self.family,
            address=self.station.address,
            url=self.url,
            serial=bmc.chassis.serial,
            power=bmc.power,
            progress=bmc.progress,
            running=host.answers_ssh if host else bmc.chassis.is_on,
            boot_id=bmc.chassis.boot_id,
            drawn_w=bmc.draw_w(),
            gpus_offered=host.offered() if host else None,
            gpus_lost=tuple(gpu.index for gpu in gpus if gpu.lost or gpu.absent),
            kernel_log=tuple(line for _, line in host.machine.kernel_log) if host else (),
            resets=tuple(bmc.resets),
            trouble=(*wrong, *([line.value] if line else [])),
        )


class SimNodes(Mapping[str, SimNode]):
    """Asset → its node. `stop` ends what waits for time to pass."""

    def __init__(
        self,
        site: Site,
        loop: asyncio.AbstractEventLoop,
        network: Network,
        *,
        clock: SimClock,
        epoch_s: float,
        seed: int = 0,
        password: str | None = None,
        also_at: Callable[[str], Iterable[str]] = lambda _address: (),
    ) -> None:
        """All run and are well. Nodes that are not in service have none.

        Args:
            site: the declaration: of GPU nodes and hosts, those that have a BMC.
            loop: lets what is due happen.
            network: where they stand, at their declared addresses.
            clock: time of all machines.
            epoch_s: the calendar at device time 0.
            seed: chooses how long each takes to boot.
            password: of every BMC; one of the simulation's own where not given. The user is the declared one.
            also_at: where else a BMC's certificate holds, by its address.
        """
        self.password = PASSWORD if password is None else password
        self.user = site.bmc.credentials.user if site.bmc else USER
        self.port = site.bmc.port if site.bmc else PORT
        authority = make_authority(f"bmcs.{site.id}.example")
        self.authority_pem = authority.pem.decode()
        """Who signs the certificates of all of them."""
        self.absent: dict[str, int] = {}
        """Why other GPU nodes have none: reason → count."""
        self._nodes: dict[str, SimNode] = {}
        self._hall = GpuHall(
            site, loop, clock=clock, network=network, user=self.user, password=self.password,
            authority=authority, profile=None, epoch_s=epoch_s, also_at=also_at,
            boots_s={device.asset: _boot_s(device.asset, seed) for device in site.devices
                     if device.type.kind is DeviceKind.GPU_NODE},
        )  # fmt: skip
        for device in site.devices:
            if device.type.kind is not DeviceKind.GPU_NODE:
                continue
            station = self._hall.stations.get(device.asset)
            if station is None:
                why = device.state.value if device.bmc else "without a BMC"
                why = f"GPU nodes {why}"
                self.absent[why] = self.absent.get(why, 0) + 1
                continue
            places = (device.rack, *(node.id for node in site.path(device.feed)))
            host = self._hall[device.asset]
            self._nodes[device.asset] = SimNode(device.intent.family, places, station, host)
        self._pulses: list[Pulse] = []
        for one in site.hosts:
            if one.bmc is None:
                continue
            chassis = BareChassis(f"S{seed_of(one.name) % 10**11:011d}", idle_w=one.power_w)
            bmc = Bmc(
                PLAIN, chassis, clock, user=self.user, password=self.password, epoch_s=epoch_s
            )
            shown = make_certificate(one.bmc, authority, also=also_at(one.bmc))
            station = Station(one.name, one.bmc, BmcDevice(bmc, self.port), shown)
            network.add(station)
            places = ("", *(node.id for node in site.path(one.feed)))
            self._nodes[one.name] = SimNode(HOST, places, station, None)
            self._pulses.append(Pulse(bmc, loop))

    def __getitem__(self, asset: str) -> SimNode:
        return self._nodes[asset]

    def __iter__(self) -> Iterator[str]:
        return iter(self._nodes)

    def __len__(self) -> int:
        return len(self._nodes)

    def drawn_w(self) -> dict[str, float]:
        """What GPU nodes draw now, W, by the feed that each hangs on; other hosts draw what is declared."""
        found: dict[str, float] = {}
        for node in self._nodes.values():
            if node.host is not None:
                feed = node.places[1]
                found[feed] = found.get(feed, 0.0) + node.bmc.draw_w()
        return found

    def stop(self) -> None:
        """Nothing happens by itself any more."""
        self._hall.stop()
        for pulse in self._pulses:
            pulse.stop()


def bmc_addresses(site: Site) -> tuple[str, ...]:
    """The declared address of every BMC that is served."""
    of_nodes = (device.bmc for device in site.devices if device.state is not SlotState.VACANT)
    return tuple(address for address in (*of_nodes, *(host.bmc for host in site.hosts)) if address)


def _boot_s(asset: str, seed: int) -> float:
    return BOOT_S * (1.0 + _BOOT_SPREAD * (2.0 * mix(seed_of(f"{seed}/boot/{asset}"), 0) - 1.0))
