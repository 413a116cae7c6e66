"""Deletes revisions that nothing refers to any more; who declares them never does.

In doubt one stays: it is a few hundred kilobytes, and devices may stand on it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Collection, Iterable

import msgspec

from control_plane.api.objects import FleetRevisionSpec, SiteSpec, SiteStatus
from control_plane.core import limits
from control_plane.core.cluster import Cluster, ClusterError, Conflict, NotFound, Object
from control_plane.core.ports import Clock
from control_plane.engine.log import Say
from control_plane.engine.store import Store
from control_plane.kube.cache import Cache
from control_plane.kube.kinds import FLEET_REVISION, SITE
from control_plane.kube.takeover import LOST


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

    async def serve(self, store: Store) -> None:
        """Collect once in a while, for ever."""
        while True:
            await self._clock.wire_sleep(limits.COLLECT_S)
            found = self._superfluous(store, self._about())
            # What the watch has not told yet counts as well: the pointer may have moved this very moment.
            left = (
                {each.key for each in self._superfluous(store, await self._now())} if found else ()
            )
            for each in found:
                if each.key in left and self._may_delete():
                    await self._delete(each)

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
        if any(overlay.id == LOST for overlay in store.overlays()):
            # What devices stand on went with the state, until a person has compared.
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

    async def _delete(self, each: Object) -> None:
        meta = each.metadata
        try:
            await self._cluster.delete(
                FLEET_REVISION, meta.name, namespace=meta.namespace, uid=meta.uid
            )
        except (NotFound, Conflict):
            return
        except ClusterError as error:
            self._say(f"revision {meta.name[:12]} stays for now: {error}", kind="revision")
            return
        self._say(
            f"deleted revision {meta.name[:12]}: nothing refers to it",
            kind="revision",
            revision=meta.name,
        )
