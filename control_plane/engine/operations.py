"""Writes from their intent to their end: looked at until they are verified, or did not stick.

Nothing here sends: an operation that another process left open is taken over and only looked at.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from control_plane.core import limits
from control_plane.core.change import (
    ChangeKind,
    Disturbance,
    Failed,
    InProgress,
    Outcome,
    RefusedByDevice,
    kind_of,
)
from control_plane.core.fleet import Site
from control_plane.core.memory import note_unwritten, note_verified, note_write
from control_plane.core.ports import Clock
from control_plane.core.verify import OPEN_STAGES, Operation, Stage, progress
from control_plane.engine.gate import describe
from control_plane.engine.journal import Journal
from control_plane.engine.queue import Priority
from control_plane.engine.sights import Sights
from control_plane.engine.slots import Budgets, Slot

FOLLOW_UP_S = (2.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Device seconds between looks after a write; the last one repeats."""
_MIN_FOLLOW_UP_WIRE_S = 0.25
RETRY_S = 30.0
"""Device seconds before a failed write is decided again; doubles per attempt."""


class Operations:
    """The open operations of a site, and the budgets that they use."""

    def __init__(self, *, site: Site, clock: Clock, journal: Journal, sights: Sights) -> None:
        self._clock, self._journal, self._sights = clock, journal, sights
        self.budgets = Budgets(site)
        self.open: dict[str, Slot] = {}
        """Devices with an open operation."""
        self.written: set[str] = set()
        """Devices that this process has written to."""
        self.opened: Callable[[Operation], None] | None = None
        """Told of every operation that begins: the rollout judges its wave by them."""

    def begun(self, slot: Slot, op: Operation) -> None:
        """Its intent is durable; the driver is called next."""
        slot.op, slot.sending, slot.refusals = op, True, 0
        slot.wrote_wire_s = self._clock.wire_s()
        self.open[slot.asset] = slot
        self.written.add(slot.asset)
        if self.opened is not None:
            self.opened(op)
        self._spend(slot, op)
        self._sights.recount(slot)

    def _spend(self, slot: Slot, op: Operation) -> None:
        memory = note_write(
            slot.memory, kind_of(op.change), op.sent_at_s, persistent=op.cost.persistent
        )
        if memory is not slot.memory:
            slot.memory = memory
            self._journal.memory(memory)

    def ended(self, slot: Slot, op: Operation, outcome: Outcome) -> None:
        """The call came back. Only a clear refusal closes the operation now; the rest is looked at."""
        slot.sending = False
        answered = msgspec.structs.replace(op, answered_at_s=self._clock.wall_s())
        if slot.asset not in self.open:
            self._journal.outcome(unmanaged(answered), outcome)
            return
        slot.op = answered
        self._journal.outcome(answered, outcome)
        match outcome:
            case RefusedByDevice(reason=reason):
                self._close(slot, _failed(answered, reason), latch=True)
            case Failed(reason=reason, retryable=retryable):
                slot.memory = note_unwritten(slot.memory, kind_of(op.change), op.sent_at_s)
                self._close(slot, _failed(answered, reason), latch=not retryable)
                # Another machine may answer there by now, or the credentials may have changed.
                self._sights.hurry(slot, 0.0)
            case InProgress(check_after_s=after_s):
                self._sights.hurry(slot, self._soon(after_s))
            case _:
                self._sights.hurry(slot, self._soon(FOLLOW_UP_S[0]))

    def adopt(self, slot: Slot, op: Operation) -> None:
        """Take over an operation that an earlier process left open: it is looked at, never sent again."""
        # Its graces run anew: nobody looked while no process ran.
        slot.op = op = msgspec.structs.replace(op, answered_at_s=self._clock.wall_s())
        self.open[slot.asset] = slot
        self._spend(slot, op)
        self.budgets.take(slot)
        self._sights.recount(slot)
        self._sights.hurry(slot, 0.0)

    def let_go(self, slot: Slot) -> None:
        """Stop following a device that is not managed any more; its operation ends with that."""
        self.budgets.release(slot)
        op = slot.op
        if self.open.pop(slot.asset, None) is not None and op is not None:
            slot.op = None
            self._journal.operation(unmanaged(op))

    def _soon(self, device_s: float) -> float:
        return max(_MIN_FOLLOW_UP_WIRE_S, self._clock.wire_of(device_s))

    def follow(self, slot: Slot) -> None:
        """Move the open operation of a device along by what is known now, the time included."""
        op = slot.op
        if op is None or slot.sending:
            return
        now_s = self._clock.wall_s()
        seen = slot.seen if slot.unseen is None else None
        if seen is not None and op.stage is Stage.SENT:
            # A telemetry look since then has not asked for the settings.
            seen = msgspec.structs.replace(seen, at_s=slot.full_at_s)
        floor_s = limits.VERIFY_FLOOR_S / self._clock.wire_of(1.0)
        after = progress(op, slot.device, seen, now_s, floor_s=floor_s)
        if after.stage not in OPEN_STAGES:
            self._close(slot, after, latch=False)
            return
        if after is not op:
            slot.op = after
            self._journal.operation(after)
            if after.stage is Stage.READ_BACK and op.cost.disturbance is Disturbance.HOT:
                self.budgets.release(slot)
        age_s = now_s - op.sent_at_s
        gap_s = next((gap for gap in FOLLOW_UP_S if age_s < gap * 4), FOLLOW_UP_S[-1])
        self._sights.hurry(slot, self._soon(gap_s), full=after.stage is Stage.SENT)

    def _close(self, slot: Slot, op: Operation, *, latch: bool) -> None:
        self.budgets.release(slot)
        slot.op = None
        self.open.pop(slot.asset, None)
        memory = slot.memory
        if op.stage is Stage.NOT_APPLIED:
            kind = kind_of(op.change)
            slot.misses += 1
            backoff_s = RETRY_S * 2 ** min(slot.misses, 6)
            slot.retry_wire_s = self._clock.wire_s() + self._clock.wire_of(backoff_s)
            if latch or memory.attempts.get(kind, 0) >= limits.MAX_ATTEMPTS:
                self._give_up(slot, op)
        else:
            slot.misses = 0
            seen = slot.seen.settings if slot.seen else None
            slot.memory = note_verified(memory, op.change, op.before, op.after, seen)
        memory = slot.memory
        self._journal.memory(memory)
        self._journal.operation(op)
        what = "verified" if op.stage is Stage.CONFIRMED else op.stage
        self._journal.event(
            what, f"{describe(op)}{': ' + op.detail if op.detail else ''}", asset=slot.asset
        )
        self._sights.recount(slot)
        self._sights.queue.push(slot.asset, slot, Priority.CHANGE)

    def _give_up(self, slot: Slot, op: Operation) -> None:
        """A write does not stick: a person is called. A stop is tried on, with growing gaps."""
        text = f"{describe(op)} does not stick: {op.detail or 'it does not read as written'}"
        if kind_of(op.change) is not ChangeKind.STOP_MINING:
            self.latch(slot, kind_of(op.change), text)
        elif slot.misses == limits.MAX_ATTEMPTS:
            self._journal.page(f"{slot.asset}: {text}; it is tried on", asset=slot.asset)

    def latch(self, slot: Slot, kind: ChangeKind, text: str) -> None:
        """No more writes of a kind until a person releases them."""
        slot.memory = msgspec.structs.replace(slot.memory, stuck=slot.memory.stuck | {kind})
        self._journal.memory(slot.memory)
        self._journal.page(f"{slot.asset}: {text}", asset=slot.asset)


def unmanaged(op: Operation) -> Operation:
    """The end of an operation whose device left the declaration: nobody looks at it any more."""
    return _failed(op, "the device is not managed any more")


def followed(op: Operation, by: str) -> Operation:
    """The end of an operation that another one on the same device followed: how it ended was not kept."""
    return _failed(op, f"it had ended when {by} began; how was not kept")


def _failed(op: Operation, reason: str) -> Operation:
    return msgspec.structs.replace(op, stage=Stage.NOT_APPLIED, detail=reason)
