"""The controller of one site: declaration from the API server, engine, projections back into it.

Any number of processes may run; one leads, by a Lease. What must outlive it stands in the cluster, where the
API server itself refuses a former leader. While nobody can lead, because the API server is away, the last
leader looks on and writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec

from control_plane.api.objects import FleetRevisionStatus
from control_plane.core.cluster import Cluster, ClusterError, Object
from control_plane.core.errors import FenceLost, StoreError
from control_plane.engine.edges import Edges
from control_plane.engine.log import Say, silent
from control_plane.engine.loop import Pace
from control_plane.engine.queue import Priority
from control_plane.kube.cache import Cache
from control_plane.kube.collecting import Collector
from control_plane.kube.counting import Counted
from control_plane.kube.declaration import revision_status
from control_plane.kube.elector import Elector
from control_plane.kube.events import EventWriter
from control_plane.kube.facts import Facts
from control_plane.kube.gpu_rounds import Duty
from control_plane.kube.herald import Herald
from control_plane.kube.journal import Journals
from control_plane.kube.keeper import Keeper
from control_plane.kube.kinds import (
    DEVICE_OPERATION,
    FLEET_REVISION,
    GPU_NODE,
    MINER,
    ORDER,
    OVERLAY,
    RACK,
    ROLLOUT,
    SITE,
)
from control_plane.kube.lease import lease_name
from control_plane.kube.ledger import FenceTooLow
from control_plane.kube.library import Library, Read, in_a_thread
from control_plane.kube.obeying import Obeying
from control_plane.kube.projector import MANAGER, Projector
from control_plane.kube.reflector import Reflector
from control_plane.kube.showing import Showing, accepted
from control_plane.kube.takeover import STORE, Whereabouts, take_over
from control_plane.kube.tenure import Surroundings, Tenure, first_of
from control_plane.kube.waiting import Aside, api_backoff
from control_plane.kube.words import Desk, Sitting, Words
from control_plane.kube.writer import StatusWriter

_LOOK_S = 1.0
"""Whether there are new revisions is looked at that often."""
_WON_S = 0.2
"""Whether the election is won is looked at that often: a site waits."""
_KNOWN = (
    FLEET_REVISION, SITE, OVERLAY, ORDER, RACK, MINER, GPU_NODE, ROLLOUT, DEVICE_OPERATION,
)  # fmt: skip


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
        aside: Aside = asyncio.to_thread,
        keep: Callable[[], None] = lambda: None,
        journal: Path | None = None,
        node: str = "",
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
            aside: does other things that would hold it up.
            keep: called when everything of a site is in memory: what exists then stays.
            journal: folder of what is said on this host with the API server away; `None` without.
            node: this host, where it has a journal.
        """
        self._cluster = counted = Counted(cluster)
        self._site, self._namespace, self._identity = site, namespace, identity
        self._edges, self._say, self._folder = edges, say, folder
        clock, rng = edges.clock, edges.rng
        self._caches = {kind.plural: Cache(kind, bug=self._bug) for kind in _KNOWN}
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
            floor=lambda: self._floor,
        )
        self._floor = 0
        """The greatest fence that the state of the site was ever written under."""
        self._library = Library(self._caches[FLEET_REVISION.plural], read=read, clock=clock)
        self._around = Surroundings(
            cluster=counted,
            at=Whereabouts(site, namespace, identity),
            folder=folder,
            edges=edges,
            pace=pace,
            library=self._library,
            aside=aside,
            about=self._about,
            is_live=self.elector.is_live,
            say=say,
            operations=self._caches[DEVICE_OPERATION.plural],
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
            store=lambda: self.tenure.store if self.tenure else None,
        )
        self.keeper = Keeper(
            counted,
            self._caches[GPU_NODE.plural],
            namespace=namespace,
            bmc=edges.bmc,
            secrets=edges.secrets,
            clock=clock,
            rng=rng,
            bug=self._bug,
            say=say,
        )
        projector = Projector(
            counted,
            self._caches,
            self._writer,
            namespace=namespace,
            clock=clock,
            remedies=lambda: self.keeper.verdicts,
            lives=lambda: self.keeper.lives,
            software=lambda: (one.rollout for one in self.keeper.software),
            may_write=self.elector.is_live,
            saw=self._herald.saw,
            edited=self._herald.edited,
        )
        self.facts = Facts(
            site=site,
            cluster=counted,
            reflectors=self._reflectors,
            elector=self.elector,
            writer=self._writer,
            projector=projector,
            events=events,
            engine=lambda: self.tenure.engine if self.tenure else None,
            ledger=lambda: self.tenure.ledger if self.tenure else None,
            store=lambda: folder / STORE if self.tenure and self.tenure.store.accepted() else None,
        )
        desk = Desk(
            cluster=counted,
            site=site,
            namespace=namespace,
            caches=self._caches,
            writer=self._writer,
            clock=clock,
            say=say,
            is_live=self.elector.is_live,
        )
        self._words = Words(desk)
        self._obeying = Obeying(desk, self._words)
        self._collector = Collector(
            counted,
            self._caches[FLEET_REVISION.plural],
            site=site,
            clock=clock,
            say=say,
            about=self._about,
            may_delete=lambda: self.elector.is_live() and self.is_fresh,
        )
        self._journals = Journals(
            counted,
            folder=journal,
            site=site,
            namespace=namespace,
            node=node,
            identity=identity,
            clock=clock,
            say=say,
        )
        self._sequences: Mapping[str, int] = {}
        """How often each part of the site's state had been written when this process last knew."""
        self._state_trouble = ""
        """Why the state of the site cannot be taken over."""
        self._showing = Showing(
            projector,
            about=self._about,
            tenure=lambda: self.tenure,
            trouble=lambda: self._state_trouble,
            is_live=self.elector.is_live,
            clock=clock,
            say=say,
            keep=keep,
        )
        self.tenure: Tenure | None = None
        """The state of the site, from its take-over until another process leads."""

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
            group.create_task(self._journals.run())
            group.create_task(self._writer.run())
            group.create_task(self._herald.run())
            await asyncio.gather(*(reflector.synced.wait() for reflector in self._reflectors))
            group.create_task(self._library.run())
            group.create_task(self._judge_revisions())
            group.create_task(self._lead())
            group.create_task(self._showing.run())

    # --- leading -------------------------------------------------------------------------------------

    async def _lead(self) -> None:
        """Take over whenever the election is won; look on while nobody leads."""
        backoff = api_backoff(self._edges.rng)
        while True:
            fence = self.elector.fence
            # Before there is a Site nothing is begun: it may be restored just now, the Site last.
            if fence is None or self._about() is None:
                await self._edges.clock.wire_sleep(_WON_S)
                continue
            try:
                tenure = await self._begin(fence)
            except (ClusterError, StoreError, FenceLost) as error:
                await self._not_begun(error, backoff.next_s(error))
                continue
            backoff.reset()
            self._state_trouble, self.tenure = "", tenure
            try:
                await self._serve(tenure)
                await self._look_on(tenure)
            finally:
                self._sequences = {**self._sequences, **tenure.ledger.sequences}
                self.tenure = None
                tenure.close()

    async def _begin(self, fence: int) -> Tenure:
        about = self._about()
        taken = await take_over(
            self._cluster,
            self._around.at,
            fence=fence,
            folder=self._folder,
            library=self._library,
            clock=self._edges.clock,
            was_served=about is not None and accepted(about) is not None,
            known=self._sequences,
        )
        try:
            # What was said last may be in no shard yet, and what was said at a host in no object.
            await self._journals.merged(taken.store)
            await self._words.merge(taken.store)
        except BaseException:
            taken.store.close()
            raise
        if taken.lost:
            self._say(f"the whole site is held: {taken.lost}", kind="state", level="error")
        record = taken.store.accepted()
        if record is not None:
            self._say(
                f"goes on with revision {record.digest[:12]}, number {record.seq}; "
                f"{len(taken.store.open_operations()):,} writes are open",
                kind="state",
            )
        return Tenure(self._around, taken, fence)

    async def _not_begun(self, error: Exception, wait_s: float) -> None:
        if isinstance(error, FenceTooLow):
            self._floor = max(self._floor, error.highest)
            await self.elector.release()
        if self._state_trouble != str(error):
            self._say(f"cannot take over: {error}", kind="state", level="error")
        self._state_trouble = str(error)
        await self._edges.clock.wire_sleep(wait_s)

    async def _serve(self, tenure: Tenure) -> None:
        sitting = Sitting(
            store=tenure.said, durable=tenure.ledger.durable, declared=tenure.declared
        )
        self._journals.attach(tenure.said)
        try:
            await first_of(
                asyncio.ensure_future(tenure.serve()),
                asyncio.ensure_future(tenure.follow()),
                asyncio.ensure_future(tenure.ledger.run()),
                asyncio.ensure_future(tenure.grants.mirror()),
                asyncio.ensure_future(self._words.serve(sitting)),
                asyncio.ensure_future(self._obeying.serve(sitting)),
                asyncio.ensure_future(self.keeper.serve(self._duty(tenure))),
                asyncio.ensure_future(self._collector.serve(tenure.said, tenure.bundles())),
            )
        except FenceLost as error:
            self._say(f"writes no more: {error}", kind="leader", level="warning")
        finally:
            self._journals.attach(None)

    def _duty(self, tenure: Tenure) -> Duty:
        return Duty(
            store=tenure.said,
            durable=tenure.ledger.durable,
            declared=tenure.declared,
            may_act=lambda: self.elector.is_live() and tenure.mode() == "enforce",
        )

    async def _look_on(self, tenure: Tenure) -> None:
        """Read on what is in force, until somebody leads again; perhaps this very process, anew."""
        if self._is_led():
            return
        looking = asyncio.ensure_future(tenure.read_on(self._is_led))
        await first_of(looking, asyncio.ensure_future(self._led()))

    async def _led(self) -> None:
        while not self._is_led():
            await self._edges.clock.wire_sleep(_WON_S)

    def _is_led(self) -> bool:
        own = self._around.at.holder
        return self.elector.is_live() or self.elector.holder not in {"", own}

    def _about(self) -> Object | None:
        return self._caches[SITE.plural].get(f"{self._namespace}/{self._site}")

    # --- revisions -----------------------------------------------------------------------------------

    async def _judge_revisions(self) -> None:
        """Say of every revision of the site whether it is understood."""
        cache = self._caches[FLEET_REVISION.plural]
        while True:
            for each in list(cache) if self.elector.is_live() else ():
                declared = await self._library.declared(each)
                before = msgspec.json.decode(each.status, type=FleetRevisionStatus | None)
                status = revision_status(
                    declared,
                    before.conditions if before else (),
                    generation=each.metadata.generation,
                    now_s=self._edges.clock.wall_s(),
                )
                if not cache.is_behind(each.key):
                    self._writer.want(cache, each, msgspec.to_builtins(status), Priority.CHANGE)
            await self._edges.clock.wire_sleep(_LOOK_S)

    def _bug(self, who: str, what: str) -> None:
        self._say(f"a bug of ours, at {who}: {what}", kind="bug", level="error", at=who)

    def _leads(self, fence: int) -> None:
        self._say(f"leads {self._site} under fence {fence}", kind="leader", fence=fence)
        self._herald.leads(f"{self._namespace}/{self._site}", fence, self._identity)
