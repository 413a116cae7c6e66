"""Brings one device to another password, or to another address, from whatever step it is found at.

It decides nothing about which devices or when. What it holds to: a step is kept before what follows from it;
the change leaves once; whether it is in force is asked over a connection of its own; what was in force before
stays among what is tried until the new one has proven itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from control_plane.core import limits
from control_plane.core.change import Failed, Outcome, RefusedByDevice
from control_plane.core.errors import ControlPlaneError, StoreBusy
from control_plane.core.ports import Clock
from control_plane.core.rotation import (
    SENT,
    Probe,
    RotationEntry,
    RotationStep,
    after_probe,
    answered,
    committing,
    not_sent,
    refused,
)
from control_plane.engine.flash import Withdrawn, told_to_end

_KEEP_AGAIN_S = 1.0
"""Wire seconds until what could not be kept is tried again."""


class RotationJournal(Protocol):
    """Where the steps of a device are kept, so that they outlive this process."""

    def keep(self, entry: RotationEntry) -> None:
        """Keep an entry, durably, before this returns.

        Raises:
            Withdrawn: it is `committing`, and a person does not want that any more.
            StoreBusy: another process has the Store; nothing was kept.
            ControlPlaneError: it cannot be kept any more.
        """
        ...


class Way(Protocol):
    """How one device is reached, and how that is changed."""

    @property
    def late_s(self) -> float:
        """Device seconds after which a change that left is in force, or is not coming."""
        ...

    async def probe(self, entry: RotationEntry) -> Probe:
        """What it is reached by now. Changes nothing, and raises nothing of the error tree."""
        ...

    async def change(self, entry: RotationEntry) -> Outcome:
        """Have the wanted one put in place of the one that was just verified; at most once.

        Raises:
            ControlPlaneError: before anything left.
        """
        ...


class Rotator:
    """One device's way."""

    def __init__(
        self,
        way: Way,
        journal: RotationJournal,
        clock: Clock,
        *,
        durable: Callable[[], Awaitable[None]],
        is_stopped: asyncio.Event,
    ) -> None:
        """All that a device needs.

        Args:
            way: how it is reached.
            journal: where steps are kept.
            clock: policy time.
            durable: makes what is kept outlive this process, where the journal alone does not.
            is_stopped: once set nothing is begun, and nobody is waited for.
        """
        self._way, self._journal, self._clock = way, journal, clock
        self._durable, self._is_stopped = durable, is_stopped

    async def rotate(self, entry: RotationEntry) -> RotationEntry:
        """Take it as far as it comes.

        Returns:
            Its entry: final; or `pending` with the reason, where nothing was sent and another time may do it;
            or, once stopped, wherever it is.

        Raises:
            ControlPlaneError: a step could not be kept before it was due; nothing was done after it.
        """
        if entry.step is RotationStep.PENDING:
            entry, is_open = await self._look(entry)
            if is_open and not self._is_stopped.is_set():
                entry = await self._send(entry)
        while entry.step in SENT:
            entry, _ = await self._look(entry)
            if entry.is_final:
                break
            if await told_to_end(self._clock, limits.CREDENTIAL_LOOK_S, self._is_stopped):
                break
        return entry

    async def _look(self, entry: RotationEntry) -> tuple[RotationEntry, bool]:
        """The entry after a probe, kept; and whether the change may leave."""
        probe = await self._way.probe(entry)
        after = after_probe(entry, probe, late_s=self._way.late_s, now_s=self._clock.wall_s())
        if after != entry:
            await self._kept(after)
        return after, not after.is_final and probe.accepted is not None and not probe.unclear

    async def _send(self, entry: RotationEntry) -> RotationEntry:
        sent = committing(entry, self._clock.wall_s())
        try:
            self._journal.keep(sent)
        except (Withdrawn, StoreBusy) as error:
            return not_sent(entry, str(error))
        try:
            await self._durable()
        except StoreBusy as error:
            # It may be known elsewhere that the change left: that is the safe side to be wrong on.
            return await self._kept(not_sent(sent, str(error)))
        try:
            outcome = await self._way.change(entry)
        except ControlPlaneError as error:
            return await self._kept(not_sent(sent, str(error)))
        if isinstance(outcome, Failed) and outcome.retryable:
            # The driver's word that nothing left.
            return await self._kept(not_sent(sent, outcome.reason))
        if isinstance(outcome, Failed | RefusedByDevice):
            return await self._kept(refused(sent, outcome.reason, self._clock.wall_s()))
        return await self._kept(answered(sent))

    async def _kept(self, entry: RotationEntry) -> RotationEntry:
        """Keep what has happened; while another process has the Store, wait for it.

        Raises:
            ControlPlaneError: it could not be kept; whoever takes over looks at the device.
        """
        while True:
            try:
                self._journal.keep(entry)
            except StoreBusy:
                if self._is_stopped.is_set():
                    raise
                await self._clock.wire_sleep(_KEEP_AGAIN_S)
            else:
                return entry
