"""Whether a machine may be given firmware now, as the engine knows it at this moment."""

from __future__ import annotations

from control_plane.core.decision import PENDING, Reason
from control_plane.core.observation import Activity, Field
from control_plane.core.overlay import bars_all, covering
from control_plane.core.ports import Clock
from control_plane.core.rotation import lock_in_words
from control_plane.engine.granting import Whom
from control_plane.engine.incidents import Incidents
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.rollouts import is_actionable
from control_plane.engine.roster import Roster
from control_plane.engine.slots import Slot

_BUSY = frozenset({Activity.STARTING, Activity.TUNING, Activity.UPDATING})


class Fitness:
    """Asks what the engine holds of a machine; changes nothing."""

    def __init__(
        self, *, clock: Clock, roster: Roster, reconciler: Reconciler, incidents: Incidents
    ) -> None:
        self._clock, self._roster = clock, roster
        self._reconciler, self._incidents = reconciler, incidents

    def is_barred(self, asset: str) -> bool:
        """Whether a person, or an incident, says that nothing may be begun on it."""
        slot = self._roster.slots.get(asset)
        if slot is None:
            return True
        overlays = covering(self._reconciler.overlays, slot.nodes)
        barred = bars_all(overlays, self._clock.wall_s())
        return barred or self._incidents.of(slot) is not None

    def unfit(self, slot: Slot) -> str | None:
        """Why a machine is not given its image now; `None` where it may be."""
        if (why := self.untouchable(slot)) is not None:
            return why
        credentials = slot.device.intent.credentials
        if credentials is not None and slot.secret_ref != credentials.secret_ref:
            return f"its password is not {credentials.secret_ref} yet"
        decision = slot.decision
        assert decision is not None  # noqa: S101 - it would be untouchable
        held = next((h for h in decision.held if h.field is Field.FIRMWARE), None)
        if held is None:
            return "no wave of its settings has reached it" if not slot.assigned else "not judged"
        if held.reason is not Reason.FIRMWARE_JOB:
            return f"{held.reason}: {held.detail}" if held.detail else held.reason.value
        return None

    def untouchable(self, slot: Slot) -> str | None:
        """Why nothing irreversible may be done to a machine now."""
        decision = slot.decision
        if slot.unseen is not None or slot.seen is None or decision is None:
            return slot.unseen.reason.value if slot.unseen else "not seen yet"
        if slot.locked:
            return lock_in_words(slot.locked)
        if slot.op is not None or slot.busy or slot.sending or is_actionable(slot):
            return "its settings are being written"
        if slot.seen.telemetry.activity in _BUSY:
            return "it starts"
        if self.is_barred(slot.asset):
            return "it is held, frozen, or below an open incident"
        return None if whom_of(slot) else "nobody said who it is: run `gridplane trust`"

    def is_soon_fit(self, slot: Slot) -> bool:
        """Whether what is in the way passes by itself."""
        if slot.op is not None or slot.busy or slot.sending or is_actionable(slot):
            return True
        if slot.seen is not None and slot.seen.telemetry.activity in _BUSY:
            return True
        return slot.decision is None or any(h.reason in PENDING for h in slot.decision.held)


def version_of(slot: Slot) -> str | None:
    """What a machine tells that it runs; `None` while it is not seen."""
    return slot.seen.settings.firmware if slot.seen is not None and slot.unseen is None else None


def whom_of(slot: Slot) -> Whom | None:
    """Who a machine is and where, if both are known."""
    pin = slot.memory.pin
    if pin is None or slot.address is None or (pin.mac is None and pin.serial is None):
        return None
    return Whom(pin=pin, address=slot.address)
