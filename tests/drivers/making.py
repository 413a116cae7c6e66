"""One simulated device of a family, a driver in front of it, and a line that can go bad on cue."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NamedTuple, TypeVar

import msgspec

from control_plane.core.change import Change, SetPowerMode, StartMining
from control_plane.core.fleet import Site
from control_plane.core.memory import Pin
from control_plane.core.observation import PoolSetting
from control_plane.core.ports import Connection, Driver, Net, Target
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.drivers.registry import make_drivers
from control_plane.simulator.ledger import Write
from control_plane.simulator.network import Station, Trouble
from control_plane.simulator.stage import Stage, set_stage
from control_plane.simulator.virtual import VirtualLoop, run_virtual
from tests.simulator.floors import S19_VNISH, TYPES, a_rack_of, a_site

T = TypeVar("T")

ASSETS = {
    "antminer_stock": "M-000-001",
    "whatsminer_v2": "M-001-001",
    "luxos": "M-002-001",
    "vnish": "M-000-001",
}
USERS = {"antminer_stock": "root", "whatsminer_v2": "admin", "luxos": "", "vnish": "admin"}
STEPS = {"luxos": {"low": "under-4"}, "vnish": {"low": "2350", "normal": "2950"}}
"""What a family's ladder calls its steps, where it is not `low` and `normal`."""
NEW_POOLS = (
    PoolSetting(url="stratum+tcp://new.pool:3333", worker="acct.n1"),
    PoolSetting(url="stratum+ssl://back.pool:443", worker="acct.n1"),
)


def step_of(family: str, name: str) -> str:
    """The family's own name of a step."""
    return STEPS.get(family, {}).get(name, name)


def spoken(family: str, change: Change) -> Change:
    """The change with the family's own name of its step."""
    if isinstance(change, SetPowerMode | StartMining) and change.power_mode is not None:
        return msgspec.structs.replace(change, power_mode=step_of(family, change.power_mode))
    return change


def site_of(family: str) -> Site:
    """A small floor that has the family."""
    if family == "vnish":
        return a_rack_of(S19_VNISH, firmware="1.3.3")
    return a_site(racks=len(TYPES), slots=4, odd_slots=False, families=tuple(TYPES))


def always() -> str | None:
    """The port `Permit` of a day on which nobody holds anything."""
    return None


class Line:
    """The port `Net` on which something happens just before one chosen request leaves."""

    def __init__(self, net: Net, station: Station) -> None:
        self._net = net
        self._station = station
        self.trouble: Trouble | None = None
        self.happening: Callable[[], None] = lambda: None
        self.before_request = 0
        self.connections = 0
        self.requests = 0

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> Connection:
        self.connections += 1
        return _Counted(
            self, await self._net.connect(address, port, deadline_s=deadline_s, tls=tls)
        )

    def count(self) -> None:
        self.requests += 1
        if self.requests == self.before_request:
            self._station.trouble = self.trouble
            self.happening()


class _Counted:
    def __init__(self, line: Line, connection: Connection) -> None:
        self._line, self._connection = line, connection

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        self._line.count()
        return await self._connection.request(
            payload, complete=complete, deadline_s=deadline_s, max_bytes=max_bytes
        )

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        self._line.count()
        await self._connection.send(pieces, deadline_s=deadline_s)

    def close(self) -> None:
        self._connection.close()


class Bench(NamedTuple):
    """What a test of one family plays with."""

    stage: Stage
    line: Line
    station: Station
    driver: Driver
    target: Target

    def writes(self) -> tuple[Write, ...]:
        """What arrived at the device."""
        return self.stage.site.world.ledger.select(asset=self.target.asset)


def on_bench(
    family: str,
    play: Callable[[Bench], Awaitable[T]],
    *,
    password: str | None = None,
    seed: int = 3,
) -> T:
    """Play against one device of a family, in virtual time."""

    async def main(loop: VirtualLoop) -> T:
        stage = set_stage(site_of(family), loop, seed=seed)
        station = stage.site.stations[ASSETS[family]]
        line = Line(stage.net, station)
        machine = stage.site.machine(station.asset)
        target = Target(
            asset=station.asset,
            address=station.address,
            user=USERS[family],
            password=Secret(machine.password if password is None else password),
            pin=Pin(mac=machine.mac, serial=machine.serial, source="test"),
        )
        driver = make_drivers(line, stage.clock)[family]
        return await play(Bench(stage, line, station, driver, target))

    return run_virtual(main)
