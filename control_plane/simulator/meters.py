"""Simulated power meters: Modbus TCP servers that measure what the simulated devices draw.

A meter shows the sum of what hangs below its node, what nobody manages and hosts included, by its class
off by a fixed share and a little noise, and anew each interval. No tasks and no timers: a value is
computed when somebody asks. Meters of one gateway share its serial line: one answer after another.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from enum import StrEnum
from math import sqrt
from typing import Final

import msgspec

from control_plane.core.errors import HardwareFault, Unreachable
from control_plane.core.fleet import Site
from control_plane.core.meter import Meter, MeterSilent, Reading, reading_of
from control_plane.core.meter_maps import Block, Quantity, blocks
from control_plane.simulator import meter_wire
from control_plane.simulator.machine import World, mix, seed_of
from control_plane.simulator.meter_wire import BadFrame, Request
from control_plane.simulator.network import Network, Station, Trouble
from control_plane.simulator.wire import Reply

POWER_FACTOR: Final = 0.98
"""Of power supplies with correction."""
VOLTS: Final = 415.0
SERIAL_S: Final = (0.05, 0.1)
"""Wire seconds of an answer over a serial line of 19,200 baud."""
ETHERNET_S: Final = (0.002, 0.01)
GATEWAY_TIMEOUT_S: Final = 1.0
"""What a gateway gives a meter before it says 0x0B."""
SLOW_S: Final = 0.9
_KEPT: Final = 256
"""Values that a meter with a slow clock can still show."""
Draws = Callable[[], Mapping[str, float]]
"""What flows through each feed now, W."""


class MeterFault(StrEnum):
    """What goes wrong with a meter."""

    FROZEN = "frozen"
    """It shows for ever what it showed."""
    REVERSED = "reversed"
    """Its current transformers were turned round."""
    TIMES_TEN = "times_ten"
    """Somebody set its ratio ten times too high."""
    NAN = "nan"
    """It measures nothing, and says so."""
    SILENT = "silent"
    """It does not answer its gateway, which says so after a second (0x0B)."""
    SLOW = "slow"
    """It takes about a second for each answer."""
    TARGET_FAILED = "target_failed"
    """Its gateway has given it up and says 0x0B at once."""
    FAILING = "failing"
    """It answers that it failed (0x04)."""
    GATEWAY_SILENT = "gateway_silent"
    """Its gateway takes connections, and says nothing any more: all meters behind it."""
    LATE = "late"
    """Its clock is wrong: its intervals end `late_s` before they should."""


class SimMeter:
    """One meter: what it measures, shows and counts."""

    def __init__(self, meter: Meter, world: World, draws: Draws, *, seed: int = 0) -> None:
        self.meter = meter
        self.fault: MeterFault | None = None
        self.late_s = 30.0
        self._world, self._draws = world, draws
        self._seed = seed_of(f"{seed}/{meter.name}")
        # Within its class, and nearly always well within.
        self._gain = 1.0 + meter.accuracy_class / 100 * (2.0 * mix(self._seed, 0) - 1.0) / 2
        self._tick = -1
        self._values: dict[Quantity, float | None] = {}
        self._shown: deque[tuple[float, dict[Quantity, float | None]]] = deque(maxlen=_KEPT)
        self._taken_wh = 1e6 * (1 + 50 * mix(self._seed, 1))
        self._given_wh = 0.0
        self._counted_s: float | None = None
        self._power_w = 0.0

    def true_w(self) -> float:
        """What flows through its node."""
        return self._draws().get(self.meter.node or "", 0.0)

    def values(self) -> Mapping[Quantity, float | None]:
        """What it shows, before its registers: as flows through its transformers."""
        now_s = self._world.clock.device_s()
        tick = int(now_s / self.meter.interval_s)
        if self.fault is MeterFault.FROZEN and self._values:
            return self._values
        if tick != self._tick:
            self._tick = tick
            self._measure(now_s, tick)
        match self.fault:
            case MeterFault.NAN:
                return dict.fromkeys(Quantity)
            case MeterFault.LATE:
                before = [told for at_s, told in self._shown if at_s <= now_s - self.late_s]
                return before[-1] if before else self._shown[0][1]
            case _:
                return self._values

    def registers(self) -> dict[int, int]:
        """What a client reads."""
        meter = self.meter
        # What its own ratio lacks it does not show; what is declared reversed flows in the other way.
        sign = (-1.0 if meter.is_reversed else 1.0) / meter.scale
        values = self.values()
        told: dict[Quantity, float | None] = {}
        for quantity, value in values.items():
            by = sign if quantity in _SIGNED else 1.0 if quantity is _VOLTS else abs(sign)
            told[quantity] = None if value is None else value * by
        if meter.is_reversed:
            told[Quantity.IMPORT_WH], told[Quantity.EXPORT_WH] = (
                told[Quantity.EXPORT_WH], told[Quantity.IMPORT_WH],
            )  # fmt: skip
        return meter_wire.registers_of(
            meter.map, told, self._full_scale(), offset=meter.register_offset
        )

    def _full_scale(self) -> dict[Quantity, float]:
        most = 10.0 * self.meter.range_w / self.meter.scale
        return {
            Quantity.POWER_W: most, Quantity.REACTIVE_VAR: most, Quantity.APPARENT_VA: most,
            Quantity.VOLTAGE_V: VOLTS, Quantity.CURRENT_A: most / VOLTS,
            # Its counters roll over after some years.
            Quantity.IMPORT_WH: 0x7FFF / 1.5, Quantity.EXPORT_WH: 0x7FFF / 1.5,
        }  # fmt: skip

    def _measure(self, now_s: float, tick: int) -> None:
        noise = 1.0 + self.meter.accuracy_class / 1_000 * (2.0 * mix(self._seed, 100 + tick) - 1.0)
        power_w = self.true_w() * self._gain * noise
        if self.fault is MeterFault.REVERSED:
            power_w = -power_w
        if self.fault is MeterFault.TIMES_TEN:
            power_w *= 10.0
        if self._counted_s is not None:
            # Between two looks as if it had changed evenly.
            wh = (self._power_w + power_w) / 2 * (now_s - self._counted_s) / 3600.0
            self._taken_wh += max(wh, 0.0)
            self._given_wh += max(-wh, 0.0)
        self._counted_s, self._power_w = now_s, power_w
        volts = VOLTS * (1.0 + 0.01 * (2.0 * mix(self._seed, 7 + tick) - 1.0))
        apparent = abs(power_w) / POWER_FACTOR
        self._values = {
            Quantity.POWER_W: power_w,
            Quantity.REACTIVE_VAR: sqrt(max(apparent**2 - power_w**2, 0.0)),
            Quantity.APPARENT_VA: apparent,
            Quantity.VOLTAGE_V: volts,
            Quantity.CURRENT_A: apparent / volts / sqrt(3),
            Quantity.IMPORT_WH: self._taken_wh,
            Quantity.EXPORT_WH: self._given_wh,
        }
        self._shown.append((now_s, self._values))


_SIGNED: Final = frozenset({Quantity.POWER_W, Quantity.REACTIVE_VAR})
_VOLTS: Final = Quantity.VOLTAGE_V


class Gateway:
    """A device on the network with meters behind it: a serial gateway, or one meter that is its own."""

    def __init__(self, world: World, meters: Iterable[SimMeter]) -> None:
        self._world = world
        self._units = {(sim.meter.port, sim.meter.unit): sim for sim in meters}
        self._ports = frozenset(port for port, _ in self._units)
        self._serial = any(sim.meter.gateway for sim in self._units.values())
        self._answers = 0
        self._free_s = 0.0
        self.asked = 0
        """Requests that arrived."""

    def accept(self, port: int, peer: str) -> _Session | None:
        """A connection."""
        del peer
        return _Session(self, port) if port in self._ports else None

    def reachable(self) -> bool:
        """Always: its trouble is the line's (`Station.trouble`)."""
        return True

    def reply(self, port: int, request: Request) -> Reply:
        """One answer, when its turn on the line has come."""
        self.asked += 1
        data, takes_s = self._answer(port, request)
        now_s = self._world.clock.wire_s()
        self._free_s = max(self._free_s, now_s) + takes_s
        return Reply(data=data, after_s=self._free_s - now_s)

    def _answer(self, port: int, request: Request) -> tuple[bytes, float]:
        sim = self._units.get((port, request.unit))
        low_s, high_s = SERIAL_S if self._serial else ETHERNET_S
        self._answers += 1
        takes_s = low_s + (high_s - low_s) * mix(request.unit, self._answers)
        fault = sim.fault if sim else MeterFault.SILENT
        if sim is None or fault is MeterFault.SILENT:
            return meter_wire.refusal(request, meter_wire.TARGET_FAILED), GATEWAY_TIMEOUT_S
        if fault is MeterFault.TARGET_FAILED:
            return meter_wire.refusal(request, meter_wire.TARGET_FAILED), takes_s
        if fault is MeterFault.FAILING:
            return meter_wire.refusal(request, meter_wire.DEVICE_FAILURE), takes_s
        if fault is MeterFault.SLOW:
            takes_s += SLOW_S
        return meter_wire.answer(request, sim.meter.map.function, sim.registers()), takes_s


