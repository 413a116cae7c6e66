"""One controller process, as the operating system sees it: it can be stopped or killed at any moment.

A *side effect* is what the world keeps: a write that reached the API server, or bytes that went out to a
device. Each can be the last thing that a process does. What it had sent is on its way all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from control_plane.core.cluster import Body, Event, Kind, Object, Page
from control_plane.core.ports import Clock, Connection, Net, Rng
from control_plane.core.tls import TlsPin
from control_plane.drivers.registry import all_capabilities, make_drivers
from control_plane.engine.edges import Edges
from control_plane.engine.loop import Pace
from control_plane.kube.controller import Controller
from control_plane.kube.library import Read
from control_plane.simulator.api_client import ApiClient
from tests.kube.running import inline
from tests.scenarios.declared import SITE
from tests.scenarios.process import ACTING, Process, Secrets, Watch, WatchedDriver
from tests.scenarios.suspending import SuspendingLoop, inside, outside

NAMESPACE = "power"
_INSTANT_S = 1e-9
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class PodEdges(Edges):
    """The way to the devices, and whose it is."""

    pod: Pod


class StandingClock:
    """The port `Clock`; its monotonic time may have stood still for a while."""

    def __init__(self, clock: Clock) -> None:
        self.behind_s = 0.0
        self._clock = clock

    def wall_s(self) -> float:
        return self._clock.wall_s()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    def wire_s(self) -> float:
        return self._clock.wire_s() - self.behind_s

    async def wire_sleep(self, seconds: float) -> None:
        # A difference of two clocks may be too small for either to move by it.
        await self._clock.wire_sleep(max(seconds, _INSTANT_S) if seconds > 0 else seconds)

    def wire_of(self, policy_s: float) -> float:
        return self._clock.wire_of(policy_s)


class Pod(Process):
    """A controller. Killed, it leaves nothing but what stands in the API server."""

    def __init__(
        self,
        name: str,
        *,
        loop: SuspendingLoop,
        line: ApiClient,
        net: Net,
        clock: Clock,
        rng: Rng,
        watch: Watch,
        folder: Path,
        read: Read,
        pace: Pace,
    ) -> None:
        super().__init__(name, watch)
        self.line = line
        self.said: list[str] = []
        self.is_stopped = False
        self._loop = loop
        self._clock = clock = StandingClock(clock)
        self._stopped_s = 0.0
        self._with_clock = False
        edges = PodEdges(
            clock=clock,
            rng=rng,
            secrets=Secrets(),
            drivers={
                family: WatchedDriver(self, driver)
                for family, driver in make_drivers(_PodNet(self, net), clock).items()
            },
            capabilities=all_capabilities(),
            pod=self,
        )
        folder = folder / name
        folder.mkdir()
        self.controller = Controller(
            _PodCluster(self, line),
            site=SITE,
            namespace=NAMESPACE,
            identity=name,
            folder=folder,
            edges=edges,
            pace=pace,
            say=self._say,
            read=read,
            aside=inline,
        )

    def _say(self, text: str, /, **_fields: object) -> None:
        self.said.append(text)

    @property
    def leads(self) -> bool:
        """Whether it may act, and does not stand still."""
        return self.alive and not self.is_stopped and self.controller.elector.is_live()

    def start(self) -> None:
        """Run it."""
        self.task = self._loop.create_task(self.controller.run(), context=inside(self))

    def kill(self) -> None:
        """End it at once, without a word."""
        if self.alive:
            self.alive = False
            self._loop.suspend(self)
            self.line.cut()

    def stop(self, *, with_clock: bool = False) -> None:
        """SIGSTOP: it stands still, and does not know it; with its clock, as a machine that is paused."""
        if self.alive and not self.is_stopped:
            self.is_stopped, self._with_clock = True, with_clock
            self._stopped_s = self._loop.time()
            self._loop.suspend(self)

    def go_on(self) -> None:
        """SIGCONT."""
        if self.alive and self.is_stopped:
            self.is_stopped = False
            if self._with_clock:
                self._clock.behind_s += self._loop.time() - self._stopped_s
            self._loop.resume(self)

    async def bury(self) -> None:
        """Free what the process held, once the run is over."""
        self.alive = False
        self._loop.resume(self)
        if self.task is not None:
            self.task.cancel()
            await asyncio.wait([self.task])

    async def does(self, what: str, act: Callable[[], Awaitable[T]]) -> T:
        """Have a side effect, which may be the last one, before or after it."""
        self.check()
        self.effects.append(what)
        number = len(self.effects)
        if self.kill_at == (number, False):
            self.kill()
            await self._loop.create_future()  # Nobody sees what would have come next.
        doing: asyncio.Task[T] = self._loop.create_task(self._then(number, act), context=outside())
        return await doing

    async def _then(self, number: int, act: Callable[[], Awaitable[T]]) -> T:
        is_last = self.kill_at == (number, True)
        sends = ACTING.get() is not None or self.effects[number - 1] == "send"
        if is_last and sends:
            # Right after: once this step of the task has handed the bytes over.
            self._loop.call_soon(self.kill)
        try:
            return await act()
        finally:
            if is_last:
                self.kill()


class _PodCluster:
    """The port `Cluster`: what is written counts as a side effect."""

    def __init__(self, pod: Pod, line: ApiClient) -> None:
        self._pod, self._line = pod, line

    async def list_page(
        self,
        kind: Kind,
        *,
        namespace: str | None = None,
        selector: str = "",
        fields: str = "",
        limit: int = 500,
        page: str = "",
    ) -> Page:
        self._pod.check()
        return await self._line.list_page(
            kind, namespace=namespace, selector=selector, fields=fields, limit=limit, page=page
        )

    def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str | None = None,
        selector: str = "",
        timeout_s: float = 300.0,
    ) -> AsyncGenerator[Event, None]:
        self._pod.check()
        return self._line.watch(
            kind,
            resource_version=resource_version,
            namespace=namespace,
            selector=selector,
            timeout_s=timeout_s,
        )

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Object:
        self._pod.check()
        return await self._line.get(kind, name, namespace=namespace)

    async def create(self, kind: Kind, body: Body) -> Object:
        return await self._pod.does(f"create {kind.kind}", lambda: self._line.create(kind, body))

    async def replace(self, kind: Kind, body: Body, *, subresource: str = "") -> Object:
        return await self._pod.does(
            f"replace {kind.kind}",
            lambda: self._line.replace(kind, body, subresource=subresource),
        )

    async def apply(
        self, kind: Kind, body: Body, *, manager: str, force: bool = True, subresource: str = ""
    ) -> Object:
        return await self._pod.does(
            f"apply {kind.kind}",
            lambda: self._line.apply(
                kind, body, manager=manager, force=force, subresource=subresource
            ),
        )

    async def delete(
        self, kind: Kind, name: str, *, namespace: str | None = None, uid: str = ""
    ) -> None:
        await self._pod.does(
            f"delete {kind.kind}",
            lambda: self._line.delete(kind, name, namespace=namespace, uid=uid),
        )

    async def evict(self, name: str, *, namespace: str, uid: str = "") -> None:
        await self._pod.does(
            "evict Pod", lambda: self._line.evict(name, namespace=namespace, uid=uid)
        )


class _PodNet:
    def __init__(self, pod: Pod, net: Net) -> None:
        self._pod, self._net = pod, net

    async def connect(
        self, address: str, port: int, *, deadline_s: float, tls: TlsPin | None = None
    ) -> Connection:
        self._pod.check()
        loop = asyncio.get_running_loop()
        opening = self._net.connect(address, port, deadline_s=deadline_s, tls=tls)
        opened = await loop.create_task(opening, context=outside())
        self._pod.check()
        return _PodConnection(self._pod, opened)


class _PodConnection:
    def __init__(self, pod: Pod, connection: Connection) -> None:
        self._pod, self._connection = pod, connection

    async def request(
        self,
        payload: bytes,
        *,
        complete: Callable[[bytearray, bool], bool],
        deadline_s: float,
        max_bytes: int,
    ) -> bytes:
        what = "send" if ACTING.get() is None else "write"
        reply = await self._pod.does(
            what,
            lambda: self._connection.request(
                payload, complete=complete, deadline_s=deadline_s, max_bytes=max_bytes
            ),
        )
        self._pod.check()
        return reply

    async def send(self, pieces: Iterable[bytes], *, deadline_s: float) -> None:
        await self._pod.does("write", lambda: self._connection.send(pieces, deadline_s=deadline_s))
        self._pod.check()

    def close(self) -> None:
        self._connection.close()
