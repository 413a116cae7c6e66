"""Correlated failure: many devices lost, or many pools changed, at once are one incident.

While it is open nothing but lowering is written below its node.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from control_plane.core import limits
from control_plane.core.correlate import Incident, incident_above, is_storm, lowest_common
from control_plane.core.observation import Field, UnseenReason
from control_plane.core.ports import Clock
from control_plane.engine.journal import Journal
from control_plane.engine.slots import Slot
from control_plane.engine.store import Store

_BACK_SHARE = 0.2
"""A lost node is back when so few of its devices are still silent."""


class Incidents:
    """Watches the slots of one site."""

    def __init__(self, *, site: str, store: Store, clock: Clock, journal: Journal) -> None:
        self._site = site
        self._store = store
        self._clock = clock
        self._journal = journal
        self._lost: dict[str, float] = {}
        """Asset → wire time at which it fell silent."""
        self._was_seen: set[str] = set()
        self._storm_released = False
        """A person released the storm: it is repaired now, and no new one until it has abated."""
        self.open: dict[str, Incident] = {i.node: i for i in store.incidents()}
        self._taken = {i.id for i in store.incidents(open_only=False)}

    def of(self, slot: Slot) -> str | None:
        """The open incident that covers a device, in words."""
        return incident_above(self.open, (*slot.path, self._site)) if self.open else None

    def watch(self, slots: Mapping[str, Slot]) -> frozenset[str]:
        """Look over the whole site.

        Returns:
            Nodes whose incident opened or closed: devices below them are judged anew.
        """
        silent = self._silent(slots)
        return frozenset(
            {*self._close_lost(slots, silent), *self._open_lost(slots), *self._open_storm(slots)}
        )

    def release(self, incident_id: str, by: str) -> str | None:
        """A person closes an incident; its node, or `None` where no such incident is open."""
        for node, incident in self.open.items():
            if incident.id == incident_id:
                self._storm_released = self._storm_released or incident.cause == "pools"
                self._close(incident, f"released by {by}")
                return node
        return None

    def _silent(self, slots: Mapping[str, Slot]) -> frozenset[str]:
        """Keep the times at which devices that had answered fell silent."""
        now, was_seen = self._clock.wire_s(), self._was_seen
        silent = set()
        for asset, slot in slots.items():
            if slot.unseen is None:
                if slot.seen is not None and asset not in was_seen:
                    was_seen.add(asset)
                    self._lost.pop(asset, None)
            elif slot.locked:
                was_seen.discard(asset)  # It boots another firmware: that loses nobody.
            elif slot.unseen.reason is UnseenReason.UNREACHABLE:
                silent.add(asset)
                if asset in was_seen:
                    was_seen.discard(asset)
                    self._lost[asset] = now
        return frozenset(silent)

    def _open_lost(self, slots: Mapping[str, Slot]) -> list[str]:
        now = self._clock.wire_s()
        recent = [
            asset
            for asset, at in self._lost.items()
            if now - at <= limits.CORRELATED_WINDOW_S
            and asset in slots
            and self.of(slots[asset]) is None
        ]
        if len(recent) < limits.CORRELATED_FLOOR:
            return []
        population: dict[str, int] = {}
        for asset in (*self._was_seen, *self._lost):
            if asset in slots:
                for node in slots[asset].path:
                    population[node] = population.get(node, 0) + 1
        found = lowest_common(recent, {a: slots[a].path for a in recent}, population)
        if found is None:
            return []
        node, assets = found
        self._open(node, "lost", assets, f"{assets} of {population[node]} devices lost at once")
        return [node]

    def _close_lost(self, slots: Mapping[str, Slot], silent: frozenset[str]) -> list[str]:
        closed = []
        for node, incident in list(self.open.items()):
            if incident.cause != "lost":
                continue
            below = [slot for slot in slots.values() if node in slot.path]
            if any(slot.sighting is None for slot in below):
                continue  # A process that just started knows nothing yet.
            quiet = sum(1 for slot in below if slot.asset in silent)
            if quiet <= _BACK_SHARE * incident.assets:
                self._close(incident, "its devices answer again")
                closed.append(node)
        return closed

    def _open_storm(self, slots: Mapping[str, Slot]) -> list[str]:
        if self._site in self.open:
            return []
        drifting = sum(
            Field.POOLS in slot.memory.drifting for slot in slots.values() if slot.memory.drifting
        )
        if not is_storm(drifting, len(slots)):
            self._storm_released = False
            return []
        if self._storm_released:
            return []
        self._open(
            self._site, "pools", drifting, f"pools of {drifting} devices left their declaration"
        )
        return [self._site]

    def _open(self, node: str, cause: str, assets: int, detail: str) -> None:
        incident = Incident(
            id=self._next_id(),
            node=node,
            cause=cause,
            since_s=self._clock.wall_s(),
            assets=assets,
            detail=detail,
        )
        self.open[node] = incident
        self._store.put_incident(incident)
        self._journal.page(f"incident {incident.id} on {node}: {detail}", node=node)

    def _next_id(self) -> str:
        while (number := f"i{self._store.next_number('incident'):04d}") in self._taken:
            pass  # of a Store that had no series yet
        return number

    def _close(self, incident: Incident, why: str) -> None:
        del self.open[incident.node]
        self._store.put_incident(msgspec.structs.replace(incident, open=False))
        self._journal.event(
            "incident", f"{incident.id} on {incident.node} closed: {why}", node=incident.node
        )
