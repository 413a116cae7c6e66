"""Devices of every family that are told to stand elsewhere: who does it, and where they stand.

VNish twice: as builds that are there with their answer, and as builds that want a boot for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, TypeVar, cast

import msgspec

from control_plane.core.change import Outcome
from control_plane.core.errors import Unreachable
from control_plane.core.fleet import StaticNetwork
from control_plane.core.ports import Driver, Permit, Readdresser, Target
from control_plane.simulator.antminer import Antminer
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.site import Target as Where
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.vnish_builds import V1_3_4
from control_plane.simulator.whatsminer import WhatsMiner
from tests.drivers.making import Bench, always, on_bench

T = TypeVar("T")

BOOTING_VNISH = "vnish that boots"
KINDS = ("antminer_stock", "whatsminer_v2", "luxos", "vnish", BOOTING_VNISH)
"""On the floor of these tests the WhatsMiner stands at a leased address, the others at static ones."""
NEW = StaticNetwork(
    address="10.99.0.7",
    netmask="255.255.255.0",
    gateway="10.99.0.1",
    dns=("10.99.0.2", "10.99.0.3"),
)


class ReaddressingDriver(Driver, Readdresser, Protocol):
    """A driver whose family's network settings can be changed."""


def mover(driver: Driver) -> ReaddressingDriver:
    assert driver.capabilities.network is not None
    return cast("ReaddressingDriver", driver)


def on(kind: str, play: Callable[[Bench], Awaitable[T]]) -> T:
    """Play against one device of a kind, in virtual time."""

    async def main(bench: Bench) -> T:
        if kind == BOOTING_VNISH:
            unit_of(bench).build = V1_3_4
        return await play(bench)

    return on_bench(kind.partition(" ")[0], main)


def unit_of(bench: Bench) -> Any:
    device = bench.station.device
    assert isinstance(device, Antminer | WhatsMiner | LuxOs | Vnish)
    return device.unit


async def change(
    bench: Bench, network: StaticNetwork = NEW, permit: Permit = always, **other: Any
) -> Outcome:
    target = msgspec.structs.replace(bench.target, **other)
    return await mover(bench.driver).set_network(target, network, permit)


async def settle(bench: Bench) -> None:
    """Wait until what left is in force, or is not coming."""
    ways = bench.driver.capabilities.network
    assert ways is not None
    await asyncio.sleep(ways.late_s)


def at(bench: Bench, address: str) -> Target:
    return msgspec.structs.replace(bench.target, address=address)


async def stands_at(bench: Bench, address: str) -> bool:
    try:
        told = await bench.driver.identify(at(bench, address))
    except Unreachable:
        return False
    assert bench.target.pin is not None
    assert bench.target.pin.matches(told)
    return True


async def where(bench: Bench) -> list[str]:
    return [a for a in (bench.target.address, NEW.address) if await stands_at(bench, a)]


def hit(bench: Bench, kind: FaultKind) -> None:
    inject(bench.stage.site, Fault(kind=kind, target=Where(asset=bench.target.asset)))
