"""A simulated site: every machine that is physically there, who stands where, and the truth."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import msgspec

from control_plane.simulator.antminer import Antminer
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.machine import Machine, World
from control_plane.simulator.meters import Flows, SimMeters
from control_plane.simulator.network import Network, Station
from control_plane.simulator.nodes import NodeTruth, SimNode, SimNodes
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.whatsminer import WhatsMiner

SimDevice = Antminer | WhatsMiner | LuxOs | Vnish


class NoSuchTarget(LookupError):
    """No simulated device fits the target; who named it acts."""


class Born(NamedTuple):
    """What a machine was when the simulation began."""

    mac: str
    serial: str


class Target(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which machines are meant: every condition that is given has to fit."""

    asset: str | None = None
    rack: str | None = None
    node: str | None = None
    """A node of the feed tree: all that hangs below it."""
    family: str | None = None
    share: float | None = None
    """Of those that fit, this share, drawn by `seed`; above 1 a count."""
    seed: int = 0


class Truth(msgspec.Struct, frozen=True, kw_only=True):
    """What a machine really is and does, whatever it says."""

    asset: str
    family: str
    address: str
    mac: str
    phase: str
    mode: str
    """The step that it runs at, or would if awake."""
    mining: bool
    """Whether its settings permit hashing."""
    pools: tuple[tuple[str, str], ...]
    """URL and worker of every slot in use."""
    drawn_w: float
    reported_w: float
    hashrate_ths: float
    permitted_w: float
    uptime_s: float
    boots: int
    trouble: str | None
    alive_boards: int
    firmware: str
    """The version that it runs, as its own pages print it."""


class SimSite:
    """One site in memory."""

    def __init__(
        self,
        *,
        id: str,  # noqa: A002 — the site's own word for it
        world: World,
        network: Network,
        stations: Mapping[str, Station],
        places: Mapping[str, tuple[str, ...]],
        leases: dict[str, str],
        absent: Mapping[str, int],
        meters: SimMeters,
        flows: Flows,
    ) -> None:
        """Made by `build.build_site`.

        Args:
            id: the site's id.
            world: clock and ledger of all machines.
            network: who stands where.
            stations: by asset.
            places: asset → its rack, then feed nodes from the leaf up.
            leases: asset → subnet, of the machines that are on DHCP now.
            absent: why the other declared devices have no machine: reason → count.
            meters: those of its feeds.
            flows: what they measure; who simulates more devices adds a source.
        """
        self.id = id
        self.world = world
        self.network = network
        self.stations = stations
        self.places = places
        self.leases = leases
        self.absent = absent
        self.nodes: Mapping[str, SimNode] = {}
        """Hosts with a BMC, where they are served (`serve`): see `add_nodes`."""
        self.meters, self.flows = meters, flows
        self.born: Mapping[str, Born] = {
            asset: Born(machine.mac, machine.serial)
            for asset in stations
            for machine in (self.machine(asset),)
        }

    def device(self, asset: str) -> SimDevice:
        """The machine of an asset.

        Raises:
            NoSuchTarget: it has none.
        """
        station = self.stations.get(asset)
        if station is None or not isinstance(station.device, SimDevice):
            raise NoSuchTarget(f"{self.id} has no simulated machine {asset}")
        return station.device

    def machine(self, asset: str) -> Machine:
        """The physics of an asset's machine.

        Raises:
            NoSuchTarget: it has none.
        """
        return self.device(asset).machine

    def pick(
        self, target: Target, takes: Callable[[str], bool] = lambda _asset: True
    ) -> tuple[str, ...]:
        """The assets that a target means, of those that `takes` says, sorted.

        Raises:
            NoSuchTarget: none.
        """
        assets = [
            asset
            for asset in sorted((*self.stations, *self.nodes))
            if self._fits(asset, target) and takes(asset)
        ]
        if target.share is not None and assets:
            count = target.share if target.share > 1 else target.share * len(assets)
            chosen = random.Random(target.seed).sample(assets, min(len(assets), round(count)))
            assets = sorted(chosen)
        if not assets:
            given = msgspec.to_builtins(target)
            said = " ".join(f"{k}={v}" for k, v in given.items() if v is not None)
            raise NoSuchTarget(f"{self.id} has no simulated machine for {said}")
        return tuple(assets)

    def truth(self, asset: str) -> Truth:
        """What a machine really is and does.

        Raises:
            NoSuchTarget: it has none.
        """
        device, station = self.device(asset), self.stations[asset]
        machine = device.machine
        sample = machine.sample()
        return Truth(
            asset=asset,
            family=machine.model.family,
            address=station.address,
            mac=machine.mac,
            phase=sample.phase.value,
            mode=machine.step.name,
            mining=not machine.asleep,
            pools=pools_of(device),
            drawn_w=sample.drawn_w,
            reported_w=sample.reported_w,
            hashrate_ths=sample.hashrate_ths,
            permitted_w=machine.permitted_w(),
            uptime_s=sample.uptime_s,
            boots=machine.boots,
            trouble=station.trouble.value if station.trouble else None,
            alive_boards=len(machine.alive_boards()),
            firmware=firmware_of(device),
        )

    def node_truth(self, asset: str) -> NodeTruth:
        """The same of a host with a BMC.

        Raises:
            NoSuchTarget: it has none.
        """
        node = self.nodes.get(asset)
        if node is None:
            raise NoSuchTarget(f"{self.id} has no simulated BMC of {asset}")
        return node.truth()

    def nodes_w(self, assets: Iterable[str] | None = None) -> float:
        """What some hosts with a BMC draw, or all; who is none counts as nothing."""
        those = self.nodes if assets is None else assets
        return sum(self.node_truth(asset).drawn_w for asset in those if asset in self.nodes)

    def add_nodes(self, nodes: SimNodes) -> None:
        """Have hosts with BMCs stand there, too, and meters see what they draw."""
        self.nodes, self.absent = nodes, {**self.absent, **nodes.absent}
        self.flows.sources.append(nodes.drawn_w)

    def totals(self, assets: Iterable[str] | None = None) -> tuple[float, float]:
        """Drawn watts and TH/s of some miners, or of all: what a meter and a pool would show."""
        watts = rate = 0.0
        for asset in self.stations if assets is None else assets:
            if asset in self.nodes:
                continue
            sample = self.machine(asset).sample()
            watts += sample.drawn_w
            rate += sample.hashrate_ths
        return watts, rate

    def _fits(self, asset: str, target: Target) -> bool:
        node = self.nodes.get(asset)
        places = node.places if node else self.places[asset]
        return (
            (target.asset is None or asset == target.asset)
            and (target.rack is None or places[0] == target.rack)
            and (target.node is None or target.node in places[1:])
            and (
                target.family is None
                or target.family == (node.family if node else self.machine(asset).model.family)
            )
        )


def firmware_of(device: SimDevice) -> str:
    """The version that it runs."""
    if isinstance(device, LuxOs):
        return device.unit.build.name
    return device.unit.flash.now.version


def pools_of(device: SimDevice) -> tuple[tuple[str, str], ...]:
    """URL and worker of every slot in use."""
    if isinstance(device, Antminer):
        return tuple((pool.url, pool.user) for pool in device.unit.conf.live_pools())
    if isinstance(device, Vnish):
        return tuple((pool.url, pool.user) for pool in device.unit.pools_in_force)
    return tuple((pool.url, pool.worker) for pool in device.unit.pools if pool.url)
