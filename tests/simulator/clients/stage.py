"""Puts simulated machines on their true ports, lets a client that others wrote look, prints both.

Usage: stage.py CLIENT_PYTHON CLIENT_SCRIPT [CAST]. Runs in a network namespace of its own, where
ports 80 and 4028 are free and nothing but loopback exists.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import socket
import struct
import sys
from typing import Any

import msgspec

from control_plane.simulator.antminer import Antminer
from control_plane.simulator.antminer_builds import (
    S19_2023,
    S19KPRO_2023,
    S19XP_2023,
    S21_2024,
    S21_2025,
    Build,
)
from control_plane.simulator.antminer_conf import Pool
from control_plane.simulator.clock import RealSimClock
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.luxos_unit import V2024_02, V2025_04, V2026_04, Atm
from control_plane.simulator.luxos_unit import Build as LuxBuild
from control_plane.simulator.luxos_unit import Pool as LuxPool
from control_plane.simulator.machine import Machine, Model, Step, World
from control_plane.simulator.network import Network, Station
from control_plane.simulator.server import Server
from control_plane.simulator.site import pools_of
from control_plane.simulator.vnish import Vnish
from control_plane.simulator.vnish_builds import BUILDS as VNISH_BUILDS
from control_plane.simulator.vnish_conf import Pool as VnishPool
from control_plane.simulator.whatsminer import WhatsMiner
from control_plane.simulator.whatsminer_unit import V2023_08, V2024_09
from control_plane.simulator.whatsminer_unit import Build as WhatsBuild
from control_plane.simulator.whatsminer_unit import Pool as WhatsPool

URLS = ("stratum+tcp://one.pool.test:3333", "stratum+tcp://two.pool.test:443")


def a_model(family: str, name: str, ths: float, watts: float, chips: int, boards: int = 3) -> Model:
    return Model(
        family=family,
        make="MicroBT" if family == "whatsminer_v2" else "Bitmain",
        model=name,
        boards=boards,
        chips_per_board=chips,
        fans=2 if family == "whatsminer_v2" else 4,
        ladder=(
            Step(name="low", hashrate_ths=0.8 * ths, power_w=0.75 * watts),
            Step(name="normal", hashrate_ths=ths, power_w=watts),
        ),
        nominal="normal",
        standby_w=25.0,
    )


ANTMINERS: dict[str, tuple[Model, Build]] = {
    "S21": (a_model("antminer_stock", "Antminer S21", 200, 3500, 108), S21_2024),
    "S21+": (a_model("antminer_stock", "Antminer S21+", 235, 3878, 55), S21_2025),
    "S19 XP": (a_model("antminer_stock", "Antminer S19 XP", 141, 3032, 110), S19XP_2023),
    "S19K Pro": (a_model("antminer_stock", "Antminer S19k Pro", 120, 2760, 77), S19KPRO_2023),
    "S19J Pro": (a_model("antminer_stock", "Antminer S19j Pro", 104, 3068, 126), S19_2023),
}
WHATSMINERS: dict[str, tuple[Model, WhatsBuild]] = {
    "M60S": (a_model("whatsminer_v2", "M60S_VK30", 180, 3400, 105), V2024_09),
    "M50S": (a_model("whatsminer_v2", "M50S_VH20", 126, 3276, 105), V2023_08),
}


def cast(network: Network, world: World) -> None:
    """Nine machines: five running Antminers, one asleep, one with a dead board, two WhatsMiners."""
    special = {"asleep": (*ANTMINERS["S21"], True), "two boards": (*ANTMINERS["S21"], False)}
    for number, (name, (model, build, asleep)) in enumerate(
        [(n, (m, b, False)) for n, (m, b) in ANTMINERS.items()] + list(special.items()), 1
    ):
        missing = 1 if name == "two boards" else 0
        machine = _machine(world, name, model, number, asleep=asleep, missing_boards=missing)
        pools = tuple(Pool(url, f"acct.{number}", "x") for url in URLS)
        device = Antminer(machine, pools=pools, build=build)
        network.add(Station(name, f"127.7.0.{number}", device))
    for number, (name, (model, whats)) in enumerate(WHATSMINERS.items(), 101):
        machine = _machine(world, name, model, number)
        stored = tuple(WhatsPool(url, f"acct.{number}", "x") for url in URLS)
        unit = WhatsMiner(machine, pools=stored, build=whats, limit_w=3000)
        network.add(Station(name, f"127.7.0.{number}", unit))


VNISH_LADDER = ((1900, 73), (2350, 85), (2950, 99), (3200, 102))


def cast_vnish(network: Network, world: World) -> None:
    """One S19 of each build of VNish."""
    steps = tuple(
        Step(name=str(watts), hashrate_ths=ths, power_w=watts) for watts, ths in VNISH_LADDER
    )
    model = msgspec.structs.replace(
        a_model("vnish", "Antminer S19", 99, 2950, 76), ladder=steps, nominal="2950"
    )
    for number, build in enumerate(VNISH_BUILDS.values(), 1):
        machine = _machine(world, build.version, model, number)
        pools = tuple(VnishPool(url.partition("://")[2], f"acct.{number}", "x") for url in URLS)
        tuned = [step.name for step in steps]
        device = Vnish(machine, pools=pools, build=build, tuned=tuned)
        network.add(Station(build.version, f"127.7.0.{number}", device))


LUXOS: dict[str, tuple[Model, LuxBuild]] = {
    "S21": (a_model("luxos", "Antminer S21", 200, 3500, 108), V2026_04),
    "S19K Pro": (a_model("luxos", "Antminer S19k Pro", 120, 2760, 77), V2025_04),
    "S19J Pro": (a_model("luxos", "Antminer S19j Pro", 104, 3068, 126), V2024_02),
}


def cast_luxos(network: Network, world: World) -> None:
    """Six machines with LuxOS: three that run, one asleep, one with two boards, one with ATM on."""
    s21 = LUXOS["S21"]
    for number, (name, (model, build)) in enumerate(
        [*LUXOS.items(), ("asleep", s21), ("two boards", s21), ("atm", s21)], 1
    ):
        machine = _machine(
            world,
            name,
            model,
            number,
            asleep=name == "asleep",
            missing_boards=1 if name == "two boards" else 0,
        )
        pools = tuple(LuxPool(url, f"acct.{number}", "x") for url in URLS)
        device = LuxOs(machine, pools=pools, build=build, atm=Atm(enabled=name == "atm"))
        network.add(Station(name, f"127.7.1.{number}", device))


CASTS = {"factory": cast, "luxos": cast_luxos, "vnish": cast_vnish}


def _machine(world: World, name: str, model: Model, number: int, **more: Any) -> Machine:
    return Machine(
        world=world,
        model=model,
        asset=name,
        rack="stage",
        mac=f"02:00:00:00:07:{number:02x}",
        serial=f"SN{number:04}",
        password="root" if model.family == "antminer_stock" else "admin",
        **more,
    )


def raise_loopback() -> None:
    """A fresh network namespace has its loopback interface down."""
    up = struct.pack("16sh14x", b"lo", 0x1 | 0x40)
    with socket.socket() as sock:
        fcntl.ioctl(sock, 0x8914, up)


async def main(python: str, script: str, who: str = "factory") -> None:
    world = World(RealSimClock())
    network = Network()
    CASTS[who](network, world)
    server = Server(network, ports={4028: 4028, 80: 80})
    await server.start()
    if server.ports != {4028: 4028, 80: 80}:
        raise SystemExit(f"the true ports are not free here: {server.ports}")
    addresses = [station.address for station in network]
    client = await asyncio.create_subprocess_exec(
        python, script, *addresses, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await client.communicate()
    await server.stop()
    truth = {}
    for station in network:
        machine = station.device.machine  # type: ignore[attr-defined]
        sample = machine.sample()
        truth[station.address] = {
            "name": station.asset,
            "mac": machine.mac,
            "serial": machine.serial,
            "hashrate_ths": sample.hashrate_ths,
            "reported_w": sample.reported_w,
            "uptime_s": sample.mining_uptime_s,
            "boards": sorted(machine.alive_boards()),
            "chips": machine.model.chips_per_board,
            "mode": machine.step.name,
            "mining": not machine.asleep,
            "boots": machine.boots,
            "pools": pools_of(station.device),  # type: ignore[arg-type]
            "writes": [
                [write.kind, write.honoured] for write in world.ledger.select(asset=station.asset)
            ],
        }
    sys.stdout.buffer.write(
        msgspec.json.encode({"truth": truth, "told": json.loads(told), "rc": client.returncode})
    )


if __name__ == "__main__":
    raise_loopback()
    asyncio.run(main(*sys.argv[1:]))
