"""The menu of faults: each does what it says to whom it says, and leaves no line in the ledger."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from control_plane.simulator.build import build_site
from control_plane.simulator.clock import ManualSimClock
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.network import Trouble
from control_plane.simulator.site import NoSuchTarget, SimSite, Target, Truth
from tests.simulator.floors import a_site
from tests.simulator.making import rpc

ANT, WHATS, LUX = "M-000-005", "M-001-005", "M-004-005"
LOWER = {ANT: "low", WHATS: "low", LUX: "under-4"}
FAMILIES = ("antminer_stock", "whatsminer_v2", "antminer_stock", "whatsminer_v2", "luxos")


def a_sim(families: tuple[str, ...] = FAMILIES[:4]) -> tuple[SimSite, ManualSimClock]:
    clock = ManualSimClock()
    site = a_site(racks=len(families), odd_slots=False, families=families)
    return build_site(site, clock=clock), clock


EFFECTS: dict[FaultKind, Callable[[Truth, Truth], bool]] = {
    FaultKind.HIJACK: lambda _, now: now.pools == (("stratum+tcp://p.x:1", "thief"),),
    FaultKind.REBOOT: lambda was, now: now.boots == was.boots + 1 and now.uptime_s < was.uptime_s,
    FaultKind.LOWER: lambda was, now: (
        now.mode == LOWER[now.asset] and now.permitted_w < was.permitted_w
    ),
    FaultKind.STOP: lambda _, now: not now.mining and now.drawn_w < 30,
    FaultKind.POWER_OFF: lambda _, now: now.phase == "off" and now.drawn_w == 0,
    FaultKind.DIE: lambda _, now: now.phase == "off",
    FaultKind.DEAD_BOARD: lambda was, now: now.alive_boards == was.alive_boards - 1,
    FaultKind.DEAD_POOL: lambda _, now: now.hashrate_ths == 0 and now.drawn_w > 3000,
    FaultKind.WRONG_IDENTITY: lambda was, now: now.mac != was.mac,
    FaultKind.TROUBLE: lambda _, now: now.trouble == "black_hole",
}


@pytest.mark.parametrize("asset", [ANT, WHATS, LUX])
@pytest.mark.parametrize("kind", EFFECTS)
def test_a_fault_does_what_it_says_and_to_nobody_else(kind: FaultKind, asset: str) -> None:
    sim, clock = a_sim(FAMILIES)
    was = sim.truth(asset)
    bystander = sim.truth("M-002-002")
    fault = Fault(kind=kind, target=Target(asset=asset), url="stratum+tcp://p.x:1", worker="thief")
    assert inject(sim, fault) == (asset,)
    clock.advance(1200)
    assert EFFECTS[kind](was, sim.truth(asset)), sim.truth(asset)
    after = sim.truth("M-002-002")
    assert (after.pools, after.mode, after.boots) == (
        bystander.pools,
        bystander.mode,
        bystander.boots,
    )
    assert len(sim.world.ledger) == 0


@pytest.mark.parametrize("asset", [ANT, WHATS, LUX])
def test_a_technician_lowers_and_raises_by_one_step(asset: str) -> None:
    sim, clock = a_sim(FAMILIES)
    inject(sim, Fault(kind=FaultKind.LOWER, target=Target(asset=asset)))
    clock.advance(1200)
    low_w = sim.truth(asset).drawn_w
    inject(sim, Fault(kind=FaultKind.RAISE, target=Target(asset=asset)))
    clock.advance(1200)
    assert sim.truth(asset).drawn_w > low_w + 500
    assert sim.truth(asset).mode == "normal"


@pytest.mark.parametrize(
    "kind",
    [
        FaultKind.POWER_OFF,
        FaultKind.DIE,
        FaultKind.DEAD_BOARD,
        FaultKind.DEAD_POOL,
        FaultKind.WRONG_IDENTITY,
        FaultKind.PASSWORD,
        FaultKind.SLOW_PASSWORD,
        FaultKind.MUTE_PASSWORD,
        FaultKind.MUTE_NETWORK,
        FaultKind.DISOBEY,
        FaultKind.TROUBLE,
    ],
)
def test_clear_makes_a_machine_well_again(kind: FaultKind) -> None:
    sim, clock = a_sim(FAMILIES)
    for asset in (ANT, WHATS, LUX):
        was = sim.truth(asset)
        password = sim.machine(asset).password
        inject(sim, Fault(kind=kind, target=Target(asset=asset)))
        clock.advance(60)
        inject(sim, Fault(kind=FaultKind.CLEAR, target=Target(asset=asset)))
        clock.advance(1800)
        now = sim.truth(asset)
        assert (now.mac, now.alive_boards, now.trouble) == (was.mac, was.alive_boards, None)
        assert abs(now.hashrate_ths / was.hashrate_ths - 1) < 0.02
        assert sim.machine(asset).password == password
        assert sim.machine(asset).obeys
        assert sim.machine(asset).password_late_s == 0
        assert not sim.machine(asset).loses_password_answer
        assert not sim.machine(asset).loses_network_answer


def test_a_host_curtails_half_a_site_at_the_outlet() -> None:
    sim, clock = a_sim()
    before, _ = sim.totals()
    hit = inject(sim, Fault(kind=FaultKind.POWER_OFF, target=Target(node="grid", share=0.5)))
    assert len(hit) == 20
    assert sim.totals()[0] < 0.6 * before
    inject(sim, Fault(kind=FaultKind.POWER_ON, target=Target(node="grid")))
    clock.advance(1800)
    assert abs(sim.totals()[0] / before - 1) < 0.01


def test_switched_off_writes_leave_reads_alone() -> None:
    sim, _ = a_sim()
    inject(sim, Fault(kind=FaultKind.WRITES_OFF, target=Target(asset=WHATS)))
    device = sim.device(WHATS)
    assert b"can't access write cmd" in rpc(device, {"cmd": "reboot", "token": "x"})
    assert b"SUMMARY" in rpc(device, {"cmd": "summary"})


def test_a_line_in_trouble_changes_what_is_heard_not_what_is() -> None:
    sim, _ = a_sim()
    fault = Fault(kind=FaultKind.TROUBLE, target=Target(rack="r-000"), trouble=Trouble.GARBAGE)
    assert len(inject(sim, fault)) == 10
    station = sim.stations[ANT]
    session = station.accept(4028, "127.0.0.9")
    assert session is not None
    (reply,) = station.hear(session, b'{"command":"summary"}')
    assert b"SUMMARY" not in reply.data
    assert sim.truth(ANT).hashrate_ths > 150


def test_a_fault_that_would_hit_nobody_says_so() -> None:
    sim, _ = a_sim()
    with pytest.raises(NoSuchTarget, match="asset=M-999"):
        inject(sim, Fault(kind=FaultKind.REBOOT, target=Target(asset="M-999")))


def test_leases_are_dealt_anew_by_seed_for_dhcp_machines_only() -> None:
    one, _ = a_sim()
    two, _ = a_sim()
    fault = Fault(kind=FaultKind.RESHUFFLE, seed=5)
    fixed = one.stations[ANT].address
    assert inject(one, fault) == inject(two, fault)
    moved = {a: s.address for a, s in one.stations.items()}
    assert moved == {a: s.address for a, s in two.stations.items()}
    assert one.stations[ANT].address == fixed
    assert len(set(moved.values())) == len(moved)
    assert all(one.network.at(address) is one.stations[a] for a, address in moved.items())
