"""The actuator gate: every write passes it, and it trusts nobody.

It has its own copy of the owners' pool lists and its own rules; the decision function has checked the
same things before, from other data. What passes is on disk, as an intent under the current epoch,
before a byte leaves this machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgspec

from control_plane.core import limits
from control_plane.core.change import ChangeKind, SetPools, StopMining, fields_written, kind_of
from control_plane.core.decision import Step, Why
from control_plane.core.errors import FenceLost, StoreBusy, StoreError
from control_plane.core.fleet import Site
from control_plane.core.observation import Field, Observation, PoolSetting
from control_plane.core.overlay import Overlay, OverlayKind, covering, freeze_on, hold_on
from control_plane.core.ports import Clock
from control_plane.core.rotation import lock_in_words
from control_plane.core.verify import Operation
from control_plane.engine.audit import AuditFile
from control_plane.engine.journal import Journal
from control_plane.engine.records import Event
from control_plane.engine.slots import Slot
from control_plane.engine.store import Store, operation_id

_LOCKS_UNKNOWN = "it is not known yet on which devices firmware is being installed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Intent:
    """One write that asks to pass."""

    slot: Slot
    step: Step
    seen: Observation
    """The fresh look, with a confirmed identity, that the step was decided from."""


class Gate:
    """One per engine process; closed once its fence is lost."""

    def __init__(
        self,
        *,
        store: Store,
        audit: AuditFile | None,
        epoch: int,
        journal: Journal,
        is_live: Callable[[], bool] = lambda: True,
    ) -> None:
        """`is_live` tells at each moment whether the fence is held: a lease runs out by itself."""
        self._store = store
        self._audit = audit
        self._epoch = epoch
        self._journal = journal
        self._is_live = is_live
        self._pools: Mapping[str, frozenset[tuple[str, str]]] = {}
        self._host_actions: frozenset[Field] = frozenset()
        self._revision: str | None = None
        self._sequence = store.last_sequence(epoch)
        self.is_open = True
        self._busy = ""
        """Why nothing passes for now."""
        self.knows_locks = True
        """Whether it is known on which devices firmware is being installed; without that nothing passes."""

    def learn(self, site: Site, revision: str | None = None) -> None:
        """Take over what an accepted revision allows: each owner's pools, and what is the host's to do.

        With its digest nothing passes any more once another one was accepted, until that is learned.
        """
        self._revision = revision
        self._host_actions = site.tenure.host_actions
        self._pools = {
            owner.id: frozenset((pool.url, pool.worker) for pool in owner.pools)
            for owner in site.owners.values()
        }

    @property
    def passes(self) -> bool:
        """Whether anything may pass at this moment, as far as is known without asking the Store."""
        return self.is_open and self.knows_locks and not self._busy and self._is_live()

    def close(self) -> None:
        """Let nothing pass any more."""
        self.is_open = False

    def shut(self, why: str) -> None:
        """Let nothing pass for now: another process has the Store. Without a reason, open again."""
        self._busy = why

    def intend(self, intents: Sequence[Intent], now_s: float) -> list[Operation | str]:
        """Make intents durable, all in one transaction.

        The ends of earlier writes become durable with them: of a device at most one is ever open.

        Returns:
            For each intent its operation, which must now be sent at most once; or why it may not pass.

        Raises:
            FenceLost: another process took over; the gate is closed.
            StoreBusy: another process has the Store; nothing passed, and the gate is shut for now.
            StoreError: nothing is durable, so nothing may be sent.
        """
        self._refuse_closed()
        if self._busy:
            raise StoreBusy(self._busy)
        if not self.knows_locks:
            raise StoreBusy(_LOCKS_UNKNOWN)
        try:
            with self._store.transaction():
                self._store.check_fence(self._epoch)
                self._journal.flush()
                overlays = self._store.overlays()
                outdated = self._outdated()
                answers = [outdated or self._judge(i, overlays, now_s) for i in intents]
                operations = [answer for answer in answers if isinstance(answer, Operation)]
                self._store.put_operations(operations)
                self._store.put_events(_event(o, now_s) for o in operations)
                if self._audit is not None and operations:
                    self._audit.append(_audit_record(o, now_s) for o in operations)
        except FenceLost:
            self.close()
            raise
        except StoreBusy as busy:
            self.shut(str(busy))
            raise
        return answers

    def refuses(self, intent: Intent, now_s: float) -> str | None:
        """Why a write that has passed may not leave after all; `None` where it may.

        Asked right before bytes leave, which may be half a minute after it passed: the fence, holds
        and freezes are read again. Without an answer from the Store nothing leaves.
        """
        try:
            self._refuse_closed()
        except FenceLost as error:
            return str(error)
        if not self.knows_locks:
            return _LOCKS_UNKNOWN
        if intent.slot.locked:
            return lock_in_words(intent.slot.locked)
        if self._busy and not isinstance(intent.step.change, StopMining):
            return self._busy  # What is being written there may be a hold.
        try:
            self._store.check_fence(self._epoch)
            overlays = self._store.overlays()
        except FenceLost as error:
            self.close()
            return str(error)
        except StoreError as error:
            return str(error)
        return _overlay_refusal(intent.step, covering(overlays, intent.slot.nodes), now_s)

    def _refuse_closed(self) -> None:
        if not self._is_live():
            self.close()
        if not self.is_open:
            raise FenceLost("the gate is closed")

    def _outdated(self) -> str | None:
        """Why steps that were decided by another revision than the one in force do not pass."""
        record = self._store.accepted() if self._revision is not None else None
        if record is None or record.digest == self._revision:
            return None
        return "another revision was accepted meanwhile"

    def _judge(
        self, intent: Intent, overlays: tuple[Overlay, ...], now_s: float
    ) -> Operation | str:
        refusal = self._refusal(intent, covering(overlays, intent.slot.nodes), now_s)
        if refusal is not None:
            return refusal
        slot, step, seen = intent.slot, intent.step, intent.seen
        capabilities = slot.capabilities
        if capabilities is None or step.kind not in capabilities.writes:
            return "the family cannot do that"
        self._sequence += 1
        return Operation(
            id=operation_id(self._epoch, self._sequence),
            asset=slot.asset,
            change=step.change,
            before=step.before,
            after=step.after,
            sent_at_s=now_s,
            hashrate_before_ths=seen.telemetry.hashrate_ths,
            cost=capabilities.writes[step.kind],
            why=step.why,
            epoch=self._epoch,
        )

    def _refusal(self, intent: Intent, overlays: tuple[Overlay, ...], now_s: float) -> str | None:
        slot, step = intent.slot, intent.step
        barred = _overlay_refusal(step, overlays, now_s)
        if barred is not None:
            return barred
        pin = slot.memory.pin
        identity = intent.seen.identity
        if pin is None or identity is None or not pin.matches(identity):
            return "identity is not confirmed"
        if step.raises and step.why is not Why.ROLLOUT:
            return "a repair may not raise power"
        if slot.op is not None:
            return "another write is open"
        if slot.locked:
            return lock_in_words(slot.locked)
        if self._host_actions & fields_written(step.change, intent.seen.settings):
            return "only the host may change it"
        if isinstance(step.change, SetPools):
            return self._pool_refusal(slot, step.change.pools)
        return None

    def _pool_refusal(self, slot: Slot, pools: Sequence[PoolSetting]) -> str | None:
        if not pools:
            return "it would leave zero pools"
        device = slot.device
        words = {
            "{asset}": device.asset,
            "{rack}": device.rack,
            "{slot}": str(device.slot),
            "{site}": device.site,
        }
        allowed = set()
        for url, pattern in self._pools.get(slot.owner.id, frozenset()):
            worker = pattern
            for word, value in words.items():
                worker = worker.replace(word, value)
            allowed.add((url, worker))
        for pool in pools:
            if (pool.url, pool.worker) not in allowed:
                return f"{pool.url} is not on the list of {slot.owner.id}"
        return None


class WritePermit:
    """The port `Permit` for one write: what the driver asks before each command of it.

    Made right after the look that the write was decided from. A stop may leave however old that is.
    """

    def __init__(self, gate: Gate, intent: Intent, clock: Clock) -> None:
        self._gate, self._intent, self._clock = gate, intent, clock
        self._looked_wire_s = clock.wire_s()
        self.was_given = False
        """Whether bytes may have left."""

    def __call__(self) -> str | None:
        """Why nothing more may leave; `None` where it may."""
        refusal = self._refusal()
        self.was_given = self.was_given or refusal is None
        return refusal

    def _refusal(self) -> str | None:
        age_s = self._clock.wire_s() - self._looked_wire_s
        stop = isinstance(self._intent.step.change, StopMining)
        if age_s > limits.WRITE_READ_TTL_S and not stop:
            return f"the look that it was decided from is {age_s:.0f} s old"
        return self._gate.refuses(self._intent, self._clock.wall_s())


def _overlay_refusal(step: Step, overlays: tuple[Overlay, ...], now_s: float) -> str | None:
    """A hold lets nothing through but a stop, a freeze what lowers, a curtailment no raise."""
    stop = isinstance(step.change, StopMining)
    lowers = stop or (step.after_w < step.before_w and step.kind is not ChangeKind.SET_POOLS)
    hold = hold_on(overlays)
    if hold is not None and not stop:
        return f"{hold.kind} hold of {hold.owner}"
    if freeze_on(overlays, now_s) is not None and not lowers:
        return "frozen"
    if step.raises and any(overlay.kind is OverlayKind.GUARD for overlay in overlays):
        return "guarded: a guard sheds there, or lowered it"
    if step.raises and any(
        overlay.fields.mining is False and not overlay.is_expired(now_s) for overlay in overlays
    ):
        return "curtailed"
    return None


def _audit_record(operation: Operation, now_s: float) -> Mapping[str, object]:
    return {
        "at_s": now_s,
        "kind": "intent",
        "operation": operation.id,
        "asset": operation.asset,
        "change": operation.change,
        "why": operation.why,
        "epoch": operation.epoch,
    }


def _event(operation: Operation, now_s: float) -> Event:
    return Event(
        at_s=now_s,
        kind="intent",
        asset=operation.asset,
        text=f"{describe(operation)} ({operation.why})",
    )


def describe(operation: Operation) -> str:
    """The operation in a few words."""
    change = operation.change
    if isinstance(change, SetPools):
        return f"set pools to {', '.join(pool.url for pool in change.pools)}"
    detail = " ".join(
        str(value) for value in msgspec.structs.asdict(change).values() if value is not None
    )
    return f"{kind_of(change).replace('_', ' ')} {detail}".strip()
