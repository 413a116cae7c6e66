"""Advances the rollout of the accepted revision: wave by wave, a gate after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from itertools import islice, takewhile

import msgspec

from control_plane.core.decision import PENDING, Decision, Reason, Why
from control_plane.core.fleet import Device, Site
from control_plane.core.ports import Clock
from control_plane.core.rollout import (
    GateResult,
    Rollout,
    RolloutState,
    after_gate,
    is_assigned,
    judge_gate,
    uncounted,
)
from control_plane.core.verify import Operation
from control_plane.engine.assignment import cohorts, until_its_wave
from control_plane.engine.comparing import Control, failed_of
from control_plane.engine.journal import Journal
from control_plane.engine.poller import Poller
from control_plane.engine.slots import Slot

IsIdle = Callable[[Slot, Device], bool]
"""Whether a device of a later wave would have nothing to write, had its wave come with this declaration."""
_UNSETTLED = PENDING - {Reason.STARTING}
"""Whether a machine that starts comes up is for its gate to judge, not for its wave to wait for."""


class RolloutRunner:
    """Owns the state of one rollout while the engine runs.

    What a wave wrote, and how its devices hashed before, stands in the operations: a crash loses none of
    it, so a gate judges the same devices after a restart.
    """

    def __init__(
        self,
        *,
        rollout: Rollout,
        before: Mapping[str, Device],
        after: Site,
        clock: Clock,
        journal: Journal,
    ) -> None:
        self.rollout = rollout
        self._before, self._after = before, after
        self._order = cohorts(rollout, before, after)
        self._max_failures = after.strategy.max_new_failure_share
        self._clock = clock
        self._journal = journal
        self._written: dict[str, Operation] = {}
        """The first operation on each device since the wave opened."""
        self._wrote_s: dict[str, float] = {}
        """When each was last written to for this rollout: what was away when its wave began may be late."""
        self._control: Control | None = None
        self._waiting: dict[str, Device] = {}
        """Devices of later waves as they are compared until then: always the same value of each."""

    def note(self, operation: Operation) -> None:
        """A write begins: if it belongs to the open wave, its gate will judge the device."""
        if operation.sent_at_s >= self.rollout.since_s:
            self._written.setdefault(operation.asset, operation)
            if operation.why is Why.ROLLOUT:
                self._wrote_s[operation.asset] = operation.sent_at_s

    def place(self, device: Device) -> tuple[Device, bool]:
        """What a device is compared with now, and whether a wave has reached it.

        A device of a later wave is compared with the revision that the rollout came from: its
        drift from that is repaired, but what it never had it does not get before its wave.
        """
        if is_assigned(self._order, self.rollout, device.asset):
            return device, True
        if device.asset not in self._waiting:
            older = self._before.get(device.asset)
            self._waiting[device.asset] = until_its_wave(device, older)
        return self._waiting[device.asset], False

    @property
    def is_open(self) -> bool:
        """Whether it still moves."""
        return self.rollout.is_open

    def treated(self, slots: Mapping[str, Slot]) -> list[Slot]:
        """The devices of the open wave; empty without one."""
        return self._members(slots, self.rollout.wave) if self.is_open else []

    def advance(self, slots: Mapping[str, Slot], poller: Poller, is_idle: IsIdle) -> bool:
        """Take the next step if its time has come.

        Returns:
            True if the rollout changed: the caller keeps it and places the devices anew.
        """
        if not self.is_open:
            return False
        treated = self._members(slots, self.rollout.wave)
        if self._control is None:
            self._control = self._take_control(slots)
        now_s = self._clock.wall_s()
        if self.rollout.state is RolloutState.RUNNING:
            if not all(map(_is_settled, treated)):
                return False
            touched = [slot for slot in treated if slot.asset in self._written]
            if not touched:
                self._discount(slots, is_idle)
                return self._pass(self._untouched(len(treated), now_s))
            settle_s = max(s.capabilities.settle_s for s in touched if s.capabilities)
            self.rollout = msgspec.structs.replace(
                self.rollout, state=RolloutState.SOAKING, soak_until_s=now_s + settle_s
            )
            return True
        if now_s < (self.rollout.soak_until_s or 0.0):
            return False
        if now_s < self._soaked_s(treated):
            # Whoever was written to meanwhile has not shown anything yet.
            self._control.look_anew()
            return False
        return self._judge(treated, self._control, slots, poller, is_idle)

    def _soaked_s(self, treated: Iterable[Slot]) -> float:
        """When the last of the devices that were written to has been so for as long as it takes to tell."""
        return max(
            (
                self._wrote_s[slot.asset] + slot.capabilities.settle_s
                for slot in treated
                if slot.asset in self._wrote_s and slot.capabilities
            ),
            default=0.0,
        )

    def interrupt(self) -> bool:
        """An incident covers the open wave: nothing that was seen meanwhile speaks for or against it.

        Its soak begins anew once the incident is over; machines that come back have to ramp first.

        Returns:
            True if the rollout changed: the caller keeps it.
        """
        self._control = None
        if self.rollout.state is not RolloutState.SOAKING:
            return False
        self.rollout = msgspec.structs.replace(
            self.rollout, state=RolloutState.RUNNING, soak_until_s=None
        )
        return True

    def proceed(self, by: str) -> bool:
        """A person wants a halted rollout to go on."""
        if self.rollout.state is not RolloutState.HALTED:
            return False
        gate = msgspec.structs.replace(
            self.rollout.gates[-1],
            passed=True,
            at_s=self._clock.wall_s(),
            detail=f"continued by {by}",
        )
        return self._pass(gate)

    def _members(self, slots: Mapping[str, Slot], wave: int) -> list[Slot]:
        first = self.rollout.waves[wave - 1] if wave else 0
        assets = islice(self._order, first, self.rollout.waves[wave])
        return [slots[asset] for asset in assets if asset in slots]

    def _take_control(self, slots: Mapping[str, Slot]) -> Control:
        """Who is touched by no wave yet."""
        reached = frozenset(islice(self._order, self.rollout.waves[self.rollout.wave]))
        return Control(slots, without=reached)

    def _judge(
        self,
        treated: list[Slot],
        control: Control,
        slots: Mapping[str, Slot],
        poller: Poller,
        is_idle: IsIdle,
    ) -> bool:
        # Devices of the wave that already were as declared, or already failed, would thin the failures out.
        judged = {
            slot.asset: self._written[slot.asset].hashrate_before_ths or 0.0
            for slot in treated
            if slot.asset in self._written and _was_healthy(self._written[slot.asset])
        }
        if not control.is_looked_at(slots, judged, clock=self._clock, poller=poller):
            return False
        gate = judge_gate(
            self.rollout.wave,
            at_s=self._clock.wall_s(),
            treated=judged,
            control=control.members(slots),
            failed=[*control.failed(slots), *failed_of(slots, judged)],
            max_new_failure_share=self._max_failures,
        )
        written = [self._written[s.asset] for s in treated if s.asset in self._written]
        if gate.passed and not any(operation.why == Why.ROLLOUT for operation in written):
            self._discount(slots, is_idle)
        return self._pass(gate)

    def _discount(self, slots: Mapping[str, Slot], is_idle: IsIdle) -> None:
        """The open wave showed nothing of the revision: the next is no larger."""
        declared = {device.asset: device for device in self._after.devices}
        later = islice(self._order, self.rollout.waves[self.rollout.wave], None)
        idle = takewhile(lambda a: a not in slots or is_idle(slots[a], declared[a]), later)
        self.rollout = uncounted(self.rollout, sum(1 for _ in idle))

    def _untouched(self, devices: int, now_s: float) -> GateResult:
        return GateResult(
            wave=self.rollout.wave,
            at_s=now_s,
            passed=True,
            treated=devices,
            treated_failed=0,
            control=0,
            control_failed=0,
            detail="nothing was written",
        )

    def _pass(self, gate: GateResult) -> bool:
        self.rollout = after_gate(self.rollout, gate)
        self._control, self._written, self._wrote_s = None, {}, {}
        name = f"wave {gate.wave + 1} of {len(self.rollout.waves)} of rollout {self.rollout.id}"
        if gate.passed:
            self._journal.event("gate", f"{name} passed: {_counts(gate)}")
        else:
            self._journal.page(f"{name} stopped: {gate.detail} ({_counts(gate)})")
        return True


def _counts(gate: GateResult) -> str:
    if gate.detail and gate.passed:
        return gate.detail
    return (
        f"{gate.treated_failed} of {gate.treated} failed, "
        f"control group {gate.control_failed} of {gate.control}"
    )


def is_actionable(slot: Slot) -> bool:
    """Whether the engine still has a write to make on a device."""
    decision = slot.decision
    if decision is None or not decision.steps:
        return False
    refused = any(held.reason is Reason.NO_HEADROOM for held in decision.held)
    return not (decision.steps[0].raises and refused)


def _is_settled(slot: Slot) -> bool:
    decision = slot.decision
    if decision is None or slot.op is not None or slot.sending or is_actionable(slot):
        return False
    return not waits(decision)


def waits(decision: Decision) -> bool:
    """Whether something of a device is held that passes by itself, beside its coming up."""
    return any(held.reason in _UNSETTLED for held in decision.held)


def _was_healthy(operation: Operation) -> bool:
    """Whether the device did before the write what its settings said: a sleeping one did."""
    return operation.before.mining is False or bool(operation.hashrate_before_ths)
