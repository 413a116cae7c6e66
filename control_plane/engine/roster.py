"""Whom the engine manages, and what each device is compared with: slots, as the rollout assigns them."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from control_plane.core import limits
from control_plane.core.fleet import Device, Site
from control_plane.core.memory import Memory
from control_plane.core.observation import Observation
from control_plane.core.power import Loads, counted_w
from control_plane.core.renumbering import first_place
from control_plane.core.world import pinned
from control_plane.engine.assignment import standing
from control_plane.engine.edges import Edges
from control_plane.engine.gate import Gate
from control_plane.engine.journal import Journal
from control_plane.engine.operations import followed, unmanaged
from control_plane.engine.poller import Poller
from control_plane.engine.queue import Priority
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.records import Released, RevisionRecord
from control_plane.engine.revisions import Revisions
from control_plane.engine.rollouts import RolloutRunner
from control_plane.engine.slots import Slot, make_slot
from control_plane.engine.store import Store
from control_plane.engine.world import approvals_of


class Roster:
    """The slots of one site, renewed when a revision comes into force or a wave opens."""

    def __init__(
        self,
        *,
        site: Site,
        store: Store,
        epoch: int,
        edges: Edges,
        revisions: Revisions,
        gate: Gate,
        journal: Journal,
        reconciler: Reconciler,
        poller: Poller,
    ) -> None:
        self.site = site
        self.slots: dict[str, Slot] = {}
        self.rollout: RolloutRunner | None = None
        self._released: dict[str, Released] = {}
        self._store, self._epoch = store, epoch
        self._edges, self._clock = edges, edges.clock
        self._revisions, self._gate, self._journal = revisions, gate, journal
        self._reconciler, self._poller = reconciler, poller

    def put_in_force(self, record: RevisionRecord) -> None:
        """Compare devices with a revision from now on, as its rollout assigns it."""
        self.site = self._revisions.site(record.digest)
        rollout = self._store.rollout_to(record.digest)
        assert rollout is not None  # noqa: S101 - accepted in the same transaction as its revision
        self.rollout = RolloutRunner(
            rollout=rollout,
            before=standing(rollout, self._revisions.site),
            after=self.site,
            clock=self._clock,
            journal=self._journal,
        )
        for operation in self._store.operations_since(rollout.since_s):
            self.rollout.note(operation)
        self._reconciler.operations.opened = self.rollout.note
        self._gate.learn(self.site, record.digest)
        self._reconciler.approved = approvals_of(record.approvals)
        self._place(self._store.memories())

    def keep_rollout(self, runner: RolloutRunner) -> None:
        """Make the new state of a rollout durable, then let it assign the devices.

        Raises:
            FenceLost: another process took over.
            StoreError: it is not durable; the engine stops.
        """
        with self._store.transaction():
            self._store.check_fence(self._epoch)
            self._store.put_rollout(runner.rollout)
        self._place({})

    def _place(self, memories: Mapping[str, Memory]) -> None:
        """Make or renew the slots of all managed devices, and count everything that draws.

        Whoever is compared with something else from now on, or was reached by a wave, is judged anew.
        """
        assert self.rollout is not None  # noqa: S101 - made together with the slots
        site, reconciler = self.site, self._reconciler
        reconciler.site = site
        reconciler.sights.loads = loads = Loads(site)
        reconciler.operations.budgets.adopt(site)
        kept: dict[str, Slot] = {}
        moved: list[str] = []
        for declared in site.devices:
            if not declared.is_managed or declared.intent.family not in self._edges.drivers:
                loads.count(declared.asset, declared.feed, counted_w(declared, None))
                continue
            device, assigned = self.rollout.place(declared)
            old = self.slots.get(device.asset)
            if old is None or old.device is not device or old.assigned is not assigned:
                moved.append(device.asset)
            slot = self._renew(device, memories)
            slot.assigned = assigned
            kept[device.asset] = slot
        for asset, slot in self.slots.items():
            if asset not in kept:
                self._poller.forget(slot)
                reconciler.let_go(slot)
        self.slots = kept
        for slot in kept.values():
            reconciler.sights.recount(slot)
        self._released = {}
        self.count_released()
        for asset in moved:
            if kept[asset].sighting is not None:
                reconciler.sights.queue.push(asset, kept[asset], Priority.CHANGE)

    def count_released(self) -> None:
        """Count what left the declaration, until a person says that it is unplugged."""
        loads = self._reconciler.sights.loads
        now = {gone.asset: gone for gone in self._store.released()}
        for gone in self._released.values():
            if gone.asset not in now:
                loads.count_released(gone.asset, gone.feed, 0.0)
        for gone in now.values():
            loads.count_released(gone.asset, gone.feed, gone.power_w)
        self._released = now

    def _renew(self, device: Device, memories: Mapping[str, Memory]) -> Slot:
        """The slot of a device: the one it has, if nothing about it changed, or one that goes on from it."""
        old = self.slots.get(device.asset)
        memory = memories.get(device.asset)
        if old is not None and old.device is device and memory is None:
            return old
        family = device.intent.family
        fresh = make_slot(
            self.site,
            device,
            pinned(device, memory or (old.memory if old else None)),
            self._edges.drivers.get(family),
            self._edges.capabilities.get(family),
        )
        if old is None:
            return fresh
        if old.memory is not fresh.memory and memory is not None:
            # What the engine knows is newer than the Store; only what `accept` wrote there counts.
            fresh.memory = msgspec.structs.replace(
                pinned(device, old.memory), expected=memory.expected
            )
        same_place = (
            old.device.address == device.address
            and old.device.subnet == device.subnet
            and old.device.renumbering == device.renumbering
            and old.memory.pin == fresh.memory.pin
        )
        if old.device.intent.family != family:
            # What another family's driver saw is of another firmware.
            old.seen, old.unseen, old.full_wanted = None, None, True
        old.device, old.owner, old.memory = device, fresh.owner, fresh.memory
        old.driver, old.capabilities = fresh.driver, fresh.capabilities
        old.nodes, old.path, old.budget_nodes = fresh.nodes, fresh.path, fresh.budget_nodes
        if not same_place:
            old.address = first_place(device, old.memory.located)
            old.full_wanted = True
        return old

    def adopt_operations(self) -> None:
        """Take over what an earlier process left open: looked at, never sent again.

        Of a device the last one: the gate let it pass once the one before had ended, which a process
        that keeps its state in several places may have had no time to note.
        """
        found = sorted(self._store.open_operations(), key=lambda o: (o.sent_at_s, o.id))
        last = {operation.asset: operation.id for operation in found}
        for operation in found:
            slot = self.slots.get(operation.asset)
            if operation.id != last[operation.asset]:
                self._journal.operation(followed(operation, last[operation.asset]))
            elif slot is not None:
                self._reconciler.operations.adopt(slot, operation)
            else:
                self._journal.operation(unmanaged(operation))

    def remember(self, sightings: Mapping[str, object]) -> None:
        """Begin with what another process of this host has just seen, instead of asking again.

        What it saw in passing is asked for wholly next: it may have been about to.
        """
        for asset, seen in sightings.items():
            slot = self.slots.get(asset)
            if slot is None or not isinstance(seen, Observation) or slot.sighting is not None:
                continue
            age_wire_s = self._clock.wire_of(max(0.0, self._clock.wall_s() - seen.at_s))
            if age_wire_s <= limits.TELEMETRY_TTL_S:
                self._reconciler.sights.sighted(slot, seen, seen.depth)
                slot.seen_wire_s = self._clock.wire_s() - age_wire_s

    def push_below(self, nodes: frozenset[str]) -> None:
        """Judge anew whoever one of the nodes covers."""
        if not nodes:
            return
        for slot in self.slots.values():
            if slot.sighting is not None and not nodes.isdisjoint(slot.nodes):
                self._reconciler.sights.queue.push(slot.asset, slot, Priority.CHANGE)
