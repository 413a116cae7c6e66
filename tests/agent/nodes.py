"""A node with simulated GPUs and an agent on it, in virtual time; and what a controller writes for it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from control_plane.agent.following import Contact, Own
from control_plane.agent.kept import KeptFile
from control_plane.agent.loop import Agent
from control_plane.api.objects import (
    Condition,
    GpuNodeSpec,
    GpuNodeStatus,
    GpuSettingsPart,
    PowerCapPart,
)
from control_plane.core.cluster import ClusterError
from control_plane.core.ports import Clock
from control_plane.drivers.nvml import NvmlLibrary
from control_plane.drivers.nvml_host import HostNvml
from control_plane.simulator.gpus import GpuHost
from control_plane.simulator.nvml import FakeLibrary, install
from control_plane.simulator.virtual import VirtualClock, VirtualLoop, run_virtual

HORIZON_S = 100_000.0


class Told:
    """Where statuses go."""

    def __init__(self) -> None:
        self.statuses: list[dict[str, Any]] = []
        self.error: ClusterError | None = None
        self.takes: Callable[[], Awaitable[None]] | None = None
        """What a server does before it answers."""
        self.tries = 0

    async def write_status(self, name: str, uid: str, status: dict[str, Any]) -> None:
        assert (name, uid) == ("gpu-1", "u-1") or uid.startswith("u-")
        self.tries += 1
        if self.takes is not None:
            await self.takes()
        if self.error is not None:
            raise self.error
        self.statuses.append(status)

    @property
    def last(self) -> dict[str, Any]:
        return self.statuses[-1]

    def condition(self, kind: str) -> tuple[str, str]:
        (one,) = [c for c in self.last["conditions"] if c["type"] == kind]
        return one["status"], one["reason"]


class Node:
    """One node; `start` and `stop` its agent."""

    def __init__(self, loop: VirtualLoop, folder: Path, gpus: int) -> None:
        import asyncio

        self.clock: Clock = VirtualClock(loop)
        self.host = GpuHost(gpus=gpus, now_s=self.clock.wall_s)
        self.told, self.lines = Told(), list[str]()
        self.file = KeptFile(folder / "kept.json")
        self.agent: Agent | None = None
        self.make: Callable[[], HostNvml] = lambda: HostNvml(
            NvmlLibrary(sees_all=True), deadline_s=None
        )
        self._task: asyncio.Task[None] | None = None

    def start(self) -> Agent:
        import asyncio

        install(FakeLibrary(self.host))
        self.agent = Agent(
            self.make(), self.told, self.file, clock=self.clock,
            boot=lambda: f"boot-{self.host.boots}", say=self.lines.append,
        )  # fmt: skip
        self._task = asyncio.ensure_future(self.agent.run())
        return self.agent

    async def stop(self) -> None:
        import asyncio
        import contextlib

        assert self._task is not None
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def error(self) -> BaseException | None:
        assert self._task is not None
        return self._task.exception() if self._task.done() else None

    async def wait(self, seconds: float = 11.0) -> None:
        await self.clock.sleep(seconds)

    def declare(self, **more: Any) -> None:
        assert self.agent is not None
        self.agent.heard(Contact.FOUND, own(self.clock.wall_s(), **more))

    def limits_w(self) -> set[float]:
        return {gpu.limit_w for gpu in self.host.gpus}


def own(
    now_s: float,
    gpu_w: float | None = None,
    *,
    for_s: float = 600.0,
    fence: int = 1,
    uid: str = "u-1",
    generation: int = 1,
    settings: GpuSettingsPart | None = None,
    conditions: tuple[Condition, ...] = (),
    **spec: Any,
) -> Own:
    until = dt.datetime.fromtimestamp(now_s + for_s, dt.UTC)
    cap = None if gpu_w is None else PowerCapPart(gpu_w=gpu_w, fence=fence, granted_until=until)
    return Own(
        name="gpu-1",
        uid=uid,
        generation=generation,
        spec=GpuNodeSpec(
            site="lab", rack="g1", node_name="node-1", power_cap=cap, settings=settings,
            **{"gpus": 8, **spec},
        ),
        status=GpuNodeStatus(conditions=conditions),
    )  # fmt: skip


def on_a_node(folder: Path, story: Callable[[Node], Awaitable[None]], *, gpus: int = 8) -> None:
    async def main(loop: VirtualLoop) -> None:
        node = Node(loop, folder, gpus)
        try:
            await story(node)
        finally:
            if node.agent is not None:
                await node.stop()

    try:
        run_virtual(main, horizon_s=HORIZON_S)
    finally:
        install(None)
