"""Simulated meters: what they measure, and that clients which others wrote can read them."""

from __future__ import annotations

import asyncio
import json
import struct
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from pymodbus.client import AsyncModbusTcpClient

from control_plane.core import limits
from control_plane.core.meter_bias import Bias, Compared, Suspicion, follow
from control_plane.core.meter_maps import MAPS
from control_plane.drivers.modbus import ModbusMeters
from control_plane.drivers.net import NetworkMap, StreamNet
from control_plane.engine.adapters import SystemClock
from control_plane.simulator.build import build_site
from control_plane.simulator.clock import ManualSimClock, RealSimClock
from control_plane.simulator.control import Control
from control_plane.simulator.machine import World
from control_plane.simulator.meters import MemoryMeters, MeterFault, SimMeter, SimMeters
from control_plane.simulator.network import Network
from control_plane.simulator.serve import serving
from control_plane.simulator.server import Server
from tests.inventory.base import loaded
from tests.metering import GATEWAY, GRID_W, METERS, OWN, PAD_W, a_meter

HERE = Path(__file__).resolve().parent


def a_sim(clock: ManualSimClock, flows: dict[str, float], **how: object) -> SimMeter:
    return SimMeter(a_meter(**how), World(clock), lambda: flows)  # type: ignore[arg-type]


def power(sim: SimMeter) -> float | None:
    return {str(key): value for key, value in sim.values().items()}["power_w"]


def test_it_measures_anew_each_interval_and_within_its_class() -> None:
    clock, flows = ManualSimClock(100.0), {"pad-1": PAD_W}
    sim = a_sim(clock, flows, interval_s=5.0, accuracy_class=0.5)
    first = power(sim)
    clock.advance(4.9)
    assert power(sim) == first
    seen = set()
    for _ in range(50):
        clock.advance(5.0)
        seen.add(power(sim))
    assert len(seen) > 40
    assert all(abs((one or 0.0) / PAD_W - 1.0) < 0.005 for one in seen)


def test_its_energy_is_the_integral_of_its_power() -> None:
    clock, flows = ManualSimClock(0.0), {"pad-1": PAD_W}
    sim = a_sim(clock, flows)
    before = {str(k): v for k, v in sim.values().items()}["import_wh"]
    for _ in range(360):
        clock.advance(10.0)
        sim.values()
    after = {str(k): v for k, v in sim.values().items()}["import_wh"]
    assert before is not None
    assert after is not None
    assert after - before == pytest.approx(PAD_W, rel=0.005)


def test_one_whose_clock_is_wrong_shows_what_was() -> None:
    clock, flows = ManualSimClock(0.0), {"pad-1": PAD_W}
    sim = a_sim(clock, flows)
    sim.fault, sim.late_s = MeterFault.LATE, 30.0
    for second in range(90):
        clock.advance(1.0)
        flows["pad-1"] = 1000.0 * second
        shown = power(sim)
        if second > 35:
            assert shown == pytest.approx(1000.0 * (second - 30), rel=0.01)


@pytest.mark.parametrize("model", MAPS)
def test_its_counters_roll_over_and_do_not_break(model: str) -> None:
    clock, flows = ManualSimClock(0.0), {"pad-1": 3e6}
    sim = a_sim(clock, flows, model=model)
    for _ in range(5):
        clock.advance(3.15e7)
        assert all(0 <= word <= 0xFFFF for word in sim.registers().values())


def test_a_meter_shows_what_hangs_below_its_node() -> None:
    """Machines, what nobody manages, and hosts; what sleeps draws little."""
    fleet = loaded().fleet
    assert fleet is not None
    clock = ManualSimClock()
    sim = build_site(fleet.sites["lab"], clock=clock)
    clock.advance(3600.0)
    truth = {one.name: one.true_w for one in sim.meters.truths()}
    miners_w, _ = sim.totals()
    assert truth["m-1"] == pytest.approx(miners_w + 5_000.0)
    assert truth["m-0"] == pytest.approx(miners_w + 5_000.0 + 500.0)
    for asset in sim.stations:
        sim.device(asset).machine.is_off = True
    sim.flows.sources.append(lambda: {"box-1-p2": 700.0})
    clock.advance(1.0)
    assert sim.meters.meters["m-1"].true_w() == pytest.approx(5_700.0)
    told = Control(sim).answer(b'{"do":"meter_fault","kind":"frozen","meters":["m-1"]}')
    assert told == {"meters": ["m-1"]}
    (frozen,) = [one for one in Control(sim).answer(b'{"do":"meters"}')["meters"] if one.fault]
    assert (frozen.name, frozen.fault) == ("m-1", MeterFault.FROZEN)
    assert (
        "no simulated meter"
        in Control(sim).answer(b'{"do":"meter_fault","kind":null,"meters":["x"]}')["error"]
    )


# --- clients that others wrote -----------------------------------------------------------------


def served(play: Callable[[int, SimMeters], Awaitable[None]]) -> None:
    async def main() -> None:
        sims = SimMeters(METERS, World(RealSimClock()), lambda: {"pad-1": PAD_W, "grid": GRID_W})
        network = Network()
        sims.join(network)
        server = Server(network, ports={502: 0})
        await server.start()
        try:
            await play(server.ports[502], sims)
        finally:
            await server.stop()

    asyncio.run(main())


def a_float(words: list[int]) -> float:
    (value,) = struct.unpack(">f", struct.pack(">2H", *words))
    return float(value)


