"""One tenure: the state that was taken over, the engine on it, and the declaration that it follows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

from control_plane.api.objects import SiteSpec
from control_plane.core.cluster import Cluster, ClusterError, Object
from control_plane.core.errors import StoreBusy
from control_plane.core.fleet import Site
from control_plane.core.plan import make_plan
from control_plane.drivers.registry import all_capabilities
from control_plane.engine.accept import NotAccepted, Proposal, accept
from control_plane.engine.audit import AuditFile
from control_plane.engine.bundles import Bundles
from control_plane.engine.edges import Edges
from control_plane.engine.log import Say
from control_plane.engine.loop import Engine, Pace
from control_plane.engine.records import RevisionRecord, ShownPlan
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.engine.world import read_world
from control_plane.kube.cache import Cache
from control_plane.kube.declaration import Declared, approvals_in
from control_plane.kube.job_grants import JobGrants
from control_plane.kube.ledger import Ledger
from control_plane.kube.library import Library
from control_plane.kube.snapshot import Snapshot
from control_plane.kube.takeover import STORE, Taken, Whereabouts
from control_plane.kube.waiting import Aside

READING = "the revision is being read"
Mode = Literal["observe", "enforce"]
_LOOK_S = 1.0
"""Whether the declaration moved is looked at that often."""


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What a tenure works with that outlives it."""

    cluster: Cluster
    at: Whereabouts
    folder: Path
    edges: Edges
    pace: Pace | None
    library: Library
    aside: Aside
    about: Callable[[], Object | None]
    """The `Site` as it is known now."""
    is_live: Callable[[], bool]
    say: Say
    operations: Cache
    """Of `DeviceOperation`."""


