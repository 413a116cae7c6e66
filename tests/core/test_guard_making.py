"""What a guard is given: who goes first, who never, and what counts."""

from __future__ import annotations

import msgspec
import pytest

from control_plane.core.change import Capabilities, ChangeKind, Disturbance, SettingClass
from control_plane.core.fleet import Device, Site
from control_plane.core.guard_bundle import Bundle, checked
from control_plane.core.guard_making import bundle_of
from tests.simulator.floors import OWNER, a_site

_COST = SettingClass(disturbance=Disturbance.RAMPS, persistent=False, lost_s=0.0)
STOPS = Capabilities(family="f", reads=frozenset(), writes={ChangeKind.STOP_MINING: _COST})
STEPS = msgspec.structs.replace(
    STOPS, writes={ChangeKind.STOP_MINING: _COST, ChangeKind.SET_POWER_MODE: _COST}
)
CAN = {"antminer_stock": STEPS, "whatsminer_v2": STOPS}


def made(site: Site, **how: object) -> Bundle:
    return checked(bundle_of(site, {}, CAN, revision="r", now_s=7.0, **how))  # type: ignore[arg-type]


def steps(bundle: Bundle) -> list[tuple[str, str | None]]:
    return [
        (bundle.devices[index].asset, bundle.devices[index].rungs[rung].mode)
        for index, rung in bundle.order
    ]


@pytest.fixture
def site() -> Site:
    return a_site(racks=2, slots=2, odd_slots=False)


def test_the_dearest_terahash_goes_first(site: Site) -> None:
    # S21: 3,500 to 2,600 W costs 18.0 J/TH, and from there to standby 17.2; M60S: all of it 18.8.
    assert steps(made(site)) == [
        ("M-001-000", None), ("M-001-001", None), ("M-000-000", "low"), ("M-000-001", "low"),
        ("M-000-000", None), ("M-000-001", None),
    ]  # fmt: skip


def test_who_can_take_no_mode_is_stopped_and_a_gpu_node_is_nobodys_to_lower(site: Site) -> None:
    rungs = {d.asset: [r.mode for r in d.rungs] for d in made(site).devices}
    assert rungs["M-000-000"] == ["low", None]
    assert rungs["M-001-000"] == [None]
    assert rungs["gpu-1"] == []


def owned(site: Site, asset: str, participation: str) -> Site:
    other = msgspec.structs.replace(OWNER, id="other", participation=participation)

    def of(device: Device) -> Device:
        if device.asset != asset:
            return device
        intent = msgspec.structs.replace(device.intent, owner="other")
        return msgspec.structs.replace(device, intent=intent)

    return msgspec.structs.replace(
        site, devices=tuple(map(of, site.devices)), owners={**site.owners, "other": other}
    )


def test_what_an_owner_protects_goes_last(site: Site) -> None:
    assert steps(made(owned(site, "M-001-000", "protected")))[-1] == ("M-001-000", None)


def test_what_is_locked_by_contract_never_goes(site: Site) -> None:
    bundle = made(owned(site, "M-001-000", "locked"))
    assert "M-001-000" not in {asset for asset, _ in steps(bundle)}
    assert "M-001-000" in {d.asset for d in bundle.devices}


def test_a_machine_counts_at_what_it_may_draw_and_can_be_lowered_from_wherever_it_is(
    site: Site,
) -> None:
    counted = {"M-000-000": 2600.0, "M-000-001": 25.0}
    bundle = checked(bundle_of(site, counted, CAN, revision="r", now_s=7.0))
    rungs = {d.asset: (d.permitted_w, [r.power_w for r in d.rungs]) for d in bundle.devices}
    assert rungs["M-000-000"] == (2600.0, [2600.0, 25.0])
    assert rungs["M-000-001"] == (25.0, [2600.0, 25.0])


def test_who_is_not_reached_is_counted_and_not_shed(site: Site) -> None:
    bundle = made(site, reached={"M-000-000"})
    assert {asset for asset, _ in steps(bundle)} == {"M-000-000"}
    assert len(bundle.devices) == 5


def test_a_cap_lowers_and_never_lifts_what_a_node_may_carry(site: Site) -> None:
    full = {n.id: n.cap_w for n in made(site).nodes}
    one = made(site, caps_w={"grid": 5_000.0, "pdu-000": 1e9})
    caps = {n.id: n.cap_w for n in one.nodes}
    assert caps["grid"] == 5_000.0
    assert caps["pdu-000"] == full["pdu-000"]
