"""The example company in `inventory/`: what it has to show is there, counted in the loaded Fleet."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest

from control_plane.core.change import ChangeKind
from control_plane.core.decision import Reason
from control_plane.core.fleet import Device, DeviceKind, FeedKind, Fleet, Site, SlotState, Tenure
from control_plane.core.observation import Field
from control_plane.core.power import Loads, counted_w
from control_plane.core.units import W_PER_MW
from control_plane.drivers.registry import all_capabilities
from control_plane.inventory.load import load
from control_plane.simulator.floor import load_floor
from tests.stock import stock_plan
from tools.fleetgen import example, synthetic
from tools.fleetgen.__main__ import SEED

ROOT = Path(__file__).resolve().parent.parent.parent
INVENTORY = ROOT / "inventory"


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    loaded = load(INVENTORY)
    assert loaded.findings == ()
    assert loaded.fleet is not None
    return loaded.fleet


@pytest.fixture(scope="module")
def macon(fleet: Fleet) -> Site:
    return fleet.sites["ga-macon"]


def miners(site: Site) -> list[Device]:
    return [d for d in site.devices if d.type.kind is DeviceKind.MINER]


def nameplate_mw(devices: Iterable[Device]) -> float:
    """As counted where nobody told anything: machines in repair and vacant slots draw nothing."""
    return sum(counted_w(d, None) for d in devices) / W_PER_MW


def test_what_is_committed_is_what_the_generator_makes() -> None:
    for name, text in example.files(SEED).items():
        assert (ROOT / name).read_text(encoding="utf-8") == text, name


def test_every_file_names_a_schema_that_exists_for_editors() -> None:
    head = "# yaml-language-server: $schema="
    for path in INVENTORY.rglob("*.yaml"):
        first = path.read_text(encoding="utf-8").partition("\n")[0]
        assert first.startswith(head), path
        assert (path.parent / first.removeprefix(head)).resolve().is_file(), path


# --- ga-macon --------------------------------------------------------------------------------


def test_two_transformers_seven_feeders_twenty_pads(macon: Site) -> None:
    kinds = Counter(node.kind for node in macon.feeds.values())
    del kinds[FeedKind.PDU]
    assert kinds == {
        FeedKind.UTILITY: 1,
        FeedKind.TRANSFORMER: 2,
        FeedKind.FEEDER: 7,
        FeedKind.PAD: 20,
        FeedKind.HALL: 17,  # 14 air buildings, immersion, GPUs, operations
        FeedKind.CONTAINER: 5,
    }
    assert macon.feeds["ga-grid"].rating_w == 50 * W_PER_MW


def test_air_hydro_immersion_and_a_gpu_hall_above_5_mw(macon: Site) -> None:
    halls = {(d.feed.rpartition("-")[0], d.type.cooling, d.type.kind) for d in macon.devices}
    assert Counter((cooling, kind) for _, cooling, kind in halls) == {
        ("air", DeviceKind.MINER): 14,
        ("hydro", DeviceKind.MINER): 5,
        ("immersion", DeviceKind.MINER): 1,
        ("air", DeviceKind.GPU_NODE): 1,
    }
    gpu = [d for d in macon.devices if d.type.kind is DeviceKind.GPU_NODE]
    assert len(gpu) == 512
    assert nameplate_mw(gpu) == pytest.approx(5.22, abs=0.01)


def test_nameplate_is_7_7_per_cent_above_the_interconnection_so_that_caps_bind(macon: Site) -> None:
    loads = Loads(macon)
    for device in macon.devices:
        loads.count(device.asset, device.feed, counted_w(device, None))
    grid = macon.feeds["ga-grid"]
    assert loads.at("ga-grid") / grid.usable_w == pytest.approx(1.077, abs=0.0005)
    over = {macon.feeds[n].kind for n in macon.feeds if loads.headroom_w(n) < 0}
    assert over == {
        FeedKind.UTILITY, FeedKind.TRANSFORMER, FeedKind.FEEDER, FeedKind.PAD,
    }, "nowhere below a pad"  # fmt: skip


def test_fourteen_thousand_miners_of_seven_models_in_three_families(macon: Site) -> None:
    own = miners(macon)
    assert len(own) == 13_776
    assert Counter(d.type.model for d in own) == {
        "Antminer S19 XP": 4_032,
        "Antminer S21": 3_360,
        "WhatsMiner M60S": 2_520,
        "WhatsMiner M50S": 1_680,
        "Antminer S21 Hyd.": 840,
        "Avalon A1566": 756,
        "WhatsMiner M66S": 588,
    }
    families = Counter(d.intent.family for d in own)
    assert families == {"antminer_stock": 8_232, "whatsminer_v2": 4_788, "avalon_stock": 756}
    assert set(families) - set(all_capabilities()) == {"avalon_stock"}, "planned as held"


def test_machines_were_sold_in_bins_and_every_ladder_has_its_source(fleet: Fleet) -> None:
    for site in fleet.sites.values():
        for kind in site.types.values():
            assert len(kind.source) > 20, kind.id
            watts = [mode.power_w for mode in kind.ladder]
            assert watts == sorted(watts)
    s21 = [d for d in fleet.sites["ga-macon"].devices if d.type.id == "antminer-s21" and d.bin_ths]
    assert {d.bin_ths for d in s21} == {192.0, 195.0, 200.0, 205.0}


def test_three_customers_own_20_mw_each_with_pools_of_his_own(macon: Site) -> None:
    owned = {
        owner: nameplate_mw(d for d in macon.devices if d.intent.owner == owner)
        for owner in macon.owners
    }
    assert owned == pytest.approx(
        {"house": 32.51, "northstar": 8.59, "bluepine": 5.93, "keystone": 5.51}, abs=0.01
    )
    assert sum(mw for owner, mw in owned.items() if owner != "house") == pytest.approx(20, abs=0.1)
    urls = [pool.url for owner in macon.owners.values() for pool in owner.pools]
    assert len(urls) == len(set(urls)) == 8


def test_the_daily_truth(macon: Site) -> None:
    own = miners(macon)
    states = Counter(d.state for d in own)
    dead = states[SlotState.OUT_OF_SERVICE] + states[SlotState.IN_REPAIR]
    assert dead / len(own) == pytest.approx(0.03, abs=0.001)
    assert states[SlotState.DEGRADED] / len(own) == pytest.approx(0.02, abs=0.001)
    assert states[SlotState.VACANT] / len(own) == pytest.approx(0.01, abs=0.001)
    assert {d.missing_boards for d in own if d.state is SlotState.DEGRADED} == {1}
    broken = [d for d in own if d.state in {SlotState.OUT_OF_SERVICE, SlotState.IN_REPAIR}]
    assert all(d.ticket and d.since and d.state_reason for d in broken)


def test_a_few_stand_in_the_wrong_slot_or_work_for_the_wrong_owner(macon: Site) -> None:
    floor = load_floor(ROOT / "examples/floor/ga-macon.yaml")
    of = {d.asset: d for d in macon.devices}
    pairs = [(of[one], of[other]) for one, other in floor.swapped]
    assert [one.rack == other.rack for one, other in pairs] == [True, True, True, False]
    assert [one.intent.owner == other.intent.owner for one, other in pairs][-1] is False
    own = {pool.url for owner in macon.owners.values() for pool in owner.pools}
    assert len(floor.foreign_pools) == 4
    assert not {foreign.url for foreign in floor.foreign_pools} & own
    assert all(d.is_managed for pair in pairs for d in pair)


def test_one_building_is_on_dhcp_and_its_machines_have_a_mac_to_be_found_by(macon: Site) -> None:
    dhcp = [d for d in miners(macon) if d.address is None and d.state is not SlotState.VACANT]
    assert {d.rack.rpartition("-")[0] for d in dhcp} == {"ga-a11"}
    assert len(dhcp) == 832
    assert all(d.mac and d.subnet for d in dhcp)


# --- the other two, and fleets of any size ---------------------------------------------------


def test_the_hosted_site_hangs_on_one_contract_and_some_fields_are_the_hosts(fleet: Fleet) -> None:
    site = fleet.sites["wa-hosted"]
    assert site.tenure == Tenure(
        kind="hosted_in",
        host="Basin Colocation LLC",
        host_actions=frozenset({Field.POWER_MODE, Field.POWER_LIMIT_W, Field.ADDRESSING}),
    )
    assert [n.id for n in site.feeds.values() if n.parent is None] == ["wa-contract"]
    assert site.feeds["wa-contract"].kind is FeedKind.CONTRACT
    assert {node.meter for node in site.feeds.values()} == {None}
    assert len(site.devices) == 432


def test_the_lab_has_a_dozen_miners_of_both_families_and_two_gpu_nodes(fleet: Fleet) -> None:
    families = Counter(d.intent.family for d in fleet.sites["lab"].devices)
    assert families == {"antminer_stock": 6, "whatsminer_v2": 6, "nvidia_gpu": 2}


def test_what_only_the_host_may_change_is_planned_as_held_and_the_rest_is_done() -> None:
    plan = stock_plan("wa-hosted")
    assert Counter(held.reason for held in plan.held) == {
        Reason.HOST_ACTION: 68,
        Reason.OUT_OF_SERVICE: 6,
        Reason.IN_REPAIR: 6,
        Reason.VACANT: 4,
    }
    assert {held.field for held in plan.held if held.reason is Reason.HOST_ACTION} == {
        Field.POWER_MODE
    }
    assert {step.kind for step in plan.steps} == {ChangeKind.SET_POOLS, ChangeKind.START_MINING}


def test_nothing_is_done_in_the_lab_before_a_person_pinned_its_machines() -> None:
    plan = stock_plan("lab")
    assert plan.steps == ()
    assert Counter(held.reason for held in plan.held) == {
        Reason.UNTRUSTED: 12,
        Reason.NO_DRIVER: 2,
    }


def test_made_fleets_are_valid_at_any_size_and_the_same_each_time(tmp_path: Path) -> None:
    made = synthetic.files(2_345, 3, 7, INVENTORY)
    assert made == synthetic.files(2_345, 3, 7, INVENTORY)
    for name, text in made.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    loaded = load(tmp_path)
    assert loaded.findings == ()
    assert loaded.fleet is not None
    assert sum(len(site.devices) for site in loaded.fleet.sites.values()) == 2_345
