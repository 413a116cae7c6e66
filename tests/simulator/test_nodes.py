"""A simulated site's BMCs: faults hit whom they can happen to, and one PDU takes miners and nodes alike."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from control_plane.core.bmc import Part, Power
from control_plane.core.errors import ControlPlaneError
from control_plane.core.memory import Pin
from control_plane.core.ports import BmcTarget
from control_plane.core.secret import Secret
from control_plane.core.tls import TlsPin
from control_plane.drivers.redfish import RedfishBmc
from control_plane.inventory.load import load
from control_plane.simulator.build import build_site
from control_plane.simulator.clock import LoopSimClock
from control_plane.simulator.faults import Fault, FaultKind, inject
from control_plane.simulator.gpu_host import FELL_OFF
from control_plane.simulator.memory import MemoryNet
from control_plane.simulator.network import Trouble
from control_plane.simulator.nodes import NodeTruth, SimNodes
from control_plane.simulator.site import NoSuchTarget, SimSite, Target
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual
from tests.stock import ROOT

ONE, TWO, MINER, HOST = "lab-g1-n1", "lab-g1-n2", "lab-r1-s1", "lab-mgmt-1"
EPOCH_S = 1_800_000_000.0
SCALE = 60.0
Case = Callable[[SimSite], Coroutine[Any, Any, None]]


def on_a_site(case: Case, *, seed: int = 0) -> None:
    """Play in virtual time with the lab: a rack of each family of miners, two GPU nodes, a host."""

    async def main(loop: VirtualLoop) -> None:
        clock = LoopSimClock(loop, time_scale=SCALE)
        fleet = load(ROOT / "inventory", sites={"lab"}).fleet
        assert fleet is not None
        site = fleet.sites["lab"]
        sim = build_site(site, clock=clock, epoch_s=EPOCH_S)
        nodes = SimNodes(site, loop, sim.network, clock=clock, epoch_s=EPOCH_S, seed=seed)
        sim.add_nodes(nodes)
        try:
            await case(sim)
        finally:
            nodes.stop()

    run_virtual(main, horizon_s=100_000.0)


def hit(sim: SimSite, kind: FaultKind, *, at: Target | None = None, **details: Any) -> set[str]:
    """The assets that a fault hit; the first GPU node by default."""
    return set(inject(sim, Fault(kind=kind, target=at or Target(asset=ONE), **details)))


async def device_s(seconds: float) -> None:
    await asyncio.sleep(seconds / SCALE)


def unlike(was: NodeTruth, now: NodeTruth) -> dict[str, object]:
    """What is otherwise than before, draw apart."""
    return {
        name: getattr(now, name)
        for name in now.__struct_fields__
        if name != "drawn_w" and getattr(now, name) != getattr(was, name)
    }


SHOWS: dict[str, tuple[FaultKind, dict[str, Any], dict[str, object]]] = {
    "a GPU off its bus": (
        FaultKind.FALL_OFF,
        {"gpu": 3},
        {
            "gpus_offered": 7,
            "gpus_lost": (3,),
            "kernel_log": (
                f"NVRM: Xid (PCI:0000:3f:00): 79, pid='<unknown>', name=<unknown>, {FELL_OFF}",
            ),
        },
    ),
    "a kernel that hangs": (FaultKind.HANG, {}, {"running": False}),
    "boots that never end": (FaultKind.STUCK_BOOT, {}, {"trouble": ("stuck_post",)}),
    "slow tasks": (FaultKind.SLOW_TASK, {}, {"trouble": ("task_slower",)}),
    "tasks that stand still": (FaultKind.STUCK_TASK, {}, {"trouble": ("task_stuck_at",)}),
    "a lockout": (FaultKind.LOCKOUT, {}, {"trouble": ("lockout",)}),
    "a BMC that died": (FaultKind.DIE, {}, {"trouble": ("dead",)}),
    "a BMC that ignores resets": (FaultKind.DISOBEY, {}, {"trouble": ("ignores_resets",)}),
    "another serial": (FaultKind.WRONG_IDENTITY, {}, {"trouble": ("serial",)}),
    "no power": (
        FaultKind.POWER_OFF,
        {},
        {
            "power": "Off",
            "progress": "None",
            "running": False,
            "gpus_offered": None,
            "trouble": ("no_power",),
        },
    ),
    "a line in trouble": (
        FaultKind.TROUBLE,
        {"trouble": Trouble.SLOW},
        {"trouble": ("slow",)},
    ),
}


@pytest.mark.parametrize("case", SHOWS)
def test_a_fault_shows_in_the_truth_and_is_cleared(case: str) -> None:
    kind, details, shows = SHOWS[case]

    async def play(sim: SimSite) -> None:
        was, other = sim.node_truth(ONE), sim.node_truth(TWO)
        assert was.gpus_offered == 8
        assert hit(sim, kind, **details) == {ONE}
        assert unlike(was, sim.node_truth(ONE)) == shows
        assert sim.node_truth(TWO) == other
        assert hit(sim, FaultKind.CLEAR) == {ONE}
        sim.nodes[ONE].bmc.reset("ForceRestart")
        await device_s(1_000)
        now = sim.node_truth(ONE)
        assert unlike(was, now).keys() == {"boot_id", "resets"}

    on_a_site(play)


def test_what_a_gpu_comes_back_by_is_said_by_the_fault() -> None:
    async def play(sim: SimSite) -> None:
        hit(sim, FaultKind.FALL_OFF, gpu=5, mends="power_cycle")
        hit(sim, FaultKind.REBOOT)
        await device_s(1_000)
        assert sim.node_truth(ONE).gpus_offered == 7
        sim.nodes[ONE].bmc.reset("ForceOff")
        await device_s(10)
        sim.nodes[ONE].bmc.reset("On")
        await device_s(1_000)
        assert sim.node_truth(ONE).gpus_offered == 8

    on_a_site(play)


def test_a_boot_that_is_stuck_ends_nowhere_by_itself() -> None:
    async def play(sim: SimSite) -> None:
        hit(sim, FaultKind.STUCK_BOOT)
        sim.nodes[ONE].bmc.reset("ForceRestart")
        await device_s(50_000)
        now = sim.node_truth(ONE)
        assert (now.power, now.progress) == ("On", "MemoryInitializationStarted")
        assert not now.running

    on_a_site(play)


def test_a_pdu_that_goes_dark_takes_miners_nodes_and_bmcs_alike() -> None:
    async def play(sim: SimSite) -> None:
        hall = Target(node="lab-hall")
        everybody = {*sim.stations, *sim.nodes}
        boots = {asset: sim.node_truth(asset).boot_id for asset in sim.nodes}
        assert hit(sim, FaultKind.POWER_OFF, at=hall) == everybody
        assert sim.totals()[0] + sim.nodes_w() == 0
        assert not any(node.station.reachable() for node in sim.nodes.values())
        await device_s(3_600)
        hit(sim, FaultKind.POWER_OFF, at=hall)
        assert hit(sim, FaultKind.POWER_ON, at=hall) == everybody
        await device_s(1_000)
        back = {asset: sim.node_truth(asset) for asset in sim.nodes}
        assert all(one.running and one.boot_id != boots[one.asset] for one in back.values())
        assert sim.totals()[0] > 0
        one_pdu = Target(node="lab-hall-p3")
        assert hit(sim, FaultKind.POWER_OFF, at=one_pdu) == {ONE, TWO}

    on_a_site(play)


def test_a_fault_hits_those_that_it_can_happen_to() -> None:
    async def play(sim: SimSite) -> None:
        everybody = Target()
        miners, nodes = set(sim.stations), set(sim.nodes)
        assert hit(sim, FaultKind.HIJACK, at=everybody) == miners
        assert hit(sim, FaultKind.LOCKOUT, at=everybody) == nodes == {ONE, TWO, HOST}
        assert hit(sim, FaultKind.FALL_OFF, at=everybody) == nodes - {HOST}
        assert hit(sim, FaultKind.REBOOT, at=everybody) == miners | nodes
        assert hit(sim, FaultKind.DIE, at=Target(family="nvidia_gpu")) == {ONE, TWO}
        for kind, asset in (
            (FaultKind.HIJACK, ONE),
            (FaultKind.LOCKOUT, MINER),
            (FaultKind.HANG, HOST),
        ):
            with pytest.raises(NoSuchTarget):
                hit(sim, kind, at=Target(asset=asset))
        with pytest.raises(NoSuchTarget):
            hit(sim, FaultKind.FALL_OFF, gpu=8)

    on_a_site(play)


def test_a_changed_password_and_a_lockout_are_answered_with_401() -> None:
    async def play(sim: SimSite) -> None:
        nodes = sim.nodes
        assert isinstance(nodes, SimNodes)
        loop = asyncio.get_running_loop()
        clock = VirtualClock(loop, scale=SCALE, epoch_s=EPOCH_S)

        async def look(asset: str) -> object:
            node = nodes[asset]
            target = BmcTarget(
                asset=asset, address=node.station.address, user=nodes.user,
                password=Secret(nodes.password), tls=TlsPin(ca_pem=nodes.authority_pem),
                pin=Pin(mac=None, serial=node.bmc.chassis.serial, source="placement"),
            )  # fmt: skip
            driver = RedfishBmc(MemoryNet(sim.network), clock)
            try:
                return (await driver.look(target, frozenset({Part.DRAW}))).power
            except ControlPlaneError as error:
                return type(error).__name__
            finally:
                await driver.close()

        assert [await look(asset) for asset in nodes] == [Power.ON] * 3
        hit(sim, FaultKind.PASSWORD)
        hit(sim, FaultKind.LOCKOUT, at=Target(asset=TWO))
        hit(sim, FaultKind.DIE, at=Target(asset=HOST))
        assert [await look(asset) for asset in nodes] == [
            "AuthRejected",
            "AuthRejected",
            "Unreachable",
        ]
        hit(sim, FaultKind.CLEAR, at=Target())
        assert [await look(asset) for asset in nodes] == [Power.ON] * 3

    on_a_site(play)


def test_bmc_host_and_miner_have_one_clock_and_one_calendar() -> None:
    async def play(sim: SimSite) -> None:
        await device_s(5_000)
        sim.nodes[ONE].bmc.reset("ForceRestart")
        hit(sim, FaultKind.XID, gpu=1)
        host, now_s = sim.nodes[ONE].host, sim.world.wall_s()
        assert host is not None
        assert now_s == pytest.approx(EPOCH_S + 5_000)
        assert sim.nodes[ONE].bmc.log[-1].at_s == pytest.approx(now_s)
        assert host.machine.kernel_log[-1][0] == pytest.approx(now_s)

    on_a_site(play)


def test_the_seed_chooses_how_long_each_takes_to_boot() -> None:
    def boots(seed: int) -> list[float]:
        found: list[float] = []

        async def play(sim: SimSite) -> None:
            found.extend(
                n.bmc.profile.post_s + n.bmc.profile.os_s for n in sim.nodes.values() if n.host
            )

        on_a_site(play, seed=seed)
        return found

    assert boots(1) == boots(1) != boots(2)
    assert all(270.0 <= boot_s <= 330.0 for boot_s in boots(1))


def test_a_slow_task_ends_late_and_a_stuck_one_never() -> None:
    async def play(sim: SimSite) -> None:
        hit(sim, FaultKind.SLOW_TASK)
        hit(sim, FaultKind.STUCK_TASK, at=Target(asset=TWO))
        tasks = [
            sim.nodes[asset].bmc.update("http://x/CPLD_Motherboard_9.bin", [])
            for asset in (ONE, TWO)
        ]
        task_s = sim.nodes[ONE].bmc.profile.task_s
        await device_s(2 * task_s)
        assert [(task.state, task.percent) for task in tasks] == [("Running", 10), ("Running", 90)]
        await device_s(20 * task_s)
        assert [(task.state, task.percent) for task in tasks] == [
            ("Completed", 100),
            ("Running", 90),
        ]

    on_a_site(play)


def test_meters_see_what_gpu_nodes_draw() -> None:
    async def case(sim: SimSite) -> None:
        feed = sim.nodes[ONE].places[1]
        before = sim.flows()[feed]
        draws_w = sim.nodes[ONE].bmc.draw_w()
        assert before > draws_w > 500.0
        hit(sim, FaultKind.POWER_OFF)
        await device_s(10.0)
        assert sim.flows()[feed] == pytest.approx(before - draws_w, abs=60.0)

    on_a_site(case)
