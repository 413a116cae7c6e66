"""Processes that stand for election: each with its own clock and line, and each may be stopped."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any

from control_plane.core.cluster import Body, Event, Kind, Object, Page
from control_plane.core.ports import Clock
from control_plane.kube.elector import Elector
from control_plane.kube.lease import LEASE, spec_of
from control_plane.simulator.api_client import ApiClient
from control_plane.simulator.api_server import ApiServer
from control_plane.simulator.virtual import VirtualLoop, seeded
from tests.kube.running import no_bug

NAMESPACE, NAME = "gridplane", "controller"
LEASE_KEY = f"{NAMESPACE}/{NAME}"


class OwnClock:
    """The port `Clock` of one process: its own origin, its own pace, and no step while it is stopped."""

    def __init__(self, loop: VirtualLoop, *, ahead_s: float, pace: float, wall_s: float) -> None:
        self._loop = loop
        self._ahead_s = ahead_s
        self._pace = pace
        self._wall_s = wall_s
        self.runs = asyncio.Event()
        self.runs.set()

    def wall_s(self) -> float:
        return self._wall_s + self._loop.time()

    def wire_s(self) -> float:
        return self._ahead_s + self._loop.time() * self._pace

    async def sleep(self, seconds: float) -> None:
        await self.wire_sleep(seconds)

    async def wire_sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds / self._pace)
        await self.runs.wait()

    def wire_of(self, policy_s: float) -> float:
        return policy_s


class OwnLine:
    """The port `Cluster` of one process, which takes in no answer while it is stopped."""

    def __init__(self, client: ApiClient, clock: OwnClock) -> None:
        self.client = client
        self._clock = clock

    async def _then(self, answer: Awaitable[Any]) -> Any:
        try:
            return await answer
        finally:
            await self._clock.runs.wait()

    async def list_page(self, kind: Kind, **more: Any) -> Page:
        page: Page = await self._then(self.client.list_page(kind, **more))
        return page

    async def watch(self, kind: Kind, **more: Any) -> AsyncGenerator[Event, None]:
        async with contextlib.aclosing(self.client.watch(kind, **more)) as events:
            while True:
                try:
                    event = await self._then(anext(events))
                except StopAsyncIteration:
                    return
                yield event

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Object:
        made: Object = await self._then(self.client.get(kind, name, namespace=namespace))
        return made

    async def create(self, kind: Kind, body: Body) -> Object:
        made: Object = await self._then(self.client.create(kind, body))
        return made

    async def replace(self, kind: Kind, body: Body, *, subresource: str = "") -> Object:
        made: Object = await self._then(self.client.replace(kind, body, subresource=subresource))
        return made

    async def apply(self, kind: Kind, body: Body, **more: Any) -> Object:
        made: Object = await self._then(self.client.apply(kind, body, **more))
        return made

    async def delete(self, kind: Kind, name: str, **more: Any) -> None:
        await self._then(self.client.delete(kind, name, **more))

    async def evict(self, name: str, **more: Any) -> None:
        await self._then(self.client.evict(name, **more))


class Process:
    """One replica."""

    def __init__(self, world: World, identity: str, clock: OwnClock) -> None:
        self.identity = identity
        self.clock = clock
        self.line = OwnLine(ApiClient(world.server, clock, seed=hash_of(identity)), clock)
        self.lost: list[str] = []
        self.elector = Elector(
            self.line,
            namespace=NAMESPACE, name=NAME, identity=identity,
            clock=clock, rng=seeded(identity), bug=no_bug,
            gained=lambda fence: world.gained(self, fence), lost=self.lost.append,
            # Whatever is written under a fence carries it.
            floor=lambda: max((fence for _, _, fence in world.tenures), default=0),
        )  # fmt: skip
        self.task = asyncio.ensure_future(self.elector.run())

    async def crash(self) -> None:
        """End it between two steps, or in the middle of a request."""
        self.clock.runs.set()
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)

    async def stop(self) -> None:
        """End it cleanly."""
        await self.crash()
        await self.elector.release()


def hash_of(text: str) -> int:
    """A number that is the same in every process."""
    return int.from_bytes(text.encode(), "big") % 1_000_003


class World:
    """A server, its candidates, and what must never be."""

    def __init__(self, loop: VirtualLoop, clock: Clock) -> None:
        self.loop = loop
        self.server = ApiServer(clock)
        self.processes: list[Process] = []
        self.tenures: list[tuple[float, str, int]] = []
        """When, who, with which fence."""
        self.violations: list[str] = []
        self.on_gained: Callable[[Process], None] = lambda _process: None

    def start(
        self, identity: str, *, ahead_s: float = 0.0, pace: float = 1.0, wall_s: float = 1.79e9
    ) -> Process:
        clock = OwnClock(self.loop, ahead_s=ahead_s, pace=pace, wall_s=wall_s)
        process = Process(self, identity, clock)
        self.processes.append(process)
        return process

    async def crash(self, process: Process) -> None:
        self.processes.remove(process)
        await process.crash()

    async def stop(self, process: Process) -> None:
        self.processes.remove(process)
        await process.stop()

    async def end(self) -> None:
        for process in list(self.processes):
            await self.crash(process)

    def live(self) -> list[Process]:
        return [each for each in self.processes if each.elector.is_live()]

    def gained(self, process: Process, fence: int) -> None:
        self.check()
        if process.elector.fence != fence or (self.tenures and fence <= self.tenures[-1][2]):
            self.violations.append(f"fence {fence} after {self.tenures[-1:]}")
        self.tenures.append((self.loop.time(), process.identity, fence))
        self.on_gained(process)

    def check(self) -> None:
        live = [each.identity for each in self.live()]
        if len(live) > 1:
            self.violations.append(f"{live} are live at {self.loop.time():.3f} s")

    async def watch_over(self) -> None:
        """Look all the time; stopped processes count."""
        while True:
            self.check()
            await asyncio.sleep(0.25)

    async def until_live(self, *, within_s: float = 60.0) -> Process:
        end_s = self.loop.time() + within_s
        while (
            not (live := self.live())
            or self.tenures[-1:] == []
            or (self.tenures[-1][1] != live[0].identity)
        ):
            assert self.loop.time() < end_s, "nobody was elected"
            await asyncio.sleep(0.05)
        return live[0]

    def lease_holder(self) -> str:
        return spec_of(self.server.get(LEASE, LEASE_KEY)).holder_identity or ""

    def fence_on_server(self) -> int:
        return spec_of(self.server.get(LEASE, LEASE_KEY)).lease_transitions or 0
