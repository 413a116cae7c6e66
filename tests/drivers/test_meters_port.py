"""The port `Meters`: whoever implements it tells the same of the same meters. One suite for all of them."""

from __future__ import annotations

import pytest

from control_plane.core.errors import ControlPlaneError, HardwareFault, Unreachable
from control_plane.core.meter import MeterSilent, Quality, Reading
from control_plane.simulator.meters import MeterFault
from tests.metering import CARRIERS, GRID_W, METERS, PAD_W, Bench

pytestmark = pytest.mark.parametrize("carrier", CARRIERS)


async def outcome(bench: Bench, name: str) -> Reading | ControlPlaneError:
    try:
        return await bench.meters.read(bench.meter(name))
    except ControlPlaneError as error:
        return error


def test_it_tells_what_flows_by_every_map_scale_and_direction(carrier: str) -> None:
    async def play(bench: Bench) -> None:
        for meter in METERS:
            reading = await bench.meters.read(meter)
            true_w = GRID_W if meter.node == "grid" else PAD_W
            assert reading.power_w == pytest.approx(true_w, rel=0.007), meter.name
            assert reading.quality is Quality.GOOD
            assert reading.apparent_va == pytest.approx(true_w / 0.98, rel=0.007)
            assert reading.voltage_v == pytest.approx(415.0, rel=0.02)
            assert reading.current_a == pytest.approx(true_w / 0.98 / 415 / 3**0.5, rel=0.02)
            assert reading.import_wh is not None
            assert reading.import_wh > 1e5
            assert abs(bench.clock.wall_s() - reading.at_s) < 10.0

    CARRIERS[carrier](play)


def test_it_counts_energy(carrier: str) -> None:
    async def play(bench: Bench) -> None:
        meter = bench.meter("m-3")
        first = await bench.meters.read(meter)
        await bench.clock.sleep(2.2)
        second = await bench.meters.read(meter)
        assert first.import_wh is not None
        assert second.import_wh is not None
        # It counts up to where its intervals of 1 s end.
        counted_s = (second.import_wh - first.import_wh) / PAD_W * 3600
        assert 0.9 < counted_s < second.at_s - first.at_s + 1.5

    CARRIERS[carrier](play)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (MeterFault.SILENT, MeterSilent),
        (MeterFault.TARGET_FAILED, MeterSilent),
        (MeterFault.FAILING, HardwareFault),
        (MeterFault.GATEWAY_SILENT, Unreachable),
    ],
)
def test_who_does_not_answer_is_named_and_comes_back(
    carrier: str, fault: MeterFault, kind: type[ControlPlaneError]
) -> None:
    async def play(bench: Bench) -> None:
        bench.sims.break_(fault, ["m-1"])
        told = await outcome(bench, "m-1")
        assert type(told) is kind
        if fault is not MeterFault.GATEWAY_SILENT:
            assert isinstance(await outcome(bench, "m-2"), Reading), "the others of its line"
        assert isinstance(await outcome(bench, "m-0"), Reading), "one with a line of its own"
        bench.sims.break_(None, ["m-1"])
        for _ in range(20):
            await bench.clock.wire_sleep(0.5)
            if isinstance(await outcome(bench, "m-1"), Reading):
                return
        pytest.fail("it never came back")

    CARRIERS[carrier](play)


@pytest.mark.parametrize(
    ("fault", "quality", "factor"),
    [
        (MeterFault.REVERSED, Quality.NEGATIVE, -1.0),
        (MeterFault.TIMES_TEN, Quality.OUT_OF_RANGE, 10.0),
        (MeterFault.SLOW, Quality.GOOD, 1.0),
    ],
)
def test_what_cannot_be_so_is_named(
    carrier: str, fault: MeterFault, quality: Quality, factor: float
) -> None:
    async def play(bench: Bench) -> None:
        bench.sims.break_(fault, ["m-1"])
        reading = await bench.meters.read(bench.meter("m-1"))
        assert reading.quality is quality
        assert reading.power_w == pytest.approx(factor * PAD_W, rel=0.01)

    CARRIERS[carrier](play)


@pytest.mark.parametrize("name", ["m-1", "m-2", "m-3", "m-4", "m-0"])
def test_what_is_no_number_is_unknown_and_not_0(carrier: str, name: str) -> None:
    async def play(bench: Bench) -> None:
        bench.sims.break_(MeterFault.NAN, [name])
        reading = await bench.meters.read(bench.meter(name))
        assert reading.quality is Quality.MISSING
        assert reading.power_w is reading.import_wh is reading.voltage_v is None

    CARRIERS[carrier](play)


def test_a_frozen_meter_says_the_same_again(carrier: str) -> None:
    async def play(bench: Bench) -> None:
        bench.sims.break_(MeterFault.FROZEN, ["m-1"])
        first = await bench.meters.read(bench.meter("m-1"))
        bench.flows["pad-1"] = 2 * PAD_W
        await bench.clock.sleep(2.1)
        second = await bench.meters.read(bench.meter("m-1"))
        assert (second.power_w, second.import_wh) == (first.power_w, first.import_wh)
        assert second.at_s > first.at_s

    CARRIERS[carrier](play)


def test_it_opens_anew_after_a_close(carrier: str) -> None:
    async def play(bench: Bench) -> None:
        await bench.meters.read(bench.meter("m-1"))
        await bench.meters.close()
        await bench.meters.read(bench.meter("m-1"))

    CARRIERS[carrier](play)
