"""Declaration to simulated site: who is there, how it is set, and that it is the seed's doing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import msgspec
import pytest

from control_plane.core.change import Capabilities, ChangeKind, Disturbance, SettingClass
from control_plane.core.diff import permitted_w
from control_plane.core.fleet import DeviceType, Site, SlotState
from control_plane.core.observation import (
    PoolSetting,
    Settings,
)
from control_plane.core.plan import make_plan
from control_plane.core.power import Loads, counted_w
from control_plane.core.world import World
from control_plane.inventory.load import load
from control_plane.simulator.build import FACTORY_PASSWORDS, FAMILIES, build_site, model_of
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.floor import Floor, ForeignPool, load_floor
from control_plane.simulator.site import NoSuchTarget, SimSite, Target
from tests.simulator.floors import M60S, S21, TYPES, a_site
from tests.stock import TOLD, seen

ROOT = Path(__file__).resolve().parents[2]
CAN = SettingClass(disturbance=Disturbance.HOT, persistent=True, lost_s=0.0)


def build(site: Site, **more: object) -> SimSite:
    return build_site(site, clock=ManualSimClock(), **more)  # type: ignore[arg-type]


def plan_of(site: Site, sim: SimSite) -> tuple[int, Counter[str]]:
    sightings = {
        d.asset: seen(d, sim) for d in site.devices if d.asset in sim.stations and d.is_managed
    }
    capabilities = {
        f: Capabilities(family=f, reads=TOLD, writes=dict.fromkeys(ChangeKind, CAN))
        for f in FAMILIES
    }
    world = World(now_s=0.0, sightings=sightings, memories={}, capabilities=capabilities)
    plan = make_plan(site, "rev", world)
    return plan.actionable, Counter(held.reason.value for held in plan.held)


def test_every_device_that_is_there_has_one_machine_and_the_others_a_reason() -> None:
    site = a_site()
    sim = build(site)
    assert len(sim.stations) == 4 * 9
    assert sim.absent == {"vacant": 4}
    for device in site.devices:
        if device.asset not in sim.stations:
            continue
        silent = device.state in {SlotState.OUT_OF_SERVICE, SlotState.IN_REPAIR}
        assert sim.stations[device.asset].reachable() is not silent
        boards = sim.truth(device.asset).alive_boards
        assert boards == (2 if device.state is SlotState.DEGRADED else 3)


@pytest.mark.parametrize("feed_share", [1.0, 0.7, 0.2])
def test_a_first_plan_on_a_converged_floor_has_nothing_to_do(feed_share: float) -> None:
    site = a_site(racks=6, slots=20, feed_share=feed_share, families=sorted(TYPES))
    sim = build(site)
    actionable, held = plan_of(site, sim)
    asleep = sum(
        1
        for d in site.devices
        if d.asset in sim.stations and d.is_managed and not sim.truth(d.asset).mining
    )
    assert actionable == 0
    assert held["no_headroom"] == asleep
    assert (asleep > 0) is (feed_share < 1.0)


@pytest.mark.parametrize("start", ["converged", "stock"])
def test_nobody_starts_above_what_the_feeds_carry(start: str) -> None:
    site = a_site(racks=6, slots=20, feed_share=0.7)
    sim = build(site, start=start)
    usable = site.feeds["grid"].usable_w
    permitted = sum(
        sim.truth(d.asset).permitted_w
        for d in site.devices
        if d.asset in sim.stations and d.state is not SlotState.IN_REPAIR
    )
    assert permitted + 10_200 <= usable


def test_a_stock_floor_gives_a_first_apply_visible_work_of_every_kind() -> None:
    site = a_site(racks=60, slots=12)
    sim = build(site, start="stock", seed=1)
    actionable, _ = plan_of(site, sim)
    managed = [d for d in site.devices if d.asset in sim.stations and d.is_managed]
    pools = modes = asleep = 0
    for device in managed:
        truth, want = sim.truth(device.asset), device.desired()
        told = tuple(PoolSetting(url=u, worker=w) for u, w in truth.pools)
        pools += told != want.pools
        modes += truth.mode != want.power_mode
        asleep += not truth.mining
    assert 0.15 < pools / len(managed) < 0.45
    assert 0.04 < modes / len(managed) < 0.25
    assert 0.005 < asleep / len(managed) < 0.05
    assert actionable >= 0.25 * len(managed)


def test_the_same_seed_builds_the_same_site_and_another_seed_another() -> None:
    site = a_site()

    def truths(seed: int) -> list[object]:
        sim = build(site, start="stock", seed=seed)
        return [sim.truth(asset) for asset in sorted(sim.stations)]

    assert truths(3) == truths(3)
    assert truths(3) != truths(4)


def test_leases_are_of_the_declared_subnet_and_nobody_shares_one() -> None:
    sim = build(a_site())
    addresses = [station.address for station in sim.network]
    assert len(addresses) == len(set(addresses)) == len(sim.stations)
    assert all(
        sim.stations[asset].address.startswith(subnet.rsplit(".", 1)[0])
        for asset, subnet in sim.leases.items()
    )


def test_the_floor_swaps_machines_and_points_some_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text(
        "swapped: [[M-000-005, M-000-006]]\n"
        "foreign_pools: [{asset: M-001-007, url: 'stratum+tcp://x.pool:1', worker: them.1}]\n"
    )
    floor = load_floor(path)
    assert floor == Floor(
        swapped=(("M-000-005", "M-000-006"),),
        foreign_pools=(
            ForeignPool(asset="M-001-007", url="stratum+tcp://x.pool:1", worker="them.1"),
        ),
    )
    sim = build(a_site(), floor=floor)
    station = sim.network.at("10.40.0.15")
    assert station is not None
    assert station.asset == "M-000-006"
    assert sim.truth("M-001-007").pools == (("stratum+tcp://x.pool:1", "them.1"),)


def test_a_floor_with_an_unknown_word_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "toy.yaml"
    path.write_text("swaped: []\n")
    with pytest.raises(msgspec.ValidationError, match="swaped"):
        load_floor(path)


def test_a_floor_that_names_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown assets: M-9"):
        build(a_site(), floor=Floor(swapped=(("M-000-005", "M-9"),)))


@pytest.mark.parametrize(
    ("kind", "model", "reported", "printed"),
    [
        (S21, "S21", ("antminer s21",), "Antminer S21"),
        (S21, "Antminer S21", ("antminer s21", "s21"), "Antminer S21"),
        (S21, "S21", (), "S21"),
        (M60S, "M60S", ("m60s_vk30",), "M60S_VK30"),
        (M60S, "M60S", ("m60s",), "M60S"),
        (M60S, "WhatsMiner M60S", ("whatsminer m60s",), "WhatsMiner M60S"),
    ],
)
def test_machines_print_a_name_that_their_type_is_known_by(
    kind: DeviceType, model: str, reported: tuple[str, ...], printed: str
) -> None:
    named = msgspec.structs.replace(kind, model=model, reported_models=reported)
    (family,) = kind.families
    assert model_of(named, family).model == printed


def test_passwords_are_the_factorys_unless_given() -> None:
    sim = build(a_site(), passwords={"whatsminer_v2": "secret1"})
    assert sim.machine("M-000-005").password == FACTORY_PASSWORDS["antminer_stock"]
    assert sim.machine("M-001-005").password == "secret1"


def test_targets_name_by_asset_rack_node_family_and_share() -> None:
    sim = build(a_site())
    assert sim.pick(Target(asset="M-000-005")) == ("M-000-005",)
    assert len(sim.pick(Target(rack="r-001"))) == 9
    assert len(sim.pick(Target(node="grid"))) == 36
    assert sim.pick(Target(node="pdu-001")) == sim.pick(Target(rack="r-001"))
    assert len(sim.pick(Target(family="whatsminer_v2", share=0.5))) == 9
    assert sim.pick(Target(share=5, seed=1)) == sim.pick(Target(share=5, seed=1))
    assert sim.pick(Target(share=5, seed=1)) != sim.pick(Target(share=5, seed=2))
    with pytest.raises(NoSuchTarget, match="rack=nowhere"):
        sim.pick(Target(rack="nowhere"))


def test_the_meter_shows_what_the_machines_draw() -> None:
    site = a_site(odd_slots=False)
    sim = build(site)
    watts, rate = sim.totals()
    nameplate = sum(
        permitted_w(d.type, d.desired()) for d in site.devices if d.asset in sim.stations
    )
    assert abs(watts / nameplate - 1) < 0.01
    assert abs(rate / (20 * 200 + 20 * 180) - 1) < 0.01


SCRIPT = """
from control_plane.simulator.build import build_site
from control_plane.simulator.clock import ManualSimClock
from tests.simulator.floors import a_site
sim = build_site(a_site(), clock=ManualSimClock(), start="stock", seed=9)
print([sim.truth(asset) for asset in sorted(sim.stations)])
"""


def test_two_processes_build_the_same_site() -> None:
    told = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(told) == 1


def test_the_example_floor_is_within_every_cap_also_where_machines_stand_in_others_slots() -> None:
    loaded = load(ROOT / "inventory", sites={"ga-macon"})
    assert loaded.fleet is not None
    site = loaded.fleet.sites["ga-macon"]
    floor = load_floor(ROOT / "examples" / "floor" / "ga-macon.yaml")
    sim = build(site, floor=floor)
    stands = floor.standing()
    loads = Loads(site)
    for device in site.devices:
        machine = stands.get(device.asset, device.asset)
        settings = None
        if machine in sim.stations and device.is_managed:
            truth = sim.truth(machine)
            settings = Settings(mining=truth.mining, power_mode=truth.mode)
        loads.count(device.asset, device.feed, counted_w(device, settings))
    assert {node: loads.headroom_w(node) for node in site.feeds if loads.headroom_w(node) < 0} == {}
