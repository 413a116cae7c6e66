"""Where the engine stands: what is done, what is under way, and whether nothing is left to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from control_plane.core.firmware_rollout import FirmwareRollout
from control_plane.core.rotation_rollout import Rotation
from control_plane.engine.incidents import Incidents
from control_plane.engine.installing import Installing
from control_plane.engine.journal import Journal
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.rollouts import is_actionable
from control_plane.engine.roster import Roster
from control_plane.engine.rotating import Rotating
from control_plane.engine.watch import Watch


@dataclass(slots=True, kw_only=True)
class Progress:
    """Where the engine stands, for people."""

    devices: int = 0
    seen: int = 0
    converged: int = 0
    actionable: int = 0
    in_flight: int = 0
    waiting: int = 0
    """Operations that were accepted and wait for their evidence."""
    wave: int = 0
    waves: int = 0
    later: int = 0
    """Devices that later waves will reach."""
    rollout: str = ""
    """State of the rollout; empty without one."""
    firmware: Sequence[FirmwareRollout] = ()
    """Firmware rollouts that wait, install or were halted."""
    rotations: Sequence[Rotation] = ()
    """Rotations that somebody has to think of."""
    incidents: int = 0
    pages: Sequence[str] = ()
    """Texts of the last ones."""
    paged: int = 0
    """Pages since the start."""


class Standing:
    """Reads off how far a site is; changes nothing."""

    def __init__(
        self,
        *,
        roster: Roster,
        reconciler: Reconciler,
        incidents: Incidents,
        journal: Journal,
        watch: Watch,
        installing: Installing,
        rotating: Sequence[Rotating],
    ) -> None:
        self._roster, self._reconciler = roster, reconciler
        self._incidents, self._journal, self._watch = incidents, journal, watch
        self._installing, self._rotating = installing, rotating

    def progress(self) -> Progress:
        """Where the engine stands now."""
        seen = converged = actionable = 0
        for slot in self._roster.slots.values():
            seen += slot.sighting is not None
            if slot.decision is not None:
                converged += slot.decision.converged
                actionable += bool(slot.decision.steps) and is_actionable(slot)
        rollout = self._roster.rollout.rollout if self._roster.rollout else None
        return Progress(
            devices=len(self._roster.slots),
            seen=seen,
            converged=converged,
            actionable=actionable,
            in_flight=self._reconciler.operations.budgets.total,
            waiting=len(self._reconciler.operations.open),
            wave=rollout.wave + 1 if rollout and rollout.waves else 0,
            waves=len(rollout.waves) if rollout else 0,
            later=rollout.waves[-1] - rollout.waves[rollout.wave]
            if rollout and rollout.waves
            else 0,
            rollout=rollout.state if rollout else "",
            firmware=tuple(
                firmware
                for firmware in self._installing.rollouts.values()
                if not firmware.has_ended
            ),
            rotations=tuple(
                r for each in self._rotating for r in each.rotations.values() if not r.has_ended
            ),
            incidents=len(self._incidents.open),
            pages=tuple(self._journal.pages),
            paged=self._journal.paged,
        )

    def is_quiet(self) -> bool:
        """Whether nothing is left to do: the end of `apply`."""
        operations, queue = self._reconciler.operations, self._reconciler.sights.queue
        if operations.open or queue.has_news or queue.parked:
            return False
        runner = self._roster.rollout
        if not self._reconciler.admits or (
            runner is not None and runner.is_open and not self._watch.is_interrupted(runner)
        ):
            return False
        # A routine look is under way somewhere at any moment: only writes count.
        return not operations.budgets.total and all(
            s.decision is not None and not is_actionable(s) for s in self._roster.slots.values()
        )
