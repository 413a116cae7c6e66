"""The revisions of a site as they were understood, each read once: also by who does not lead yet."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from control_plane.api.objects import FleetRevisionSpec
from control_plane.core.cluster import Object
from control_plane.core.ports import Clock
from control_plane.kube.cache import Cache
from control_plane.kube.declaration import Declared, read_revision

_LOOK_S = 1.0

Read = Callable[[str, FleetRevisionSpec], Awaitable[Declared]]


async def in_a_thread(name: str, spec: FleetRevisionSpec) -> Declared:
    """Understand a revision beside the loop: a large site takes a second."""
    return await asyncio.to_thread(read_revision, name, spec)


class Library:
    """Filled from the cache of `FleetRevision`; what was deleted there is forgotten here."""

    def __init__(self, cache: Cache, *, read: Read, clock: Clock) -> None:
        self._cache, self._reads, self._clock = cache, read, clock
        self._read: dict[str, Declared] = {}
        self._reading = asyncio.Lock()
        cache.tell(self._changed)

    async def run(self) -> None:
        """Have every revision read before somebody asks, for ever: a new leader has no time for it."""
        while True:
            for each in list(self._cache):
                await self.declared(each)
            await self._clock.wire_sleep(_LOOK_S)

    async def declared(self, revision: Object) -> Declared:
        """What a revision says; immutable, so it is read once."""
        name = revision.metadata.name
        async with self._reading:
            if name not in self._read:
                spec = msgspec.json.decode(revision.spec, type=FleetRevisionSpec)
                self._read[name] = await self._reads(name, spec)
            return self._read[name]

    async def named(self, namespace: str, name: str) -> Declared | None:
        """What the revision of a name says; `None` where there is none."""
        found = self._cache.get(f"{namespace}/{name}")
        return await self.declared(found) if found is not None else None

    def _changed(self, old: Object | None, new: Object | None) -> None:
        if old is not None and new is None:
            self._read.pop(old.metadata.name, None)
