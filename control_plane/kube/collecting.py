"""Deletes revisions, and grants, Jobs and files of firmware, that nothing refers to any more.

Who declares them never does.

In doubt one stays: it is a few hundred kilobytes, and devices may stand on it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable

import msgspec

from control_plane.api.objects import FleetRevisionSpec, SiteSpec, SiteStatus
from control_plane.core import limits
from control_plane.core.cluster import Cluster, ClusterError, Conflict, Kind, NotFound, Object
from control_plane.core.errors import StoreError
from control_plane.core.firmware_job import APP, HASH_CHARS, NAME_LABEL, SITE_LABEL
from control_plane.core.ports import Clock
from control_plane.engine.bundles import Bundles
from control_plane.engine.log import Say
from control_plane.engine.store import Store
from control_plane.kube import collecting_firmware
from control_plane.kube.cache import Cache
from control_plane.kube.grants import grant_in
from control_plane.kube.kinds import CONFIG_MAP, DEVICE_OPERATION, FLEET_REVISION, JOB, SITE
from control_plane.kube.listing import list_all
from control_plane.kube.takeover import lost_id


def superfluous(
    revisions: Iterable[Object], *, site: str, referred: Collection[str], now_s: float
) -> list[Object]:
    """Which `FleetRevision` objects may go, oldest first.

    Those of another site stay, and so do the last REVISIONS_KEPT, and what was made within
    REVISION_AGE_S: its `Site` may be about to point to it.

    Args:
        revisions: all that there are.
        site: whose are looked at.
        referred: names that something refers to.
        now_s: seconds since the epoch.
    """
    own = sorted(
        (each for each in revisions if _site_of(each) == site),
        key=lambda each: (each.metadata.creation_timestamp, each.metadata.name),
    )
    return [
        each
        for each in own[: -limits.REVISIONS_KEPT]
        if each.metadata.name not in referred and now_s - _made_s(each) > limits.REVISION_AGE_S
    ]


def _site_of(each: Object) -> str | None:
    try:
        return msgspec.json.decode(each.spec, type=FleetRevisionSpec).site
    except msgspec.DecodeError:
        return None


def _made_s(each: Object) -> float:
    """When it was made; unknown is now."""
    try:
        return dt.datetime.fromisoformat(each.metadata.creation_timestamp).timestamp()
    except ValueError:
        return float("inf")


class Collector:
    """Of one site; `serve` it during a tenure."""

    def __init__(
        self,
        cluster: Cluster,
        cache: Cache,
        *,
        site: str,
        clock: Clock,
        say: Say,
        about: Callable[[], Object | None],
        may_delete: Callable[[], bool],
    ) -> None:
        """Nothing is asked before `serve`.

        Args:
            cluster: the API server.
            cache: of the revisions.
            site: whose.
            clock: the clock.
            say: told of what was deleted.
            about: the `Site` as it is known now.
            may_delete: whether this process leads, and knows what the API server has.
        """
        self._cluster, self._cache, self._site = cluster, cache, site
        self._clock, self._say = clock, say
        self._about, self._may_delete = about, may_delete

    async def serve(self, store: Store, bundles: Bundles) -> None:
        """Collect once in a while, for ever; `bundles` are those of the Store's revisions."""
        while True:
            await self._clock.wire_sleep(limits.COLLECT_S)
            await self._collect_revisions(store)
            try:
                await self._collect_firmware(store, bundles)
            except (ClusterError, StoreError) as error:
                self._say(f"firmware is not tidied up: {error}", kind="firmware")

    async def _collect_revisions(self, store: Store) -> None:
        found = self._superfluous(store, self._about())
        # What the watch has not told yet counts as well: the pointer may have moved this very moment.
        left = {each.key for each in self._superfluous(store, await self._now())} if found else ()
        for each in found:
            if each.key in left and self._may_delete():
                await self._delete(FLEET_REVISION, each)

    async def _collect_firmware(self, store: Store, bundles: Bundles) -> None:
        if not self._may_delete() or store.accepted() is None or _is_lost(store, self._site):
            return
        meta = self._about()
        namespace = meta.metadata.namespace if meta else ""
        # First the grants: a Job that is granted right after is read as worked on, or was not there yet.
        found = collecting_firmware.Found(
            operations=await self._of_site(DEVICE_OPERATION, namespace, ""),
            jobs=await self._of_site(JOB, namespace, f",{NAME_LABEL}={APP}"),
            maps=await self._of_site(CONFIG_MAP, namespace, f",{NAME_LABEL}={APP}"),
        )
        if not (found.operations or found.jobs or found.maps):
            return
        grants = [grant for each in found.operations if (grant := grant_in(each)) is not None]
        for kind, each in collecting_firmware.superfluous(
            found,
            grants={grant.operation: grant for grant in grants},
            rollouts=store.firmware(),
            bundles={digest[:HASH_CHARS] for digest in bundles.declared()},
            now_s=self._clock.wall_s(),
        ):
            if self._may_delete():
                await self._delete(kind, each)

    async def _of_site(self, kind: Kind, namespace: str, more: str) -> tuple[Object, ...]:
        selector = f"{SITE_LABEL}={self._site}{more}"
        return tuple(await list_all(self._cluster, kind, namespace=namespace, selector=selector))

    async def _now(self) -> Object | None:
        """The `Site` as the server has it."""
        about = self._about()
        if about is None:
            return None
        meta = about.metadata
        try:
            return await self._cluster.get(SITE, meta.name, namespace=meta.namespace)
        except ClusterError:
            return None

    def _superfluous(self, store: Store, about: Object | None) -> list[Object]:
        record = store.accepted()
        if about is None or record is None or not self._may_delete():
            return []
        if _is_lost(store, self._site):
            return []
        spec = msgspec.json.decode(about.spec, type=SiteSpec)
        status = msgspec.json.decode(about.status, type=SiteStatus | None)
        referred = {spec.revision, status.accepted_revision if status else None}
        # Rollouts that are kept refer to some of these, devices that no wave has reached to others.
        referred |= {kept.source for kept in store.revisions()}
        return superfluous(
            self._cache,
            site=self._site,
            referred={name for name in referred if name},
            now_s=self._clock.wall_s(),
        )

    async def _delete(self, kind: Kind, each: Object) -> None:
        meta = each.metadata
        what = (
            f"revision {meta.name[:12]}" if kind is FLEET_REVISION else f"{kind.kind} {meta.name}"
        )
        try:
            await self._cluster.delete(kind, meta.name, namespace=meta.namespace, uid=meta.uid)
        except (NotFound, Conflict):
            return
        except ClusterError as error:
            self._say(f"{what} stays for now: {error}", kind="collected")
            return
        self._say(f"deleted {what}: nothing refers to it", kind="collected", deleted=meta.name)


def _is_lost(store: Store, site: str) -> bool:
    """Whether what devices stand on went with the state, until a person has compared."""
    return any(overlay.id == lost_id(site) for overlay in store.overlays())
