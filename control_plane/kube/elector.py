"""Election of the one process that may write: a Lease, judged by nobody's clock but the own.

A tenure is live from its first to its last moment by the monotonic clock: until LEASE_RENEW_S after the
*sending* of the last renewal that was confirmed. Another takes over LEASE_DURATION_S after it *saw* that
renewal, which is later than it was sent. So two are never live at once, however replies dawdle, processes
stop and wall clocks lie; the time between the two is for writes that left just before the end.

Each tenure has a fence, `leaseTransitions`, that is greater than all before; what must never be done by
two carries it, and the server refuses a lower one. That covers what no local clock can: a machine whose
clock itself stood still.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import msgspec

from control_plane.core import limits
from control_plane.core.cluster import Cluster, ClusterError, Conflict, NotFound, Object
from control_plane.core.ports import Clock, Rng
from control_plane.engine.bugs import in_words
from control_plane.kube.cache import Bug, Cache
from control_plane.kube.lease import LEASE, LeaseSpec, SeenLease, body_of, micro_time, tenure_of
from control_plane.kube.reflector import Reflector
from control_plane.kube.waiting import within

_INSTANT_S = 0.001
_HEARD_S = 2 * limits.LEASE_RETRY_S
"""Who has heard of no renewal for that long asks."""


class Elector:
    """One candidate. `run` never ends by itself; an API server that is away only ends the tenure."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        namespace: str,
        name: str,
        identity: str,
        clock: Clock,
        rng: Rng,
        bug: Bug,
        gained: Callable[[int], None] = lambda _fence: None,
        lost: Callable[[str], None] = lambda _why: None,
        floor: Callable[[], int] = lambda: 0,
    ) -> None:
        """`identity` is this very process's own: no other one, and none before it, has the same.

        Args:
            cluster: the API server.
            namespace: of the Lease.
            name: of the Lease.
            identity: who this is.
            clock: the clock.
            rng: for jitter.
            bug: is told of bugs of ours.
            gained: is told the fence when a tenure begins to be live.
            lost: is told why a live tenure ended.
            floor: the greatest fence that durable state knows: a Lease may be deleted, or restored.
        """
        self.tenures = 0
        """Tenures of this process so far."""
        self.errors = 0
        """Turns in which the API server did not do what it was asked."""
        self.trouble = ""
        """What it had against the last one, in words."""
        self._cluster = cluster
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._rng = rng
        self._bug = bug
        self._gained = gained
        self._lost = lost
        self._floor = floor
        cache = Cache(LEASE, bug=bug)
        cache.tell(self._changed)
        self._reflector = Reflector(
            cluster, cache, clock=clock, rng=rng, bug=bug, namespace=namespace
        )
        self._news = asyncio.Event()
        self._seen = SeenLease(clock)
        self._is_deaf = False
        """Asking told what the watch had not: it may hang, for a minute before it is known to."""
        self._fence: int | None = None
        self._is_told = False
        self._from_s = self._until_s = float("-inf")

    def is_live(self) -> bool:
        """Whether this process may write, at this moment: local, at once; ask right before each write."""
        return self._fence is not None and self._from_s <= self._clock.wire_s() < self._until_s

    @property
    def fence(self) -> int | None:
        """The number of the tenure, while it is live."""
        return self._fence if self.is_live() else None

    @property
    def holder(self) -> str:
        """Who holds the Lease, as far as is known here."""
        return self._seen.holder

    async def run(self) -> None:
        """Stand for election, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._reflector.run())
            group.create_task(self._stand())

    async def release(self) -> None:
        """End the tenure so that another one begins at once; after `run` was cancelled.

        The last write has come back before this is called. Where the server is away, or the tenure was
        not live, the Lease just runs out.
        """
        was_live = self.is_live()
        self._lose("released")
        if was_live:
            with contextlib.suppress(ClusterError, TimeoutError):
                await within(self._clock, limits.LEASE_CALL_S, self._let_go())

    async def _let_go(self) -> None:
        while True:
            await self._read()
            if self._seen.holder != self._identity:
                return
            try:
                await self._put(msgspec.structs.replace(self._seen.spec, holder_identity=None))
            except Conflict:  # a renewal that was under way came first
                continue
            return

    async def _stand(self) -> None:
        while True:
            self._tell()
            failed = True
            try:
                await within(self._clock, limits.LEASE_CALL_S, self._turn())
                failed, self.trouble = False, ""
            except (ClusterError, TimeoutError) as error:
                self.errors += 1
                # What it asks for (Retry-After) is not obeyed: five requests are all that it may cost.
                self.trouble = str(error) or f"no reply within {limits.LEASE_CALL_S:g} s"
            except Exception as bug:  # noqa: BLE001 - the tenure runs out if this goes on
                self.errors += 1
                self.trouble = in_words(bug)
                self._bug(f"lease {self._name}", self.trouble)
            self._tell()
            await self._rest(limits.LEASE_RETRY_S / (2 if failed or self._is_deaf else 1))

    async def _turn(self) -> None:
        """One attempt to renew, or to claim what may be claimed."""
        if self._seen.object is None or self._is_deaf or self._is_unheard():
            await self._read()
        try:
            if self._seen.object is None:
                await self._create()
            elif self._fence is not None:
                await self._renew()
            elif self._clock.wire_s() >= self._seen.claimable_s:
                await self._claim()
        except NotFound:
            self._forget()
        except Conflict:
            await self._read()
            if self._fence is not None:
                # Somebody wrote a note on it, or our own renewal did arrive: its reply was lost.
                await self._renew()

    def _is_unheard(self) -> bool:
        """Whether nothing was heard of a holder that renews all the time."""
        silent_s = self._clock.wire_s() - self._seen.since_s
        return self._fence is None and bool(self._seen.holder) and silent_s >= _HEARD_S

    async def _rest(self, wait_s: float) -> None:
        """Until the next attempt, or until there is something to do or to tell before."""
        now_s = self._clock.wire_s()
        wait_s *= self._rng.uniform(0.8, 1.2)
        is_standing = self._fence is None
        moments = [self._seen.claimable_s] if is_standing else [self._from_s, self._until_s]
        wait_s = min([wait_s, *(max(at - now_s, _INSTANT_S) for at in moments if at > now_s)])
        self._news.clear()
        with contextlib.suppress(TimeoutError):
            await within(self._clock, wait_s, self._news.wait())

    async def _create(self) -> None:
        """Make the Lease. It is not free: who held one that was deleted may not know that yet."""
        fence, sent_s = self._next_fence(), self._clock.wire_s()
        metadata = {"name": self._name, "namespace": self._namespace}
        spec = tenure_of(self._identity, fence=fence, wall_s=self._clock.wall_s())
        self._heard(await self._cluster.create(LEASE, body_of(spec, metadata)))
        self._begin(fence, sent_s=sent_s, from_s=self._seen.ends_s)

    async def _claim(self) -> None:
        fence, sent_s, from_s = self._next_fence(), self._clock.wire_s(), self._seen.ends_s
        await self._put(tenure_of(self._identity, fence=fence, wall_s=self._clock.wall_s()))
        self._begin(fence, sent_s=sent_s, from_s=from_s)

    async def _renew(self) -> None:
        sent_s, now = self._clock.wire_s(), micro_time(self._clock.wall_s())
        await self._put(msgspec.structs.replace(self._seen.spec, renew_time=now))
        if self._fence is not None:
            self._until_s = sent_s + limits.LEASE_RENEW_S

    async def _put(self, spec: LeaseSpec) -> None:
        if self._seen.object is None:
            raise NotFound(f"lease {self._namespace}/{self._name}")
        metadata = msgspec.to_builtins(self._seen.object.metadata)
        self._heard(await self._cluster.replace(LEASE, body_of(spec, metadata)))

    async def _read(self) -> None:
        try:
            lease = await self._cluster.get(LEASE, self._name, namespace=self._namespace)
        except NotFound:
            self._forget()
        else:
            self._is_deaf = self._seen.read(lease) or self._is_deaf
            self._heed()

    def _next_fence(self) -> int:
        return max(self._seen.highest_fence, self._floor()) + 1

    def _changed(self, old: Object | None, new: Object | None) -> None:
        """The watch tells of a Lease of the namespace."""
        self._is_deaf = False
        known = self._seen.object
        if new is not None and new.metadata.name == self._name:
            self._heard(new)
        elif old is not None and known is not None and old.metadata.uid == known.metadata.uid:
            self._forget()

    def _heard(self, lease: Object) -> None:
        self._seen.heard(lease)
        self._heed()

    def _forget(self) -> None:
        self._seen.forget()
        self._heed()

    def _heed(self) -> None:
        """What stands in the Lease may end the tenure, or let another one begin."""
        holder = self._seen.holder
        if holder != self._identity:
            self._lose(f"{holder or 'nobody'} holds the Lease")
        if not holder:
            self._news.set()

    def _begin(self, fence: int, *, sent_s: float, from_s: float) -> None:
        # What the watch told during the call may have ended it before it began.
        if self._seen.holder == self._identity:
            self._fence, self._from_s = fence, from_s
            self._until_s = sent_s + limits.LEASE_RENEW_S

    def _lose(self, why: str) -> None:
        if self._fence is not None:
            was_told, self._fence, self._is_told = self._is_told, None, False
            if was_told:
                self._spared(lambda: self._lost(why))

    def _tell(self) -> None:
        """Tell when a tenure begins to be live, and when it ended for want of a renewal."""
        if self._fence is not None and self._clock.wire_s() >= self._until_s:
            self._lose(
                f"not renewed within {limits.LEASE_RENEW_S:g} s: {self.trouble or 'too late'}"
            )
        fence = self.fence
        if fence is not None and not self._is_told:
            self._is_told = True
            self.tenures += 1
            self._spared(lambda: self._gained(fence))

    def _spared(self, act: Callable[[], None]) -> None:
        try:
            act()
        except Exception as bug:  # noqa: BLE001 - the election goes on; the gate asks `is_live` itself
            self._bug(f"lease {self._name}", in_words(bug))
