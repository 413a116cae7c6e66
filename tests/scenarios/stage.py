"""The site, the processes that act on it, and the people around them, in virtual time."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

from control_plane.cli.plan import shown
from control_plane.core import limits
from control_plane.core.decision import Reason
from control_plane.core.fleet import Site
from control_plane.core.observation import Settings
from control_plane.core.overlay import Overlay, OverlayKind
from control_plane.core.plan import Plan, make_plan
from control_plane.core.rollout import RolloutState
from control_plane.core.world import decide_all
from control_plane.engine.accept import NotAccepted, Proposal, accept
from control_plane.engine.edges import Edges
from control_plane.engine.loop import Engine
from control_plane.engine.records import Order, OrderKind
from control_plane.engine.revisions import Revisions
from control_plane.engine.store import Store
from control_plane.engine.sweep import slots_of, sweep
from control_plane.engine.world import read_world, seen_from
from control_plane.simulator.virtual import VirtualLoop, seeded
from tests.scenarios.declared import SITE, Revision
from tests.scenarios.process import EngineProcess, ended_well
from tests.scenarios.scene import Scene

RESTART_S = 2.0
"""Wire seconds after which a supervisor starts a process that ended."""
PERSON_S = 4.0
"""Wire seconds between two looks of the person on duty."""
PATIENCE_S = 40.0
BY = "pat"
RELEASABLE = {
    Reason.MANUAL_OVERRIDE,
    Reason.ASK,
    Reason.CONTESTED,
    Reason.STUCK,
}


@contextlib.contextmanager
def small_site_limits() -> Iterator[None]:
    """The floors below which groups are no groups, in proportion to a site of fifteen devices."""
    with (
        mock.patch.object(limits, "STORM_FLOOR", 3),
        mock.patch.object(limits, "CORRELATED_FLOOR", 4),
    ):
        yield


class Stage(Scene):
    """The site under `gridplane run` and the commands beside it: one Store, on one disk."""

    def __init__(
        self, loop: VirtualLoop, state: Path, revision: Revision, *, seed: str, **more: Any
    ) -> None:
        super().__init__(loop, revision, seed=seed, **more)
        self._path = state / "state.sqlite"
        self.oracle.reach = self.reach
        self._sites: dict[str, Site] = {}
        """By digest; the real thing loads them from the bytes that the Store keeps."""
        self.store: Store = Store(self._path)
        self.store._db.execute("PRAGMA synchronous = OFF")
        self.engine: Engine | None = None
        self.process: EngineProcess | None = None
        self.supervised = True
        self.configure: Callable[[EngineProcess], None] = lambda _: None
        """Called with each engine process before it starts."""
        self.disk_full = False
        self._ordered_s: dict[str, float] = {}
        self._ended: list[asyncio.Task[Any]] = []
        self._processes: list[EngineProcess] = []

    def reach(self, asset: str | None = None) -> int | None:
        """How many devices the open wave may have reached; `None` where all, or not this one by a wave.

        A device that a superseded rollout never reached stands on the older revision, and needs none
        to go back to it: whom a rollout changes is the engine's own word here.
        """
        rollout = self.store.rollouts()[-1]
        if asset is not None and not self.changes(asset):
            return None
        return None if rollout.state is RolloutState.DONE else rollout.waves[rollout.wave]

    def changes(self, asset: str) -> bool:
        """Whether the rollout in force brings a device something new, in a wave: the engine's own word."""
        runner = self.engine._roster.rollout if self.engine else None
        return runner is not None and asset in runner._order

    # --- what people do -----------------------------------------------------------------------------

    def set_overlay(self, kind: OverlayKind, node: str, fields: Settings | None = None) -> Overlay:
        """A hold, a freeze or a curtailment, by another process of the host."""
        overlay = Overlay(
            id=f"o{self.store.next_number('overlay'):04}",
            kind=kind,
            node=node,
            owner=BY,
            reason="a seed wants it",
            since_s=self.clock.wall_s(),
            fields=fields or Settings(),
        )
        self.trace(f"person sets {overlay.id} {kind} on {node}")
        self.store.put_overlay(overlay)
        self.oracle.overlay_set(overlay)
        return overlay

    def drop_overlay(self, overlay: Overlay) -> None:
        """The same process takes it back."""
        if overlay.id not in self.oracle.overlays:
            return
        self.trace(f"person drops {overlay.id}")
        self.oracle.overlay_dropped(overlay)
        self.store.drop_overlay(overlay.id)

    def order(self, kind: OrderKind, target: str) -> None:
        """An order to the engine."""
        self.trace(f"person orders {kind} {target}")
        self.oracle.ordered(kind, target)
        self.store.put_order(Order(kind=kind, target=target, by=BY, at_s=self.clock.wall_s()))

    async def look(self, revision: Revision) -> None:
        """What `gridplane observe` does: every device once, into the Store."""
        process = self._make("cli")
        slots = slots_of(revision.site, self.store.memories(), process.edges)
        seen = await sweep(slots, edges=process.edges)
        self.store.put_sightings(seen.values())

    def plan(self, revision: Revision) -> Plan:
        """The plan from what the Store knows."""
        return self._planned(revision)[0]

    def _planned(self, revision: Revision) -> tuple[Plan, Any]:
        world = read_world(
            self.store,
            revision.site,
            revision.digest,
            site_of=self._revisions(self.store).site,
            capabilities=self._edges().capabilities,
            now_s=self.clock.wall_s(),
            time_scale=self.scale,
        )
        if world.accepted is not None:
            world = seen_from(world, self._sites[world.accepted], revision.site)
        return make_plan(revision.site, revision.digest, world), world

    def accept(self, revision: Revision) -> None:
        """What `gridplane apply` does after its plan was shown."""
        plan, world = self._planned(revision)
        record = shown(plan, world)
        self._sites[revision.digest] = revision.site
        proposal = Proposal(
            site=revision.site,
            digest=revision.digest,
            files={},
            plan=record,
            by=BY,
            acknowledged_removals=len(plan.removed),
        )
        audit, revisions = self._make("cli").audit, self._revisions(self.store)
        try:
            accept(self.store, audit, revisions, proposal, self.clock.wall_s())
        except NotAccepted as error:
            self.trace(f"revision {revision.digest[:12]} is not accepted: {error}")
            return
        self.trace(f"person accepts {revision.digest[:12]}")
        self.oracle.accepted(revision.site, {step.asset for step in plan.steps})
        self.revision, self.accepted_s = revision, self.loop.time()

    def _revisions(self, store: Store) -> Revisions:
        made = Revisions(store, SITE)
        made._known = self._sites
        return made

    def help(self) -> list[str]:
        """The person on duty reads what is held and decides; what there was to decide."""
        done: list[str] = []
        for incident in self.store.incidents():
            if incident.cause == "pools":
                self.order(OrderKind.INCIDENT, incident.id)
                done.append(incident.id)
        rollouts = self.store.rollouts()
        if rollouts and rollouts[-1].state is RolloutState.HALTED:
            self.order(OrderKind.ROLLOUT, rollouts[-1].id)
            done.append(rollouts[-1].id)
        moved = False
        if self.store.orders():
            return [*done, "orders wait"]
        _, world = self._planned(self.revision)
        for asset, decision in decide_all(self.revision.site, world).items():
            reasons = {held.reason for held in decision.held}
            if reasons & RELEASABLE and self._is_due(asset):
                self.order(OrderKind.OVERRIDE, asset)
                done.append(f"{asset} {sorted(reasons)}")
            moved = moved or Reason.MOVED in reasons
        if moved:
            self.accept(self.revision)
            done.append("accepted anew")
        return done

    def _is_due(self, asset: str) -> bool:
        """Nobody repeats an order before the engine had time to follow it."""
        now = self.loop.time()
        if now - self._ordered_s.get(asset, float("-inf")) < PATIENCE_S:
            return False
        self._ordered_s[asset] = now
        return True

    def _edges(self) -> Edges:
        return self._make("cli").edges

    def faults_over(self) -> None:
        """Lines, machines and disk are well, and nobody keeps anything from its declaration."""
        super().faults_over()
        self.disk_full = False
        self.configure = lambda _: None
        for process in self._processes:
            process.kill_at = None
        for overlay, _ in list(self.oracle.overlays.values()):
            self.drop_overlay(overlay)

    # --- processes --------------------------------------------------------------------------------------

    def _make(self, name: str) -> EngineProcess:
        known = next((p for p in self._processes if p.name == name == "cli"), None)
        if known is not None:
            return known
        process = EngineProcess(
            name,
            store=self._path,
            net=self.net,
            clock=self.clock,
            rng=seeded(f"{self.seed}/{name}"),
            watch=self.oracle,
        )
        self._processes.append(process)
        return process

    def start(self, *, until: Any = None, mode: str = "run") -> EngineProcess:
        """Start an engine; one that still runs loses its fence and does not know it yet."""
        self.starts += 1
        process = self._make(f"engine{self.starts}")
        process.failing = lambda: self.disk_full
        self.configure(process)
        self.process, self.engine = process, None
        process.task = self.loop.create_task(self._run(process, until, mode))
        self._ended.append(process.task)
        return process

    async def _run(self, process: EngineProcess, until: Any, mode: str) -> None:
        error: BaseException | None = None
        try:
            process.epoch = process.store.take_over()
            self.oracle.started(process.epoch)
            self.trace(f"{process.name} takes over as epoch {process.epoch}")
            engine = Engine(
                site=SITE,
                store=process.store,
                audit=process.audit,
                epoch=process.epoch,
                edges=process.edges,
                revisions=self._revisions(process.store),
                mode=mode,
                pace=self.pace,
            )
            self.listen(process, engine)
            if self.process is process:
                self.engine = engine
            engine.remember(process.store.sightings())
            await engine.run(until=until)
        except BaseException as caught:  # noqa: BLE001 - whatever a process may end with
            error = caught
        if not ended_well(error):
            self.oracle.violate("escape", f"{process.name} ended with {error!r}")
        self.trace(f"{process.name} ended: {type(error).__name__ if error else 'in good order'}")
        process.alive = False
        process.store.close()
        if self.process is process:
            self.engine = None
            if self.supervised and until is None:
                self.loop.call_later(RESTART_S, self._restart, process)

    def _restart(self, process: EngineProcess) -> None:
        if self.supervised and self.process is process:
            self.start()

    async def ended(self) -> None:
        """Until every engine that was started has ended."""
        await asyncio.gather(*self._ended, return_exceptions=True)

    async def close(self) -> None:
        """End everything."""
        self.supervised = False
        for process in self._processes:
            process.kill()
        await self.ended()
        for process in self._processes:
            process.store.close()
        self.store.close()