class Tenure:
    """From a take-over until another one leads."""

    def __init__(self, around: Surroundings, taken: Taken, fence: int) -> None:
        """Nothing is asked before `serve`."""
        self.fence = fence
        self.lost = taken.lost
        self.refusal: str | None = READING
        """Why the revision in force is not the one that the `Site` names; `None` where it is."""
        self.in_force = ""
        """Name of the `FleetRevision` that is in force, durably."""
        self.engine: Engine | None = None
        self._around = around
        self.store = taken.store
        # As another process of the host would: the engine hears of what others write.
        self.said = Store(around.folder / STORE, is_kept_elsewhere=True)
        self._audit = AuditFile(around.folder / "audit.jsonl", self.store)
        self._accept_audit = AuditFile(around.folder / "audit.jsonl", self.said)
        self._revisions = taken.revisions
        self.ledger = Ledger(
            around.cluster,
            taken.claimed,
            site=around.at.site,
            namespace=around.at.namespace,
            fence=fence,
            holder=around.at.holder,
            store=taken.store,
            clock=around.edges.clock,
            is_live=around.is_live,
        )
        self.grants = JobGrants(
            around.cluster,
            around.operations,
            site=around.at.site,
            namespace=around.at.namespace,
            store=taken.store,
            clock=around.edges.clock,
            keep=self.ledger.keep,
            is_live=around.is_live,
            say=around.say,
        )
        self._seen: Mapping[str, object] = {}
        record = self.store.accepted()
        if record is not None and record.source is not None:
            self.in_force = record.source

    def close(self) -> None:
        """Let go of the files."""
        self.said.close()
        self.store.close()

    # --- engine --------------------------------------------------------------------------------------

    async def serve(self) -> None:
        """Act, or observe, as the `Site` says, while this process leads.

        Raises:
            FenceLost: another leader has taken over.
            StoreError: the local disk does not take what has to be noted.
        """
        around = self._around
        while around.is_live():
            mode = self.mode()
            if self.store.accepted() is None:
                await around.edges.clock.wire_sleep(_LOOK_S)
                continue
            if mode == "observe":
                await self._close_grants()
            await self._engine_on(
                mode,
                until=lambda m=mode: not around.is_live() or self.mode() != m,  # type: ignore[misc]
            )

    async def _close_grants(self) -> None:
        """A site that is only observed gets no firmware: what was not begun is taken back."""
        around = self._around
        while around.is_live() and self.mode() == "observe":
            try:
                await self.grants.close()
            except (ClusterError, StoreBusy) as error:
                around.say(f"grants are not taken back yet: {error}", kind="firmware")
                await around.edges.clock.wire_sleep(_LOOK_S)
            else:
                return

    async def read_on(self, until: Callable[[], bool]) -> None:
        """Look at devices, and write nothing: this process does not lead, and nobody else does."""
        if self.store.accepted() is not None:
            await self._engine_on("observe", until=until)

    async def _engine_on(self, mode: Mode, *, until: Callable[[], bool]) -> None:
        around = self._around
        acts = mode == "enforce"
        self.grants.resume()
        self.engine = engine = Engine(
            site=around.at.site,
            store=self.store,
            audit=self._audit,
            epoch=self.fence,
            edges=around.edges,
            revisions=self._revisions,
            mode=mode,
            pace=around.pace,
            acts=acts,
            is_live=around.is_live if acts else lambda: True,
            keep=self.ledger.keep,
            granting=self.grants,
            rotates=True,
        )
        engine.remember(self._seen)
        try:
            await engine.run(until=lambda _engine: until())
        finally:
            self._seen = {a: s.sighting for a, s in engine.slots.items() if s.sighting is not None}
            self.engine = None

    def mode(self) -> Mode:
        """What the `Site` wants done; without one nothing is written."""
        about = self._around.about()
        return msgspec.json.decode(about.spec, type=SiteSpec).mode if about else "observe"

    # --- declaration ---------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Accept what the `Site` names, or know why not, for ever; the last accepted stays in force."""
        while True:
            if self._around.is_live():
                self._refuse(await self._follow())
            await self._around.edges.clock.wire_sleep(_LOOK_S)

    async def _follow(self) -> str | None:
        at, about = self._around.at, self._around.about()
        if about is None:
            return f"there is no Site {at.site} in {at.namespace}"
        spec = msgspec.json.decode(about.spec, type=SiteSpec)
        name = spec.revision
        declared = await self._around.library.named(at.namespace, name)
        if declared is None:
            return f"there is no FleetRevision {name[:12]}"
        if declared.site is None:
            return f"revision {name[:12]}: {declared.errors[0].headline()}"
        if declared.site.id != at.site:
            return f"revision {name[:12]} is of site {declared.site.id}"
        try:
            self._accept(declared, spec)
            if self.in_force != name:
                await self.ledger.durable()
        except NotAccepted as error:
            return str(error)
        except StoreBusy as error:
            return f"revision {name[:12]} is not kept yet: {error}"
        self.in_force = name
        return None

    def _accept(self, declared: Declared, spec: SiteSpec) -> None:
        assert declared.site is not None  # noqa: S101 - the caller looked
        at, approvals = self._around.at, approvals_in(spec)
        current = self.said.accepted()
        if (
            current is not None
            and current.digest == declared.digest
            and set(approvals) <= set(current.approvals)
        ):
            return
        now_s = self._around.edges.clock.wall_s()
        self._revisions.learn(declared.digest, declared.site)
        removals = spec.acknowledgements.removals if spec.acknowledgements else None
        proposal = Proposal(
            site=declared.site,
            digest=declared.digest,
            files=declared.files,
            # Nobody was shown anything: no device is expected to stand as it stood then.
            plan=ShownPlan(
                digest=declared.digest,
                revision=declared.digest,
                at_s=now_s,
                expected={},
                approvals=approvals,
            ),
            by=f"Site {at.namespace}/{at.site}",
            commit=spec.commit,
            source=declared.name,
            acknowledged_removals=removals,
        )
        record = accept(self.said, self._accept_audit, self._revisions, proposal, now_s)
        self._around.say(
            f"accepted revision {record.digest[:12]} as number {record.seq}",
            kind="revision",
            revision=record.digest,
        )

    def _refuse(self, why: str | None) -> None:
        if why is not None and self.refusal != why:
            self._around.say(f"not accepted: {why}", kind="revision", level="warning")
        self.refusal = why

    def declared(self) -> Site | None:
        """The site as the revision in force declares it."""
        record = self.store.accepted()
        return self._revisions.site(record.digest) if record else None

    def bundles(self) -> Bundles:
        """Firmware that revisions declare which are kept, read over the connection of what is `said`."""
        return Bundles(self.said, self._revisions.over(self.said))

    # --- for people ------------------------------------------------------------------------------------

    async def snapshot(self, record: RevisionRecord) -> Snapshot:
        """Where the site stands, worked out beside the loop: a large one takes a second.

        Raises:
            StoreError: the Store cannot be read.
        """
        clock = self._around.edges.clock
        return await self._around.aside(
            _snapshot,
            self._around.folder / STORE,
            self._revisions,
            record.digest,
            now_s=clock.wall_s(),
            time_scale=1.0 / clock.wire_of(1.0),
            fence=self.fence if self.mode() == "enforce" else None,
        )


def _snapshot(
    path: Path,
    revisions: Revisions,
    digest: str,
    *,
    now_s: float,
    time_scale: float,
    fence: int | None,
) -> Snapshot:
    """Over a connection of its own: one belongs to one thread."""
    with contextlib.closing(Store(path)) as store:
        revisions, is_enforced = revisions.over(store), fence is not None
        site = revisions.site(digest)
        world = read_world(
            store,
            site,
            digest,
            site_of=revisions.site,
            capabilities=all_capabilities(),
            now_s=now_s,
            time_scale=time_scale,
        )
        return Snapshot(
            site=site,
            plan=make_plan(site, digest, world),
            world=world,
            # While nothing is written no wave moves: there is no rollout to wait for.
            rollout=store.rollout_to(digest) if is_enforced else None,
            rollouts=tuple(store.rollouts()) if is_enforced else None,
            firmware=tuple(store.firmware()) if is_enforced else None,
            grants=tuple(store.grants()),
            fence=fence,
        )


async def first_of(*doing: asyncio.Task[None]) -> None:
    """Until one of them ends; the others are cancelled, and what the one raised is raised."""
    try:
        done, _ = await asyncio.wait(doing, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in doing:
            task.cancel()
        await asyncio.gather(*doing, return_exceptions=True)
    for task in done:
        task.result()
