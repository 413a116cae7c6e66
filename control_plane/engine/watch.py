"""What is looked at across devices: incidents, the rollout, holds that ran out."""

from __future__ import annotations

from control_plane.core.overlay import OverlayKind
from control_plane.core.ports import Clock
from control_plane.engine.incidents import Incidents
from control_plane.engine.installing import Installing
from control_plane.engine.journal import Journal
from control_plane.engine.poller import Poller
from control_plane.engine.reconciler import Reconciler
from control_plane.engine.rollouts import RolloutRunner
from control_plane.engine.roster import Roster


class Watch:
    """Looks over the whole site, several times a second."""

    def __init__(
        self,
        *,
        clock: Clock,
        journal: Journal,
        roster: Roster,
        reconciler: Reconciler,
        incidents: Incidents,
        poller: Poller,
        installing: Installing,
        acts: bool,
    ) -> None:
        """Without `acts` no wave moves: one that passes because nobody writes says nothing."""
        self._clock, self._journal = clock, journal
        self._roster, self._reconciler = roster, reconciler
        self._incidents, self._poller = incidents, poller
        self._installing, self._acts = installing, acts
        self._paged_holds: set[str] = set()

    def look(self) -> None:
        """Open and close incidents, move the rollout on, page for holds that ran out."""
        self._installing.lock()
        slots = self._roster.slots
        if not self._reconciler.admits:
            self._reconciler.admits = all(s.sighting is not None for s in slots.values())
        runner = self._roster.rollout
        interrupted = runner is not None and self.is_interrupted(runner)
        self._roster.push_below(self._incidents.watch(slots))
        if runner is not None and self._reconciler.admits and self._acts:
            if interrupted or self.is_interrupted(runner):
                changed = runner.interrupt()
            else:
                changed = runner.advance(slots, self._poller, self._reconciler.is_idle)
            if changed:
                self._roster.keep_rollout(runner)
        now_s = self._clock.wall_s()
        for overlay in self._reconciler.overlays:
            if overlay.kind is OverlayKind.MAINTENANCE_HOLD and overlay.is_expired(now_s):
                self._page_expired(overlay.id, overlay.node, overlay.owner)

    def is_interrupted(self, runner: RolloutRunner) -> bool:
        """Whether an incident covers devices of the open wave: no gate can tell its cause from another."""
        return bool(self._incidents.open) and any(
            self._incidents.of(slot) is not None for slot in runner.treated(self._roster.slots)
        )

    def _page_expired(self, overlay_id: str, node: str, owner: str) -> None:
        if overlay_id in self._paged_holds:
            return
        self._paged_holds.add(overlay_id)
        self._journal.page(
            f"maintenance hold of {owner} on {node} has expired and still holds: "
            f"release it with `gridplane release {overlay_id}`",
            node=node,
        )
