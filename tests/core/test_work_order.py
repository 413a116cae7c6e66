"""Work orders: who gets one, in which order people walk, and that nothing is written meanwhile."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from control_plane.core.against import compare
from control_plane.core.catalogue import Image, Release
from control_plane.core.change import Capabilities
from control_plane.core.decide import decide
from control_plane.core.decision import Danger, Reason
from control_plane.core.fleet import Device, Site
from control_plane.core.memory import Memory, note_family
from control_plane.core.observation import (
    Depth,
    Field,
    Identity,
    Observation,
    Settings,
    Sighting,
    Unseen,
    UnseenReason,
)
from control_plane.core.plan import make_plan
from control_plane.core.work_order import Speaks, spoken, work_orders
from control_plane.core.world import World, pinned
from control_plane.views.comparison import render_comparison
from control_plane.views.plan import render_plan
from control_plane.views.work_orders import sheet
from tests.core.builders import context, fresh_memory, seen, settings
from tests.simulator.floors import a_site

OLD = "Fri Aug 25 17:28:38 CST 2023"
IMAGE = Image(file="luxos-s21.tar.gz", sha256="ab" * 32, size_bytes=9, control_boards=("cvitek",))
RELEASE = Release(
    id="luxos-2025", family="luxos", version="2025.9", types=frozenset({"s21"}), images=(IMAGE,),
    flash_s=900, settle_s=1800, can_roll_back=False, voids_warranty=True,
    note="Ask Bitmain first.", by_hand=("write the image to a card", "boot from the card"),
)  # fmt: skip


def meant(site: Site, **intent: Any) -> Site:
    """The site with another intent for its Antminers."""

    def with_it(device: Device) -> Device:
        if device.intent.family != "antminer_stock":
            return device
        return msgspec.structs.replace(
            device, intent=msgspec.structs.replace(device.intent, **intent)
        )

    return msgspec.structs.replace(site, devices=tuple(map(with_it, site.devices)))


STOCK = a_site(racks=12, slots=2, odd_slots=False)
LUXOS = msgspec.structs.replace(
    meant(STOCK, family="luxos", firmware="2025.9"),
    releases={("s21", "luxos", "2025.9"): RELEASE},
)


def told(device: Device) -> Sighting:
    if device.intent.family != "antminer_stock":
        return Unseen(asset=device.asset, at_s=0.0, reason=UnseenReason.UNREACHABLE, detail="")
    return Observation(
        asset=device.asset, at_s=0.0, depth=Depth.FULL, source="test",
        identity=Identity(mac=device.mac, serial=device.serial, family="antminer_stock"),
        settings=Settings(firmware=OLD), asked=frozenset(Field),
    )  # fmt: skip


SIGHTINGS = {device.asset: told(device) for device in STOCK.devices}
WORLD = World(now_s=1.0, sightings=SIGHTINGS, memories={}, capabilities={
    family: Capabilities(family=family, reads=frozenset(), writes={})
    for family in ("antminer_stock", "luxos", "whatsminer_v2")
})  # fmt: skip


def test_one_order_for_all_machines_of_one_type_in_walking_order() -> None:
    (order,) = work_orders(LUXOS, spoken(SIGHTINGS))
    assert (order.type, order.family_now, order.family) == ("s21", "antminer_stock", "luxos")
    assert (order.version, order.release, order.images) == ("2025.9", "luxos-2025", (IMAGE,))
    walk = [(slot.rack, slot.slot) for slot in order.slots]
    assert walk == sorted(walk)
    assert len(walk) == 12
    assert {slot.runs for slot in order.slots} == {OLD}
    assert order.steps[3:5] == RELEASE.by_hand
    assert "gridplane hold RACK" in order.steps[0], "hands first"
    assert "gridplane release RACK" in order.steps[-2]
    assert order.final[1:3] == ("the warranty ends", "Ask Bitmain first.")
    assert "uninstallluxos" in order.final[-1]


def test_people_walk_from_rack_two_to_rack_ten() -> None:
    racks = {"r-000": "r10", "r-002": "r2", "r-004": "a1"}
    devices = tuple(
        msgspec.structs.replace(d, rack=racks[d.rack]) for d in LUXOS.devices if d.rack in racks
    )
    site = msgspec.structs.replace(LUXOS, devices=devices)
    (order,) = work_orders(site, spoken(SIGHTINGS))
    assert list(dict.fromkeys(slot.rack for slot in order.slots)) == ["a1", "r2", "r10"]


def test_without_a_release_the_order_says_what_is_not_known() -> None:
    (order,) = work_orders(meant(STOCK, family="vnish"), spoken(SIGHTINGS))
    assert (order.version, order.release, order.images) == (None, None, ())
    assert any("the catalogue has no steps" in step for step in order.steps)
    assert "no release is declared: what it does to the warranty is not known here" in order.final


@pytest.mark.parametrize(
    "sighting",
    [
        None,
        Unseen(asset="a", at_s=0.0, reason=UnseenReason.UNREACHABLE, detail=""),
        Unseen(asset="a", at_s=0.0, reason=UnseenReason.AUTH_REJECTED, detail=""),
        Observation(asset="a", at_s=0.0, depth=Depth.TELEMETRY, source="test"),
    ],
    ids=["not seen", "silent", "refuses", "tells no family"],
)
def test_of_whom_no_family_is_known_nothing_is_ordered(sighting: Sighting | None) -> None:
    sightings = {d.asset: sighting for d in STOCK.devices if sighting is not None}
    assert work_orders(LUXOS, spoken(sightings)) == ()


def test_who_speaks_what_is_declared_gets_no_order() -> None:
    assert work_orders(STOCK, spoken(SIGHTINGS)) == ()


def test_a_plan_shows_the_order_and_neither_step_nor_wave_nor_image() -> None:
    plan = make_plan(LUXOS, "r" * 64, WORLD)
    assert not [s for s in plan.steps if s.asset in spoken(SIGHTINGS)]
    assert plan.firmware == ()
    assert plan.waves == ()
    (order,) = plan.work_orders
    held = {h.asset: h.reason for h in plan.held}
    assert {held[slot.asset] for slot in order.slots} == {Reason.WORK_ORDER}
    text = render_plan(plan)
    assert "Work order  12 machines from antminer_stock to luxos 2025.9, by a person" in text
    assert "luxos-s21.tar.gz abababababab" in text
    assert "not undone: the warranty ends" in text
    assert "gridplane workorder --planned --site toy" in text
    assert len(text.splitlines()) <= 60


def test_a_pull_request_shows_it_without_a_device() -> None:
    comparison = compare(STOCK, LUXOS)
    assert [len(order.slots) for order in comparison.work_orders] == [12]
    assert comparison.danger is Danger.D4
    assert "Work order  12 machines" in render_comparison(comparison, reference="main")
    assert compare(STOCK, STOCK).work_orders == ()


def test_the_sheet_has_every_slot_with_its_digest_and_a_box() -> None:
    (order,) = work_orders(LUXOS, spoken(SIGHTINGS))
    text = sheet(order)
    assert text.count("[ ]") == 12
    assert IMAGE.sha256 in text
    for slot in order.slots:
        assert slot.mac is not None
        assert slot.mac in text


@pytest.mark.parametrize("fresh", [True, False], ids=["fresh", "stale"])
def test_settings_that_another_family_told_are_never_written_from(*, fresh: bool) -> None:
    other = Identity(mac="02:00:00:00:00:01", serial="S1", family="vnish")
    sighting = msgspec.structs.replace(seen(settings(mining=False)), identity=other)
    decision = decide(context(sighting=sighting, memory=fresh_memory(), fresh=fresh))
    assert decision.steps == ()
    assert [h.reason for h in decision.held] == [Reason.WORK_ORDER]


def test_after_a_change_of_family_nothing_is_drift_and_the_pin_stays() -> None:
    device = STOCK.devices[0]
    before = note_family(
        Memory(
            asset=device.asset, equalled=Settings(mining=True), expected=Settings(mining=True),
            drifting=frozenset({Field.POOLS}), contested=frozenset({Field.POOLS}), above_w=4000.0,
        ),
        "antminer_stock",
    )  # fmt: skip
    assert pinned(device, before).equalled == Settings(mining=True)
    after = pinned(LUXOS.devices[0], before)
    assert (after.equalled, after.expected, after.drifting) == (Settings(), None, frozenset())
    assert after.contested == {Field.POOLS}, "a person's to release"
    assert after.above_w == 4000.0
    assert after.pin == pinned(device, before).pin


def test_a_memory_of_no_family_is_of_the_declared_one() -> None:
    device = STOCK.devices[0]
    before = Memory(asset=device.asset, equalled=Settings(mining=True))
    after = pinned(device, before)
    assert (after.family, after.equalled) == ("antminer_stock", Settings(mining=True))


def test_an_unseen_machine_of_another_family_is_told_apart_by_what_it_said() -> None:
    unseen = Unseen(
        asset="a", at_s=0.0, reason=UnseenReason.OTHER_FAMILY, detail="", family="vnish",
        firmware="1.2.6",
    )  # fmt: skip
    assert spoken({"a": unseen}) == {"a": Speaks("vnish", "1.2.6")}
