"""What a revision's firmware would do: only machines that do not run it, by wave."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.catalogue import Image, Release
from control_plane.core.firmware_plan import FirmwareEffect, firmware_effects
from control_plane.core.fleet import Device, Site
from control_plane.core.observation import Observation
from control_plane.core.plan import make_plan
from control_plane.core.world import World
from control_plane.views.firmware import firmware_lines
from control_plane.views.plan import render_plan
from tests.core.builders import CAPABILITIES, NOW_S, TYPE, device, intent, seen, settings, site

OLD, NEW = "1.0", "2.0"
RELEASE = Release(
    id="r", family="fam", version=NEW, types=frozenset({TYPE.id}),
    images=(Image(file="new.bin", sha256="ab" * 32, size_bytes=1_000),),
    flash_s=1_800.0, settle_s=600.0, can_roll_back=False, voids_warranty=True,
)  # fmt: skip


def declared(count: int = 11, firmware: str | None = NEW) -> Site:
    devices = tuple(
        device(f"d{n:03}", slot=n, intent=intent(firmware=firmware)) for n in range(1, count + 1)
    )
    return msgspec.structs.replace(site(devices), releases={(TYPE.id, "fam", NEW): RELEASE})


def runs(one: Device, version: str | None) -> Observation:
    return seen(msgspec.structs.replace(settings(), firmware=version), asset=one.asset)


def effects(of: Site, *versions: str | None) -> tuple[FirmwareEffect, ...]:
    """The first machines run these versions; the rest runs the new one."""
    told = [*versions, *[NEW] * len(of.devices)]
    return firmware_effects(of, {one.asset: runs(one, told[n]) for n, one in enumerate(of.devices)})


def test_where_everybody_runs_it_or_nobody_asks_for_it_there_is_nothing() -> None:
    assert effects(declared()) == ()
    assert effects(declared(firmware=None), OLD) == ()


def test_machines_that_run_it_are_in_no_wave_and_each_wave_has_its_cost() -> None:
    (effect,) = effects(declared(), *[OLD] * 5, None)
    assert (effect.machines, effect.unknown, effect.voided) == (6, 1, 6)
    assert sum(wave.machines for wave in effect.waves) == 6
    assert effect.of_waves >= max(wave.wave for wave in effect.waves)
    each = TYPE.nominal
    for wave in effect.waves:
        assert wave.lost_ths_h == pytest.approx(wave.machines * each.hashrate_ths / 2)
        assert wave.swing_w == pytest.approx(wave.machines * each.power_w)


def test_the_text_names_images_warranty_and_what_does_not_go_back() -> None:
    shown = "\n".join(firmware_lines(effects(declared(), *[OLD] * 11)))
    assert f"{NEW} for {TYPE.make} {TYPE.model}: 11 machines" in shown
    assert "images new.bin abababababab" in shown
    assert "wave 1 of 2: 1 machine, up to" in shown
    assert "11 machines will lose the warranty" in shown
    assert "no machine goes back by itself" in shown


def test_a_plan_shows_it_where_a_machine_told_that_it_runs_another() -> None:
    of = declared()
    world = World(
        now_s=NOW_S,
        sightings={one.asset: runs(one, OLD) for one in of.devices},
        memories={},
        capabilities={"fam": CAPABILITIES},
    )
    plan = make_plan(of, "a" * 64, world)
    assert "Firmware    2.0 for" in render_plan(plan)
    without = make_plan(of, "a" * 64, msgspec.structs.replace(world, sightings={}))
    assert "Firmware" not in render_plan(without)
