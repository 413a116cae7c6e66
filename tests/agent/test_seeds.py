"""Lives of one agent, by seed: grants and their ends, reboots, upgrades, kills, other writers, silence.

After each event: nothing that the agent wrote was above the cap, it raised only under a grant in force, and
two looks later no GPU may take more than its cap.
"""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from control_plane.core.gpu_settings import GpuOutcome, GpuWrite, SetGpuPowerLimit
from control_plane.drivers.nvml import NvmlLibrary
from control_plane.drivers.nvml_host import HostNvml
from control_plane.simulator.gpus import GpuHost
from tests.agent.nodes import Node, on_a_node

STEPS = 30
LOWEST_W = 200.0


class Watching(NvmlLibrary):
    """Knows what a limit was before it was written."""

    def __init__(self, host: GpuHost, seen: list[tuple[float, float]]) -> None:
        super().__init__()
        self._host, self._seen = host, seen

    def apply(self, write: GpuWrite) -> GpuOutcome:
        if isinstance(write, SetGpuPowerLimit):
            (gpu,) = [gpu for gpu in self._host.gpus if gpu.pci == write.gpu]
            self._seen.append((gpu.limit_w, write.watts))
        return super().apply(write)


class Life:
    """One node, and what is known of its grants."""

    def __init__(self, node: Node, rng: random.Random) -> None:
        self.node, self.rng = node, rng
        self.cap_w: float | None = None
        self.until_s = 0.0
        self.fence = 1
        self.heard = False
        """Whether the agent that lives now has heard its grant."""
        self.writes: list[tuple[float, float]] = []
        node.make = lambda: HostNvml(Watching(node.host, self.writes), deadline_s=None)

    def grant(self) -> None:
        self.cap_w = float(self.rng.choice([150, 250, 350, 450, 550, 650, 750]))
        self.fence += self.rng.randrange(2)
        for_s = self.rng.choice([-30.0, 20.0, 120.0, 900.0])
        self.until_s = self.node.clock.wall_s() + for_s
        self.node.declare(gpu_w=self.cap_w, for_s=for_s, fence=self.fence, gpus=2)
        self.heard = True

    async def restart(self) -> None:
        await self.node.stop()
        self.heard = False
        self.node.start()

    async def upgrade(self) -> None:
        await self.node.stop()
        self.node.host.unload()
        self.node.host.load()
        self.heard = False
        self.node.start()

    async def event(self) -> None:
        what = self.rng.randrange(9)
        if what <= 2:
            self.grant()
        elif what == 3:
            self.node.host.reboot()
        elif what == 4:
            await self.restart()
        elif what == 5:
            await self.upgrade()
        elif what == 6:
            self.rng.choice(self.node.host.gpus).limit_w = float(self.rng.randrange(200, 701))
        elif what == 7:
            self.node.host.other_writer(float(self.rng.randrange(200, 701)), every_s=40)
        else:
            self.node.host.other_writer(None)

    async def check(self) -> None:
        fresh_s = self.until_s if self.heard else 0.0
        began_s = self.node.clock.wall_s()
        self.writes.clear()
        await self.event()
        fresh_s = max(fresh_s, self.until_s if self.heard else 0.0)
        await self.node.wait(self.rng.choice([11.0, 60.0]))
        cap_w = max(self.cap_w or 700.0, LOWEST_W)
        for before_w, asked_w in self.writes:
            assert asked_w <= cap_w
            assert asked_w <= before_w or began_s < fresh_s, (before_w, asked_w)
        self.node.host.other_writer(None)
        await self.node.wait(11.0)
        assert max(self.node.limits_w()) <= cap_w


@pytest.mark.parametrize("seed", range(8))
def test_a_life(tmp_path: Path, seed: int) -> None:
    async def story(node: Node) -> None:
        life = Life(node, random.Random(seed))
        node.start()
        for _ in range(STEPS):
            await life.check()

    on_a_node(tmp_path, story, gpus=2)
