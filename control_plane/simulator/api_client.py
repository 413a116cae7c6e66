"""The port `Cluster` over an API server in the same process, with the faults of the line between the two.

Its twin is `kube/client.py`; one conformance suite holds the two together. Faults are a client's own, so that
one of two leaders can be cut off.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from typing import Literal, TypeVar

import msgspec

from control_plane.core.cluster import (
    POD,
    Body,
    ClusterAway,
    ClusterError,
    Event,
    Kind,
    Metadata,
    NotFound,
    Object,
    Page,
    Throttled,
)
from control_plane.core.ports import Clock
from control_plane.simulator.api_objects import place
from control_plane.simulator.api_selectors import selected
from control_plane.simulator.api_server import ApiServer, Snapshot, Watch
from control_plane.simulator.machine import mix

DEADLINE_S = 30.0
"""Wire seconds after which a client takes silence for an answer."""
BOOKMARK_S = 60.0
"""A watch that has nothing to tell tells so."""
_EARLY_S = 1e-6

T = TypeVar("T")


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """One request, for who makes faults and who counts."""

    verb: Literal["list", "watch", "get", "create", "replace", "apply", "delete", "evict"]
    kind: Kind
    name: str = ""
    subresource: str = ""

    @property
    def writes(self) -> bool:
        """Whether it would change something."""
        return self.verb in {"create", "replace", "apply", "delete", "evict"}


class ApiFaults(msgspec.Struct, kw_only=True):
    """What is wrong with the line; may change at any time."""

    away: Literal["", "refused", "silent"] = ""
    """Nobody answers: known at once, or only after the deadline."""
    throttle_s: float | None = None
    """Every request is refused with 429; `Retry-After` in seconds."""
    latency_s: tuple[float, float] = (0.0, 0.0)
    """Wire seconds one way."""
    silent: bool = False
    """A watch that would tell something falls silent for ever, as on a line that died half."""
    stale: Snapshot | None = None
    """Lists and gets are answered from this past."""
    before: Callable[[Call], None] | None = None
    """Sees each request before the server does; what it raises is what the caller gets."""
    after: Callable[[Call], None] | None = None
    """Sees each request that was done; what it raises hides the answer."""
    loses: Callable[[Event], bool] | None = None
    """Which events never reach a watch."""


class ApiClient:
    """One client of the server; `manager` owns what it creates and replaces."""

    def __init__(
        self, server: ApiServer, clock: Clock, *, seed: int = 0, manager: str = "gridplane"
    ) -> None:
        self.faults = ApiFaults()
        self.calls: Counter[tuple[str, str]] = Counter()
        """(verb, kind) → requests that reached the server."""
        self._server, self._clock = server, clock
        self._seed, self._manager = seed, manager
        self._trips = 0
        self._watches: dict[Watch, ClusterError | None] = {}

    def cut(self, error: ClusterError | None = None) -> None:
        """End all watches: with what they then raise, or as the server ends them."""
        for watch in self._watches:
            self._watches[watch] = error
            self._server.close(watch)
            watch.news.set()

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
        """See `core.cluster.Cluster`."""
        return await self._ask(
            Call(verb="list", kind=kind),
            lambda: self._server.list_page(
                kind, selected(namespace, selector, fields), limit=limit, page=page,
                says_remaining=not (selector or fields), past=self.faults.stale,
            ),
        )  # fmt: skip

    async def watch(
        self,
        kind: Kind,
        *,
        resource_version: str,
        namespace: str | None = None,
        selector: str = "",
        fields: str = "",
        timeout_s: float = 300.0,
    ) -> AsyncGenerator[Event, None]:
        """See `core.cluster.Cluster`; an agent's client (`agent.api`) selects by fields as well."""
        until_s = self._clock.wire_s() + timeout_s
        watch = await self._ask(
            Call(verb="watch", kind=kind),
            lambda: self._server.watch(
                kind, selected(namespace, selector, fields), resource_version=resource_version
            ),
        )
        self._watches[watch] = None
        try:
            while watch in self._server.watches:
                is_idle = not await self._news(watch, until_s)
                while watch.events and watch in self._server.watches:
                    event = watch.events.popleft()
                    if self.faults.loses is None or not self.faults.loses(event):
                        yield event
                if is_idle and self._server.version >= watch.since:
                    now = Metadata(resource_version=str(self._server.version))
                    yield Event(type="BOOKMARK", object=Object(metadata=now))
                # A timer fires early by as much as its loop's resolution: the rest is none to wait for.
                if is_idle and self._clock.wire_s() >= until_s - _EARLY_S:
                    break
        finally:
            self._server.close(watch)
            error = self._watches.pop(watch)
        if error is not None:
            raise error

    async def get(self, kind: Kind, name: str, *, namespace: str | None = None) -> Object:
        """See `core.cluster.Cluster`."""
        key = f"{namespace}/{name}" if namespace else name

        def read() -> Object:
            if self.faults.stale is None:
                return self._server.get(kind, key)
            stored = self.faults.stale[1].get(kind, {}).get(key)
            if stored is None:
                raise NotFound(f"{kind.plural} {key!r} not found")
            return stored.object

        return await self._ask(Call(verb="get", kind=kind, name=name), read)

    async def create(self, kind: Kind, body: Body) -> Object:
        """See `core.cluster.Cluster`."""
        return await self._ask(
            Call(verb="create", kind=kind, name=place(kind, body)[1]["name"]),
            lambda: self._server.create(kind, body, manager=self._manager),
        )

    async def replace(self, kind: Kind, body: Body, *, subresource: str = "") -> Object:
        """See `core.cluster.Cluster`."""
        return await self._ask(
            Call(
                verb="replace", kind=kind, name=place(kind, body)[1]["name"],
                subresource=subresource,
            ),
            lambda: self._server.replace(
                kind, body, manager=self._manager, subresource=subresource
            ),
        )  # fmt: skip

    async def apply(
        self, kind: Kind, body: Body, *, manager: str, force: bool = True, subresource: str = ""
    ) -> Object:
        """See `core.cluster.Cluster`."""
        return await self._ask(
            Call(
                verb="apply", kind=kind, name=place(kind, body)[1]["name"], subresource=subresource
            ),
            lambda: self._server.apply(
                kind, body, manager=manager, force=force, subresource=subresource
            ),
        )

    async def delete(
        self, kind: Kind, name: str, *, namespace: str | None = None, uid: str = ""
    ) -> None:
        """See `core.cluster.Cluster`."""
        key = f"{namespace}/{name}" if namespace else name
        await self._ask(
            Call(verb="delete", kind=kind, name=name),
            lambda: self._server.delete(kind, key, uid=uid),
        )

    async def evict(self, name: str, *, namespace: str, uid: str = "") -> None:
        """See `core.cluster.Cluster`."""
        await self._ask(
            Call(verb="evict", kind=POD, name=name, subresource="eviction"),
            lambda: self._server.evict(f"{namespace}/{name}", uid=uid),
        )

    async def _ask(self, call: Call, act: Callable[[], T]) -> T:
        if self.faults.before is not None:
            self.faults.before(call)
        await self._trip(call)
        if self.faults.throttle_s is not None:
            raise Throttled("too many requests", self.faults.throttle_s)
        self.calls[call.verb, call.kind.kind] += 1
        answer = act()
        if self.faults.after is not None:
            self.faults.after(call)
        await self._trip(call)
        return answer

    async def _trip(self, call: Call) -> None:
        """One way over the line."""
        low_s, high_s = self.faults.latency_s
        if high_s:
            self._trips += 1
            await asyncio.sleep(low_s + (high_s - low_s) * mix(self._seed, self._trips))
        if self.faults.away:
            if self.faults.away == "silent":
                await asyncio.sleep(DEADLINE_S)
            raise ClusterAway(f"{call.verb} {call.kind.plural}: no answer")

    async def _news(self, watch: Watch, until_s: float) -> bool:
        """Wait for something to tell, or to hear that the watch has ended; whether it came in time."""
        left_s = max(until_s - self._clock.wire_s(), 0)
        came = True
        try:
            async with asyncio.timeout(min(BOOKMARK_S, left_s)):
                await watch.news.wait()
        except TimeoutError:
            came = False
        if self.faults.silent or self.faults.away == "silent":
            await asyncio.Event().wait()
        watch.news.clear()
        await self._trip(Call(verb="watch", kind=watch.kind))
        return came
