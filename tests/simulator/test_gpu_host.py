"""One simulated GPU host: what happens to it is seen in every view of it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from control_plane.core.bmc import BootProgress, Part, Power, PowerCycle, PowerOff, PowerOn, Restart
from control_plane.core.change import Applied, Failed
from control_plane.core.cluster import NODE, NotFound
from control_plane.core.errors import AuthRejected, Unreachable
from control_plane.core.gpu import Trouble
from control_plane.hosts.errors import DeadlinePassed
from control_plane.hosts.gpu_host import read_facts, read_xids
from control_plane.simulator.gpu_host import Mends
from control_plane.simulator.gpus import Busy
from control_plane.simulator.kubelet import EVICT_S, GRACE_S
from tests.bmcs import yes
from tests.kube.nodes import pod_body, started
from tests.simulator.gpu_halls import Floor, on_a_floor

NODE_NAME = "lab-g1-n1"
BOOTED_S = 400.0
"""Longer than a power cycle, a boot, and all that comes up after it."""


async def look(floor: Floor) -> tuple[Power | None, BootProgress | None]:
    """What the BMC tells."""
    seen = await floor.driver.look(floor.target(), frozenset())
    return seen.power, seen.progress


def silent(floor: Floor) -> bool:
    """Whether nobody answers at SSH."""
    try:
        read_facts(floor.ssh())
    except DeadlinePassed:
        return True
    return False


# --- power, boot ---------------------------------------------------------------------------------


def test_a_power_cycle_is_seen_in_every_view() -> None:
    async def case(floor: Floor) -> None:
        host, nvml = floor.one, floor.nvml()
        (before,) = floor.boot_ids()
        assert (floor.ready(), floor.gpus()) == ("True", "8")
        host.gpus.gpus[2].limit_w, host.gpus.gpus[2].persistence = 500.0, True
        assert len(nvml.look(0.0).gpus) == 8

        sent = await floor.driver.apply(floor.target(), PowerCycle(), yes)
        assert isinstance(sent.outcome, Applied)
        await asyncio.sleep(3)
        assert silent(floor)
        assert nvml.look(0.0).trouble is Trouble.NOT_LOADED
        assert (await look(floor))[0] is Power.OFF
        assert floor.ready() == "True", "its lease has not ended yet"
        await asyncio.sleep(GRACE_S)
        assert floor.ready() == "Unknown"
        assert {t["effect"] for t in floor.node()["spec"]["taints"]} == {"NoSchedule", "NoExecute"}
        assert floor.node()["status"]["nodeInfo"]["bootID"] == before
        assert await look(floor) == (Power.ON, BootProgress.FIRMWARE)
        assert silent(floor)

        await asyncio.sleep(270)
        now = read_facts(floor.ssh()).boot_id
        assert now != before
        assert floor.ready() == "Unknown", "a kernel runs, and no kubelet yet"
        assert nvml.look(0.0).trouble is Trouble.NOT_LOADED
        assert read_facts(floor.ssh()).driver is None
        await asyncio.sleep(15)
        assert (floor.ready(), floor.gpus()) == ("True", "0")
        assert floor.boot_ids() == {now}
        assert "taints" not in floor.node()["spec"]
        await asyncio.sleep(15)
        assert floor.gpus() == "8"
        settings = {(g.settings.power_limit_w, g.settings.persistence) for g in nvml.look(0.0).gpus}
        assert settings == {(700, False)}
        assert read_facts(floor.ssh()).driver == host.gpus.driver
        assert await look(floor) == (Power.ON, BootProgress.OS_RUNNING)

    on_a_floor(case)


async def _bmc_restart(floor: Floor) -> None:
    await floor.driver.apply(floor.target(), Restart(forced=True), yes)


async def _bmc_graceful(floor: Floor) -> None:
    await floor.driver.apply(floor.target(), Restart(), yes)


async def _in_band(floor: Floor) -> None:
    floor.ssh().run(("systemctl", "reboot"))


@pytest.mark.parametrize("restart", [_bmc_restart, _bmc_graceful, _in_band])
def test_each_way_to_restart_it_gives_another_boot_id(
    restart: Callable[[Floor], Awaitable[None]],
) -> None:
    async def case(floor: Floor) -> None:
        before = floor.boot_ids()
        await restart(floor)
        await asyncio.sleep(60)
        assert silent(floor)
        assert (await look(floor))[0] is Power.ON, "its power stays"
        await asyncio.sleep(BOOTED_S)
        assert len(floor.boot_ids()) == 1
        assert floor.boot_ids() != before
        assert (floor.ready(), floor.gpus()) == ("True", "8")
        assert floor.boot_ids("lab-g1-n2").isdisjoint(floor.boot_ids())

    on_a_floor(case)


def test_a_boot_takes_as_long_as_its_host_takes() -> None:
    async def case(floor: Floor) -> None:
        before = floor.boot_ids("lab-g1-n2")
        floor.hall["lab-g1-n2"].bmc.reset("ForceRestart")
        await asyncio.sleep(890)
        assert floor.ready("lab-g1-n2") == "Unknown"
        await asyncio.sleep(60)
        assert floor.ready("lab-g1-n2") == "True"
        assert floor.boot_ids("lab-g1-n2") != before

    on_a_floor(case, boots_s={"lab-g1-n2": 900.0})


def test_a_reboot_within_the_lease_is_never_seen_as_not_ready() -> None:
    async def case(floor: Floor) -> None:
        before = floor.boot_ids("lab-g1-n2")
        floor.hall["lab-g1-n2"].bmc.reset("ForceRestart")
        for _ in range(60):
            await asyncio.sleep(1)
            assert floor.ready("lab-g1-n2") == "True"
        assert floor.boot_ids("lab-g1-n2") != before, "only its boot id tells"

    on_a_floor(case, boots_s={"lab-g1-n2": 5.0})


def test_pods_of_a_host_that_is_silent_end_when_it_is_back() -> None:
    async def case(floor: Floor) -> None:
        await started(floor.client, pod_body("p1", "jobs", NODE_NAME))
        await started(floor.client, pod_body("p2", "jobs", NODE_NAME, owner="DaemonSet"))
        await started(floor.client, pod_body("p3", "jobs", "lab-g1-n2"))
        floor.one.bmc.reset("ForceOff")
        await asyncio.sleep(60)
        assert {pod: floor.pod(pod).is_ready for pod in floor.pods()} == {
            "p1": False, "p2": False, "p3": True,
        }  # fmt: skip
        await asyncio.sleep(EVICT_S - 40)
        assert floor.ends() == []
        await asyncio.sleep(60)
        assert floor.ends() == ["p1"], "and nobody is there to end it"
        await asyncio.sleep(600)
        assert floor.pods() == ["p1", "p2", "p3"]
        floor.one.bmc.reset("On")
        await asyncio.sleep(BOOTED_S)
        assert {pod: floor.pod(pod).is_ready for pod in floor.pods()} == {"p2": True, "p3": True}

    on_a_floor(case)


def test_a_node_that_somebody_deleted_is_back_with_the_next_boot() -> None:
    async def case(floor: Floor) -> None:
        await floor.client.delete(NODE, NODE_NAME)
        floor.one.xid(1, 48)
        with pytest.raises(NotFound):
            floor.node()
        floor.one.bmc.reset("ForceRestart")
        await asyncio.sleep(BOOTED_S)
        assert (floor.ready(), floor.gpus()) == ("True", "8")

    on_a_floor(case)


def test_without_its_feed_nothing_answers_and_it_comes_back_by_itself() -> None:
    async def case(floor: Floor) -> None:
        before = floor.boot_ids()
        floor.one.bmc.lose_feed()
        await asyncio.sleep(60)
        with pytest.raises(Unreachable):
            await look(floor)
        assert silent(floor)
        assert (floor.ready(), floor.nvml().look(0.0).trouble) == ("Unknown", Trouble.NOT_LOADED)
        floor.one.bmc.regain_feed()
        await asyncio.sleep(BOOTED_S)
        assert floor.boot_ids() != before
        assert floor.ready() == "True"
        assert (await look(floor))[0] is Power.ON

    on_a_floor(case)


# --- GPUs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mends", "reset", "is_well"),
    [
        (Mends.RESET, "ForceRestart", True),
        (Mends.REBOOT, "ForceRestart", True),
        (Mends.POWER_CYCLE, "ForceRestart", False),
        (Mends.POWER_CYCLE, "PowerCycle", True),
        (Mends.NEVER, "PowerCycle", False),
    ],
)
def test_a_gpu_that_fell_off_its_bus_comes_back_by_what_mends_it(
    mends: Mends, reset: str, *, is_well: bool
) -> None:
    async def case(floor: Floor) -> None:
        host, nvml = floor.one, floor.nvml()
        nvml.look(0.0)
        host.fall_off(3, mends=mends)
        seen = nvml.look(0.0)
        assert [one.xid for one in seen.xids] == [79]
        assert [gpu.index for gpu in seen.gpus if gpu.lost] == [3]
        assert (floor.ready(), floor.gpus()) == ("True", "7")
        (said,) = read_xids(floor.ssh())
        assert (said.xid, said.gpu, said.at_s) == (79, seen.gpus[3].pci, floor.clock.wall_s())

        host.bmc.reset(reset)
        await asyncio.sleep(BOOTED_S)
        assert read_xids(floor.ssh()) == (), "the log of this boot"
        left = 8 if is_well else 7
        assert floor.gpus() == str(left)
        assert len(nvml.look(0.0).gpus) == left
        assert len(read_facts(floor.ssh()).gpus or ()) == left

    on_a_floor(case)


def test_a_gpu_is_reset_once_nobody_has_the_driver_open() -> None:
    async def case(floor: Floor) -> None:
        host, nvml = floor.one, floor.nvml()
        nvml.look(0.0)
        host.fall_off(3, mends=Mends.RESET)
        host.fall_off(4, mends=Mends.REBOOT)
        with pytest.raises(Busy):
            host.reset_gpu(3)
        nvml.close()
        host.gpus.gpus[3].processes = 1
        with pytest.raises(Busy):
            host.reset_gpu(3)
        host.gpus.gpus[3].processes = 0
        assert (host.reset_gpu(3), host.reset_gpu(4)) == (True, False)
        assert floor.gpus() == "7"
        assert [gpu.index for gpu in nvml.look(0.0).gpus if gpu.lost] == [4]

    on_a_floor(case)


def test_an_error_of_an_application_withdraws_no_gpu_and_one_of_memory_does() -> None:
    async def case(floor: Floor) -> None:
        host, nvml = floor.one, floor.nvml()
        nvml.look(0.0)
        host.xid(1, 31, "MMU Fault")
        assert floor.gpus() == "8"
        host.uncorrectable(2)
        seen = nvml.look(0.0)
        assert [one.xid for one in seen.xids] == [31, 48, 63]
        assert [one.xid for one in read_xids(floor.ssh())] == [31, 48, 63]
        assert seen.gpus[2].remap is not None
        assert seen.gpus[2].remap.pending
        assert floor.gpus() == "7"

    on_a_floor(case)


def test_a_gpu_that_a_person_replaced_is_another_one() -> None:
    async def case(floor: Floor) -> None:
        host, nvml = floor.one, floor.nvml()
        before = {gpu.serial for gpu in nvml.look(0.0).gpus}
        host.fall_off(3, mends=Mends.NEVER)
        with pytest.raises(ValueError, match="is On"):
            host.replace_gpu(3)
        host.bmc.reset("ForceOff")
        await asyncio.sleep(10)
        host.replace_gpu(3)
        host.bmc.reset("On")
        await asyncio.sleep(BOOTED_S)
        assert floor.gpus() == "8"
        assert len(before & {gpu.serial for gpu in nvml.look(0.0).gpus}) == 7

    on_a_floor(case)


# --- hosts that do not come back, and BMCs that are odd ------------------------------------------


def test_a_kernel_that_hangs_is_silent_and_its_bmc_is_well() -> None:
    async def case(floor: Floor) -> None:
        before = floor.boot_ids()
        floor.one.hang()
        assert silent(floor)
        await asyncio.sleep(GRACE_S)
        assert floor.ready() == "Unknown"
        assert await look(floor) == (Power.ON, BootProgress.OS_RUNNING)
        await _bmc_graceful(floor)
        await asyncio.sleep(BOOTED_S)
        assert silent(floor), "it does not hear the button"
        await _bmc_restart(floor)
        await asyncio.sleep(BOOTED_S)
        assert floor.boot_ids() != before
        assert floor.ready() == "True"

    on_a_floor(case)


@pytest.mark.parametrize("where", ["firmware", "kernel"])
def test_a_reboot_that_never_ends(where: str) -> None:
    async def case(floor: Floor) -> None:
        host, before = floor.one, floor.boot_ids()
        host.bmc.faults.stuck_post = where == "firmware"
        host.stuck_kernel = where == "kernel"
        await _bmc_restart(floor)
        await asyncio.sleep(3_600)
        assert silent(floor)
        assert floor.ready() == "Unknown"
        assert floor.nvml().look(0.0).trouble is Trouble.NOT_LOADED
        assert (await look(floor))[0] is Power.ON
        host.bmc.faults.stuck_post = host.stuck_kernel = False
        await _bmc_restart(floor)
        await asyncio.sleep(BOOTED_S)
        assert floor.boot_ids() != before
        assert floor.ready() == "True"

    on_a_floor(case)


def test_a_board_that_was_swapped_is_another_host_in_every_view() -> None:
    async def case(floor: Floor) -> None:
        host, target = floor.one, floor.target()
        uuid = floor.node()["status"]["nodeInfo"]["systemUUID"]
        assert (await floor.driver.look(target, frozenset())).uuid == uuid
        await floor.driver.apply(target, PowerOff(forced=True), yes)
        await asyncio.sleep(10)
        host.swap_board("S-ANOTHER")
        sent = await floor.driver.apply(target, PowerOn(), yes)
        assert isinstance(sent.outcome, Failed), "the driver knows its host by its serial"
        host.bmc.reset("On")
        await asyncio.sleep(BOOTED_S)
        assert read_facts(floor.ssh()).serial == "S-ANOTHER"
        assert (await floor.driver.identify(target)).serial == "S-ANOTHER"
        assert floor.node()["status"]["nodeInfo"]["systemUUID"] != uuid
        assert len(floor.nvml().look(0.0).gpus) == 8

    on_a_floor(case)


def test_a_bmc_that_locks_everybody_out_says_nothing_of_its_host() -> None:
    async def case(floor: Floor) -> None:
        floor.one.bmc.faults.lockout = True
        with pytest.raises(AuthRejected):
            await look(floor)
        assert not silent(floor)
        assert (floor.ready(), floor.gpus()) == ("True", "8")

    on_a_floor(case)


def test_a_host_draws_what_its_gpus_and_its_power_state_say() -> None:
    async def case(floor: Floor) -> None:
        host = floor.one

        async def watts() -> float | None:
            return (await floor.driver.look(floor.target(), frozenset({Part.DRAW}))).power_w

        assert await watts() == 2_300
        for gpu in host.gpus.gpus:
            gpu.demand_w = 650.0
        assert await watts() == 1_660 + 8 * 650
        host.bmc.reset("ForceOff")
        await asyncio.sleep(10)
        assert await watts() == 25
        host.bmc.reset("On")
        await asyncio.sleep(60)
        assert await watts() == 1_100
        await asyncio.sleep(BOOTED_S)
        assert await watts() == 2_300

    on_a_floor(case)
