"""What a gate compares with: devices that its wave or round does not touch, then and now."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping

from control_plane.core import limits
from control_plane.core.ports import Clock
from control_plane.engine.poller import Poller
from control_plane.engine.slots import Slot

_CONTROL_MAX = 500
"""Devices of a control group: enough to know a site's own failure rate to half a per cent."""
_LOOK_WAIT_S = 30.0
"""Wire seconds that a gate waits for its looks; who was not seen by then has failed."""


class Control:
    """A control group; taken when a wave or round begins, and anew by a process that finds it begun."""

    def __init__(self, slots: Mapping[str, Slot], *, without: Container[str]) -> None:
        """Take those that do as they should now, and are not among `without`."""
        healthy = [
            slot for asset, slot in slots.items() if asset not in without and _is_healthy(slot)
        ]
        # Spread over the site: one building's power cut must not be the whole comparison.
        stride = -(-len(healthy) // _CONTROL_MAX) or 1
        self._baseline_ths = {slot.asset: _hashrate(slot) for slot in healthy[::stride]}
        self._looked_wire_s: float | None = None
        """When the gate asked for fresh looks."""

    def is_looked_at(
        self, slots: Mapping[str, Slot], treated: Iterable[str], *, clock: Clock, poller: Poller
    ) -> bool:
        """Whether all that are compared were looked at since this was asked first, or had their time."""
        wire_s = clock.wire_s()
        compared = dict.fromkeys((*self._baseline_ths, *treated))
        watched = [slots[asset] for asset in compared if asset in slots]
        if self._looked_wire_s is None:
            self._looked_wire_s = wire_s
            for slot in watched:
                poller.hurry(slot, full=False)
            return False
        since_s = self._looked_wire_s
        return wire_s - since_s >= _LOOK_WAIT_S or all(
            slot.unseen is not None or slot.seen_wire_s >= since_s for slot in watched
        )

    def look_anew(self) -> None:
        """What was seen since this was asked first is too old by now."""
        self._looked_wire_s = None

    def members(self, slots: Mapping[str, Slot]) -> list[str]:
        """Those that are still managed."""
        return [asset for asset in self._baseline_ths if asset in slots]

    def failed(self, slots: Mapping[str, Slot]) -> list[str]:
        """Those that do not do now what they did."""
        return failed_of(slots, self._baseline_ths)


def failed_of(slots: Mapping[str, Slot], baseline_ths: Mapping[str, float]) -> list[str]:
    """Of the managed ones, who does not do now what it did: asset → TH/s then."""
    return [
        asset
        for asset, before_ths in baseline_ths.items()
        if asset in slots and _has_failed(slots[asset], before_ths)
    ]


def _is_healthy(slot: Slot) -> bool:
    """Whether a device was seen and hashes, or sleeps as its settings say."""
    if slot.seen is None or slot.unseen is not None:
        return False
    return slot.seen.settings.mining is False or bool(slot.seen.telemetry.hashrate_ths)


def _has_failed(slot: Slot, baseline_ths: float) -> bool:
    """Silent, or hashing clearly less than before (or, once woken, than its nameplate)."""
    if slot.seen is None or slot.unseen is not None:
        return True
    settings = slot.seen.settings
    if settings.mining is not True:
        return False
    nameplate = slot.device.hashrate_at(settings.power_mode)
    if baseline_ths <= 0.0:
        return _hashrate(slot) < nameplate * limits.HASH_EVIDENCE_SHARE
    return _hashrate(slot) < min(baseline_ths, nameplate) * limits.FAILURE_HASH_SHARE


def _hashrate(slot: Slot) -> float:
    return (slot.seen.telemetry.hashrate_ths if slot.seen else None) or 0.0
