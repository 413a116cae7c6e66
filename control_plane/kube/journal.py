"""The journals of the management hosts: what was said there while the API server was away.

Each controller reads the journal of its own host, has it in force at once, and makes `Overlay` objects of it
as soon as it can. That all of it is in the cluster is told by a Lease per host, which is renewed for as long
as that is so. A leader opens no gate before its own journal was read, and waits for the Leases of the others.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from control_plane.core.cluster import (
    Cluster,
    ClusterError,
    Conflict,
    Exists,
    NotFound,
    Object,
)
from control_plane.core.errors import StoreBusy, StoreError
from control_plane.core.overlay import Overlay
from control_plane.core.ports import Clock
from control_plane.engine import said
from control_plane.engine.log import Say
from control_plane.engine.records import Event
from control_plane.engine.store import Store
from control_plane.kube.kinds import OVERLAY
from control_plane.kube.lease import LEASE, LeaseSpec, body_of, lease_name, micro_time
from control_plane.kube.listing import list_all
from control_plane.kube.saying import overlay_body

LOOK_S = 0.5
MARK_S = 2.0
"""Between two renewals of a mark."""
LOOK_MARKS_S = 1.0
FRESH_S = 6.0
"""A mark that was not seen to be renewed for so long tells nothing: three renewals."""
WAIT_S = 30.0
"""How long a take-over waits for the journals of other hosts."""
_MARK_LEASE_S = 30


class Journals:
    """The journal of this host, and the marks of all. `run` never ends by itself."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        folder: Path | None,
        site: str,
        namespace: str,
        node: str,
        identity: str,
        clock: Clock,
        say: Say,
    ) -> None:
        """Nothing is asked before `run`.

        Args:
            cluster: the API server.
            folder: of this host's journals; `None` where this process has none.
            site: whose.
            namespace: of its objects.
            node: this host; no other one is called so.
            identity: of this process.
            clock: the clock.
            say: told of what is merged, and of what could not be read.
        """
        self._cluster, self._folder, self._clock, self._say = cluster, folder, clock, say
        self._site, self._namespace = site, namespace
        self._node, self._identity = node, identity
        self._prefix = f"{lease_name(site)}-journal-"
        self._store: Store | None = None
        self._carried: set[str] = set()
        """Stand in the cluster, even if the journal does not take a note of it."""
        self._marked_s = self._seen_s = float("-inf")
        self._mark: Object | None = None
        self._marks: dict[str, tuple[str, float]] = {}
        """Of other hosts: version, and since when it is known, where it was seen to change."""

    async def run(self) -> None:
        """Have what is said on this host in force, and in the cluster, for ever."""
        # Apart: an API server that does not answer keeps nothing from being in force here.
        async with asyncio.TaskGroup() as group:
            group.create_task(self._over_and_over(self._hear))
            group.create_task(self._over_and_over(self._carry))
            group.create_task(self._over_and_over(self._look_at_marks))

    async def _over_and_over(self, turn: Callable[[], Awaitable[None]]) -> None:
        told = ""
        while True:
            trouble = ""
            try:
                await turn()
            except (ClusterError, StoreError) as error:
                trouble = str(error)
            if trouble and trouble != told:
                self._say(f"journals of the hosts: {trouble}", kind="journal", level="warning")
            told = trouble
            await self._clock.wire_sleep(LOOK_S)

    async def merged(self, store: Store) -> None:
        """Take the journal of this host into a Store, and wait for those of the others.

        Before any gate opens, and before the cluster's overlays are listed: those of other hosts are among
        them afterwards. A journal that cannot be read holds the site; one of another host that nobody
        merged within WAIT_S is named, and not waited for any longer.

        Raises:
            StoreError: the Store does not take it; no gate opens.
            ClusterError: which hosts there are is not known; neither.
        """
        while True:
            try:
                self._put(store, self._pending()[0])
                break
            except StoreBusy:
                await self._clock.wire_sleep(LOOK_S)
        until_s = self._clock.wire_s() + WAIT_S
        while True:
            try:
                await self._look_at_marks()
            except ClusterError:
                if self._seen_s == float("-inf"):
                    raise
            late = self._late()
            if not late or self._clock.wire_s() >= until_s:
                break
            await self._clock.wire_sleep(LOOK_S)
        for node in late:
            self._page(
                store,
                f"the journal of host {node} was not read: holds that were said there with the API server "
                "down are not in force. Look there; if the host is gone for good: "
                f"kubectl -n {self._namespace} delete lease {self._prefix}{node}",
            )

    def attach(self, store: Store | None) -> None:
        """Have what is said from now on in force in this Store at once; `None` when a tenure ends."""
        self._store = store

    # --- the own journal -------------------------------------------------------------------------------

    def _pending(self) -> tuple[list[Overlay], bool]:
        """What was said on this host and does not stand in the cluster, and whether that is known.

        Where it is not, the whole site is held.
        """
        if self._folder is None:
            return [], False
        now_s = self._clock.wall_s()
        stand_in = said.unreadable(self._site, node=self._node, why="", now_s=now_s).id
        try:
            found = said.pending(self._folder, self._site, node=self._node, now_s=now_s)
            self._carried.discard(stand_in)
            is_read = True
        except StoreBusy:
            raise
        except StoreError as error:
            found = [said.unreadable(self._site, node=self._node, why=str(error), now_s=now_s)]
            is_read = False
        return [overlay for overlay in found if overlay.id not in self._carried], is_read

    async def _hear(self) -> None:
        overlays, _ = self._pending()
        if self._store is not None and overlays:
            self._put(self._store, overlays)

    def _put(self, store: Store, overlays: list[Overlay]) -> None:
        with store.transaction():
            kept = {overlay.id for overlay in store.overlays()}
            new = [overlay for overlay in overlays if overlay.id not in kept]
            for overlay in new:
                store.put_overlay(overlay)
        for overlay in new:
            self._say(
                f"from the journal of {self._node}: {overlay.kind} {overlay.id} of {overlay.owner} on "
                f"{overlay.node} is in force",
                kind="journal",
            )

    async def _carry(self) -> None:
        """Have all that was said on this host in the cluster; then tell that it is there."""
        overlays, is_read = self._pending()
        for overlay in overlays:
            await self._make(overlay)
            self._carried.add(overlay.id)
            if is_read:
                self._note_kept(overlay.id)
        if is_read:
            await self._renew()

    async def _make(self, overlay: Overlay) -> None:
        body = overlay_body(overlay, site=self._site, namespace=self._namespace)
        try:
            await self._cluster.create(OVERLAY, body)
        except Exists:
            return  # by a process before this one, or by the leader from its Store

    def _note_kept(self, overlay_id: str) -> None:
        if self._folder is None:
            return
        try:
            said.note_kept(self._folder, self._site, [overlay_id])
        except StoreError as error:
            # It would be said once more by the next process of this host; that errs on the safe side.
            self._say(
                f"cannot note that {overlay_id} stands in the cluster: {error}",
                kind="journal",
                level="warning",
            )

    # --- marks -----------------------------------------------------------------------------------------

    async def _renew(self) -> None:
        """Tell that the journal of this host is in the cluster."""
        now_s = self._clock.wire_s()
        if now_s - self._marked_s < MARK_S:
            return
        spec = LeaseSpec(
            holder_identity=self._identity,
            lease_duration_seconds=_MARK_LEASE_S,
            renew_time=micro_time(self._clock.wall_s()),
        )
        name = f"{self._prefix}{self._node}"
        try:
            if self._mark is None:
                self._mark = await self._cluster.get(LEASE, name, namespace=self._namespace)
            metadata = msgspec.to_builtins(self._mark.metadata)
            self._mark = await self._cluster.replace(LEASE, body_of(spec, metadata))
        except NotFound:
            body = body_of(spec, {"name": name, "namespace": self._namespace})
            self._mark = await self._cluster.create(LEASE, body)
        except Conflict:
            self._mark = None  # the other process of this host: it tells the same
        self._marked_s = now_s

    async def _look_at_marks(self) -> None:
        """See which hosts renew theirs: by their versions, and the own clock."""
        now_s = self._clock.wire_s()
        if now_s - self._seen_s < LOOK_MARKS_S:
            return
        own = {self._node} if self._folder is not None else set()
        found: dict[str, str] = {}
        for each in await list_all(self._cluster, LEASE, namespace=self._namespace):
            name = each.metadata.name
            node = name.removeprefix(self._prefix)
            if name.startswith(self._prefix) and node not in own:
                found[node] = each.metadata.resource_version
        before, self._marks = self._marks, {}
        for node, version in found.items():
            known, since_s = before.get(node, (version, float("-inf")))
            self._marks[node] = (version, since_s if known == version else now_s)
        self._seen_s = now_s

    def _late(self) -> list[str]:
        """Hosts that are not known to have told all that was said there."""
        now_s = self._clock.wire_s()
        return sorted(n for n, (_, since_s) in self._marks.items() if now_s - since_s > FRESH_S)

    def _page(self, store: Store, words: str) -> None:
        self._say(words, kind="page", level="error")
        now_s = self._clock.wall_s()
        store.put_events([Event(at_s=now_s, kind="page", text=words, node=self._site)])
