"""Brings one device to another password, from whatever step it is found at.

It decides nothing about which devices or when. What it holds to: a step is kept before what follows from it;
the change leaves once; every login is over a connection of its own; the password before stays among those
that are tried until the new one has logged in.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeGuard

from control_plane.core import limits
from control_plane.core.change import Failed, RefusedByDevice
from control_plane.core.errors import AuthRejected, ControlPlaneError, StoreBusy, WrongIdentity
from control_plane.core.memory import is_other
from control_plane.core.ports import Clock, Driver, PasswordKeeper, Permit, Secrets, Target
from control_plane.core.rotation import (
    SENT,
    Probe,
    RotationEntry,
    RotationStep,
    after_probe,
    answered,
    committing,
    not_sent,
    refs_to_try,
    refused,
)
from control_plane.core.secret import Secret
from control_plane.engine.flash import Withdrawn, told_to_end

_KEEP_AGAIN_S = 1.0
"""Wire seconds until what could not be kept is tried again."""


class KeepingDriver(Driver, PasswordKeeper, Protocol):
    """A driver whose family's password can be changed."""


def keeps_passwords(driver: Driver | None) -> TypeGuard[KeepingDriver]:
    """Whether a driver changes passwords."""
    return driver is not None and driver.capabilities.passwords is not None


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


class Rotator:
    """One device's way."""

    def __init__(
        self,
        driver: KeepingDriver,
        journal: RotationJournal,
        clock: Clock,
        secrets: Secrets,
        *,
        target: Callable[[Secret], Target],
        permit: Permit,
        durable: Callable[[], Awaitable[None]],
        is_stopped: asyncio.Event,
    ) -> None:
        """All that a device needs.

        Args:
            driver: of its family.
            journal: where steps are kept.
            clock: policy time.
            secrets: where references lead.
            target: where the device is now, with a password to log in with.
            permit: asked right before the change leaves.
            durable: makes what is kept outlive this process, where the journal alone does not.
            is_stopped: once set nothing is begun, and nobody is waited for.
        """
        self._driver, self._journal = driver, journal
        self._clock, self._secrets = clock, secrets
        self._target, self._permit, self._is_stopped = target, permit, is_stopped
        self._durable = durable

    async def rotate(self, entry: RotationEntry, declared: tuple[str, ...]) -> RotationEntry:
        """Take it as far as it comes.

        Args:
            entry: where it was left.
            declared: every reference that its declaration names, the new one first.

        Returns:
            Its entry: final; or `pending` with the reason, where nothing was sent and another time may do it;
            or, once stopped, wherever it is.

        Raises:
            ControlPlaneError: a step could not be kept before it was due; nothing was done after it.
        """
        if entry.step is RotationStep.PENDING:
            entry, is_open = await self._look(entry, declared)
            if is_open and not self._is_stopped.is_set():
                entry = await self._send(entry)
        while entry.step in SENT:
            entry, _ = await self._look(entry, declared)
            if entry.is_final:
                break
            if await told_to_end(self._clock, limits.CREDENTIAL_LOOK_S, self._is_stopped):
                break
        return entry

    async def _look(
        self, entry: RotationEntry, declared: tuple[str, ...]
    ) -> tuple[RotationEntry, bool]:
        """The entry after logins, kept; and whether a password that is not the new one logged in."""
        probe = await self._probe(refs_to_try(entry, declared))
        ways = self._driver.capabilities.passwords
        late_s = ways.late_s if ways else 0.0
        after = after_probe(entry, probe, late_s=late_s, now_s=self._clock.wall_s())
        if after != entry:
            await self._kept(after)
        return after, not after.is_final and probe.accepted is not None

    async def _probe(self, refs: tuple[str, ...]) -> Probe:
        """Try passwords in order until one logs in, or until it is not clear any more."""
        tried: list[str] = []
        for ref in refs:
            try:
                target = self._target(self._secrets.resolve(ref))
                told = await self._driver.log_in(target)
                if is_other(target.pin, told):
                    raise WrongIdentity(f"{target.address}: another machine answers")
            except AuthRejected:
                tried.append(ref)
            except ControlPlaneError as error:
                return Probe(refused=tuple(tried), unclear=str(error))
            else:
                return Probe(accepted=ref, refused=tuple(tried))
        return Probe(refused=tuple(tried))

    async def _send(self, entry: RotationEntry) -> RotationEntry:
        """Have the new password put in place of the one that just logged in."""
        assert entry.verified is not None  # noqa: S101 - it just logged in
        old, new = self._secrets.resolve(entry.verified), self._secrets.resolve(entry.wanted)
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
        outcome = await self._driver.set_password(self._target(old), new, self._permit)
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
