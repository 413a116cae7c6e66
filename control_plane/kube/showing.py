"""Shows a site in its objects: the `Site` as soon as anything is known, all others after it.

A first pass over 14,000 devices takes minutes, at the pace that an API server bears; the `Site` does not
wait for it, and is told anew meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from control_plane.api.conditions import Told, ready, reconciling, stalled
from control_plane.api.objects import SiteSpec, SiteStatus
from control_plane.core.cluster import Object
from control_plane.core.errors import StoreError
from control_plane.core.ports import Clock
from control_plane.engine.log import Say
from control_plane.kube.projector import Projector
from control_plane.kube.snapshot import Snapshot
from control_plane.kube.tenure import READING, Tenure

_LOOK_S = 1.0
"""Whether there is something to show is looked at that often."""
_TELL_S = 5.0
"""Between two snapshots, where the last pass over all objects changed nothing."""
_REST = 10.0
"""After a snapshot, that many times as long as it took: of a large site it takes a second of a core."""
OBSERVES = Told(
    type="Enforcing",
    status="False",
    reason="ObserveOnly",
    message="spec.mode is observe: no write leaves for a device",
)
BEGINS = Told(
    type="Enforcing",
    status="Unknown",
    reason="TakingOver",
    message="nothing is written before the state of the site was taken over",
)
ENFORCES = Told(type="Enforcing", status="True", reason="Enforcing")


class Showing:
    """Of one controller. `run` never ends by itself."""

    def __init__(
        self,
        projector: Projector,
        *,
        about: Callable[[], Object | None],
        tenure: Callable[[], Tenure | None],
        trouble: Callable[[], str],
        is_live: Callable[[], bool],
        clock: Clock,
        say: Say,
        keep: Callable[[], None],
    ) -> None:
        """Nothing is asked before `run`.

        Args:
            projector: makes the objects.
            about: the `Site` as it is known now.
            tenure: the state of the site, where it was taken over.
            trouble: why it was not.
            is_live: whether this process leads.
            clock: the clock.
            say: told of what the API server has against our objects, once each.
            keep: called when everything of a site is in memory: what exists then stays.
        """
        self._projector, self._about, self._tenure = projector, about, tenure
        self._state_trouble, self._is_live = trouble, is_live
        self._clock, self._say, self._keep = clock, say, keep
        self._snapshot: Snapshot | None = None
        """What the objects are to show; `None`: nothing is known."""
        self._stood = False
        """Whether the last pass over all objects found each of them there."""
        self._trouble = ""
        self._kept = (0, False)
        """Fence of the tenure of which what exists was kept, and whether all of its objects were there."""

    async def run(self) -> None:
        """Show it, for ever."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._tell())
            group.create_task(self._show())

    async def _tell(self) -> None:
        while True:
            began_s = self._clock.wire_s()
            about, tenure = self._about(), self._tenure()
            found: Snapshot | None = None
            if self._is_live() and about is not None:
                if tenure is None or not tenure.in_force:
                    self._tell_refused(about, tenure)
                elif tenure.engine is not None:
                    found = await self._tell_site(about, tenure)
            self._snapshot = found
            if found is not None and tenure is not None:
                self._keep_once(tenure.fence)
            took_s = self._clock.wire_s() - began_s
            pause_s = _TELL_S if found is not None and self._stood else _LOOK_S
            await self._clock.wire_sleep(max(pause_s, _REST * took_s))

    def _keep_once(self, fence: int) -> None:
        """To collect a heap of 14,000 devices, over and over, stops everything for tenths of a second."""
        if self._kept != (fence, self._stood):
            self._kept = (fence, self._stood)
            self._keep()

    async def _tell_site(self, about: Object, tenure: Tenure) -> Snapshot | None:
        record = tenure.store.accepted()
        if record is None:
            return None
        accepted, mode = tenure.in_force, tenure.mode()
        try:
            snapshot = await tenure.snapshot(record)
        except StoreError as error:
            self._tell_trouble(str(error))
            return None
        if self._tenure() is not tenure:
            return None
        self._projector.tell_site_of(
            snapshot,
            about,
            accepted,
            tenure.refusal,
            also=(ENFORCES if mode == "enforce" else OBSERVES,),
        )
        return snapshot

    async def _show(self) -> None:
        shown: Snapshot | None = None
        while True:
            snapshot = self._snapshot
            if snapshot is not None and snapshot is not shown and self._is_live():
                self._stood = await self._projector.show(snapshot)
                self._tell_trouble(self._projector.trouble)
                shown = snapshot
            await self._clock.wire_sleep(_LOOK_S)

    def _tell_trouble(self, trouble: str) -> None:
        if trouble and trouble != self._trouble:
            self._say(f"cannot show the site: {trouble}", kind="projection", level="warning")
        self._trouble = trouble

    def _tell_refused(self, about: Object, tenure: Tenure | None) -> None:
        """Nothing is in force: there is nothing to show but why."""
        why = self._state_trouble() if tenure is None else tenure.refusal
        reason = "StateNotTaken" if tenure is None else "NotAccepted"
        if not why or why == READING:
            told = [
                reconciling("Reading", "the revision is being read"),
                ready("Unknown", "Reading"),
            ]
        else:
            told = [stalled(reason, why), ready("Unknown", reason, why)]
        # What another process had accepted stays named until it is read, or cannot be.
        kept = SiteStatus(accepted_revision=accepted(about))
        enforces = msgspec.json.decode(about.spec, type=SiteSpec).mode == "enforce"
        self._projector.tell_site(about, kept, [BEGINS if enforces else OBSERVES, *told])


def accepted(about: Object) -> str | None:
    """The revision that was in force when the status of a `Site` was written last."""
    status = msgspec.json.decode(about.status, type=SiteStatus | None)
    return status.accepted_revision if status else None
