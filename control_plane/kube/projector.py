"""Makes the objects of a site equal to what the engine knows: specs at once, statuses through their writer.

A projection is the controller's: what somebody else wrote into its spec is put back, and what the
declaration has no more is deleted. Pins would go with an owner that is deleted by mistake: so none has one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from control_plane.api.objects import Part, SiteStatus, Status
from control_plane.core import limits
from control_plane.core.cluster import Cluster, ClusterError, Conflict, Kind, NotFound, Object
from control_plane.core.ports import Clock
from control_plane.engine.queue import Priority
from control_plane.kube.cache import Cache
from control_plane.kube.conditions import Told, conditions
from control_plane.kube.kinds import MINER, RACK, SITE
from control_plane.kube.projections import miners, racks, site_status, site_told
from control_plane.kube.snapshot import Snapshot
from control_plane.kube.waiting import Bucket
from control_plane.kube.writer import StatusWriter

MANAGER = "gridplane-controller"
_Made = tuple[str, Part, Status, list[Told]]
_BATCH = 200
"""Objects after which others have their turn on the loop."""


class Projector:
    """One site's projections in one namespace."""

    def __init__(
        self,
        cluster: Cluster,
        caches: Mapping[str, Cache],
        writer: StatusWriter,
        *,
        namespace: str,
        clock: Clock,
        may_write: Callable[[], bool],
        saw: Callable[[Kind, Object, Status, Sequence[Told]], None] = lambda *_: None,
    ) -> None:
        """`caches` are by plural name of the kind; `saw` is told what each status is going to say."""
        self.trouble = ""
        """Why the last pass did not end, in words."""
        self._cluster, self._caches, self._writer = cluster, caches, writer
        self._namespace, self._clock, self._may_write = namespace, clock, may_write
        self._saw = saw
        self._bucket = Bucket(clock, per_s=limits.STATUS_BURST, burst=limits.STATUS_BURST)

    async def project(
        self,
        snapshot: Snapshot,
        about: Object,
        accepted: str,
        refusal: str | None,
        *,
        also: Sequence[Told] = (),
    ) -> bool:
        """One pass over everything; what the server refuses is tried again with the next.

        Args:
            snapshot: of the site.
            about: its `Site` object, as it was when the snapshot was taken.
            accepted: the `FleetRevision` that is in force.
            refusal: why it is not the one that `about` names.
            also: further conditions of the site.

        Returns:
            Whether every object stood there already, with the spec that it should have.
        """
        try:
            stood = [
                await self._all(RACK.plural, racks(snapshot)),
                await self._all(MINER.plural, miners(snapshot)),
            ]
        except ClusterError as error:
            self.trouble = str(error)
            return True
        self.trouble = ""
        told = [*also, *site_told(snapshot, refusal)]
        status = SiteStatus(accepted_revision=accepted)
        self.tell_site(about, site_status(snapshot, status), told)
        return all(stood)

    def tell_site(self, about: Object, status: SiteStatus, told: Sequence[Told]) -> None:
        """The status of the `Site` itself, worked out for `about`."""
        self._tell(self._caches[SITE.plural], about, status, told)

    def _tell(self, cache: Cache, about: Object, status: Status, told: Sequence[Told]) -> None:
        # A person waits for the answer of a `Site`; devices have a pace.
        priority = Priority.CHANGE if cache.kind is SITE else Priority.DRIFT
        before = msgspec.json.decode(about.status, type=Status | None) or Status()
        generation = about.metadata.generation
        whole = msgspec.structs.replace(
            status,
            conditions=conditions(
                told, before.conditions, generation=generation, now_s=self._clock.wall_s()
            ),
            observed_generation=generation,
        )
        self._saw(cache.kind, about, whole, told)
        self._writer.want(cache, about, msgspec.to_builtins(whole), priority)

    async def _all(self, plural: str, made: Iterable[_Made]) -> bool:
        """Every object of a kind, and no other; whether all of them were there."""
        cache = self._caches[plural]
        wanted: set[str] = set()
        stood = True
        for count, (name, spec, status, told) in enumerate(made):
            key = f"{self._namespace}/{name}"
            wanted.add(key)
            about = None if cache.is_behind(key) else await self._stand(cache, key, name, spec)
            if about is not None:
                self._tell(cache, about, status, told)
            stood = stood and about is not None
            if count % _BATCH == 0:
                await asyncio.sleep(0)
        for key in [each.key for each in cache if each.key not in wanted]:
            await self._take_away(cache, key)
        return stood

    async def _stand(self, cache: Cache, key: str, name: str, spec: Part) -> Object | None:
        """The object with that spec, made or put back where it is not so; `None` where we may not write."""
        there = cache.get(key)
        if there is not None and msgspec.json.decode(there.spec, type=type(spec)) == spec:
            return there
        if not self._may_write():
            return None
        await self._bucket.take()
        body = {
            "apiVersion": cache.kind.api_version,
            "kind": cache.kind.kind,
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": msgspec.to_builtins(spec),
        }
        if not self._may_write():
            return None
        written = await self._cluster.apply(cache.kind, body, manager=MANAGER)
        cache.wrote(written)
        # Its status follows once the cache has it: the writer compares with what is there.
        return None

    async def _take_away(self, cache: Cache, key: str) -> None:
        there = cache.get(key)
        if there is None or cache.is_behind(key) or not self._may_write():
            return
        await self._bucket.take()
        try:
            await self._cluster.delete(
                cache.kind,
                there.metadata.name,
                namespace=self._namespace,
                uid=there.metadata.uid,
            )
        except (NotFound, Conflict):
            return
