"""Makes the objects of a site equal to what the engine knows: specs at once, statuses through their writer.

A projection is the controller's: what somebody else wrote into its spec is put back, and what the
declaration has no more is deleted. Pins would go with an owner that is deleted by mistake: so none has one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain

import msgspec

from control_plane.api.conditions import Told, conditions
from control_plane.api.objects import GpuNodeStatus, Part, SiteStatus, Status
from control_plane.core import limits
from control_plane.core.cluster import (
    Cluster,
    ClusterError,
    Conflict,
    Invalid,
    Kind,
    NotFound,
    Object,
    Rejected,
)
from control_plane.core.gpu_life import Record
from control_plane.core.gpu_rollout import SoftwareRollout
from control_plane.core.ports import Clock
from control_plane.core.remedy_case import Remedy, Stayed
from control_plane.engine.queue import Priority
from control_plane.kube.cache import Cache
from control_plane.kube.firmware_shown import firmware_objects
from control_plane.kube.gpu_projection import gpu_nodes
from control_plane.kube.kinds import GPU_NODE, MINER, RACK, ROLLOUT, SITE
from control_plane.kube.projections import miners, racks, site_status, site_told
from control_plane.kube.rollouts import objects_of
from control_plane.kube.snapshot import Snapshot
from control_plane.kube.software_shown import software_objects
from control_plane.kube.waiting import Bucket
from control_plane.kube.writer import StatusWriter

MANAGER = "gridplane-controller"
_Made = tuple[str, Part, Status, list[Told]]
_REFUSED_MAX = 20
"""A pass ends there: it is not one object that is wrong."""
_BATCH = 200
"""Objects after which others have their turn on the loop."""


class _OfSite(msgspec.Struct):
    site: str


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
        remedies: Callable[[], Mapping[str, Remedy | Stayed]] = dict,
        lives: Callable[[], Mapping[str, Record]] = dict,
        software: Callable[[], Iterable[SoftwareRollout]] = tuple,
        saw: Callable[[Kind, Object, Status, Sequence[Told]], None] = lambda *_: None,
        edited: Callable[[Kind, Object], None] = lambda *_: None,
    ) -> None:
        """Nothing is asked before `show`.

        Args:
            cluster: the API server.
            caches: of the kinds that are shown, by plural name.
            writer: of statuses.
            namespace: of the objects.
            clock: the clock.
            may_write: whether this process leads.
            remedies: what is done to each GPU node that is not well, or why nothing is.
            lives: how far each GPU node has come.
            software: waves of drivers and MIG profiles.
            saw: told what each status is going to say.
            edited: told of an object whose spec somebody else has changed, before it is put back.
        """
        self.trouble = ""
        """Why the last pass did not end, in words."""
        self._cluster, self._caches, self._writer = cluster, caches, writer
        self._namespace, self._clock, self._may_write = namespace, clock, may_write
        self._remedies, self._lives, self._software = remedies, lives, software
        self._saw, self._edited = saw, edited
        self._stood: dict[str, Part] = {}
        """Kind and key → the spec that an object had by our own hand."""
        self._refused: list[str] = []
        """What the server said of objects that it does not take, in this pass."""
        self._never: dict[str, tuple[Part, str]] = {}
        """Kind and key → a spec that it will never take, and its words; not sent again until it changes."""
        self._bucket = Bucket(clock, per_s=limits.STATUS_BURST, burst=limits.STATUS_BURST)

    @property
    def refused(self) -> int:
        """Objects whose spec the server will never take."""
        return len(self._never)

    async def show(self, snapshot: Snapshot) -> bool:
        """One pass over all but the `Site`; what the server does not take is tried again with the next.

        What it will never take waits for another spec.

        Returns:
            Whether every object stood there already, with the spec that it should have.
        """
        kinds: list[tuple[Kind, Iterable[_Made]]] = [
            (RACK, racks(snapshot)),
            (GPU_NODE, gpu_nodes(snapshot, self._reported(), self._remedies(), self._lives())),
            (MINER, miners(snapshot)),
        ]
        if snapshot.rollouts is not None:
            shown = chain(
                objects_of(snapshot.site.id, snapshot.rollouts),
                firmware_objects(snapshot.site.id, snapshot.firmware or (), snapshot.grants),
                software_objects(snapshot.site.id, self._software()),
            )
            kinds.insert(0, (ROLLOUT, shown))
        stood = True
        self._refused.clear()
        try:
            for kind, made in kinds:
                stood = await self._all(kind.plural, made, snapshot.site.id) and stood
        except ClusterError as error:
            self.trouble = str(error)
            return True
        never = [words for _, words in self._never.values()]
        self.trouble = next(iter([*never, *self._refused]), "")
        return stood

    def _reported(self) -> dict[str, GpuNodeStatus]:
        """What agents told of their nodes, by asset; what is not understood was told by a newer release."""
        found: dict[str, GpuNodeStatus] = {}
        for each in self._caches[GPU_NODE.plural]:
            with contextlib.suppress(msgspec.DecodeError):
                status = msgspec.json.decode(each.status, type=GpuNodeStatus | None)
                if status is not None:
                    found[each.metadata.name] = status
        return found

    def tell_site_of(
        self,
        snapshot: Snapshot,
        about: Object,
        accepted: str,
        refusal: str | None,
        *,
        also: Sequence[Told] = (),
    ) -> None:
        """The status of the `Site`.

        Args:
            snapshot: of the site.
            about: its object, as it was when the snapshot was taken.
            accepted: the `FleetRevision` that is in force.
            refusal: why it is not the one that `about` names.
            also: further conditions of the site.
        """
        told = [*also, *site_told(snapshot, refusal)]
        status = SiteStatus(accepted_revision=accepted)
        self.tell_site(about, site_status(snapshot, status), told)

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

    async def _all(self, plural: str, made: Iterable[_Made], site: str) -> bool:
        """Every object of a kind, and no other of the site; whether all of them were there."""
        cache = self._caches[plural]
        wanted: set[str] = set()
        stood = True
        writing: set[asyncio.Task[None]] = set()
        try:
            for count, (name, spec, status, told) in enumerate(made):
                key = f"{self._namespace}/{name}"
                whole = f"{plural}/{key}"
                wanted.add(key)
                there = None if cache.is_behind(key) else cache.get(key)
                if there is not None and msgspec.json.decode(there.spec, type=type(spec)) == spec:
                    self._stood[whole] = spec
                    self._tell(cache, there, status, told)
                elif whole in self._never and self._never[whole][0] == spec:
                    stood = False
                else:
                    stood = False
                    if there is not None and self._stood.get(whole) == spec:
                        self._edited(cache.kind, there)
                    if not cache.is_behind(key):
                        await _room(writing, limits.STATUS_WRITERS - 1)
                        writing.add(asyncio.ensure_future(self._put(cache, name, spec)))
                if count % _BATCH == 0:
                    await asyncio.sleep(0)
            await _room(writing, 0)
        finally:
            for task in writing:
                task.cancel()
            await asyncio.gather(*writing, return_exceptions=True)
        for whole in [each for each in self._never if each.startswith(f"{plural}/")]:
            if whole.removeprefix(f"{plural}/") not in wanted:
                del self._never[whole]
        left = [each for each in cache if each.key not in wanted]
        for each in left:
            # Another site of the namespace has objects of its own.
            if msgspec.json.decode(each.spec, type=_OfSite).site == site:
                await self._take_away(cache, each.key)
        return stood

    async def _put(self, cache: Cache, name: str, spec: Part) -> None:
        """Make an object, or put its spec back.

        Its status follows once the cache has it: the writer compares with what is there.
        """
        key = f"{cache.kind.plural}/{self._namespace}/{name}"
        await self._bucket.take()
        if not self._may_write():
            return
        body = {
            "apiVersion": cache.kind.api_version,
            "kind": cache.kind.kind,
            "metadata": {"name": name, "namespace": self._namespace},
            "spec": msgspec.to_builtins(spec),
        }
        try:
            cache.wrote(await self._cluster.apply(cache.kind, body, manager=MANAGER))
            self._stood[key] = spec
            self._never.pop(key, None)
        except Rejected as error:
            if isinstance(error, Invalid):
                self._never[key] = (spec, str(error))
            # This one only; the others have their turn, unless none of them is taken.
            self._refused.append(str(error))
            if len(self._refused) > _REFUSED_MAX:
                raise

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


async def _room(writing: set[asyncio.Task[None]], most: int) -> None:
    """Wait until no more than so many are under way; what one of them raised is raised."""
    while len(writing) > most:
        done, _ = await asyncio.wait(writing, return_when=asyncio.FIRST_COMPLETED)
        writing -= done
        for error in [task.exception() for task in done]:
            if error is not None:
                raise error