class _Session:
    """One client."""

    def __init__(self, gateway: Gateway, port: int) -> None:
        self._gateway, self._port = gateway, port
        self._buffer = bytearray()

    def feed(self, data: bytes) -> tuple[Reply, ...]:
        """Requests, and an answer to each."""
        self._buffer += data
        try:
            asked = meter_wire.requests_in(self._buffer)
        except BadFrame:
            return (Reply(close=True),)
        replies: list[Reply] = []
        waited_s = 0.0
        for request in asked:
            reply = self._gateway.reply(self._port, request)
            # What a carrier waits is counted from the reply before.
            replies.append(Reply(data=reply.data, after_s=max(0.0, reply.after_s - waited_s)))
            waited_s = reply.after_s
        return tuple(replies)

    def idle_limit_s(self) -> float | None:
        """Gateways have few connections to give, and take back what nobody uses."""
        return 60.0


class MeterTruth(msgspec.Struct, frozen=True, kw_only=True):
    """What is so with a meter."""

    name: str
    node: str | None
    true_w: float
    fault: MeterFault | None
    trouble: Trouble | None
    """Of its line."""


class SimMeters:
    """The meters of a site, on its network."""

    def __init__(
        self, meters: Iterable[Meter], world: World, draws: Draws, *, seed: int = 0
    ) -> None:
        self.world = world
        self.meters = {one.name: SimMeter(one, world, draws, seed=seed) for one in meters}
        self.stations: dict[str, Station] = {}
        """By address."""
        places: dict[str, list[SimMeter]] = {}
        for sim in self.meters.values():
            places.setdefault(sim.meter.address, []).append(sim)
        for address, there in places.items():
            name = there[0].meter.gateway or there[0].meter.name
            self.stations[address] = Station(name, address, Gateway(world, there))

    def join(self, network: Network) -> None:
        """Stand on a network."""
        for station in self.stations.values():
            network.add(station)

    def station(self, name: str) -> Station:
        """Where a meter is read.

        Raises:
            KeyError: there is no such meter.
        """
        return self.stations[self.meters[name].meter.address]

    def truths(self) -> list[MeterTruth]:
        """What flows through each, whatever it shows."""
        return [
            MeterTruth(
                name=name,
                node=sim.meter.node,
                true_w=sim.true_w(),
                fault=sim.fault,
                trouble=self.station(name).trouble,
            )
            for name, sim in self.meters.items()
        ]

    def break_(
        self, fault: MeterFault | None, names: Iterable[str], *, late_s: float = 30.0
    ) -> None:
        """Let something go wrong with meters; `None` makes them well, and their gateways."""
        for name in names:
            sim, station = self.meters[name], self.station(name)
            if fault is MeterFault.GATEWAY_SILENT:
                station.trouble = Trouble.HANG
                continue
            if fault is None:
                station.trouble = None
            if fault is MeterFault.FROZEN:
                sim.values()
            sim.fault, sim.late_s = fault, late_s


