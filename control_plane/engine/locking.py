"""Machines that nobody else writes to while something irreversible goes on with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from control_plane.engine.poller import Poller
from control_plane.engine.queue import Priority
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.roster import Roster


def set_locks(
    before: Iterable[str],
    locks: Mapping[str, str],
    *,
    roster: Roster,
    reconciler: Reconciler,
    poller: Poller,
) -> None:
    """Lock machines, and let go of those that are not locked any more; each is looked at and judged anew.

    Args:
        before: assets that the caller had locked.
        locks: asset → by what, from now on.
        roster: who is managed.
        reconciler: judges them.
        poller: looks at them.
    """
    for asset in {*before, *locks}:
        slot, lock = roster.slots.get(asset), locks.get(asset, "")
        if slot is not None and slot.locked != lock:
            slot.locked = lock
            poller.hurry(slot)
            reconciler.sights.queue.push(asset, slot, Priority.CHANGE)
