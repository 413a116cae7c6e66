"""Random lives of a simulated GPU host: whatever happens to it, and when, its views are of one machine."""

from __future__ import annotations

import asyncio
import random

import pytest

from control_plane.core.gpu import Trouble
from control_plane.simulator.gpu_host import GpuMachine, Mends
from control_plane.simulator.gpus import Busy
from control_plane.simulator.kubelet import GRACE_S
from tests.simulator.gpu_halls import Floor, on_a_floor

STEPS = 100
LOOK_S = 11.0
RARE = 0.3
KINDS = ("On", "ForceOff", "ForceRestart", "GracefulRestart", "GracefulShutdown", "PowerCycle")


def happen(host: GpuMachine, rng: random.Random) -> None:
    """One thing that happens to it."""
    gpu = rng.randrange(8)
    if host.bmc.faults.no_power and rng.random() > RARE:
        host.bmc.regain_feed()
        return
    match rng.randrange(14):
        case 0 | 1 | 2 | 3 | 12 | 13:
            host.bmc.reset(rng.choice(KINDS))
        case 4:
            host.fall_off(gpu, mends=rng.choice(list(Mends)))
        case 5:
            host.xid(gpu, rng.choice([13, 31, 48, 119]))
        case 6:
            host.hang()
        case 7:
            host.reboot()
        case 8:
            host.bmc.faults.stuck_post = rng.random() < RARE
        case 9:
            host.stuck_kernel = rng.random() < RARE
        case 10:
            host.bmc.lose_feed()
        case _:
            # NVML is closed between looks: nobody has the driver open.
            if host.gpus.loaded and not host.is_hung:
                try:
                    host.reset_gpu(gpu)
                except Busy:
                    raise AssertionError("a session outlived its host") from None


def check(floor: Floor, silent_s: float) -> None:
    """What holds of every machine at any moment."""
    host, node = floor.one, floor.node()["status"]
    is_up = host.answers_ssh
    if host.bmc.power == "Off" or host.bmc.faults.no_power:
        assert not host.is_on
        assert host.bmc.draw_w() <= 25
    if is_up:
        assert host.ssh("cat /proc/sys/kernel/random/boot_id").out.decode().strip() == host.boot_id
    if host.runs_pods:
        assert node["nodeInfo"]["bootID"] == host.boot_id
        assert floor.ready() == "True"
        assert int(floor.gpus()) == (host.offered() or 0)
    elif silent_s > GRACE_S + LOOK_S:
        assert floor.ready() == "Unknown"
    taints = floor.node()["spec"].get("taints", [])
    assert bool(taints) == (floor.ready() == "Unknown")
    nvml = floor.nvml()
    look = nvml.look(floor.clock.wall_s())
    nvml.close()
    assert (look.trouble is Trouble.NOT_LOADED) == (not host.gpus.loaded)
    if look.trouble is None:
        assert host.is_on
        answering = sum(not gpu.lost for gpu in look.gpus)
        assert int(floor.gpus()) <= answering or not host.runs_pods


@pytest.mark.parametrize("seed", range(6))
def test_its_views_are_of_one_machine_whatever_happens(seed: int) -> None:
    async def case(floor: Floor) -> None:
        rng, host = random.Random(seed), floor.one
        seen = {host.boot_id}
        silent_s = 0.0
        for _ in range(STEPS):
            happen(host, rng)
            for _ in range(rng.choice([1, 3, 40])):
                await asyncio.sleep(LOOK_S)
                silent_s = 0.0 if host.runs_pods else silent_s + LOOK_S
                check(floor, silent_s)
            seen.add(host.boot_id)

        # Whatever happened: with power, and without what holds it up, it comes back as it should be.
        host.bmc.faults.stuck_post = host.stuck_kernel = False
        if host.bmc.faults.no_power:
            host.bmc.regain_feed()
        host.bmc.reset("ForceOff")
        await asyncio.sleep(300)
        host.bmc.reset("On")
        await asyncio.sleep(600)
        assert host.boot_id not in seen
        assert floor.ready() == "True"
        assert {gpu.limit_w for gpu in host.gpus.gpus} == {700}
        left = sum(gpu.dead for gpu in host.gpus.gpus)
        assert floor.gpus() == str(8 - left)
        assert len(floor.nvml().look(0.0).gpus) == 8 - left

    on_a_floor(case, boots_s={"lab-g1-n1": 60.0})
