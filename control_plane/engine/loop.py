"""The engine of one site: slots, poller, judge and the tick that moves all that only time moves.

`run` keeps going until it is told to stop; `apply` is the same with an end: nothing left to do.
The very same code runs under a virtual clock with an in-memory site.
"""

from __future__ import annotations

import asyncio
import math
import os
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import cycle, islice

from control_plane.core import limits
from control_plane.core.errors import ControlPlaneError, StoreBusy
from control_plane.core.fleet import Site
from control_plane.core.metrics import Sample
from control_plane.core.power import Loads
from control_plane.engine.audit import AuditFile
from control_plane.engine.edges import Edges
from control_plane.engine.errands import AddressErrand, PasswordErrand
from control_plane.engine.fence import pid_space
from control_plane.engine.gate import Gate
from control_plane.engine.granting import Granting
from control_plane.engine.inbox import Inbox
from control_plane.engine.incidents import Incidents
from control_plane.engine.installing import Installing
from control_plane.engine.journal import Journal
from control_plane.engine.locator import Locator
from control_plane.engine.measures import measures
from control_plane.engine.poller import Poller
from control_plane.engine.queue import Priority
from control_plane.engine.reconciler import Keep, Reconciler
from control_plane.engine.records import EngineStatus, RevisionRecord
from control_plane.engine.revisions import Revisions
from control_plane.engine.roster import Roster
from control_plane.engine.rotating import Rotating
from control_plane.engine.slots import Slot
from control_plane.engine.standing import Progress, Standing
from control_plane.engine.store import Store
from control_plane.engine.watch import Watch
from control_plane.engine.world import approvals_of

_TICK_S = 0.25
_WATCH_S = 0.4
_HEARTBEAT_S = 2.0
_PRUNE_EVERY_S = 3600.0
_TELEMETRY_FLUSH_S = 30.0
"""Telemetry of every device reaches the Store within that; changed settings within a second."""
_REJUDGE_S = 60.0
"""Every device is judged anew within that, whatever woke nobody up."""
_BUSY_WAIT_S = 0.05
"""Nothing else runs while one waits for another process to end its transaction."""
_BUSY_PAUSE_S = 4.0
_BUSY_PAGE_S = 30.0
_JUDGE_SLICE = 64
_NEWS_PER_TICK = 2_000


