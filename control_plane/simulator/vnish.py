"""A simulated Antminer with VNish: the API on port 80, cgminer's read-only RPC on 4028.

Wire: `vnish_web` and `vnish_rpc`. What it does by itself: `vnish_unit`.
"""

from __future__ import annotations

from collections.abc import Collection
from functools import partial
from typing import Any

import msgspec

from control_plane.simulator import vnish_rpc as rpc
from control_plane.simulator.cgminer_rpc import RpcSession
from control_plane.simulator.machine import Machine
from control_plane.simulator.vnish_builds import Build, build_of
from control_plane.simulator.vnish_conf import Conf, Cooling, Network, Pool
from control_plane.simulator.vnish_dashboard import Body
from control_plane.simulator.vnish_unit import Unit
from control_plane.simulator.vnish_web import WebSession
from control_plane.simulator.wire import Session

RPC_PORT, WEB_PORT = 4028, 80
_MIN_WATER_C = 20
"""Below that a hydro unit does not start. The figure is ours."""

_encode = msgspec.json.Encoder().encode


class Vnish:
    """One simulated unit, as a network sees it."""

    __slots__ = ("unit",)

    def __init__(
        self,
        machine: Machine,
        *,
        pools: tuple[Pool, ...] = (),
        network: Network | None = None,
        build: Build | None = None,
        conf: Conf | None = None,
        tuned: Collection[str] | None = None,
    ) -> None:
        """A unit at the preset that `machine.step` names.

        Args:
            machine: its physics, identity and password.
            pools: up to three slots, by priority.
            network: what it tells of its own address.
            build: its firmware; drawn by the asset's name where not given.
            conf: the whole settings instead of `pools` and the machine's step.
            tuned: presets that were tuned before; drawn by the asset's name where not given.
        """
        if conf is None:
            hydro = machine.model.fans == 0
            conf = Conf(
                pools=(*pools, Pool(), Pool(), Pool())[:3],
                preset=machine.step.name,
                cooling=Cooling(mode="immers", param=None, min_startup_water_temp=_MIN_WATER_C)
                if hydro
                else Cooling(),
            )
        self.unit = Unit(
            machine,
            conf=conf,
            network=network or Network(),
            build=build or build_of(machine),
            tuned=tuned,
        )

    @property
    def machine(self) -> Machine:
        """The physics behind it."""
        return self.unit.machine

    def accept(self, port: int, peer: str) -> Session | None:
        """A session on 80 while the control board is up, on 4028 while the miner can be asked."""
        unit = self.unit
        if not unit.machine.answers():
            return None
        ip, sample = unit.network.ip, unit.sample()
        if unit.network.ip != ip:
            return None  # A boot that nobody asked for took it elsewhere.
        if port == WEB_PORT:
            return WebSession(unit, peer)
        if port == RPC_PORT and not unit.is_restarting(sample):
            return RpcSession(unit.machine, peer, partial(_answer, unit))
        return None

    def reachable(self) -> bool:
        """False without power, and where the hardware is dead."""
        return not (self.machine.is_off or self.machine.is_dead)


def _answer(unit: Unit, command: dict[str, Any] | None) -> bytes:
    name = None if command is None else command.get("command")
    if not isinstance(name, str):
        return _error(unit, 23, "Invalid JSON")
    parts = name.split("+")[:8]
    if not all(part in rpc.RPC for part in parts):
        return _error(unit, 14, "Invalid command")
    sample = unit.sample()
    if len(parts) == 1:
        return _encode(rpc.RPC[name](unit, sample))
    joined: Body = {part: [rpc.RPC[part](unit, sample)] for part in parts}
    return _encode({**joined, "id": 1})


def _error(unit: Unit, code: int, message: str) -> bytes:
    return _encode({"STATUS": rpc.status(unit, "E", code, message), "id": 1})
