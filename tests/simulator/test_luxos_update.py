"""A simulated LuxOS unit fetches firmware: what it refuses, what a power cut leaves, what comes up."""

from __future__ import annotations

import pytest

from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.luxos import LuxOs
from control_plane.simulator.luxos_unit import V2025_04
from control_plane.simulator.luxos_update import FETCH_S, WRITE_S, Fate, Image
from tests.simulator.making import a_world, read
from tests.simulator.test_luxos import Writer, a_luxos

SOURCE = "http://10.0.0.2/luxos"
NEW = Image(version="2026.6.1.1", commit="abcdef01", models=frozenset({"Antminer S21"}))


def told_to_update(image: Image | None = NEW) -> tuple[LuxOs, ManualSimClock]:
    world, clock = a_world()
    device = a_luxos(world, build=V2025_04)
    if image is not None:
        device.unit.update.sources = {SOURCE: image}
    writer = Writer(device)
    assert writer("updateset", f"source={SOURCE}", "on_user=update") == ("S", 342)
    assert writer("updaterun") == ("S", 333)
    return device, clock


def version(device: LuxOs) -> str:
    told: str = read(device, "version")["VERSION"][0]["Miner"]
    return told


def passes(device: LuxOs, clock: ManualSimClock, seconds: float) -> None:
    """Somebody looks all the time, as a controller does."""
    for _ in range(int(seconds / 5)):
        clock.advance(5)
        device.accept(4028, "10.0.0.1")


def test_it_fetches_writes_boots_and_tells_the_new_version() -> None:
    device, clock = told_to_update()
    passes(device, clock, FETCH_S + WRITE_S - 10)
    assert (version(device), device.machine.boots) == (V2025_04.version, 0)
    assert device.machine.sample().hashrate_ths > 190
    passes(device, clock, 20)
    assert not device.machine.answers()
    passes(device, clock, 600)
    assert (version(device), device.machine.boots) == (NEW.version, 1)
    assert device.machine.sample().hashrate_ths > 190
    assert device.unit.pools
    # A second run of the same is the source's and the caller's to avoid: the device obeys.
    assert read(device, "config")["CONFIG"][0]["UpdateSource"] == SOURCE


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (None, "the source does not answer"),
        (Image(version="9", commit="c", models=frozenset({"Antminer S19 XP"})), "another model"),
        (Image(version="9", commit="c", models=NEW.models, is_whole=False), "damaged"),
    ],
    ids=["nobody there", "wrong model", "damaged"],
)
def test_what_does_not_fit_is_refused_by_the_device(image: Image | None, said: str) -> None:
    device, clock = told_to_update(image)
    passes(device, clock, 600)
    assert (version(device), device.machine.boots) == (V2025_04.version, 0)
    assert said in read(device, "updatecheck")["UPDATE"][0]["Last"]


@pytest.mark.parametrize("after_s", [FETCH_S / 2, FETCH_S + WRITE_S / 2], ids=["fetch", "write"])
def test_a_power_cut_leaves_the_old_firmware_and_it_may_be_tried_again(after_s: float) -> None:
    device, clock = told_to_update()
    passes(device, clock, after_s)
    assert device.unit.update.is_writing(device.machine) is (after_s > FETCH_S)
    device.machine.power_off()
    clock.advance(60)
    device.machine.power_on()
    passes(device, clock, 900)
    assert (version(device), device.machine.boots) == (V2025_04.version, 1)
    assert read(device, "updatecheck")["UPDATE"][0]["Last"] == "interrupted"
    assert Writer(device)("updaterun") == ("S", 333)
    passes(device, clock, 900)
    assert version(device) == NEW.version


@pytest.mark.parametrize("fate", [Fate.DEAD, Fate.NO_HASH])
def test_an_image_may_brick_a_unit_or_leave_it_without_hash(fate: Fate) -> None:
    image = Image(version="9.9", commit="c", models=NEW.models, fate=fate)
    device, clock = told_to_update(image)
    passes(device, clock, 1200)
    assert device.reachable() is (fate is Fate.NO_HASH)
    assert device.machine.sample().hashrate_ths == 0.0
    if fate is Fate.NO_HASH:
        assert version(device) == "9.9"


def test_without_its_process_or_with_odd_settings_nothing_begins() -> None:
    world, clock = a_world()
    device = a_luxos(world)
    writer = Writer(device)
    for setting in ("on_user=yes", "timeout=0", "timeout=x", "nonsense=1", ""):
        assert writer("updateset", setting) == ("E", 400), setting
    device.unit.update.is_running = False
    assert writer("updaterun") == ("E", 334)
    device.unit.update.is_running = True
    device.unit.update.sources = {SOURCE: NEW}
    assert writer("updateset", f"source={SOURCE}", "on_user=check") == ("S", 342)
    assert writer("updaterun") == ("S", 333)
    clock.advance(600)
    assert read(device, "updatecheck")["UPDATE"][0]["Available"] == NEW.version
    assert device.machine.boots == 0
