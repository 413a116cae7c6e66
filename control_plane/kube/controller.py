"""The controller of one site: declaration from the API server, engine, projections back into it.

This release observes only. It accepts revisions, looks at devices and shows what enforcing would change; no
write leaves for a device, because what must survive a failover (holds, what an open wave has written) is
not kept in the cluster yet. `gridplane run` enforces.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from control_plane.api.objects import FleetRevisionSpec, FleetRevisionStatus, SiteSpec, SiteStatus
from control_plane.core.cluster import Cluster, Object
from control_plane.core.plan import make_plan
from control_plane.drivers.registry import all_capabilities
from control_plane.engine.accept import NotAccepted, Proposal, accept
from control_plane.engine.audit import AuditFile
from control_plane.engine.edges import Edges
from control_plane.engine.log import Say, silent
from control_plane.engine.loop import Engine, Pace
from control_plane.engine.queue import Priority
from control_plane.engine.records import RevisionRecord, ShownPlan
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.engine.world import read_world
from control_plane.kube.cache import Cache
from control_plane.kube.conditions import Told, ready, reconciling, stalled
from control_plane.kube.counting import Counted
from control_plane.kube.declaration import Declared, approvals_in, read_revision, revision_status
from control_plane.kube.elector import Elector
from control_plane.kube.events import EventWriter
from control_plane.kube.facts import Facts
from control_plane.kube.herald import Herald
from control_plane.kube.kinds import FLEET_REVISION, MINER, RACK, SITE
from control_plane.kube.lease import lease_name
from control_plane.kube.projector import MANAGER, Projector
from control_plane.kube.reflector import Reflector
from control_plane.kube.snapshot import Snapshot
from control_plane.kube.writer import StatusWriter

_LOOK_S = 1.0
"""Who leads, and whether the declaration moved, is looked at that often."""
_PROJECT_S = 5.0
"""Between two passes over all objects, where the last one changed nothing."""
_SHOWN = (RACK, MINER)
OBSERVES = Told(
    type="Enforcing",
    status="False",
    reason="ObserveOnly",
    message="this release observes and plans; no write leaves for a device",
)


Read = Callable[[str, FleetRevisionSpec], Awaitable[Declared]]


async def in_a_thread(name: str, spec: FleetRevisionSpec) -> Declared:
    """Understand a revision beside the loop: a large site takes a second."""
    return await asyncio.to_thread(read_revision, name, spec)


class Controller:
    """One process. `run` never ends by itself; any number of them may run, and one leads."""

    def __init__(
        self,
        cluster: Cluster,
        *,
        site: str,
        namespace: str,
        identity: str,
        folder: Path,
        edges: Edges,
        pace: Pace | None = None,
        say: Say = silent,
        read: Read = in_a_thread,
    ) -> None:
        """Nothing is asked before `run`.

        Args:
            cluster: the API server.
            site: its id; also the name of its `Site`.
            namespace: of everything.
            identity: of this very process: no other one has the same.
            folder: for what it works with while it runs; nothing in it has to survive.
            edges: the way to the devices.
            pace: how often they are looked at.
            say: told of what people want to know, once each: the log.
            read: understands a revision without holding up the loop.
        """
        self._cluster = counted = Counted(cluster)
        self._site, self._namespace, self._identity = site, namespace, identity
        self._edges, self._pace, self._say, self._reads = edges, pace, say, read
        self._store = Store(folder / "state.sqlite")
        self._audit = AuditFile(folder / "audit.jsonl", self._store)
        self._revisions = Revisions(self._store, site)
        clock, rng = edges.clock, edges.rng
        self._caches = {
            kind.plural: Cache(kind, bug=self._bug) for kind in (FLEET_REVISION, SITE, *_SHOWN)
        }
        self._reflectors = [
            Reflector(counted, cache, clock=clock, rng=rng, bug=self._bug, namespace=namespace)
            for cache in self._caches.values()
        ]
        self.elector = Elector(
            counted,
            namespace=namespace,
            name=lease_name(site),
            identity=identity,
            clock=clock,
            rng=rng,
            bug=self._bug,
            gained=self._leads,
            lost=lambda why: say(f"leads {site} no more: {why}", kind="leader", level="warning"),
        )
        self._writer = StatusWriter(
            counted,
            self._caches.values(),
            manager=MANAGER,
            clock=clock,
            rng=rng,
            bug=self._bug,
            may_write=self.elector.is_live,
        )
        events = EventWriter(
            counted, namespace=namespace, identity=identity, clock=clock, rng=rng, bug=self._bug
        )
        self._herald = Herald(
            self._caches[RACK.plural],
            self._caches[SITE.plural],
            events,
            clock=clock,
            say=say,
            store=lambda: self._store,
        )
        self.facts = Facts(
            site=site,
            cluster=counted,
            reflectors=self._reflectors,
            elector=self.elector,
            writer=self._writer,
            events=events,
            engine=lambda: self._engine,
            store=lambda: folder / "state.sqlite" if self._store.accepted() else None,
        )
        self._projector = Projector(
            counted,
            self._caches,
            self._writer,
            namespace=namespace,
            clock=clock,
            may_write=self.elector.is_live,
            saw=self._herald.saw,
        )
        self._read: dict[str, Declared] = {}
        self._in_force = ""
        """Name of the `FleetRevision` that was accepted last."""
        self._refusal: str | None = None
        """Why it is not the one that the `Site` names."""
        self._trouble = ""
        self._engine: Engine | None = None

    @property
    def is_fresh(self) -> bool:
        """Whether it knows what the API server has: what readiness tells."""
        return all(reflector.is_fresh() for reflector in self._reflectors)

    async def run(self) -> None:
        """Serve, for ever."""
        async with asyncio.TaskGroup() as group:
            for reflector in self._reflectors:
                group.create_task(reflector.run())
            group.create_task(self.elector.run())
            group.create_task(self._writer.run())
            group.create_task(self._herald.run())
            await asyncio.gather(*(reflector.synced.wait() for reflector in self._reflectors))
            group.create_task(self._declare())
            group.create_task(self._observe())
            group.create_task(self._project())

    # --- declaration ---------------------------------------------------------------------------------

    async def _declare(self) -> None:
        while True:
            if self.elector.is_live():
                await self._judge_revisions()
                await self._follow_pointer()
            await self._edges.clock.wire_sleep(_LOOK_S)

    async def _judge_revisions(self) -> None:
        """Say of every revision of the site whether it is understood."""
        cache = self._caches[FLEET_REVISION.plural]
        for each in list(cache):
            declared = await self._declared(each)
            before = msgspec.json.decode(each.status, type=FleetRevisionStatus | None)
            status = revision_status(
                declared,
                before.conditions if before else (),
                generation=each.metadata.generation,
                now_s=self._edges.clock.wall_s(),
            )
            if not cache.is_behind(each.key):
                self._writer.want(cache, each, msgspec.to_builtins(status), Priority.CHANGE)

    async def _declared(self, revision: Object) -> Declared:
        """What a revision says; immutable, so it is read once."""
        name = revision.metadata.name
        if name not in self._read:
            spec = msgspec.json.decode(revision.spec, type=FleetRevisionSpec)
            self._read[name] = await self._reads(name, spec)
        return self._read[name]

    async def _follow_pointer(self) -> None:
        """Accept what the `Site` names, or know why not; the last accepted revision stays in force."""
        about = self._about()
        if about is None:
            self._refuse(f"there is no Site {self._site} in {self._namespace}")
            return
        spec = msgspec.json.decode(about.spec, type=SiteSpec)
        if not self._in_force:
            # What another process accepted is in force still, whatever is pointed to by now.
            last = _accepted(about)
            if last is not None and last != spec.revision:
                await self._try(last, spec)
        self._refuse(await self._try(spec.revision, spec))

    async def _try(self, name: str, spec: SiteSpec) -> str | None:
        """Put a revision in force; why that cannot be."""
        named = self._caches[FLEET_REVISION.plural].get(f"{self._namespace}/{name}")
        if named is None:
            return f"there is no FleetRevision {name[:12]}"
        declared = await self._declared(named)
        if declared.site is None:
            return f"revision {name[:12]}: {declared.errors[0].headline()}"
        if declared.site.id != self._site:
            return f"revision {name[:12]} is of site {declared.site.id}"
        try:
            self._accept(declared, spec)
        except NotAccepted as error:
            return str(error)
        self._in_force = name
        return None

    def _accept(self, declared: Declared, spec: SiteSpec) -> None:
        assert declared.site is not None  # noqa: S101 - the caller looked
        approvals = approvals_in(spec)
        current = self._store.accepted()
        if (
            current is not None
            and current.digest == declared.digest
            and set(approvals) <= set(current.approvals)
        ):
            return
        now_s = self._edges.clock.wall_s()
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
            by=f"Site {self._namespace}/{self._site}",
            commit=spec.commit,
            acknowledged_removals=removals,
        )
        record = accept(self._store, self._audit, self._revisions, proposal, now_s)
        self._say(
            f"accepted revision {record.digest[:12]} as number {record.seq}",
            kind="revision",
            revision=record.digest,
        )

    def _refuse(self, why: str | None) -> None:
        if why is not None and self._refusal != why:
            self._say(f"not accepted: {why}", kind="revision", level="warning")
        self._refusal = why

    def _about(self) -> Object | None:
        return self._caches[SITE.plural].get(f"{self._namespace}/{self._site}")

    # --- engine -------------------------------------------------------------------------------------

    async def _observe(self) -> None:
        """Look at devices while this process leads and something is in force."""
        while True:
            if self.elector.is_live() and self._store.accepted() is not None:
                self._engine = Engine(
                    site=self._site,
                    store=self._store,
                    audit=self._audit,
                    epoch=self._store.take_over(),
                    edges=self._edges,
                    revisions=self._revisions,
                    mode="observe",
                    pace=self._pace,
                    acts=False,
                )
                await self._engine.run(until=lambda _engine: not self.elector.is_live())
                self._engine = None
            await self._edges.clock.wire_sleep(_LOOK_S)

    # --- projections --------------------------------------------------------------------------------

    async def _project(self) -> None:
        while True:
            about = self._about()
            record = self._store.accepted()
            is_settled = False
            if self.elector.is_live() and about is not None:
                if record is None:
                    self._tell_refused(about)
                elif self._engine is not None:
                    is_settled = await self._projector.project(
                        self._snapshot(record),
                        about,
                        self._in_force,
                        self._refusal,
                        also=(OBSERVES,),
                    )
                    self._tell_trouble()
            await self._edges.clock.wire_sleep(_PROJECT_S if is_settled else _LOOK_S)

    def _tell_trouble(self) -> None:
        """What the API server has against our objects, once each."""
        trouble = self._projector.trouble
        if trouble and trouble != self._trouble:
            self._say(f"cannot show the site: {trouble}", kind="projection", level="warning")
        self._trouble = trouble

    def _tell_refused(self, about: Object) -> None:
        """Nothing was ever accepted: there is nothing to show but why."""
        why = self._refusal
        if why is None:
            told = [
                reconciling("Reading", "the revision is being read"),
                ready("Unknown", "Reading"),
            ]
        else:
            told = [stalled("NotAccepted", why), ready("Unknown", "NotAccepted", why)]
        # What another process had accepted stays named until it is read, or cannot be.
        kept = SiteStatus(accepted_revision=_accepted(about))
        self._projector.tell_site(about, kept, [OBSERVES, *told])

    def _snapshot(self, record: RevisionRecord) -> Snapshot:
        site = self._revisions.site(record.digest)
        world = read_world(
            self._store,
            site,
            record.digest,
            site_of=self._revisions.site,
            capabilities=all_capabilities(),
            now_s=self._edges.clock.wall_s(),
        )
        return Snapshot(
            site=site,
            plan=make_plan(site, record.digest, world),
            world=world,
            # Waves that pass because nobody writes say nothing; an object of them would be believed later.
            rollout=None,
        )

    def _bug(self, who: str, what: str) -> None:
        self._say(f"a bug of ours, at {who}: {what}", kind="bug", level="error", at=who)

    def _leads(self, fence: int) -> None:
        self._say(f"leads {self._site} under fence {fence}", kind="leader", fence=fence)
        self._herald.leads(f"{self._namespace}/{self._site}", fence, self._identity)


def _accepted(about: Object) -> str | None:
    """The revision that was in force when the status of a `Site` was written last."""
    status = msgspec.json.decode(about.status, type=SiteStatus | None)
    return status.accepted_revision if status else None
