"""What other processes of the host say through the Store: holds, orders, expectations."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from control_plane.core.renumbering import first_place
from control_plane.engine.incidents import Incidents
from control_plane.engine.installing import Installing
from control_plane.engine.journal import Journal
from control_plane.engine.orders import obey
from control_plane.engine.poller import Poller
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.records import Order, OrderKind
from control_plane.engine.roster import Roster
from control_plane.engine.rotating import Rotating
from control_plane.engine.store import Store


class Inbox:
    """Reads the Store when somebody else has written to it."""

    def __init__(
        self,
        *,
        store: Store,
        roster: Roster,
        reconciler: Reconciler,
        incidents: Incidents,
        journal: Journal,
        poller: Poller,
        installing: Installing,
        rotating: Sequence[Rotating],
    ) -> None:
        self._installing, self._rotating = installing, rotating
        self._store, self._roster, self._reconciler = store, roster, reconciler
        self._incidents, self._journal, self._poller = incidents, journal, poller

    def overlays(self) -> None:
        """Take over the holds and other overlays that are in force now."""
        overlays = self._store.overlays()
        before = {overlay.id: overlay for overlay in self._reconciler.overlays}
        after = {overlay.id: overlay for overlay in overlays}
        self._reconciler.overlays = overlays
        self._roster.push_below(
            frozenset(
                node
                for key in before.keys() | after.keys()
                if before.get(key) != after.get(key)
                for overlay in (before.get(key), after.get(key))
                if overlay is not None
                for node in (overlay.node, *overlay.assets)
            )
        )

    def orders(self) -> None:
        """Carry out what people ordered; inside the transaction that keeps the effect."""
        numbers = []
        for number, order in self._store.orders():
            numbers.append(number)
            self._obey(order)
        self._store.drop_orders(numbers)

    def _obey(self, order: Order) -> None:
        self._journal.event("order", f"{order.kind} by {order.by}", asset=order.target)
        match order.kind:
            case OrderKind.ROLLOUT:
                runner = self._roster.rollout
                if runner and runner.rollout.id == order.target and runner.proceed(order.by):
                    self._roster.keep_rollout(runner)
            case OrderKind.FIRMWARE:
                self._installing.release(order.target, through=order.through, by=order.by)
            case OrderKind.CREDENTIALS:
                for rotating in self._rotating:
                    rotating.release(order.target, through=order.through, by=order.by)
            case OrderKind.INCIDENT:
                node = self._incidents.release(order.target, order.by)
                self._roster.push_below(frozenset({node} if node else ()))
            case _:
                slot = self._roster.slots.get(order.target)
                memory = slot.memory if slot else self._journal.memory_of(order.target)
                memory = obey(memory, order)
                self._journal.memory(memory)
                if slot is not None:
                    slot.memory = memory
                    if order.kind is OrderKind.TRUST:
                        slot.address = first_place(slot.device, None)
                    slot.retry_wire_s = float("-inf")
                    self._poller.hurry(slot)

    def expectations(self) -> None:
        """Take over the settings that a plan was shown with."""
        for asset, memory in self._store.memories().items():
            slot = self._roster.slots.get(asset)
            if slot is not None and slot.memory.expected != memory.expected:
                slot.memory = msgspec.structs.replace(slot.memory, expected=memory.expected)
                self._journal.memory(slot.memory)
