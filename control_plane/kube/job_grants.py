"""Firmware grants in a cluster: `DeviceOperation` objects, and Jobs that are opened once these stand.

The objects are the truth. The leader's Store has a copy, by which people and the locks see them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

import msgspec

from control_plane.core.cluster import Cluster, ClusterError, Conflict, Object
from control_plane.core.errors import StoreBusy
from control_plane.core.firmware_job import ROLLOUT_LABEL, SITE_LABEL
from control_plane.core.flashing import FlashEntry, FlashStep, Grant
from control_plane.core.ports import Clock
from control_plane.engine.granting import NotGranted, Work
from control_plane.engine.log import Say
from control_plane.engine.store import Store
from control_plane.kube.cache import Cache, number
from control_plane.kube.firmware_jobs import Job, Jobs, is_over, is_suspended, suspend
from control_plane.kube.grants import (
    MANAGER as JOURNAL,
)
from control_plane.kube.grants import (
    grant_body,
    grant_in,
    job_in,
    journal_body,
    operation_of,
    read_grant,
)
from control_plane.kube.kinds import DEVICE_OPERATION, JOB
from control_plane.kube.listing import get_or_none, list_all
from control_plane.kube.projector import MANAGER

_LOOK_S = 5.0
"""Wire seconds between two looks at the Jobs that are open."""
_MIRROR_S = 0.5
_TRIES = 5
SERIES = "firmware"
"""Of the numbers of firmware rollouts: `f0001` and so on."""


class JobGrants:
    """A `Granting` by Jobs, of one tenure. `mirror` it for as long as that lasts."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        *,
        site: str,
        namespace: str,
        store: Store,
        clock: Clock,
        keep: Callable[[], Awaitable[None]],
        is_live: Callable[[], bool],
        say: Say,
    ) -> None:
        """Take over the grants that there are.

        Args:
            cluster: the API server.
            cache: of `DeviceOperation`.
            site: whose.
            namespace: of everything.
            store: of the tenure: a copy goes there.
            clock: policy time.
            keep: makes durable what the Store holds, under this tenure's fence.
            is_live: whether this process may write; asked right before each request.
            say: told of what people want to know.
        """
        self._cluster, self._cache = cluster, cache
        self._site, self._namespace = site, namespace
        self._store, self._clock = store, clock
        self._keep, self._is_live, self._say = keep, is_live, say
        self._jobs = Jobs(cluster, namespace=namespace)
        self._own: dict[str, Object] = {}
        """Written here, and perhaps not in the cache yet."""
        self._read: dict[str, tuple[str, Grant | None]] = {}
        """Key → the version that was understood, and as what."""
        self._writes = 0
        self._known: Mapping[str, Grant] = {}
        self._known_at: tuple[int, int] | None = None
        self._copied: Mapping[str, Grant] = {}
        self._is_stopped = asyncio.Event()
        self._go_on_counting()
        self._copy()

    def _go_on_counting(self) -> None:
        """A rollout whose state was lost is not called again what one with grants was."""
        given = [_number_of(grant.rollout) for grant in self.known().values()]
        if max(given, default=0) > self._store.numbers().get(SERIES, 0):
            self._store.put_number(SERIES, max(given))

    # --- what there is -------------------------------------------------------------------------------

    def known(self) -> Mapping[str, Grant]:
        """Every grant of the site, by its name: as the API server has told it, or has answered."""
        # Asked several times a second; it changes when the cache does, or by an own write.
        stamp = (self._cache.version, self._writes)
        if self._known_at != stamp:
            self._known, self._known_at = self._find(), stamp
        return self._known

    def _find(self) -> Mapping[str, Grant]:
        found: dict[str, Grant] = {}
        objects = {each.key: each for each in self._cache}
        for key, own in list(self._own.items()):
            if not self._cache.is_behind(key):
                del self._own[key]
            elif key not in objects or _version(objects[key]) < _version(own):
                objects[key] = own
        for key, each in objects.items():
            if each.metadata.labels.get(SITE_LABEL) != self._site:
                continue
            version = each.metadata.resource_version
            read = self._read.get(key)
            if read is None or read[0] != version:
                read = self._read[key] = (version, grant_in(each))
            if read[1] is not None:
                found[read[1].operation] = read[1]
        for key in self._read.keys() - objects.keys():
            del self._read[key]
        return found

    async def mirror(self) -> None:
        """Have the Store's copy follow, for ever.

        Raises:
            StoreError: the local disk does not take it.
        """
        while True:
            # Where another connection has it, the next turn does.
            with contextlib.suppress(StoreBusy):
                self._copy()
            await self._clock.wire_sleep(_MIRROR_S)

    def _copy(self) -> None:
        known = self.known()
        if known is self._copied:
            return
        changed = [g for name, g in known.items() if self._copied.get(name) != g]
        gone = self._copied.keys() - known.keys()
        if changed or gone:
            with self._store.transaction():
                for grant in changed:
                    self._store.put_grant(grant)
                for name in gone:
                    self._store.drop_grant(name)
        self._copied = known

    # --- opening -------------------------------------------------------------------------------------

    async def open(self, work: Work) -> None:
        """See `Granting.open`: state, grant, work, each durable before the next."""
        # Under this tenure's fence, or not at all: a former leader ends here.
        await self._keep()
        there = await self._of_round(work)
        if not there:
            job = await self._jobs.job_for(work)
            for grant in _grants(work, job):
                await self._put(grant)
            names = {job.name}
        else:
            # A leader that died in the middle: who was left out has its turn in another round.
            names = {job_in(grant.operation) for grant in there}
        for name in sorted(names):
            await self._begin(name)
        self._copy()

    async def _of_round(self, work: Work) -> list[Grant]:
        selector = f"{SITE_LABEL}={self._site},{ROLLOUT_LABEL}={work.rollout}"
        found = await list_all(
            self._cluster, DEVICE_OPERATION, namespace=self._namespace, selector=selector
        )
        grants = [grant for each in found if (grant := grant_in(each)) is not None]
        turn = (work.purpose, work.wave, work.round)
        return [grant for grant in grants if (grant.purpose, grant.wave, grant.round) == turn]

    async def _put(self, grant: Grant, *, version: str = "") -> None:
        """Make a grant, or narrow it as it was read at a version.

        Raises:
            Conflict: it has changed since.
            ClusterError: as the port says.
            NotGranted: one of another rollout has its name.
        """
        self._check_live()
        if not version:
            there = await get_or_none(
                self._cluster, DEVICE_OPERATION, grant.operation, namespace=self._namespace
            )
            if there is not None:
                # Of an earlier rollout of the same bundle, which ran this Job: it has ended since.
                raise NotGranted(f"there is a grant {grant.operation} already, of another rollout")
        body = grant_body(grant, site=self._site, namespace=self._namespace, version=version)
        self._wrote(await self._cluster.apply(DEVICE_OPERATION, body, manager=MANAGER))

    async def _begin(self, name: str) -> None:
        """Open a Job, if it is there and waits."""
        job = await get_or_none(self._cluster, JOB, name, namespace=self._namespace)
        if job is not None and is_suspended(job) and not is_over(job):
            self._check_live()
            await suspend(self._cluster, name, namespace=self._namespace, whether=False)
            self._say(f"opened Job {name}", kind="firmware", job=name)

    def _check_live(self) -> None:
        if not self._is_live():
            raise StoreBusy("this process does not lead any more")

    def _wrote(self, made: Object) -> None:
        self._cache.wrote(made)
        self._own[made.key] = made
        self._writes += 1

    # --- closing -------------------------------------------------------------------------------------

    async def withdraw(self, operation: str, assets: frozenset[str]) -> None:
        """See `Granting.withdraw`: only onto the grant and the journal as they were read together."""
        for _ in range(_TRIES):
            granted = await read_grant(self._cluster, operation, namespace=self._namespace)
            if granted is None:
                return
            grant = granted.grant
            left = {
                asset: entry
                for asset, entry in grant.entries.items()
                if asset not in assets or entry.step is not FlashStep.PENDING
            }
            if left == grant.entries:
                return
            after = (
                msgspec.structs.replace(grant, entries=left)
                if left
                else msgspec.structs.replace(grant, deadline_s=self._now_s(grant))
            )
            try:
                await self._put(after, version=granted.version)
            except Conflict:
                continue  # a device began at this very moment
            self._copy()
            return
        raise StoreBusy(f"{operation} changes all the time: asked again")

    def _now_s(self, grant: Grant) -> float:
        return min(grant.deadline_s, self._clock.wall_s())

    async def close(self) -> None:
        """Let nothing more begin of what is granted: the site is only to be observed.

        Raises:
            ControlPlaneError: it is not known whether all of it was closed; ask again.
        """
        for grant in list(self.known().values()):
            await self._close(grant)

    async def _close(self, grant: Grant) -> None:
        """Who was not begun is free for others."""
        now_s = self._clock.wall_s()
        if grant.deadline_s <= now_s:
            return
        granted = await read_grant(self._cluster, grant.operation, namespace=self._namespace)
        if granted is None or granted.grant.deadline_s <= now_s:
            return
        ended = msgspec.structs.replace(granted.grant, deadline_s=now_s)
        await self._put(ended, version=granted.version)

    async def conclude(self, operation: str, entries: Sequence[FlashEntry]) -> None:
        """See `Granting.conclude`."""
        granted = await read_grant(self._cluster, operation, namespace=self._namespace)
        if granted is None:
            return
        ended = {entry.asset: entry for entry in entries}
        self._check_live()
        body = journal_body(
            operation,
            {**granted.grant.entries, **ended},
            namespace=self._namespace,
            version=granted.version,
        )
        made = await self._cluster.apply(
            DEVICE_OPERATION, body, manager=JOURNAL, subresource="status"
        )
        self._wrote(made)
        self._copy()

    # --- beside --------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Look after the Jobs of what is granted, until stopped."""
        while not self._is_stopped.is_set():
            try:
                await self._look()
            except (ClusterError, StoreBusy) as error:
                self._say(f"firmware Jobs wait: {error}", kind="firmware", level="warning")
            waiting = asyncio.ensure_future(self._clock.wire_sleep(_LOOK_S))
            stopping = asyncio.ensure_future(self._is_stopped.wait())
            try:
                await asyncio.wait({waiting, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                waiting.cancel()
                stopping.cancel()

    def resume(self) -> None:
        """Another engine of the tenure is about to `run` it."""
        self._is_stopped.clear()

    def stop(self) -> None:
        """Begin nothing more; Jobs that are open go on by themselves."""
        self._is_stopped.set()

    async def _look(self) -> None:
        """Open what a leader granted and could not open; close what nobody works on any more."""
        now_s = self._clock.wall_s()
        by_job: defaultdict[str, list[Grant]] = defaultdict(list)
        for grant in self.known().values():
            if now_s < grant.deadline_s:
                by_job[job_in(grant.operation)].append(grant)
        for name, grants in by_job.items():
            job = await get_or_none(self._cluster, JOB, name, namespace=self._namespace)
            if job is not None and not is_over(job):
                if is_suspended(job):
                    await self._begin(name)
                continue
            for grant in grants:
                await self._close(grant)
            if job is None:
                self._say(f"Job {name} is gone: what it had not begun is free", kind="firmware")
            elif not is_suspended(job):
                # Else a stack that takes it up anew would find a field that is ours, with another value.
                self._check_live()
                await suspend(self._cluster, name, namespace=self._namespace, whether=True)


def _grants(work: Work, job: Job) -> Iterable[Grant]:
    """A grant for each index that has a machine to work on.

    Raises:
        NotGranted: the Job does not have all of them.
    """
    by_index: defaultdict[int, list[str]] = defaultdict(list)
    for asset in work.granted:
        if asset not in job.indexes:
            raise NotGranted(f"Job {job.name} does not work on {asset}")
        by_index[job.indexes[asset]].append(asset)
    for index in sorted(by_index):
        assets = sorted(by_index[index])
        yield Grant(
            operation=operation_of(job.name, index),
            rollout=work.rollout,
            purpose=work.purpose,
            wave=work.wave,
            round=work.round,
            digest=work.bundle.digest,
            fence=work.fence,
            entries={asset: FlashEntry(asset=asset) for asset in assets},
            pins={asset: work.granted[asset].pin for asset in assets},
            addresses={asset: work.granted[asset].address for asset in assets},
            at_once=work.at_once,
            deadline_s=work.deadline_s,
        )


def _version(of: Object) -> int:
    return number(of.metadata.resource_version)


def _number_of(rollout: str) -> int:
    digits = rollout.removeprefix("f")
    return int(digits) if digits.isascii() and digits.isdecimal() else 0
