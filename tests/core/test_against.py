"""Two declarations compared without a device."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.against import compare, steps_back
from control_plane.core.decision import Danger
from control_plane.core.fleet import (
    Device,
    DeviceKind,
    GpuIntent,
    GpuModel,
    Mode,
    Site,
    SlotState,
)
from control_plane.core.gpu import ClockRange, GpuSettings
from tests.core.builders import TYPE, device, intent, site

ASSETS = [f"d{n:02}" for n in range(40)]


def miners(**changes: object) -> tuple[Device, ...]:
    return tuple(device(asset, **changes) for asset in ASSETS)


def test_equal_declarations_change_nothing() -> None:
    comparison = compare(site(miners()), site(miners()))
    assert (comparison.changes, comparison.subjects, comparison.waves) == ((), 0, ())
    assert comparison.danger is Danger.D0
    assert comparison.before == comparison.after


def test_a_lower_mode_is_seen_in_watts_hash_and_danger() -> None:
    low = site(miners(intent=intent(power_mode="low")))
    comparison = compare(site(miners()), low)
    assert {(c.field, c.before, c.after) for c in comparison.changes} == {
        ("power_mode", "normal", "low")
    }
    assert comparison.subjects == 40
    assert comparison.power_changed_w == 40 * 1_100.0
    assert comparison.after.power_w == 40 * 2_400.0
    assert comparison.danger is Danger.D3


def test_what_gpu_nodes_draw_is_not_the_miners_efficiency() -> None:
    gpu = msgspec.structs.replace(TYPE, id="gpu", kind=DeviceKind.GPU_NODE)
    after = compare(None, site((*miners(), device("g1", type=gpu)))).after
    assert after.power_w == 41 * 3_500.0
    assert after.miners_w / after.hashrate_ths == pytest.approx(17.5)


def test_a_cap_of_gpus_is_seen_in_watts() -> None:
    model = GpuModel(model="NVIDIA H200", memory_gib=141, min_limit_w=200, max_limit_w=700)
    kind = msgspec.structs.replace(
        TYPE, id="gpu", kind=DeviceKind.GPU_NODE, gpus=8, gpu=model,
        ladder=(Mode(name="full", hashrate_ths=0, power_w=10_200),),
    )  # fmt: skip

    def capped(limit_w: float | None) -> Site:
        clocks = ClockRange(min_mhz=210, max_mhz=1_980)
        gpu = GpuIntent(
            settings=GpuSettings(power_limit_w=limit_w, graphics_clock=clocks), driver="595.91.07"
        )
        return site((device("g1", type=kind, intent=intent(gpu=gpu)),))

    found = compare(capped(None), capped(600))
    (change,) = found.changes
    assert (change.field, change.before, change.after) == ("gpu_power_limit_w", "-", "600")
    assert (found.subjects, found.power_changed_w) == (1, 800.0)
    assert found.after.power_w == 9_400.0
    new = compare(site((device("g1", type=kind),)), capped(None))
    assert {(c.field, c.after) for c in new.changes} == {
        ("gpu_driver", "595.91.07"), ("gpu_graphics_clock", "210-1980 MHz"),
    }  # fmt: skip


def test_whether_remedies_act_is_a_change_that_is_seen() -> None:
    kind = msgspec.structs.replace(TYPE, id="gpu", kind=DeviceKind.GPU_NODE)

    def gpus(gpu: GpuIntent | None) -> Site:
        return site((device("g1", type=kind, intent=intent(gpu=gpu)),))

    tell, act = gpus(GpuIntent()), gpus(GpuIntent(acts=True))
    for before, after, words in ((tell, act, ("tell", "act")), (act, tell, ("act", "tell"))):
        found = compare(before, after)
        (change,) = found.changes
        assert (change.field, change.before, change.after) == ("gpu_remedies", *words)
        assert (found.subjects, found.danger) == (0, Danger.D1), "nothing is written to a node"
    assert compare(gpus(None), tell).changes == ()


def test_a_new_site_is_all_additions() -> None:
    comparison = compare(None, site(miners()))
    assert comparison.before is None
    assert comparison.added == tuple(ASSETS)
    assert comparison.waves[-1] == 40


def test_a_change_of_owner_is_a_matter_of_pools() -> None:
    other = (device(ASSETS[0], intent=intent(owner="other", pools=())), *miners()[1:])
    comparison = compare(site(miners()), site(other))
    assert {c.field for c in comparison.changes} == {"owner", "pools"}
    assert comparison.danger is Danger.D2


def test_removals_are_counted() -> None:
    comparison = compare(site(miners()), site(miners()[:30]))
    assert comparison.removed == tuple(ASSETS[30:])
    assert comparison.danger is Danger.D5


@pytest.mark.parametrize(
    "state", [s for s in SlotState if s not in {SlotState.IN_SERVICE, SlotState.DEGRADED}]
)
def test_devices_that_are_managed_no_more_are_counted(state: SlotState) -> None:
    after = site((*miners()[:30], *miners(state=state)[30:]))
    comparison = compare(site(miners()), after)
    assert (comparison.removed, comparison.retired) == ((), tuple(ASSETS[30:]))
    assert comparison.danger is Danger.D5
    assert compare(after, site(miners())).retired == ()


def gpus(driver: str | None) -> Site:
    kind = msgspec.structs.replace(TYPE, id="gpu", kind=DeviceKind.GPU_NODE)
    of = intent(gpu=GpuIntent(driver=driver, waves=True))
    return site(tuple(device(f"g{n}", type=kind, intent=of) for n in range(3)))


@pytest.mark.parametrize(
    ("before", "after", "is_refused"),
    [
        ("595.91.07", "610.57.04", False),
        ("595.91.07", "595.80.01", False),
        ("595.91.07", "580.171.04", True),
        ("1000.1.1", "999.1.1", True),
        (None, "580.171.04", False),
        ("595.91.07", None, False),
    ],
)
def test_a_driver_goes_back_within_its_branch_alone(
    before: str | None, after: str | None, is_refused: bool
) -> None:
    found = compare(gpus(before), gpus(after)).steps_back
    assert bool(found) is is_refused
    assert all(f"driver {before} -> {after} goes back" in text for text in found)
    assert all("on 3 nodes" in text for text in found)
    under_way = {device.intent.profile for device in gpus(None).devices}
    assert steps_back(gpus(before), gpus(after), under_way=under_way) == ()
    assert steps_back(None, gpus(after)) == ()
