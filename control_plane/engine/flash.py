"""Brings one device to another firmware, from whatever step it is found at; used by Jobs and by `run`.

It decides nothing about which devices or when: that is in the grant. What it holds to: a step is kept before
what follows from it; an image leaves once; a device is found by its identity; nothing begins that could not
end before the grant does.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Protocol, TypeGuard

import msgspec

from control_plane.core import limits
from control_plane.core.catalogue import Facts, Image, Unfit
from control_plane.core.change import Failed, RefusedByDevice
from control_plane.core.errors import ControlPlaneError
from control_plane.core.firmware import Bundle
from control_plane.core.flashing import (
    FlashEntry,
    FlashStep,
    after_boot,
    after_settling,
    quarantined,
)
from control_plane.core.memory import is_other
from control_plane.core.observation import Depth, Observation, Telemetry
from control_plane.core.ports import Clock, Driver, ImageFile, Installer, Target
from control_plane.engine.poller import ask

_LOOK_S = 15.0
"""Policy seconds between two looks at a device that is to come back."""
_KEEP_AGAIN_S = 5.0
"""Wire seconds until what could not be kept is tried again."""


class OpenedImage(ImageFile, Protocol):
    """An image that is given back."""

    def close(self) -> None:
        """Done with it."""
        ...


class Images(Protocol):
    """Where images are."""

    async def open(self, image: Image) -> OpenedImage:
        """An image, checked.

        Raises:
            ControlPlaneError: there is none such; whoever fills the store acts.
        """
        ...


class Withdrawn(ControlPlaneError):
    """The device was taken out of its grant before anything left for it."""


class FlashJournal(Protocol):
    """Where the steps of an operation are kept, so that they outlive this process."""

    async def keep(self, entry: FlashEntry) -> None:
        """Keep an entry, durably, before this returns.

        Raises:
            Withdrawn: it is `committing`, and whoever made the grant does not want that any more.
            ControlPlaneError: it is not kept, or not known to be.
        """
        ...


class FlashDriver(Driver, Installer, Protocol):
    """A driver that installs firmware."""


def is_installer(driver: Driver) -> TypeGuard[FlashDriver]:
    """Whether a driver installs firmware."""
    return driver.capabilities.firmware is not None


class Flasher:
    """One operation's work on its devices. The instance is shared by all of them."""

    def __init__(
        self,
        bundle: Bundle,
        driver: FlashDriver,
        images: Images,
        journal: FlashJournal,
        clock: Clock,
        *,
        deadline_s: float,
    ) -> None:
        """Grant and release of an operation.

        Args:
            bundle: what is installed.
            driver: of its family.
            images: where its images are.
            journal: where steps are kept.
            clock: policy time.
            deadline_s: of the grant, policy seconds since the epoch.
        """
        self._bundle, self._driver, self._images = bundle, driver, images
        self._journal, self._clock = journal, clock
        self._deadline_s, self._settle_s = deadline_s, bundle.settle_s
        self._is_stopped = asyncio.Event()

    def stop(self) -> None:
        """Begin nothing more, and wait for no device; an image that leaves is sent to its end."""
        self._is_stopped.set()

    async def install(self, entry: FlashEntry, target: Target) -> FlashEntry:
        """Take a device to where it answers again: so long it is down.

        Returns:
            Its entry: `verifying`, or final; or `pending` with the reason, where nothing was done and another
            day may do it; or, once stopped, wherever it is: whoever runs next goes on from there.

        Raises:
            ControlPlaneError: a step could not be kept before it was due; nothing was done after it.
        """
        if not entry.is_final and entry.attempt == 0:
            entry = await self._begin(entry, target)
        if entry.step in {FlashStep.COMMITTING, FlashStep.REBOOTING}:
            entry = await self._await_boot(entry, target)
        return entry

    async def verify(self, entry: FlashEntry, target: Target) -> FlashEntry:
        """Wait until a device that answers again hashes, or has had its time; others come as they are.

        Returns and raises: as `install`.
        """
        if entry.step is FlashStep.VERIFYING:
            entry = await self._await_hash(entry, target)
        return entry

    # -- before the first byte ----------------------------------------------------------------------

    async def _begin(self, entry: FlashEntry, target: Target) -> FlashEntry:
        if self._is_stopped.is_set():
            return _waits(entry, "not begun: whoever works on it was told to end")
        try:
            identity, facts = await self._driver.facts(target)
        except ControlPlaneError as error:
            return _waits(entry, f"not looked at: {error}")
        if target.pin is None or is_other(target.pin, identity) or not target.pin.matches(identity):
            return _waits(entry, "not the machine that is pinned")
        if facts.version == self._bundle.version:
            ran = msgspec.structs.replace(
                entry,
                step=FlashStep.DONE,
                before=facts.version,
                after=facts.version,
                detail="it ran it already",
            )
            await self._journal.keep(ran)
            return ran
        found = self._bundle.image_for(facts)
        if isinstance(found, Unfit):
            return _waits(entry, found.reason)
        if why := self._too_late():
            return _waits(entry, why)
        try:
            file = await self._images.open(found)
        except ControlPlaneError as error:
            return _waits(entry, str(error))
        try:
            return await self._send(entry, target, facts, found, file)
        finally:
            file.close()

    async def _send(
        self, entry: FlashEntry, target: Target, facts: Facts, image: Image, file: ImageFile
    ) -> FlashEntry:
        measured = await self._measured(target)
        entry = msgspec.structs.replace(
            entry,
            step=FlashStep.COMMITTING,
            attempt=1,
            before=facts.version,
            image=image.sha256,
            hash_before_ths=measured.hashrate_ths,
            power_before_w=measured.power_w,
            committed_at_s=self._clock.wall_s(),
            detail="",
        )
        try:
            await self._journal.keep(entry)
        except Withdrawn as error:
            back = msgspec.structs.replace(
                entry, step=FlashStep.PENDING, attempt=0, committed_at_s=None
            )
            return _waits(back, str(error))
        outcome = await self._driver.install(target, file, self._too_late)
        if isinstance(outcome, Failed):
            # The driver's word that no byte left: the operation may try again.
            back = msgspec.structs.replace(
                entry, step=FlashStep.PENDING, attempt=0, committed_at_s=None, detail=outcome.reason
            )
            return await self._kept(back)
        if isinstance(outcome, RefusedByDevice):
            why = f"the device refuses the image: {outcome.reason}"
            return await self._kept(quarantined(entry, why))
        return await self._kept(
            msgspec.structs.replace(entry, step=FlashStep.REBOOTING, detail=outcome.detail)
        )

    def _too_late(self) -> str | None:
        """The permit: what begins now could not end before the grant does."""
        left_s, needs_s = self._deadline_s - self._clock.wall_s(), self._bundle.flash_s
        if left_s < needs_s:
            return f"the grant ends in {max(0.0, left_s):.0f} s, and a flash takes {needs_s:.0f}"
        return None

    # -- after it -----------------------------------------------------------------------------------

    async def _await_boot(self, entry: FlashEntry, target: Target) -> FlashEntry:
        since_s = entry.committed_at_s or self._clock.wall_s()
        while True:
            told = await self._version(target)
            after = after_boot(
                entry,
                told,
                wanted=self._bundle.version,
                waited_s=self._clock.wall_s() - since_s,
                flash_s=self._bundle.flash_s,
            )
            if after is not entry:
                booted = msgspec.structs.replace(after, booted_at_s=self._clock.wall_s())
                return await self._kept(booted if told else after)
            if await self._is_told_to_end():
                return entry

    async def _await_hash(self, entry: FlashEntry, target: Target) -> FlashEntry:
        since_s = entry.booted_at_s or self._clock.wall_s()
        while True:
            told, measured = await self._version(target), await self._measured(target)
            waited_s = self._clock.wall_s() - since_s
            after = after_settling(
                entry, told, measured.hashrate_ths, measured.power_w,
                wanted=self._bundle.version, is_over=waited_s >= self._settle_s,
            )  # fmt: skip
            if after is not entry:
                return await self._kept(after)
            if waited_s >= self._settle_s:
                return await self._take_back(entry, target)
            if await self._is_told_to_end():
                return entry

    async def _take_back(self, entry: FlashEntry, target: Target) -> FlashEntry:
        share = (
            f"{limits.FAILURE_HASH_SHARE:.0%} of the {entry.hash_before_ths or 0:.0f} TH/s before"
        )
        why = f"it runs {self._bundle.version}, and does not hash {share}"
        ways = self._driver.capabilities.firmware
        if not (self._bundle.can_roll_back and ways and ways.can_roll_back):
            return await self._kept(quarantined(entry, why))
        # Another boot, not another image: what ran before is on the device.
        outcome = await self._driver.roll_back(target, self._too_late)
        if isinstance(outcome, Failed | RefusedByDevice):
            why = f"{why}; it was not taken back: {outcome.reason}"
            return await self._kept(quarantined(entry, why))
        return await self._kept(
            msgspec.structs.replace(entry, step=FlashStep.ROLLED_BACK, detail=why)
        )

    # -- looking and keeping --------------------------------------------------------------------------

    async def _is_told_to_end(self) -> bool:
        """Wait until the next look, or until `stop`."""
        return await told_to_end(self._clock, _LOOK_S, self._is_stopped)

    async def _version(self, target: Target) -> str | None:
        try:
            identity, facts = await self._driver.facts(target)
        except ControlPlaneError:
            return None
        return None if is_other(target.pin, identity) else facts.version

    async def _measured(self, target: Target) -> Telemetry:
        """What it hashes and draws; nothing where it does not answer."""
        seen = await ask(self._driver, target, Depth.TELEMETRY, clock=self._clock)
        return seen.telemetry if isinstance(seen, Observation) else Telemetry()

    async def _kept(self, entry: FlashEntry) -> FlashEntry:
        """Keep what has happened, past the grant's end if need be: the device goes on by itself.

        Raises:
            ControlPlaneError: it could not be kept; whoever takes over looks at the device.
        """
        while True:
            try:
                await self._journal.keep(entry)
            except ControlPlaneError:
                is_long_past = self._clock.wall_s() > self._deadline_s + self._settle_s
                if is_long_past or self._is_stopped.is_set():
                    raise
                await self._clock.wire_sleep(_KEEP_AGAIN_S)
            else:
                return entry