def test_pymodbus_own_client_reads_them() -> None:
    async def play(port: int, sims: SimMeters) -> None:
        client = AsyncModbusTcpClient(GATEWAY, port=port, retries=0, timeout=3.0)
        assert await client.connect()
        try:
            told = await client.read_holding_registers(19_026, count=2, device_id=1)
            assert a_float(list(told.registers)) == pytest.approx(PAD_W, rel=0.007)
            told = await client.read_input_registers(52, count=2, device_id=2)
            assert a_float(list(told.registers)) == pytest.approx(PAD_W, rel=0.007)
            told = await client.read_holding_registers(3_059, count=2, device_id=3)
            assert a_float(list(told.registers)) == pytest.approx(PAD_W / 1000, rel=0.007)
            for function, address, count, unit, code in (
                (client.read_holding_registers, 0, 2, 1, 2),
                (client.read_input_registers, 19_026, 2, 1, 1),
                (client.read_holding_registers, 19_026, 2, 77, 11),
            ):
                no = await function(address, count=count, device_id=unit)
                assert (no.isError(), no.exception_code) == (True, code)
            sims.break_(MeterFault.FAILING, ["m-1"])
            no = await client.read_holding_registers(19_026, count=2, device_id=1)
            assert no.exception_code == 4
        finally:
            client.close()

    served(play)


@pytest.mark.clients
def test_pymodbustcp_reads_them(clients_python: Path) -> None:
    told = read_by("modbus_pymodbustcp", clients_python)
    for name in ("m-1", "m-2", "m-3", "m-4"):
        assert told[name] == pytest.approx(PAD_W, rel=0.007), name
    assert told["m-0"] == pytest.approx(GRID_W, rel=0.003)
    assert told["m-4 id"] == 203
    assert told["m-3 Wh"] > 1e5
    assert (told["wrong registers"], told["wrong function"]) == (2, 1)
    assert (told["no such unit"], told["write"]) == (11, 1)


@pytest.mark.clients
def test_sunspec_own_client_finds_and_reads_them(clients_python: Path) -> None:
    told = read_by("modbus_pysunspec2", clients_python)
    assert told["m-4"] == pytest.approx(PAD_W, rel=0.007)
    assert told["m-0"] == pytest.approx(GRID_W, rel=0.003)
    assert told["m-4 phase"] is told["m-0 phase"] is None
    assert told["m-4 Wh"] > 1e5
    assert told["m-4 maker"] == "gridplane"


def read_by(client: str, clients_python: Path) -> dict[str, Any]:
    told: dict[str, Any] = {}

    def look(port: int) -> None:
        script = str(HERE / f"clients/{client}.py")
        done = subprocess.run(
            [str(clients_python), script, GATEWAY, OWN, str(port)],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        told.update(json.loads(done.stdout))

    async def play(port: int, sims: SimMeters) -> None:
        del sims
        await asyncio.to_thread(look, port)

    served(play)
    return told


# --- a meter against its devices ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "suspicion"),
    [
        (None, None),
        (MeterFault.REVERSED, Suspicion.REVERSED),
        (MeterFault.TIMES_TEN, Suspicion.TIMES_TEN),
        (MeterFault.FROZEN, Suspicion.ABOVE),
    ],
)
def test_what_machines_are_off_by_is_found_and_what_a_meter_is_off_by_is_named(
    fault: MeterFault | None, suspicion: Suspicion | None
) -> None:
    """Machines that report 7 % less than they draw; when half of them stop, a frozen meter shows."""
    fleet = loaded().fleet
    assert fleet is not None
    site = fleet.sites["lab"]
    clock = ManualSimClock()
    sim = build_site(site, clock=clock)
    clock.advance(3600.0)
    meter = site.meters["m-1"]
    port = MemoryMeters(sim.meters, clock.device_s)

    def look() -> Compared:
        reading = asyncio.run(port.read(meter))
        assert reading.power_w is not None
        told = sum(sim.machine(asset).sample().reported_w for asset in sim.stations)
        return Compared(
            at_s=reading.at_s,
            meter_w=reading.power_w,
            devices_w=0.93 * told,
            unmanaged_w=5_000.0,
        )

    bias = Bias()
    for _ in range(240):
        clock.advance(5.0)
        bias = follow(bias, look())
    drawn_w, _ = sim.totals()
    said = look().devices_w
    assert bias.suspicion is None
    assert abs(bias.factor * said / drawn_w - 1.0) < 0.01
    assert said / drawn_w < 0.95, "uncorrected it is further off"

    if fault is None:
        return
    sim.meters.break_(fault, ["m-1"])
    if fault is MeterFault.FROZEN:
        for asset in sorted(sim.stations)[: len(sim.stations) // 2]:
            sim.machine(asset).is_off = True
    for _ in range(1440):
        clock.advance(5.0)
        bias = follow(bias, look())
    assert bias.suspicion is suspicion
    assert limits.METER_BIAS_MIN <= bias.factor <= limits.METER_BIAS_MAX


def test_a_served_site_answers_modbus_where_its_map_leads(tmp_path: Path) -> None:
    fleet = loaded().fleet
    assert fleet is not None
    site = fleet.sites["lab"]

    async def main() -> None:
        async with serving(site, state=tmp_path, ports={4028: 0, 80: 0, 502: 0}) as running:
            known = NetworkMap.load(running.map_path)
            port = ModbusMeters(StreamNet(known), SystemClock())
            try:
                for meter in site.meters.values():
                    reading = await port.read(meter)
                    true_w = running.site.meters.meters[meter.name].true_w()
                    assert reading.power_w == pytest.approx(true_w, rel=0.01)
            finally:
                await port.close()

    asyncio.run(main())
