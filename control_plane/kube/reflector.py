"""Keeps a cache equal to what an API server has of a kind: paged list, then watch, for years.

Every way round the loop passes one sleep, whose length doubles until a watch has stood for a while: no
answer of a server makes this hot. What it was not told for WATCH_SILENT_S it does not believe any more:
a connection may be dead without saying so, and a server whose store was restored may tell nothing to who
asks from a version that is still to come. So silence, like 410, ends in a new list. What nobody can
notice is mended by one list each RELIST_S.
"""

from __future__ import annotations

import asyncio
import contextlib

from control_plane.core import limits
from control_plane.core.cluster import Cluster, ClusterError, Gone, Object
from control_plane.core.ports import Clock, Rng
from control_plane.engine.bugs import in_words
from control_plane.kube.cache import Bug, Cache, number
from control_plane.kube.waiting import api_backoff, unless

_STEADY_S = 5.0
"""A watch that still tells something after that did not fail, however it ends."""
_INSTANT_S = 0.001
"""Nobody sleeps for less."""


class Reflector:
    """One kind. `run` never ends by itself."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        *,
        clock: Clock,
        rng: Rng,
        bug: Bug,
        namespace: str | None = None,
        selector: str = "",
    ) -> None:
        self.cache = cache
        self.synced = asyncio.Event()
        """Set by the first whole list."""
        self.trouble = ""
        """How the last turn failed, in words; empty again when a watch has stood for a while."""
        self.lists = 0
        """Whole lists so far."""
        self.requests = 0
        """Pages and watches that were asked for."""
        self.errors = 0
        """Turns that did not end as they should."""
        self._cluster = cluster
        self._clock = clock
        self._bug = bug
        self._namespace = namespace
        self._selector = selector
        self._backoff = api_backoff(rng)
        self._is_listed = False
        self._listed_s = float("-inf")
        self._told_s = self._turn_s = clock.wire_s()

    def silent_s(self) -> float:
        """Wire seconds since the server last told something: event, bookmark or page."""
        return self._clock.wire_s() - self._told_s

    def is_fresh(self) -> bool:
        """Whether the cache is whole, and as young as it can be known to be."""
        # One silence is ended by a list: only when that fails too is something wrong.
        return self.synced.is_set() and self.silent_s() <= 2 * limits.WATCH_SILENT_S

    async def run(self) -> None:
        """List and watch, over and over."""
        while True:
            error = await self._turn()
            await self._clock.wire_sleep(self._backoff.next_s(error))

    async def _turn(self) -> ClusterError | None:
        """List, where that is needed, and watch until it ends; what the server had against it."""
        self._turn_s = self._clock.wire_s()
        try:
            await unless(self._silence(), self._follow())
        except ClusterError as error:
            self._is_listed = self._is_listed and not isinstance(error, Gone)
            self._failed(str(error))
            return error
        except TimeoutError:
            self._is_listed = False
            self._failed(f"silent for {limits.WATCH_SILENT_S:g} s")
        except Exception as bug:  # noqa: BLE001 - a cache that stops without a word is worse
            self._is_listed = False
            words = in_words(bug)
            self._bug(self.cache.kind.plural, words)
            self._failed(words)
        return None

    async def _follow(self) -> None:
        if not self._is_listed or self._turn_s - self._listed_s >= limits.RELIST_S:
            await self._list()
        await self._watch()

    async def _list(self) -> None:
        objects: list[Object] = []
        token = ""
        while True:
            self.requests += 1
            page = await self._cluster.list_page(
                self.cache.kind, namespace=self._namespace, selector=self._selector, page=token
            )
            self._told()
            objects += page.items
            token = page.next
            if not token:
                break
        self.cache.replace(objects, number(page.resource_version))
        self.lists += 1
        self._is_listed, self._listed_s = True, self._clock.wire_s()
        self.synced.set()

    async def _watch(self) -> None:
        self.requests += 1
        events = self._cluster.watch(
            self.cache.kind,
            resource_version=str(self.cache.version),
            namespace=self._namespace,
            selector=self._selector,
            timeout_s=limits.WATCH_TURN_S,
        )
        began_s = self._clock.wire_s()
        async with contextlib.aclosing(events):
            async for event in events:
                self._told()
                self.cache.take(event)
                if self._told_s - began_s >= _STEADY_S:
                    self._backoff.reset()
                    self.trouble = ""

    async def _silence(self) -> None:
        """Ends when the server has told nothing for too long."""
        while True:
            since_s = max(self._told_s, self._turn_s)
            left_s = limits.WATCH_SILENT_S - (self._clock.wire_s() - since_s)
            if left_s < _INSTANT_S:
                return
            await self._clock.wire_sleep(left_s)

    def _told(self) -> None:
        self._told_s = self._clock.wire_s()

    def _failed(self, words: str) -> None:
        self.errors += 1
        self.trouble = words