async def told_to_end(clock: Clock, seconds: float, is_stopped: asyncio.Event) -> bool:
    """Wait policy seconds, or until stopped; whether that is so."""
    waiting = asyncio.ensure_future(clock.sleep(seconds))
    stopped = asyncio.ensure_future(is_stopped.wait())
    try:
        await asyncio.wait({waiting, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        waiting.cancel()
        stopped.cancel()
    return is_stopped.is_set()


def _waits(entry: FlashEntry, why: str) -> FlashEntry:
    """Nothing was done: it is swept up later."""
    return msgspec.structs.replace(entry, step=FlashStep.PENDING, detail=why)


async def flash_all(
    flasher: Flasher,
    work: list[tuple[FlashEntry, Target]],
    *,
    at_once: int,
    say: Callable[[FlashEntry], None],
) -> None:
    """Run the devices of an operation, so many at the same time; those that are under way first.

    Args:
        flasher: of the operation.
        work: each device's entry, and where it is.
        at_once: devices that may be down together.
        say: told of each as soon as it ended.

    Raises:
        ControlPlaneError: a step of some device could not be kept; all others came to their ends.
    """
    turns = asyncio.Semaphore(at_once)
    unkept: list[ControlPlaneError] = []

    async def one(entry: FlashEntry, target: Target) -> None:
        try:
            # Who answers again is seen to hash beside the next: a release takes an hour for that.
            async with turns:
                entry = await flasher.install(entry, target)
            say(await flasher.verify(entry, target))
        except ControlPlaneError as error:
            unkept.append(error)

    async with asyncio.TaskGroup() as group:
        for entry, target in sorted(work, key=lambda pair: pair[0].attempt == 0):
            group.create_task(one(entry, target))
    if unkept:
        raise unkept[0]
