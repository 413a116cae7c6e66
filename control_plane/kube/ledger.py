"""Keeps the leader's Store in the cluster: intents before anything is sent, the rest within seconds.

The Store is local and goes with the pod; the `StateShard` objects of the site are what the next leader
begins with. Each is written under the resource version that its writer last saw. At take-over all are
written anew, so a leader that was suspended and wakes up can keep nothing any more, and without that it
sends nothing: the API server checks the fence, not a clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import msgspec

from control_plane.api.objects import StateShardSpec
from control_plane.core import limits
from control_plane.core.cluster import (
    Cluster,
    ClusterError,
    Conflict,
    Exists,
    NotFound,
    Object,
)
from control_plane.core.correlate import Incident
from control_plane.core.errors import FenceLost, StoreBusy
from control_plane.core.ports import Clock
from control_plane.core.verify import OPEN_STAGES, Operation
from control_plane.engine.kept import KeptStore, Row
from control_plane.kube.kinds import STATE_SHARD
from control_plane.kube.listing import get_or_none, list_all
from control_plane.kube.shards import (
    HEAD,
    PARTS,
    WORK,
    name_of,
    object_of,
    part_of,
    together,
    unpacked,
)
from control_plane.kube.waiting import Bucket

_CLAIMS_AT_ONCE = 8
_incident = msgspec.json.Decoder(Incident).decode
_operation = msgspec.json.Decoder(Operation).decode


class _Write(msgspec.Struct, frozen=True, gc=False):
    """Where an operation lies, and what tells how long it has to."""

    part: str
    is_open: bool
    asset: str
    sent_at_s: float


@dataclass(slots=True)
class Shard:
    """One object, as this process wrote it last, and the rows that it should have."""

    part: str
    resource_version: str
    sequence: int
    rows: dict[str, dict[str, bytes]]
    is_new: bool = False
    """It was not there at take-over."""
    changes: int = 0
    urgent: int = 0
    """The change up to which it has to be kept before anything is sent."""
    kept: int = 0
    is_unsure: bool = False
    """The fate of the last write is not known."""
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    def change(self, *, urgent: bool) -> None:
        """Its rows have changed."""
        self.changes += 1
        if urgent:
            self.urgent = self.changes


class _Place(msgspec.Struct, frozen=True):
    """Whose shards they are, and under which fence they are written."""

    cluster: Cluster
    site: str
    namespace: str
    fence: int
    holder: str

    def body(self, shard: Shard) -> dict[str, Any]:
        """The shard as it should be."""
        return object_of(
            self.site,
            shard.part,
            self.namespace,
            shard.rows,
            fence=self.fence,
            holder=self.holder,
            sequence=shard.sequence + 1,
        )

    async def put(self, shard: Shard) -> None:
        """Write it, or make it where it is not there.

        Raises:
            Conflict: somebody else has written it.
            ClusterError: it may have been written, or not.
        """
        sent = shard.changes
        try:
            if shard.resource_version:
                body = self.body(shard)
                body["metadata"]["resourceVersion"] = shard.resource_version
                made = await self.cluster.replace(STATE_SHARD, body)
            else:
                made = await self.cluster.create(STATE_SHARD, self.body(shard))
        except NotFound:
            made = await self.cluster.create(STATE_SHARD, self.body(shard))
        shard.resource_version = made.metadata.resource_version
        shard.sequence += 1
        shard.kept, shard.is_unsure = sent, False

    async def read(self, part: str) -> Object | None:
        """What stands there now."""
        name = name_of(self.site, part)
        return await get_or_none(self.cluster, STATE_SHARD, name, namespace=self.namespace)


class Claimed(msgspec.Struct, frozen=True):
    """The state of a site, taken over."""

    shards: Mapping[str, Shard]

    @property
    def missing(self) -> tuple[str, ...]:
        """Parts that were not there."""
        return tuple(part for part, shard in self.shards.items() if shard.is_new)

    @property
    def rows(self) -> dict[str, dict[str, bytes]]:
        """All rows."""
        return together(shard.rows for shard in self.shards.values())

    @property
    def sequences(self) -> dict[str, int]:
        """How often each part was written."""
        return {part: shard.sequence for part, shard in self.shards.items()}


class FenceTooLow(FenceLost):
    """The election counts from too low: its Lease was deleted or restored. A higher fence is needed."""

    def __init__(self, fence: int, highest: int) -> None:
        super().__init__(f"fence {fence} is not above {highest}, under which the state was written")
        self.highest = highest


async def claim(cluster: Cluster, *, site: str, namespace: str, fence: int, holder: str) -> Claimed:
    """Take over the state of a site: from now on no older leader can keep anything.

    Args:
        cluster: the API server.
        site: its id.
        namespace: of its objects.
        fence: of the tenure that begins.
        holder: this process; no other one is called so.

    Raises:
        FenceTooLow: a leader with a higher fence, or another one with the same, was there already.
        StoreError: it cannot be understood.
        ClusterError: the API server did not answer; nothing is lost, try again.
    """
    place = _Place(cluster, site, namespace, fence, holder)
    found = await list_all(cluster, STATE_SHARD, namespace=namespace)
    there = {each.metadata.name: each for each in found}
    turns = asyncio.Semaphore(_CLAIMS_AT_ONCE)

    async def one(part: str) -> Shard:
        async with turns:
            return await _claim(place, part, there.get(name_of(site, part)))

    # Work and memories first: whoever has the head has all of them.
    late = [part for part in PARTS if part != HEAD]
    shards = await asyncio.gather(*(one(part) for part in late))
    head = await one(HEAD)
    return Claimed({shard.part: shard for shard in (head, *shards)})


async def _claim(place: _Place, part: str, there: Object | None) -> Shard:
    while True:
        shard = _shard_of(place, part, there)
        try:
            await place.put(shard)
        except Conflict:  # the leader before was still writing
            there = await place.read(part)
            continue
        return shard


def _shard_of(place: _Place, part: str, there: Object | None) -> Shard:
    if there is None:
        return Shard(part, "", 0, {}, is_new=True)
    spec = msgspec.json.decode(there.spec, type=StateShardSpec)
    if spec.fence > place.fence or (spec.fence == place.fence and spec.holder != place.holder):
        raise FenceTooLow(place.fence, spec.fence)
    rows = unpacked(spec.version, spec.data)
    return Shard(part, there.metadata.resource_version, spec.sequence, rows)


class Ledger:
    """Of one tenure; ends with it."""

    def __init__(
        self,
        cluster: Cluster,
        claimed: Claimed,
        *,
        site: str,
        namespace: str,
        fence: int,
        holder: str,
        store: KeptStore,
        clock: Clock,
        is_live: Callable[[], bool],
    ) -> None:
        """Nothing is asked before a method is.

        Args:
            cluster: the API server.
            claimed: the state as it was taken over under `fence`, and as `store` was filled from.
            site: its id.
            namespace: of its objects.
            fence: of this tenure.
            holder: this process.
            store: what is kept.
            clock: the clock.
            is_live: whether this process may write; asked right before each request.
        """
        self.requests = 0
        """Requests that were sent."""
        self.trouble = ""
        """Why the last one failed, in words; empty after one that did not."""
        self._place = _Place(cluster, site, namespace, fence, holder)
        self._shards = claimed.shards
        self._store, self._clock, self._is_live = store, clock, is_live
        self._bucket = Bucket(clock, per_s=limits.LEDGER_WRITES_PER_S, burst=len(PARTS))
        self._turn = 0
        self._writes = {
            key: _write_of(part, record)
            for part in WORK
            for key, record in self._shards[part].rows.get("operation", {}).items()
        }

    @property
    def sequences(self) -> dict[str, int]:
        """How often each part was written: what a later leader may not find less of."""
        return {part: shard.sequence for part, shard in self._shards.items()}

    @property
    def behind(self) -> int:
        """Parts that have changed and are not known to be kept."""
        return sum(shard.kept < shard.changes for shard in self._shards.values())

    async def keep(self) -> None:
        """All that has to be durable before anything is sent: the port `Keep` of the engine.

        Raises:
            StoreBusy: it is not known to be kept; nothing may be sent, and it may be tried again.
            FenceLost: another leader has taken over.
        """
        self._collect()
        await self._put_all(s for s in self._shards.values() if s.kept < s.urgent)

    async def durable(self) -> None:
        """All that the Store holds at this moment.

        Raises:
            StoreBusy, FenceLost: as `keep`.
        """
        self._collect()
        await self._put_all(s for s in self._shards.values() if s.kept < s.changes)

    async def run(self) -> None:
        """Keep up with the Store, for ever.

        Raises:
            FenceLost: another leader has taken over.
        """
        while True:
            await self._clock.wire_sleep(limits.LEDGER_LAG_S)
            if not self._is_live():
                continue
            try:
                await self._catch_up()
            except StoreBusy:
                continue  # `trouble` says why; it goes on with the next turn

    async def _catch_up(self) -> None:
        self._collect()
        for shard in self._shards.values():
            if shard.kept < shard.changes:
                await self._bucket.take()
                await self._put(shard)
        # Memories stand there now: what they were learned from may go.
        self._forget()

    async def _put_all(self, shards: Iterable[Shard]) -> None:
        ends = await asyncio.gather(*map(self._put, shards), return_exceptions=True)
        troubles = [end for end in ends if end is not None]
        # That another leader is there is the one thing that must not be missed.
        for trouble in sorted(troubles, key=lambda t: not isinstance(t, FenceLost)):
            raise trouble

    # --- rows ----------------------------------------------------------------------------------------

    def _collect(self) -> None:
        """Take over what has changed in the Store."""
        changed = self._store.take_changed()
        part = ""
        for row, record in changed.items():
            if row.table == "operation":
                part = part or self._next_part()
                self._collect_write(row.key, record, part)
                continue
            shard = self._shards[part_of(row.table, row.key)]
            _set(shard, row, None if _is_over(row, record) else record)
            shard.change(urgent=row.table != "memory")

    def _next_part(self) -> str:
        self._turn = (self._turn + 1) % len(WORK)
        return WORK[self._turn]

    def _collect_write(self, key: str, record: bytes | None, part: str) -> None:
        known = self._writes.get(key)
        if record is None:
            if known is not None:
                self._drop(key, known)
            return
        write = _write_of(known.part if known else part, record)
        shard = self._shards[write.part]
        _set(shard, Row("operation", key), record)
        self._writes[key] = write
        # How it ends is seen again by looking; that it began is not.
        shard.change(urgent=known is None)

    def _forget(self) -> None:
        """Let go of writes that have ended, but for those by which the open wave is judged."""
        if not self._writes:
            return
        since_s = self._store.judged_since_s()
        for key, write in list(self._writes.items()):
            memory = self._shards[part_of("memory", write.asset)]
            if not write.is_open and write.sent_at_s < since_s and memory.kept == memory.changes:
                self._drop(key, write)

    def _drop(self, key: str, write: _Write) -> None:
        del self._writes[key]
        shard = self._shards[write.part]
        _set(shard, Row("operation", key), None)
        shard.change(urgent=False)

    # --- objects -------------------------------------------------------------------------------------

    async def _put(self, shard: Shard) -> None:
        """Have the rows of now in the object of a shard."""
        wanted = shard.changes
        async with shard.lock:
            if shard.kept >= wanted:
                return  # the one before me took them along
            try:
                if shard.is_unsure:
                    await self._look(shard)
                if not self._is_live():
                    raise FenceLost("the lease is not held any more")
                self.requests += 1
                shard.is_unsure = True
                await self._place.put(shard)
            except Exists as error:
                raise StoreBusy(str(error)) from error
            except Conflict:
                # Or my own write whose reply was lost: what stands there tells.
                await self._look_after_conflict(shard)
            except ClusterError as error:
                self.trouble = str(error)
                raise StoreBusy(
                    f"the API server does not keep what is to be done: {error}"
                ) from error
            self.trouble = ""

    async def _look_after_conflict(self, shard: Shard) -> None:
        try:
            await self._look(shard)
        except ClusterError as error:
            self.trouble = str(error)
            raise StoreBusy(str(error)) from error
        raise StoreBusy("somebody else touched the site's state; it is written again")

    async def _look(self, shard: Shard) -> None:
        """Find out whether a write arrived; only this tenure may have made it.

        Raises:
            FenceLost: another leader has.
        """
        there = await self._place.read(shard.part)
        if there is None:
            shard.resource_version = ""
            return
        spec = msgspec.json.decode(there.spec, type=StateShardSpec)
        if (spec.fence, spec.holder) != (self._place.fence, self._place.holder):
            raise FenceLost(f"{there.key} is {spec.holder}'s under fence {spec.fence} now")
        shard.resource_version = there.metadata.resource_version
        shard.sequence = max(shard.sequence, spec.sequence)


def _write_of(part: str, record: bytes) -> _Write:
    operation = _operation(record)
    return _Write(part, operation.stage in OPEN_STAGES, operation.asset, operation.sent_at_s)


def _is_over(row: Row, record: bytes | None) -> bool:
    """A closed incident is history: events and the audit file have it."""
    return row.table == "incident" and record is not None and not _incident(record).open


def _set(shard: Shard, row: Row, record: bytes | None) -> None:
    records = shard.rows.setdefault(row.table, {})
    if record is None:
        records.pop(row.key, None)
    else:
        records[row.key] = record
