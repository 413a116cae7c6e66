"""The journal of rotations: how far each device has come, and what it is reached by.

A step is durable when `keep` returns, under the fence. Whether the change may leave is asked of the Store in
the transaction that keeps `committing`, and once more right before the bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from control_plane.core.errors import FenceLost, StoreError
from control_plane.core.overlay import bars_all, covering
from control_plane.core.ports import Clock
from control_plane.core.rotation import RotationEntry, RotationStep
from control_plane.engine.errands import Errand
from control_plane.engine.flash import Withdrawn
from control_plane.engine.gate import Gate
from control_plane.engine.journal import Journal
from control_plane.engine.roster import Roster
from control_plane.engine.store import Store


class RotationLog:
    """A `RotationJournal` for all devices of a site, of one errand."""

    def __init__(
        self,
        errand: Errand,
        *,
        store: Store,
        epoch: int,
        clock: Clock,
        gate: Gate,
        roster: Roster,
        journal: Journal,
        is_in_round: Callable[[RotationEntry], bool],
    ) -> None:
        """`is_in_round`: whether the device of an entry has not been taken out of its round."""
        self._store, self._epoch, self._clock, self._gate = store, epoch, clock, gate
        self._roster, self._journal, self._is_in_round = roster, journal, is_in_round
        self._errand = errand
        self.entries: dict[str, RotationEntry] = {
            entry.asset: entry for entry in store.rotating(errand.subject)
        }
        """By asset, of its last rotation."""

    def begin(self, entries: Iterable[RotationEntry]) -> None:
        """Take up devices of a round that was just kept, inside its transaction."""
        entries = tuple(entries)
        self._store.put_rotating(entries)
        self.entries.update({entry.asset: entry for entry in entries})

    def keep(self, entry: RotationEntry) -> None:
        """Keep a step, under the fence; `committing` only while nothing forbids it.

        Raises:
            Withdrawn: something does.
            StoreBusy, FenceLost, StoreError: it is not kept.
        """
        slot = self._roster.slots.get(entry.asset)
        with self._store.transaction():
            self._store.check_fence(self._epoch)
            if entry.step is RotationStep.COMMITTING:
                why = self._barred(entry)
                if why is not None:
                    raise Withdrawn(why)
            self._store.put_rotating([entry])
            memory = known = slot.memory if slot else self._journal.memory_of(entry.asset)
            if entry.verified is not None:
                memory = self._errand.remembered(known, entry)
            is_news = memory != known
            if is_news:
                self._store.put_memories([memory])
        self.entries[entry.asset] = entry
        if is_news:
            self._journal.memory(memory)
        if slot is not None and entry.verified is not None:
            slot.memory = memory
            self._errand.settle(slot, entry)

    def refusal(self, asset: str) -> str | None:
        """The permit: why a change may not leave any more."""
        if not self._gate.passes:
            return "the gate is closed"
        try:
            self._store.check_fence(self._epoch)
            return self._barred(self.entries[asset])
        except (FenceLost, StoreError) as error:
            return str(error)

    def _barred(self, entry: RotationEntry) -> str | None:
        """Whether a person forbids it, as the Store says at this moment."""
        slot = self._roster.slots.get(entry.asset)
        if slot is None or not self._is_in_round(entry):
            return "it was taken out of its round"
        if bars_all(covering(self._store.overlays(), slot.nodes), self._clock.wall_s()):
            return "it is held or frozen"
        return None
