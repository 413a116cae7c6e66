"""The engine of one site: slots, poller, judge and the tick that moves all that only time moves.

`run` keeps going until it is told to stop; `apply` is the same with an end: nothing left to do.
The very same code runs under a virtual clock with an in-memory site.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle, islice

import msgspec

from control_plane.core import limits
from control_plane.core.errors import ControlPlaneError
from control_plane.core.fleet import Device
from control_plane.core.memory import Memory
from control_plane.core.observation import Depth, Observation
from control_plane.core.overlay import OverlayKind
from control_plane.core.plan import pinned
from control_plane.core.power import Loads, counted_w
from control_plane.core.verify import Stage
from control_plane.engine.audit import AuditFile
from control_plane.engine.edges import Edges
from control_plane.engine.gate import Gate
from control_plane.engine.incidents import Incidents
from control_plane.engine.journal import Journal
from control_plane.engine.locator import Locator
from control_plane.engine.orders import obey
from control_plane.engine.poller import Poller
from control_plane.engine.queue import Priority
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.records import EngineStatus, Order, OrderKind, RevisionRecord
from control_plane.engine.revisions import Revisions
from control_plane.engine.rollouts import RolloutRunner, is_actionable
from control_plane.engine.slots import Slot, make_slot
from control_plane.engine.store import Store
from control_plane.engine.world import approvals_of

_TICK_S = 0.25
_WATCH_S = 1.0
_HEARTBEAT_S = 2.0
_TELEMETRY_FLUSH_S = 30.0
"""Telemetry of every device reaches the Store within that; changed settings within a second."""
_REJUDGE_S = 60.0
"""Every device is judged anew within that, whatever woke nobody up."""
_JUDGE_SLICE = 64
_NEWS_PER_TICK = 2_000


class NothingAccepted(ControlPlaneError):
    """No revision is in force yet. The operator runs `gridplane apply`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often devices are looked at, in wire time."""

    interval_s: float = limits.POLL_INTERVAL_S
    concurrency: int = limits.POLL_CONCURRENCY


@dataclass(slots=True, kw_only=True)
class Progress:
    """Where the engine stands, for people."""

    devices: int = 0
    seen: int = 0
    converged: int = 0
    actionable: int = 0
    in_flight: int = 0
    waiting: int = 0
    """Operations that were accepted and wait for their evidence."""
    wave: int = 0
    waves: int = 0
    rollout: str = ""
    """State of the rollout; empty without one."""
    incidents: int = 0
    pages: list[str] = field(default_factory=list)


class Engine:
    """One process that acts on one site, under its fence."""

    def __init__(
        self,
        *,
        site: str,
        store: Store,
        audit: AuditFile | None,
        epoch: int,
        edges: Edges,
        revisions: Revisions,
        mode: str = "run",
        pace: Pace | None = None,
    ) -> None:
        """Take over a site: read what is in force, and what an earlier process left open.

        Raises:
            NothingAccepted: there is nothing to compare devices with.
            StoreError: the Store cannot be read; nothing is written to devices.
        """
        record = store.accepted()
        if record is None:
            raise NothingAccepted(
                f"no revision of {site} was accepted yet: run `gridplane apply --site {site}`"
            )
        self._pace = pace or Pace()
        self._store, self._edges, self._revisions = store, edges, revisions
        self._clock = edges.clock
        self._mode, self._epoch = mode, epoch
        self._started_s = self._clock.wall_s()
        self._stop = asyncio.Event()
        self.journal = Journal(store=store, audit=audit, clock=edges.clock)
        self._gate = Gate(store=store, audit=audit, epoch=epoch)
        self.incidents = Incidents(site=site, store=store, clock=edges.clock, journal=self.journal)
        self.site = revisions.site(record.digest)
        self.reconciler = Reconciler(
            site=self.site,
            clock=edges.clock,
            secrets=edges.secrets,
            gate=self._gate,
            journal=self.journal,
            loads=Loads(self.site),
            incident_of=self.incidents.of,
        )
        self._poller = Poller(
            clock=edges.clock,
            rng=edges.rng,
            secrets=edges.secrets,
            sighted=self.reconciler.sighted,
            interval_s=self._pace.interval_s,
            concurrency=self._pace.concurrency,
        )
        self.reconciler.poller = self._poller
        self._locator = Locator(clock=edges.clock, secrets=edges.secrets, found=self._located)
        self.slots: dict[str, Slot] = {}
        self._rollout: RolloutRunner | None = None
        self._paged_holds: set[str] = set()
        self._changed = store.changed()
        self._put_in_force(record)
        self._adopt_operations()
        self._hear_overlays()
        with store.transaction():
            self._hear_orders()
            self.journal.flush()

    # --- life ------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Ask the engine to stop: no new write begins, what is under way is finished and recorded."""
        self.reconciler.draining = True
        self._stop.set()

    async def run(
        self,
        *,
        until: Callable[[Engine], bool] | None = None,
        report: Callable[[Progress], None] | None = None,
    ) -> Progress:
        """Converge until stopped, or until `until` holds.

        Raises:
            FenceLost: another process took over; this one ends.
            StoreError: nothing can be made durable any more; nothing more is written to devices.
        """
        self._poller.watch(self.slots.values())
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as acts:
                self.reconciler.acts = acts
                try:
                    await self._work(until, report)
                except ControlPlaneError as error:
                    failure = error
                # Leaving the block waits for the writes under way: each is bounded in time.
        finally:
            self.reconciler.draining = True
            failure = failure or self.reconciler.failure or self._flush_all()
        if failure is not None:
            raise failure
        return self.progress()

    async def _work(
        self, until: Callable[[Engine], bool] | None, report: Callable[[Progress], None] | None
    ) -> None:
        tasks = [
            asyncio.create_task(self._poller.run()),
            asyncio.create_task(self._judge()),
            asyncio.create_task(self._locate()),
            asyncio.create_task(self._tick_on(until, report)),
            asyncio.create_task(self._stop.wait()),
        ]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            self.reconciler.draining = True
            for task in done:
                error = task.exception()
                if error is not None:
                    raise error
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _judge(self) -> None:
        queue = self.reconciler.queue
        while True:
            await queue.wait()
            for _ in range(_JUDGE_SLICE):
                slot = queue.pop()
                if slot is None:
                    break
                if slot.asset in self.slots:
                    self.reconciler.judge(slot)
            await asyncio.sleep(0)

    async def _locate(self) -> None:
        while True:
            await self._locator.sweep_if_due(self.slots.values())
            await self._clock.wire_sleep(_WATCH_S)

    def _located(self, slot: Slot, address: str) -> None:
        self.journal.memory(slot.memory)
        self.journal.event("located", f"found at {address}", asset=slot.asset)
        slot.unseen, slot.failures = None, 0
        self._poller.hurry(slot)

    async def _tick_on(
        self, until: Callable[[Engine], bool] | None, report: Callable[[Progress], None] | None
    ) -> None:
        rotation: Iterator[str] = cycle(list(self.slots))
        last_watch = last_beat = float("-inf")
        while True:
            wire_s = self._clock.wire_s()
            self.reconciler.tick()
            if self.reconciler.failure is not None:
                raise self.reconciler.failure
            if wire_s - last_watch >= _WATCH_S:
                last_watch = wire_s
                self._watch()
                if report is not None:
                    report(self.progress())
            self._rotate(rotation)
            with self._store.transaction():
                self._store.check_fence(self._epoch)
                if self._store.changed() != self._changed:
                    rotation = self._hear(rotation)
                if wire_s - last_beat >= _HEARTBEAT_S:
                    last_beat = wire_s
                    self._beat()
                self.journal.flush()
            if until is not None and until(self):
                return
            await self._clock.wire_sleep(_TICK_S)

    def _rotate(self, rotation: Iterator[str]) -> None:
        """The slow hand: telemetry to the Store, and a fresh judgement of every device in its turn."""
        count = len(self.slots)
        news = [self.reconciler.news.pop(a) for a in list(self.reconciler.news)[:_NEWS_PER_TICK]]
        turn = [
            self.slots[asset]
            for asset in islice(rotation, _share(count, _TELEMETRY_FLUSH_S))
            if asset in self.slots
        ]
        self.journal.sightings(s.sighting for s in (*news, *turn) if s.sighting is not None)
        for slot in turn[: _share(count, _REJUDGE_S)]:
            if slot.sighting is not None:
                self.reconciler.queue.push(slot.asset, slot, Priority.FIRST_SYNC)

    def _watch(self) -> None:
        """What is looked at across devices: incidents, the rollout, holds that ran out."""
        if not self.reconciler.admits:
            self.reconciler.admits = all(s.sighting is not None for s in self.slots.values())
        self._push_below(self.incidents.watch(self.slots))
        runner = self._rollout
        if runner is not None and runner.advance(self.slots, self._poller):
            self._keep_rollout(runner)
        now_s = self._clock.wall_s()
        for overlay in self.reconciler.overlays:
            if overlay.kind is OverlayKind.MAINTENANCE_HOLD and overlay.is_expired(now_s):
                self._page_expired(overlay.id, overlay.node, overlay.owner)

    def _page_expired(self, overlay_id: str, node: str, owner: str) -> None:
        if overlay_id in self._paged_holds:
            return
        self._paged_holds.add(overlay_id)
        self.journal.page(
            f"maintenance hold of {owner} on {node} has expired and still holds: "
            f"release it with `gridplane release {overlay_id}`",
            node=node,
        )

    # --- what others say -------------------------------------------------------------------------

    def _hear(self, rotation: Iterator[str]) -> Iterator[str]:
        """Another process changed the Store: a hold, an order, an accepted revision."""
        self._changed = self._store.changed()
        self._hear_overlays()
        self._hear_orders()
        record = self._store.accepted()
        if record is None or self._rollout is None:
            return rotation
        if record.digest == self._rollout.rollout.to:
            self.reconciler.approved = approvals_of(record)
            self._expect()
            return rotation
        self._put_in_force(record)
        self._poller.watch(self.slots.values())
        return cycle(list(self.slots))

    def _hear_overlays(self) -> None:
        overlays = self._store.overlays()
        before = {overlay.id: overlay for overlay in self.reconciler.overlays}
        after = {overlay.id: overlay for overlay in overlays}
        self.reconciler.overlays = overlays
        self._push_below(
            frozenset(
                overlay.node
                for key in before.keys() | after.keys()
                if before.get(key) != after.get(key)
                for overlay in (before.get(key), after.get(key))
                if overlay is not None
            )
        )

    def _push_below(self, nodes: frozenset[str]) -> None:
        if not nodes:
            return
        for slot in self.slots.values():
            if slot.sighting is not None and not nodes.isdisjoint(slot.nodes):
                self.reconciler.queue.push(slot.asset, slot, Priority.CHANGE)

    def _hear_orders(self) -> None:
        numbers = []
        for number, order in self._store.orders():
            numbers.append(number)
            self._obey(order)
        self._store.drop_orders(numbers)

    def _obey(self, order: Order) -> None:
        self.journal.event("order", f"{order.kind} by {order.by}", asset=order.target)
        match order.kind:
            case OrderKind.ROLLOUT:
                if self._rollout is not None and self._rollout.proceed(order.by):
                    self._keep_rollout(self._rollout)
            case OrderKind.INCIDENT:
                node = self.incidents.release(order.target, order.by)
                self._push_below(frozenset({node} if node else ()))
            case _:
                slot = self.slots.get(order.target)
                memory = slot.memory if slot else Memory(asset=order.target)
                memory = obey(memory, order)
                self.journal.memory(memory)
                if slot is not None:
                    slot.memory = memory
                    if order.kind is OrderKind.TRUST:
                        slot.address = slot.device.address
                    slot.retry_wire_s = float("-inf")
                    self._poller.hurry(slot)

    def _expect(self) -> None:
        """Take over the settings that a plan was shown with."""
        for asset, memory in self._store.memories().items():
            slot = self.slots.get(asset)
            if slot is not None and slot.memory.expected != memory.expected:
                slot.memory = msgspec.structs.replace(slot.memory, expected=memory.expected)
                self.journal.memory(slot.memory)

    # --- revisions -------------------------------------------------------------------------------

    def _put_in_force(self, record: RevisionRecord) -> None:
        """Compare devices with a revision from now on, as its rollout assigns it."""
        self.site = self._revisions.site(record.digest)
        rollout = next(r for r in reversed(self._store.rollouts()) if r.to == record.digest)
        before = self._revisions.site(rollout.origin) if rollout.origin else None
        self._rollout = RolloutRunner(
            rollout=rollout,
            before=before,
            after=self.site,
            clock=self._clock,
            journal=self.journal,
            written=self.reconciler.written,
        )
        self._gate.learn_pools(self.site)
        self.reconciler.approved = approvals_of(record)
        self._place(self._store.memories())

    def _keep_rollout(self, runner: RolloutRunner) -> None:
        with self._store.transaction():
            self._store.check_fence(self._epoch)
            self._store.put_rollout(runner.rollout)
        self._place({})
        for slot in self.slots.values():
            if slot.sighting is not None:
                self.reconciler.queue.push(slot.asset, slot, Priority.CHANGE)

    def _place(self, memories: Mapping[str, Memory]) -> None:
        """Make or renew the slots of all managed devices, and count everything that draws."""
        assert self._rollout is not None  # noqa: S101 - made together with the slots
        site, reconciler = self.site, self.reconciler
        reconciler.site = site
        reconciler.loads = loads = Loads(site)
        reconciler.budgets.adopt(site)
        kept: dict[str, Slot] = {}
        for declared in site.devices:
            if not declared.is_managed or declared.intent.family not in self._edges.drivers:
                loads.count(declared.asset, declared.feed, counted_w(declared, None))
                continue
            device, assigned = self._rollout.place(declared)
            slot = self._renew(device, memories)
            slot.assigned = assigned
            kept[device.asset] = slot
        for asset, slot in self.slots.items():
            if asset not in kept:
                self._poller.forget(slot)
                reconciler.open.pop(asset, None)
                reconciler.wishes.pop(asset, None)
                reconciler.budgets.release(slot)
        self.slots = kept
        for slot in kept.values():
            reconciler.recount(slot)
        root = next(node.id for node in site.feeds.values() if node.parent is None)
        for gone in self._store.released():
            feed = gone.feed if gone.feed in site.feeds else root
            loads.count(f"released:{gone.asset}", feed, gone.power_w)

    def _renew(self, device: Device, memories: Mapping[str, Memory]) -> Slot:
        """The slot of a device: the one it has, if nothing about it changed, or one that goes on from it."""
        old = self.slots.get(device.asset)
        memory = memories.get(device.asset)
        if old is not None and old.device is device and memory is None:
            return old
        family = device.intent.family
        owner_site = self.site
        fresh = make_slot(
            owner_site,
            device,
            pinned(device, memory or (old.memory if old else None)),
            self._edges.drivers.get(family),
            self._edges.capabilities.get(family),
        )
        if old is None:
            return fresh
        if old.memory is not fresh.memory and memory is not None:
            # What the engine knows is newer than the Store; only what `accept` wrote there counts.
            fresh.memory = msgspec.structs.replace(old.memory, expected=memory.expected)
        same_place = old.device.address == device.address and old.device.subnet == device.subnet
        old.device, old.owner, old.memory = device, fresh.owner, fresh.memory
        old.driver, old.capabilities = fresh.driver, fresh.capabilities
        old.nodes, old.path, old.budget_nodes = fresh.nodes, fresh.path, fresh.budget_nodes
        if not same_place:
            old.address, old.full_wanted = fresh.address, True
        return old

    def _adopt_operations(self) -> None:
        for operation in self._store.open_operations():
            slot = self.slots.get(operation.asset)
            if slot is not None:
                self.reconciler.adopt(slot, operation)
            else:
                self.journal.operation(
                    msgspec.structs.replace(
                        operation,
                        stage=Stage.NOT_APPLIED,
                        detail="the device is not managed any more",
                    )
                )

    def remember(self, sightings: Mapping[str, object]) -> None:
        """Begin with what another process of this host has just seen, instead of asking again."""
        for asset, seen in sightings.items():
            slot = self.slots.get(asset)
            if slot is None or not isinstance(seen, Observation) or slot.sighting is not None:
                continue
            age_wire_s = self._clock.wire_of(max(0.0, self._clock.wall_s() - seen.at_s))
            if age_wire_s <= limits.TELEMETRY_TTL_S:
                self.reconciler.sighted(slot, seen, Depth.FULL)
                slot.seen_wire_s = self._clock.wire_s() - age_wire_s

    # --- what others are told ----------------------------------------------------------------------

    def progress(self) -> Progress:
        """Where the engine stands now."""
        slots = self.slots.values()
        rollout = self._rollout.rollout if self._rollout else None
        return Progress(
            devices=len(self.slots),
            seen=sum(1 for slot in slots if slot.sighting is not None),
            converged=sum(1 for s in slots if s.decision is not None and s.decision.converged),
            actionable=sum(1 for slot in slots if is_actionable(slot)),
            in_flight=self.reconciler.budgets.total,
            waiting=len(self.reconciler.open),
            wave=rollout.wave + 1 if rollout and rollout.waves else 0,
            waves=len(rollout.waves) if rollout else 0,
            rollout=rollout.state if rollout else "",
            incidents=len(self.incidents.open),
            pages=self.journal.pages,
        )

    def is_quiet(self) -> bool:
        """Whether nothing is left to do: the end of `apply`."""
        reconciler = self.reconciler
        if reconciler.open or len(reconciler.queue) or reconciler.queue.parked:
            return False
        if not reconciler.admits or (self._rollout is not None and self._rollout.is_open):
            return False
        return all(
            s.decision is not None and not s.busy and not is_actionable(s)
            for s in self.slots.values()
        )

    def _beat(self) -> None:
        now = self.progress()
        self._store.put_status(
            EngineStatus(
                pid=os.getpid(),
                epoch=self._epoch,
                mode=self._mode,
                started_at_s=self._started_s,
                at_s=self._clock.wall_s(),
                real_at_s=time.time(),
                actionable=now.actionable,
                in_flight=now.in_flight,
            )
        )

    def _flush_all(self) -> ControlPlaneError | None:
        """The last word before the process ends; why it could not be kept, if it could not."""
        self.journal.sightings(s.sighting for s in self.slots.values() if s.sighting is not None)
        try:
            with self._store.transaction():
                self._store.check_fence(self._epoch)
                self.journal.flush()
                self._store.drop_status()
        except ControlPlaneError as error:
            return error
        return None


def _share(count: int, period_s: float) -> int:
    """How many of `count` fall into one tick, if all of them take `period_s`."""
    return max(1, round(count * _TICK_S / period_s)) if count else 0