class MemoryMeters:
    """The port `Meters` on simulated meters, without a wire: for hours of virtual time.

    Silence costs no time here. Its twin is `drivers.modbus`; one conformance suite holds the two together.
    """

    def __init__(self, meters: SimMeters, now_s: Callable[[], float]) -> None:
        """`now_s` tells seconds since the epoch, as the reader's clock does."""
        self._meters, self._now_s = meters, now_s

    async def read(self, meter: Meter) -> Reading:
        """What a meter says now; see `core.ports.Meters`."""
        sim = self._meters.meters.get(meter.name)
        trouble = self._meters.station(meter.name).trouble if sim else Trouble.REFUSE
        if sim is None or trouble is not None:
            raise Unreachable(f"meter {meter.name} does not answer")
        match sim.fault:
            case MeterFault.SILENT | MeterFault.TARGET_FAILED:
                raise MeterSilent(f"meter {meter.name}: its gateway gets no answer")
            case MeterFault.FAILING:
                raise HardwareFault(f"meter {meter.name}: it says that it failed")
            case _:
                words = sim.registers()
        asked = _addresses(blocks(meter.map), meter.register_offset)
        return reading_of(meter, {at: words.get(at, 0) for at in asked}, self._now_s())

    async def close(self) -> None:
        """Nothing is open."""


def _addresses(known: Iterable[Block], offset: int) -> Iterable[int]:
    for block in known:
        yield from range(block.start + offset, block.start + offset + block.count)


# --- what flows --------------------------------------------------------------------------------


class Flows:
    """What flows through each feed of a site: devices, what nobody manages, hosts."""

    def __init__(self, site: Site, now_s: Callable[[], float], *, every_s: float) -> None:
        """Nothing draws yet but what is fixed.

        Args:
            site: its feeds, with what nobody manages, and its hosts at their declared power.
            now_s: device time.
            every_s: it is summed up anew at most so often: 14,000 machines take a while.
        """
        self.sources: list[Callable[[], Mapping[str, float]]] = []
        """Each tells what its devices draw now, W, by the feed that each hangs on."""
        self._now_s, self._every_s = now_s, every_s
        self._fixed = {node.id: node.unmanaged_w for node in site.feeds.values()}
        for host in site.hosts:
            self._fixed[host.feed] += host.power_w
        self._parents = {feed: site.feeds[feed].parent for feed in site.feeds}
        self._order = sorted(site.feeds, key=lambda feed: -len(site.path(feed)))
        self._known: dict[str, float] = {}
        self._at_s = float("-inf")

    def __call__(self) -> Mapping[str, float]:
        """By feed, W."""
        now_s = self._now_s()
        if now_s - self._at_s >= self._every_s:
            self._at_s, self._known = now_s, self._summed()
        return self._known

    def _summed(self) -> dict[str, float]:
        sums = dict(self._fixed)
        for source in self.sources:
            for feed, watts in source().items():
                sums[feed] += watts
        for feed in self._order:
            parent = self._parents[feed]
            if parent is not None:
                sums[parent] += sums[feed]
        return sums