class NothingAccepted(ControlPlaneError):
    """No revision is in force yet. The operator runs `gridplane apply`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How often devices are looked at, in wire time."""

    interval_s: float = limits.POLL_INTERVAL_S
    concurrency: int = limits.POLL_CONCURRENCY


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
        acts: bool = True,
        is_live: Callable[[], bool] = lambda: True,
        keep: Keep | None = None,
        granting: Granting | None = None,
        rotates: bool = False,
    ) -> None:
        """Take over a site: read what is in force, and what an earlier process left open.

        Args:
            site: its id.
            store: its durable state.
            audit: file of what was intended and came of it.
            epoch: the fence that this process holds.
            edges: the way to the devices.
            revisions: the accepted ones.
            mode: for people.
            pace: how often devices are looked at.
            acts: without it no write is ever begun: it looks, judges and remembers.
            is_live: whether the fence is held at this moment; the gate closes for good once it is not.
            keep: makes durable what has to be before anything is sent, where the Store alone is not.
            granting: who installs firmware; without it none is.
            rotates: whether it changes passwords and addresses that a person let go; who is between two of
                them is locked anyhow.

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
        self._gate = gate = Gate(
            store=store, audit=audit, epoch=epoch, journal=self.journal, is_live=is_live
        )
        self.incidents = Incidents(site=site, store=store, clock=edges.clock, journal=self.journal)
        declared = revisions.site(record.digest)
        self.reconciler = Reconciler(
            site=declared,
            clock=edges.clock,
            secrets=edges.secrets,
            gate=gate,
            journal=self.journal,
            loads=Loads(declared),
            incident_of=self.incidents.of,
            keep=keep,
        )
        if not acts:
            # Twice over: nothing asks to pass the gate, and nothing would pass.
            self.reconciler.draining = True
            gate.close()
        self._sights = sights = self.reconciler.sights
        self._poller = Poller(
            clock=edges.clock,
            rng=edges.rng,
            secrets=edges.secrets,
            sighted=sights.sighted,
            interval_s=self._pace.interval_s,
            concurrency=self._pace.concurrency,
            recognise=edges.recognise,
        )
        sights.poller = self._poller
        self._locator = Locator(
            clock=edges.clock,
            secrets=edges.secrets,
            found=self._located,
            failed=sights.broke,
        )
        self._roster = Roster(
            site=declared,
            store=store,
            epoch=epoch,
            edges=edges,
            revisions=revisions,
            gate=gate,
            journal=self.journal,
            reconciler=self.reconciler,
            poller=self._poller,
        )
        self._granting = granting if acts else None
        self._installing = Installing(
            store=store,
            epoch=epoch,
            clock=edges.clock,
            revisions=revisions,
            gate=gate,
            roster=self._roster,
            reconciler=self.reconciler,
            incidents=self.incidents,
            journal=self.journal,
            poller=self._poller,
            granting=self._granting,
        )
        self._rotating = tuple(
            Rotating(
                errand,
                store=store,
                epoch=epoch,
                edges=edges,
                gate=gate,
                roster=self._roster,
                reconciler=self.reconciler,
                incidents=self.incidents,
                journal=self.journal,
                poller=self._poller,
                acts=acts and rotates,
                keep=keep,
            )
            for errand in (PasswordErrand(edges), AddressErrand(edges))
        )
        self._inbox = Inbox(
            store=store,
            roster=self._roster,
            reconciler=self.reconciler,
            incidents=self.incidents,
            journal=self.journal,
            poller=self._poller,
            installing=self._installing,
            rotating=self._rotating,
        )
        self._watch = Watch(
            clock=edges.clock,
            journal=self.journal,
            roster=self._roster,
            reconciler=self.reconciler,
            incidents=self.incidents,
            poller=self._poller,
            installing=self._installing,
            acts=acts,
        )
        self._standing = Standing(
            roster=self._roster,
            reconciler=self.reconciler,
            incidents=self.incidents,
            journal=self.journal,
            watch=self._watch,
            installing=self._installing,
            rotating=self._rotating,
        )
        self._heard_s = record.accepted_at_s
        self._taken_up_s = 0.0
        self._busy_since_s: float | None = None
        """Wire time since which another process has the Store."""
        self._paged_busy = False
        self._changed = store.changed()
        self._roster.put_in_force(record)
        self._roster.adopt_operations()
        self._inbox.overlays()
        for rotating in self._rotating:
            rotating.lock()
        with store.transaction():
            self._inbox.orders()
            self.journal.flush()

    @property
    def slots(self) -> dict[str, Slot]:
        """The managed devices, by asset id."""
        return self._roster.slots

    @property
    def site(self) -> Site:
        """The site as the revision in force declares it."""
        return self._roster.site

    def remember(self, sightings: Mapping[str, object]) -> None:
        """Begin with what another process of this host has just seen, instead of asking again."""
        self._roster.remember(sightings)

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
        self._store.wait_at_most(_BUSY_WAIT_S)
        failure: Exception | None = None
        try:
            async with asyncio.TaskGroup() as acts:
                self.reconciler.acts = acts
                if self._granting is not None:
                    acts.create_task(self._granting.run())
                try:
                    await self._work(until, report)
                except ControlPlaneError as error:
                    failure = error
                finally:
                    for rotating in self._rotating:
                        rotating.stop()
                    if self._granting is not None:
                        self._granting.stop()
                # Leaving the block waits for the writes under way: each is bounded in time.
        finally:
            self.reconciler.draining = True
            self._store.wait_at_most()
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
            asyncio.create_task(self._installing.run()),
            *(asyncio.create_task(rotating.run()) for rotating in self._rotating),
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
        queue = self._sights.queue
        while True:
            await queue.wait()
            for _ in range(_JUDGE_SLICE):
                slot = queue.pop()
                if slot is None:
                    break
                if slot.asset in self.slots:
                    self._sights.spared(slot, self.reconciler.judge)
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
        last_watch = last_beat = last_pruned = float("-inf")
        pause_s = _TICK_S
        while True:
            wire_s = self._clock.wire_s()
            self.reconciler.tick()
            if self.reconciler.failure is not None:
                raise self.reconciler.failure
            self._rotate(rotation)
            watches = wire_s - last_watch >= _WATCH_S
            beats = wire_s - last_beat >= _HEARTBEAT_S
            prunes = wire_s - last_pruned >= _PRUNE_EVERY_S
            try:
                with self._store.transaction():
                    self._store.check_fence(self._epoch)
                    if watches:
                        for rotating in self._rotating:
                            rotating.lock()
                        self._watch.look()
                    if self._store.changed() != self._changed:
                        rotation = self._hear(rotation)
                    if beats:
                        self._beat()
                    if prunes:
                        self._prune()
                    self.journal.flush()
            except StoreBusy as busy:
                self._shut_out(busy, wire_s)
                pause_s = min(2 * pause_s, _BUSY_PAUSE_S)
            else:
                self._let_in()
                pause_s = _TICK_S
                last_watch = wire_s if watches else last_watch
                last_beat = wire_s if beats else last_beat
                last_pruned = wire_s if prunes else last_pruned
            if watches and report is not None:
                report(self.progress())
            if self._busy_since_s is None and until is not None and until(self):
                return
            await self._clock.wire_sleep(pause_s)

    def _shut_out(self, busy: StoreBusy, wire_s: float) -> None:
        """Another process has the Store: looks go on, what they tell waits, and nothing is written."""
        self._gate.shut(str(busy))
        if self._busy_since_s is None:
            self._busy_since_s, self._paged_busy = wire_s, False
        if not self._paged_busy and wire_s - self._busy_since_s >= _BUSY_PAGE_S:
            self._paged_busy = True
            self.journal.page(f"for {_BUSY_PAGE_S:.0f} s nothing was written to devices: {busy}")

    def _let_in(self) -> None:
        self._gate.shut("")
        self._busy_since_s = None

    def _prune(self) -> None:
        """Let the Store forget; but not what the gate of an open wave will ask for after a restart."""
        runner = self._roster.rollout
        since_s = runner.rollout.since_s if runner and runner.is_open else math.inf
        self._store.prune(since_s=since_s)

    def _rotate(self, rotation: Iterator[str]) -> None:
        """The slow hand: telemetry to the Store, and a fresh judgement of every device in its turn."""
        count = len(self.slots)
        news = [self._sights.news.pop(a) for a in list(self._sights.news)[:_NEWS_PER_TICK]]
        turn = [
            self.slots[asset]
            for asset in islice(rotation, _share(count, _TELEMETRY_FLUSH_S))
            if asset in self.slots
        ]
        self.journal.sightings(s.sighting for s in (*news, *turn) if s.sighting is not None)
        for slot in turn[: _share(count, _REJUDGE_S)]:
            if slot.sighting is not None:
                self._sights.queue.push(slot.asset, slot, Priority.FIRST_SYNC)

    # --- what others say -------------------------------------------------------------------------

    def _hear(self, rotation: Iterator[str]) -> Iterator[str]:
        """Another process changed the Store: a hold, an order, an accepted revision."""
        self._changed = self._store.changed()
        self._inbox.overlays()
        self._roster.count_released()
        record = self._store.accepted()
        if record is not None and self._roster.rollout is not None:
            rotation = self._hear_revision(record, self._roster.rollout.rollout.to, rotation)
        # Last: what an order does to a device is not in the Store yet, from which all this is read.
        self._inbox.orders()
        return rotation

    def _hear_revision(
        self, record: RevisionRecord, in_force: str, rotation: Iterator[str]
    ) -> Iterator[str]:
        again = record.accepted_at_s != self._heard_s
        self._heard_s = record.accepted_at_s
        if record.digest == in_force:
            self.reconciler.approved = approvals_of(record.approvals)
            if again:
                # Only then: at any other time the Store is behind what was verified a moment ago.
                self._inbox.expectations()
                self._roster.push_below(frozenset({self.site.id}))
            return rotation
        self._roster.put_in_force(record)
        self._poller.watch(self.slots.values())
        return cycle(list(self.slots))

    # --- what others are told ----------------------------------------------------------------------

    def progress(self) -> Progress:
        """Where the engine stands now."""
        return self._standing.progress()

    def samples(self) -> Iterator[Sample]:
        """What is measured of it, now."""
        return measures(
            self.progress(), self.slots.values(), self.reconciler, self._poller, self._gate
        )

    def is_quiet(self) -> bool:
        """Whether nothing is left to do: the end of `apply`."""
        return self._standing.is_quiet()

    def _beat(self) -> None:
        if not self._sights.queue.has_news:
            self._taken_up_s = self._heard_s
        now = self.progress()
        self._store.put_status(
            EngineStatus(
                pid=os.getpid(),
                pid_space=pid_space(),
                epoch=self._epoch,
                mode=self._mode,
                started_at_s=self._started_s,
                at_s=self._clock.wall_s(),
                real_at_s=time.time(),
                taken_up_s=self._taken_up_s,
                actionable=now.actionable,
                in_flight=now.in_flight,
                waiting=now.waiting,
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
