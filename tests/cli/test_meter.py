"""`gridplane meter`: what is declared, what is read, and that silence is not 0 W."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from control_plane.cli.exits import Exit
from control_plane.simulator.clock import RealSimClock
from control_plane.simulator.machine import World
from control_plane.simulator.meters import MeterFault, SimMeters
from control_plane.simulator.network import Network
from control_plane.simulator.server import Server
from tests.cli.workshop import GRIDPLANE
from tests.inventory.base import FILES, loaded

Done = subprocess.CompletedProcess[str]


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    for path, text in FILES.items():
        target = tmp_path / "inventory" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    return tmp_path / "inventory"


def gridplane(*arguments: str) -> Done:
    return subprocess.run(
        [*GRIDPLANE, "meter", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def beside(tmp_path: Path, act: Callable[[SimMeters, str], Done]) -> Done:
    """What a verb says while the site's meters answer."""
    fleet = loaded().fleet
    assert fleet is not None
    meters = [
        msgspec.structs.replace(one, address=one.address.replace("10.12.", "127.42."))
        for one in fleet.sites["lab"].meters.values()
    ]

    async def play() -> Done:
        flows = {"grid": 300_000.0, "pad-1": 120_000.0}
        sims = SimMeters(meters, World(RealSimClock()), lambda: flows)
        network = Network()
        sims.join(network)
        server = Server(network, ports={502: 0})
        await server.start()
        rule = {"declared": "10.12.0.0/24", "actual": "127.42.0.0/24"}
        path = tmp_path / "map.json"
        ports = {"502": server.ports[502]}
        path.write_text(json.dumps({"version": 1, "rules": [rule], "ports": ports}))
        try:
            return await asyncio.to_thread(act, sims, str(path))
        finally:
            await server.stop()

    return asyncio.run(play())


def test_it_lists_what_is_declared_and_asks_nobody(inventory: Path) -> None:
    done = gridplane("list", "--inventory", str(inventory))
    assert done.returncode == Exit.OK, done.stderr
    _, grid, pad = done.stdout.splitlines()
    assert grid.split()[:5] == ["m-0", "grid", "10.12.0.10:502", "1", "schneider-pm5000"]
    assert pad.split()[:5] == ["m-1", "pad-1", "10.12.0.11:502", "2", "janitza-umg96"]


def test_it_reads_them_and_says_who_is_silent(inventory: Path, tmp_path: Path) -> None:
    def act(sims: SimMeters, network_map: str) -> Done:
        sims.break_(MeterFault.SILENT, ["m-1"])
        return gridplane("read", "--inventory", str(inventory), "--network-map", network_map)

    done = beside(tmp_path, act)
    assert done.returncode == Exit.OK, done.stderr
    assert "1 of 2 meters answered" in done.stdout
    grid, pad = done.stdout.splitlines()[-2:]
    assert " kW " in grid
    assert " 75% " in grid
    assert grid.endswith("good")
    assert "silent" in pad
    assert "gets no answer; look at its cable" in pad
    assert "0%" not in pad


def test_scripts_get_numbers_with_their_units(inventory: Path, tmp_path: Path) -> None:
    def act(_: SimMeters, network_map: str) -> Done:
        given = ["--inventory", str(inventory), "--network-map", network_map, "-o", "json"]
        return gridplane("read", "pad-1", *given)

    (row,) = json.loads(beside(tmp_path, act).stdout)
    assert (row["meter"], row["node"], row["rating_w"]) == ("m-1", "pad-1", 200_000.0)
    assert row["reading"]["power_w"] == pytest.approx(120_000.0, rel=0.007)
    assert (row["reading"]["quality"], row["freshness"]) == ("good", "fresh")
    assert 0 <= row["age_s"] < 5


def test_a_name_that_is_no_meter_is_refused(inventory: Path) -> None:
    done = gridplane("read", "pad-9", "--inventory", str(inventory))
    assert done.returncode == Exit.USAGE
    assert "pad-9 is no meter of lab" in done.stderr
    assert "Traceback" not in done.stderr
